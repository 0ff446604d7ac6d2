//! Attention of one block: fused when nobody looks at scores or pattern, spelled out when somebody does.

use tch::{Kind, Tensor};

use super::{
    ModelError, Spec,
    decoder::Pass,
    mask::{Mask, causal},
    nn::{HeadNorm, Linear, soft_cap, wide},
    rope::Turn,
    spec::LayerSpec,
};
use crate::hook::{BlockHook as B, HookPoint};

/// Attention's weights: `qkv [(n_heads + 2 n_kv_heads) · d_head, d_model]`, `o [d_model, n_heads · d_head]`.
#[derive(Debug)]
pub(super) struct Attention {
    pub(super) layer: usize,
    pub(super) qkv: Linear,
    pub(super) qk_norm: Option<[HeadNorm; 2]>,
    /// Queries and keys are normed after rotation.
    pub(super) norm_last: bool,
    pub(super) o: Linear,
}

/// What the attention of every block of one pass shares.
pub(super) struct Shared<'a> {
    pub(super) spec: &'a Spec,
    pub(super) turns: &'a [Turn],
    /// Factors on queries by position, `[seq, 1, 1]`.
    pub(super) growth: Option<&'a Tensor>,
    /// What this layer may see.
    pub(super) mask: &'a Mask,
}

