use tch::Tensor;

use crate::{Error, Norm, Transform};

/// The model's own way out: final norm (BERT has none), the transform of a masked-language-model head where there is
/// one, then the unembedding matrix (`W_U`, transposed), head bias and soft cap.
#[derive(Debug)]
pub struct Unembed {
    norm: Option<Norm>,
    transform: Option<Transform>,
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
        norm: impl Into<Option<Norm>>,
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
        Ok(Self { norm: norm.into(), transform: None, weight, bias, soft_cap })
    }

    /// The same with what a head does between the final norm and the unembedding.
    #[must_use]
    pub fn with_transform(self, transform: Option<Transform>) -> Self {
        Self { transform, ..self }
    }

    /// Rows of the unembedding.
    pub fn vocab(&self) -> usize {
        self.weight.size()[0] as usize
    }

    /// Width of the residual stream.
    pub fn d_model(&self) -> usize {
        self.weight.size()[1] as usize
    }

    /// The final norm; BERT has none.
    pub fn norm(&self) -> Option<&Norm> {
        self.norm.as_ref()
    }

    /// What a masked-language-model head does after it.
    pub fn transform(&self) -> Option<&Transform> {
        self.transform.as_ref()
    }

    /// The unembedding matrix `[vocab, d_model]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The head bias `[vocab]`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The cap `c` of logits `c·tanh(z / c)`.
    pub fn soft_cap(&self) -> Option<f64> {
        self.soft_cap
    }

    /// The same tensors, not copied.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            norm: self.norm.as_ref().map(Norm::shallow_clone),
            transform: self.transform.as_ref().map(Transform::shallow_clone),
            weight: self.weight.shallow_clone(),
            bias: self.bias.as_ref().map(Tensor::shallow_clone),
            soft_cap: self.soft_cap,
        }
    }

    /// What the unembedding matrix reads of a state of the last layer: final norm, then a head's transform;
    /// `[.., d_model]` to `[.., d_model]`.
    ///
    /// # Errors
    /// When `x` does not end in `d_model`.
    pub fn normalize(&self, x: &Tensor) -> Result<Tensor, Error> {
        self.transformed(&self.normed(x)?)
    }

    /// The final norm alone.
    ///
    /// # Errors
    /// When `x` does not end in `d_model`.
    pub fn normed(&self, x: &Tensor) -> Result<Tensor, Error> {
        self.norm.as_ref().map_or_else(|| Ok(x.shallow_clone()), |norm| norm.forward(x))
    }

    /// The head's transform of a state that is normed already.
    ///
    /// # Errors
    /// When `x` does not end in `d_model`.
    pub fn transformed(&self, x: &Tensor) -> Result<Tensor, Error> {
        self.transform.as_ref().map_or_else(|| Ok(x.shallow_clone()), |transform| transform.forward(x))
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
