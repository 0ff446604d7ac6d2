//! A mixture of experts in place of an MLP: a router sends each token to a few of many.

use tch::{Kind, Tensor};

use super::{
    ModelError,
    activation::Nonlinearity,
    decoder::Pass,
    nn::{Linear, wide},
    spec::ExpertsSpec,
};
use crate::hook::{BlockHook as B, HookPoint};

/// The experts of one block, all gated.
#[derive(Debug)]
pub(super) struct Experts {
    pub(super) layer: usize,
    pub(super) spec: ExpertsSpec,
    /// `[experts, d_model]`.
    pub(super) router: Linear,
    /// Gates, then the linear branches, `[experts, 2 · d_expert, d_model]`.
    pub(super) gate_up: Tensor,
    /// `[experts, d_model, d_expert]`.
    pub(super) down: Tensor,
    pub(super) shared: Option<SharedExpert>,
    pub(super) activation: Nonlinearity,
}

/// An expert that every token goes to, by a share of its own.
#[derive(Debug)]
pub(super) struct SharedExpert {
    /// `[2 · d_shared, d_model]`.
    pub(super) gate_up: Linear,
    /// `[d_model, d_shared]`.
    pub(super) down: Linear,
    /// The share, before its sigmoid, `[1, d_model]`.
    pub(super) share: Linear,
}

/// Where a token goes, `[batch, seq, top_k]` each.
struct Route {
    chosen: Tensor,
    weights: Tensor,
}

impl Experts {
    /// `[batch, seq, d_model]` to the same. Tokens are sorted by expert, so that an expert sees its own and no others.
    pub(super) fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor, ModelError> {
        let (batch, seq, d) = x.size3()?;
        let (k, at) = (self.spec.top_k as i64, HookPoint::Block(self.layer, B::ExpertOut));
        let Route { chosen, weights } = self.route(x, pass)?;
        let (tokens, chosen, weights) = (x.reshape([-1, d]), chosen.reshape([-1]), weights.reshape([-1, 1]));
        let order = chosen.f_argsort_stable(true, 0, false)?; // places `token · top_k + i`, by expert
        let counts = Vec::<i64>::try_from(chosen.f_bincount(None::<Tensor>, self.spec.n as i64)?)?;
        let one_by_one = pass.wants(at);
        let rows = if one_by_one { batch * seq * k } else { batch * seq };
        let (mut sum, mut start) = (Tensor::f_zeros([rows, d], (x.kind(), x.device()))?, 0);
        for (expert, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            let places = order.f_narrow(0, start, count)?;
            let token = places.f_divide_scalar_mode(k, "floor")?;
            let out = self.expert(expert as i64, &tokens.f_index_select(0, &token)?)?;
            let out = out.f_mul(&weights.f_index_select(0, &places)?)?;
            sum = sum.f_index_add_(0, if one_by_one { &places } else { &token }, &out)?;
            start += count;
        }
        let routed = if one_by_one {
            pass.visit(at, sum.reshape([batch, seq, k, d]))?.f_sum_dim_intlist(2, false, None::<Kind>)?
        } else {
            sum.reshape([batch, seq, d])
        };
        match &self.shared {
            Some(shared) => Ok(routed + shared.forward(x, &self.activation)?),
            None => Ok(routed),
        }
    }

    /// The `top_k` likeliest experts of each token, and what they count.
    fn route(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Route, ModelError> {
        let at = |hook| HookPoint::Block(self.layer, hook);
        let (n, k) = (self.spec.n as i64, self.spec.top_k as i64);
        let logits = pass.visit(at(B::RouterLogits), self.router.forward(x)?)?;
        let likely = logits.f_softmax(-1, wide(logits.kind()))?;
        // As numbers of the model's own type, so that taps see one type everywhere.
        let chosen = likely.f_topk(k, -1, true, true)?.1.f_to_kind(x.kind())?;
        let chosen = pass.visit(at(B::ExpertIndices), chosen)?;
        let chosen = chosen.f_round()?.f_clamp(0, n - 1)?.f_to_kind(Kind::Int64)?;
        let mut weights = likely.f_gather(-1, &chosen, false)?;
        if self.spec.normed {
            weights = weights.f_div(&weights.f_sum_dim_intlist(-1, true, None::<Kind>)?)?;
        }
        let weights = pass.visit(at(B::ExpertWeights), weights.f_to_kind(x.kind())?)?;
        Ok(Route { chosen, weights })
    }

    /// One expert's answer to its tokens `[tokens, d_model]`.
    fn expert(&self, expert: i64, x: &Tensor) -> Result<Tensor, ModelError> {
        let inner = x.f_linear(&self.gate_up.f_get(expert)?, None::<&Tensor>)?;
        Ok(gated(&inner, &self.activation)?.f_linear(&self.down.f_get(expert)?, None::<&Tensor>)?)
    }
}

impl SharedExpert {
    fn forward(&self, x: &Tensor, activation: &Nonlinearity) -> Result<Tensor, ModelError> {
        let out = self.down.forward(&gated(&self.gate_up.forward(x)?, activation)?)?;
        Ok(out.f_mul(&self.share.forward(x)?.f_sigmoid()?)?)
    }
}

/// Gates times the linear branch, of both in one `[.., 2 · inner]`.
fn gated(inner: &Tensor, activation: &Nonlinearity) -> Result<Tensor, ModelError> {
    let both = inner.f_chunk(2, -1)?;
    Ok(activation.apply(&both[0])?.f_mul(&both[1])?)
}
