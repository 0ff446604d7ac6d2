use tch::Tensor;

use crate::{Error, Norm};

/// The model's own way out: final norm, then the unembedding matrix (`W_U`, transposed), head bias and soft cap.
#[derive(Debug)]
pub struct Unembed {
    norm: Norm,
    weight: Tensor,
    bias: Option<Tensor>,
    soft_cap: Option<f64>,
}

impl Unembed {
    /// From the final norm, `weight [vocab, d_model]`, `bias [vocab]` and Gemma-2's cap on the logits.
    ///
    /// # Errors
    /// When `weight` is not a matrix, or `bias` does not have one entry per row of it.
    pub fn new(
        norm: Norm,
        weight: Tensor,
        bias: Option<Tensor>,
        soft_cap: Option<f64>,
    ) -> Result<Self, Error> {
        let size = weight.size();
        if size.len() != 2 {
            return Err(Error::Shape { what: "unembedding", expected: "[vocab, d_model]".into(), got: size });
        }
        if let Some(b) = bias.as_ref().filter(|b| b.size() != [size[0]]) {
            return Err(Error::Shape {
                what: "head bias",
                expected: format!("[{}]", size[0]),
                got: b.size(),
            });
        }
        Ok(Self { norm, weight, bias, soft_cap })
    }

    /// Rows of the unembedding.
    pub fn vocab(&self) -> usize {
        self.weight.size()[0] as usize
    }

    /// Width of the residual stream.
    pub fn d_model(&self) -> usize {
        self.weight.size()[1] as usize
    }

    /// The final norm.
    pub fn norm(&self) -> &Norm {
        &self.norm
    }

    /// The unembedding matrix `[vocab, d_model]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The head bias `[vocab]`; none is 0.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Final norm of a state of the last layer: `[.., d_model]` to `[.., d_model]`.
    ///
    /// # Errors
    /// When `x` does not end in `d_model`.
    pub fn normalize(&self, x: &Tensor) -> Result<Tensor, Error> {
        self.norm.forward(x)
    }

    /// Logits `[.., vocab]` of an already normalised state `[.., d_model]`.
    ///
    /// # Errors
    /// When `n` does not end in `d_model`.
    pub fn head(&self, n: &Tensor) -> Result<Tensor, Error> {
        let logits = n.f_linear(&self.weight, self.bias.as_ref())?;
        Ok(match self.soft_cap {
            Some(cap) => (logits / cap).f_tanh()? * cap,
            None => logits,
        })
    }

    /// Logits `[.., vocab]` of a state of the last layer `[.., d_model]`: norm, then head.
    ///
    /// # Errors
    /// When `x` does not end in `d_model`.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor, Error> {
        self.head(&self.normalize(x)?)
    }
}