impl Attention {
    /// `x [batch, seq, d_model]`, normed, to attention's output `[batch, seq, d_model]`.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        shared: &Shared<'_>,
        tap: &mut Pass<'_>,
    ) -> Result<Tensor, ModelError> {
        let spec = shared.spec;
        let layer = &spec.layers[self.layer];
        let at = |hook| HookPoint::Block(self.layer, hook);
        let [q, k, v] = self.project(x, spec, tap)?;
        let (q, k) = self.position(q, k, shared, layer)?;
        let q = tap.visit(at(B::RotQ), q)?;
        let k = tap.visit(at(B::RotK), k)?;
        let [k, v] = tap.remember(k, v)?;

        // [batch, seq, head, d_head] -> [batch, head, seq, d_head]
        let [q, k, v] = [q, k, v].map(|t| t.transpose(1, 2));
        let spelled_out =
            spec.score_cap.is_some() || tap.wants(at(B::AttnScores)) || tap.wants(at(B::Pattern));
        let z = if spelled_out {
            self.spelled_out([q, k, v], shared, layer, tap)?
        } else {
            fused([q, k, v], shared.mask, layer.scale, spec.n_heads != spec.n_kv_heads)?
        };
        let z = tap.visit(at(B::Z), z.transpose(1, 2).contiguous())?; // [batch, seq, head, d_head]
        self.output(&z, tap)
    }

    /// Queries, keys and values, `[batch, seq, head, d_head]` each.
    fn project(&self, x: &Tensor, spec: &Spec, tap: &mut Pass<'_>) -> Result<[Tensor; 3], ModelError> {
        let (batch, seq) = (x.size()[0], x.size()[1]);
        let qkv = self.qkv.forward(x)?;
        let d = spec.d_head as i64;
        let (n, kv) = (spec.n_heads as i64, spec.n_kv_heads as i64);
        let part = |start: i64, heads: i64| qkv.narrow(2, start * d, heads * d).view([batch, seq, heads, d]);
        let at = |hook| HookPoint::Block(self.layer, hook);
        let q = tap.visit(at(B::Q), part(0, n))?;
        let k = tap.visit(at(B::K), part(n, kv))?;
        let v = tap.visit(at(B::V), clipped(part(n + kv, kv), spec)?)?;
        Ok([q, k, v])
    }

    /// QK-norm, then rotation; or the other way round.
    fn position(
        &self,
        q: Tensor,
        k: Tensor,
        shared: &Shared<'_>,
        layer: &LayerSpec,
    ) -> Result<(Tensor, Tensor), ModelError> {
        let norm = |q: Tensor, k: Tensor, now: bool| match &self.qk_norm {
            Some([q_norm, k_norm]) if now => Ok((q_norm.forward(&q)?, k_norm.forward(&k)?)),
            _ => Ok::<_, ModelError>((q, k)),
        };
        let (q, k) = norm(q, k, !self.norm_last)?;
        let (q, k) = (clipped(q, shared.spec)?, clipped(k, shared.spec)?);
        let (q, k) = match layer.rope.and_then(|rope| shared.turns.get(rope)) {
            Some(turn) => (turn.rotate(&q)?, turn.rotate(&k)?),
            None => (q, k),
        };
        let (q, k) = norm(q, k, self.norm_last)?;
        Ok((if let Some(growth) = shared.growth { q.f_mul(growth)? } else { q }, k))
    }

    /// Scores and pattern as tensors: `q, k, v [batch, head, seq, d_head]` to `z` of the same shape.
    fn spelled_out(
        &self,
        [q, k, v]: [Tensor; 3],
        shared: &Shared<'_>,
        layer: &LayerSpec,
        tap: &mut Pass<'_>,
    ) -> Result<Tensor, ModelError> {
        let spec = shared.spec;
        let repeats = (spec.n_heads / spec.n_kv_heads) as i64;
        let [k, v] =
            [k, v].map(|t| if repeats > 1 { t.repeat_interleave_self_int(repeats, 1, None) } else { t });
        let mut scores = q.f_matmul(&k.transpose(2, 3))? * layer.scale; // [batch, head, query, key]
        if let Some(cap) = spec.score_cap {
            scores = soft_cap(&scores, cap);
        }
        let scores = match shared.mask {
            Mask::Added(mask) => scores + mask,
            Mask::Causal => scores.f_add(&causal(0, q.size()[2], None, &q)?)?,
            Mask::Open => scores,
        };
        let scores = tap.visit(HookPoint::Block(self.layer, B::AttnScores), scores)?;
        let pattern = scores.f_softmax(-1, wide(scores.kind()))?.to_kind(q.kind());
        let pattern = tap.visit(HookPoint::Block(self.layer, B::Pattern), pattern)?;
        Ok(pattern.f_matmul(&v)?)
    }

    /// Mixed values `z [batch, seq, head, d_head]` through the output projection.
    fn output(&self, z: &Tensor, tap: &mut Pass<'_>) -> Result<Tensor, ModelError> {
        let (batch, seq, heads, d_head) = z.size4()?;
        let by_head = HookPoint::Block(self.layer, B::Result);
        if !tap.wants(by_head) {
            return self.o.forward(&z.reshape([batch, seq, heads * d_head]));
        }
        let d_model = self.o.weight.size()[0];
        let weight = self.o.weight.view([d_model, heads, d_head]).permute([1, 2, 0]); // [head, d_head, d_model]
        let result = z.unsqueeze(3).f_matmul(&weight)?.squeeze_dim(3); // [batch, seq, head, d_model]
        let summed = tap.visit(by_head, result)?.f_sum_dim_intlist(2, false, None::<Kind>)?;
        Ok(match &self.o.bias {
            Some(bias) => summed + bias,
            None => summed,
        })
    }
}

/// Between the model's limits, where it has some.
fn clipped(x: Tensor, spec: &Spec) -> Result<Tensor, ModelError> {
    Ok(match spec.qkv_clip {
        Some(limit) => x.f_clamp(-limit, limit)?,
        None => x,
    })
}

/// libtorch's fused attention; never holds the scores. Its own causal mask is that of as many queries as keys.
fn fused([q, k, v]: [Tensor; 3], mask: &Mask, scale: f64, grouped: bool) -> Result<Tensor, ModelError> {
    let (mask, causal) = match mask {
        Mask::Added(mask) => (Some(mask.unsqueeze(0)), false), // [1, head, query, key]
        Mask::Causal => (None, true),
        Mask::Open => (None, false),
    };
    Ok(Tensor::f_scaled_dot_product_attention(&q, &k, &v, mask.as_ref(), 0.0, causal, Some(scale), grouped)?)
}
