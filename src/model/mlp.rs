//! What follows attention in a block: an MLP, or experts in its place.

use tch::Tensor;

use super::{ModelError, activation::Nonlinearity, decoder::Pass, experts::Experts, nn::Linear};
use crate::hook::{BlockHook as B, HookPoint};

/// The second branch of a block.
#[derive(Debug)]
pub(super) enum Feed {
    Mlp(Mlp),
    Experts(Box<Experts>),
}

/// `up [d_mlp, d_model]`, or gate and up in one `[2 · d_mlp, d_model]`; `down [d_model, d_mlp]`.
#[derive(Debug)]
pub(super) struct Mlp {
    pub(super) layer: usize,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) gated: bool,
    pub(super) activation: Nonlinearity,
}

impl Feed {
    /// `[batch, seq, d_model]` to the same.
    pub(super) fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor, ModelError> {
        match self {
            Self::Mlp(mlp) => mlp.forward(x, pass),
            Self::Experts(experts) => experts.forward(x, pass),
        }
    }
}

impl Mlp {
    /// `[batch, seq, d_model]` to the same.
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor, ModelError> {
        let at = |hook| HookPoint::Block(self.layer, hook);
        let inner = self.up.forward(x)?;
        let post = if self.gated {
            let d_mlp = inner.size()[2] / 2;
            let gate = pass.visit(at(B::MlpPre), inner.narrow(2, 0, d_mlp))?;
            let up = pass.visit(at(B::MlpPreLinear), inner.narrow(2, d_mlp, d_mlp))?;
            pass.rules().gated(&self.activation, &gate, &up)?
        } else if pass.wants(at(B::MlpPre)) {
            self.activation.apply(&pass.visit(at(B::MlpPre), inner)?)?
        } else {
            self.activation.apply_in_place(inner)?
        };
        self.down.forward(&pass.visit(at(B::MlpPost), post)?)
    }
}
