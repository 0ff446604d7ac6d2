//! What a block's branches write to the residual stream with, for whoever takes that sum apart.

use layerscope_lenses::Norm;
use tch::Tensor;

use super::{Model, ModelError, mlp::Feed, nn::Linear};

/// One of the two branches of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    /// Attention: heads side by side, `[.., head · d_head]`, are mapped to the stream.
    Attention,
    /// The MLP: neurons, `[.., d_mlp]`, are mapped to the stream.
    Mlp,
}

/// The end of a branch: `scale · norm(W x + b)`, with no norm in most families.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'m> {
    map: &'m Linear,
    norm: Option<&'m Norm>,
    scale: Option<f64>,
}

impl Writer<'_> {
    /// `W [d_model, inner]`.
    pub fn weight(&self) -> &Tensor {
        &self.map.weight
    }

    /// `b [d_model]`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.map.bias.as_ref()
    }

    /// The norm of what the map gives (Gemma 2, OLMo 2).
    pub fn norm(&self) -> Option<&Norm> {
        self.norm
    }

    /// The factor on the whole (Granite).
    pub fn scale(&self) -> f64 {
        self.scale.unwrap_or(1.0)
    }

    /// What the map alone gives of `x [.., inner]`.
    ///
    /// # Errors
    /// When `x` does not end in `inner`.
    pub fn map(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        self.map.forward(x)
    }
}

impl Model {
    /// What a branch of `block` writes with; none where experts stand in place of the MLP, or there is no such block.
    pub fn writer(&self, block: usize, branch: Branch) -> Option<Writer<'_>> {
        let scale = self.spec.residual_scale;
        let block = self.decoder.blocks.get(block)?;
        match (branch, &block.mlp) {
            (Branch::Attention, _) => {
                Some(Writer { map: &block.attention.o, norm: block.ln1_post.as_ref(), scale })
            }
            (Branch::Mlp, Feed::Mlp(mlp)) => {
                Some(Writer { map: &mlp.down, norm: block.ln2_post.as_ref(), scale })
            }
            (Branch::Mlp, Feed::Experts(_)) => None,
        }
    }
}
