//! The one forward pass. Families differ in [`Spec`]; every hook point of the network is fired here or in
//! `attention.rs`.

use layerscope_lenses::{Norm, Unembed};
use tch::Tensor;

use super::{
    Cache, Combine, ModelError, Rules, Schedule, Spec, Step,
    attention::{Attention, Shared},
    encoder::without_masked,
    mask::Masks,
    mlp::Feed,
    positions::{self, PositionTable},
    rope::{Rope, Turn},
    spec::ResidualKind,
};
use crate::hook::{BlockHook as B, HookPoint, Tap, TapError};

/// The weights of a decoder-only transformer.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) embed: Tensor,
    pub(super) embed_scale: Option<f64>,
    pub(super) pos_embed: Option<PositionTable>,
    /// What an encoder adds to every token: the first of its token types.
    pub(super) token_type: Option<Tensor>,
    pub(super) embed_norm: Option<Norm>,
    pub(super) blocks: Vec<Block>,
    pub(super) ropes: Vec<Rope>,
    pub(super) unembed: Unembed,
}

/// One block. A post norm is a norm on what attention or the MLP puts out; stream norms are on the residual stream
/// itself, after each of them has been added to it (BERT).
#[derive(Debug)]
pub(super) struct Block {
    pub(super) ln1: Option<Norm>,
    pub(super) attention: Attention,
    pub(super) ln1_post: Option<Norm>,
    pub(super) ln2: Option<Norm>,
    pub(super) mlp: Feed,
    pub(super) ln2_post: Option<Norm>,
    pub(super) stream_norms: Option<[Norm; 2]>,
}

/// One forward pass: who watches it, what it remembers.
pub(super) struct Pass<'a> {
    tap: &'a mut dyn Tap,
    cache: Option<&'a mut Cache>,
    /// How it is differentiated, if it is.
    rules: Rules,
    /// Whether blocks run in their own order, so that the pass may end at one of them.
    in_order: bool,
    /// Blocks that have run.
    runs: usize,
}

impl Pass<'_> {
    pub(super) fn rules(&self) -> Rules {
        self.rules
    }

    pub(super) fn wants(&self, point: HookPoint) -> bool {
        self.tap.wants(point)
    }

    /// Shows the tap what is at `point`. An edit of another shape or type could broadcast without a word: it is
    /// refused.
    pub(super) fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        if !self.tap.wants(point) {
            return Ok(value);
        }
        let own = value.shallow_clone();
        let edited = self.tap.visit(point, value)?;
        if (edited.kind(), edited.device(), edited.size()) == (own.kind(), own.device(), own.size()) {
            Ok(edited)
        } else {
            Err(TapError::misfit(point, &own, &edited))
        }
    }

    /// The position of the first token of this pass.
    fn start(&self) -> i64 {
        self.cache.as_ref().map_or(0, |cache| cache.positions() as i64)
    }

    /// Keys and values of the positions so far: those of this pass after the ones that the cache keeps.
    pub(super) fn remember(&mut self, k: Tensor, v: Tensor) -> Result<[Tensor; 2], ModelError> {
        match &mut self.cache {
            Some(cache) => cache.extend(self.runs, k, v),
            None => Ok([k, v]),
        }
    }

    /// Whether nothing after `point` is needed any more.
    fn ends_at(&self, point: HookPoint) -> bool {
        self.tap.stop_after().is_some_and(|stop| !point.is_before(stop))
    }

    /// The same at a point of a block, which says nothing of other blocks unless they run in their own order.
    fn ends_in_block(&self, point: HookPoint) -> bool {
        self.in_order && self.ends_at(point)
    }
}

/// What the blocks of one pass share.
struct Around {
    masks: Masks,
    turns: Vec<Turn>,
    growth: Option<Tensor>,
}

impl Decoder {
    /// Token ids `[batch, seq]`, after those that `cache` has seen, through the blocks of `schedule` to logits
    /// `[batch, seq, vocab]`; none when the tap ended the pass.
    pub(super) fn forward(
        &self,
        ids: &Tensor,
        spec: &Spec,
        schedule: &Schedule,
        cache: Option<&mut Cache>,
        rules: Rules,
        tap: &mut dyn Tap,
    ) -> Result<Option<Tensor>, ModelError> {
        let mut pass = Pass { tap, cache, rules, in_order: schedule.is_identity(), runs: 0 };
        let ((batch, seq), start) = (ids.size2()?, pass.start());
        pass.tap.begin(start as usize..(start + seq) as usize);
        let logits = self.run(ids, spec, schedule, &mut pass)?;
        if let (Some(cache), Some(_)) = (pass.cache, &logits) {
            cache.advance(batch, seq);
        }
        Ok(logits)
    }

    fn run(
        &self,
        ids: &Tensor,
        spec: &Spec,
        schedule: &Schedule,
        pass: &mut Pass<'_>,
    ) -> Result<Option<Tensor>, ModelError> {
        let mut x = self.embed(ids, spec, pass)?;
        if pass.ends_at(HookPoint::PosEmbed) {
            return Ok(None);
        }
        let around = self.around(spec, &x, pass.start())?;
        for step in schedule.steps() {
            let Some(out) = self.step(step, x, spec, &around, pass)? else { return Ok(None) };
            x = out;
        }
        self.unembed(x, spec, pass)
    }

    /// What the blocks of one pass share, for queries `x [batch, seq, ..]` from position `start` on.
    fn around(&self, spec: &Spec, x: &Tensor, start: i64) -> Result<Around, ModelError> {
        let seq = x.size()[1];
        let turns = self.ropes.iter().map(|rope| rope.at(start, seq)).collect::<Result<_, _>>()?;
        let growth = spec.query_growth.map(|growth| positions::growth(growth, start, x)).transpose()?;
        Ok(Around { masks: Masks::new(spec, x, start)?, turns, growth })
    }

    /// One block, or several on the same `x [batch, seq, d_model]`.
    fn step(
        &self,
        step: &Step,
        x: Tensor,
        spec: &Spec,
        around: &Around,
        pass: &mut Pass<'_>,
    ) -> Result<Option<Tensor>, ModelError> {
        let (blocks, combine) = match step {
            Step::Block(i) => return self.block(*i, x, spec, around, pass),
            Step::Parallel(blocks, combine) => (blocks, *combine),
        };
        let mut outs = Vec::with_capacity(blocks.len());
        for &i in blocks {
            let Some(out) = self.block(i, x.shallow_clone(), spec, around, pass)? else { return Ok(None) };
            outs.push(out);
        }
        let sum = Tensor::f_stack(&outs, 0)?.f_sum_dim_intlist(0, false, x.kind())?;
        Ok(Some(match combine {
            Combine::Mean => sum.f_div_scalar(outs.len() as f64)?,
            Combine::Sum => sum.f_sub(&x.f_mul_scalar(outs.len() as f64 - 1.0)?)?,
        }))
    }

    /// The residual stream `x` through block `i`, with its hooks.
    fn block(
        &self,
        i: usize,
        x: Tensor,
        spec: &Spec,
        around: &Around,
        pass: &mut Pass<'_>,
    ) -> Result<Option<Tensor>, ModelError> {
        let resid = pass.visit(HookPoint::Block(i, B::ResidPre), x)?;
        if pass.ends_in_block(HookPoint::Block(i, B::ResidPre)) {
            return Ok(None);
        }
        let mask = around.masks.of(spec.layers[i].window);
        let shared = Shared { spec, turns: &around.turns, growth: around.growth.as_ref(), mask };
        let out = self.blocks[i].forward(i, resid, &shared, pass)?;
        pass.runs += 1;
        Ok(out)
    }

    /// Token embeddings and positions, `[batch, seq, d_model]`.
    fn embed(&self, ids: &Tensor, spec: &Spec, pass: &mut Pass<'_>) -> Result<Tensor, ModelError> {
        let mut x = Tensor::f_embedding(&self.embed, ids, -1, false, false)?;
        if let Some(scale) = self.embed_scale {
            // The factor is rounded to the model's number type first, as in transformers.
            x = x.f_mul(&Tensor::from(scale).to_kind(self.embed.kind()).to_device(x.device()))?;
        }
        if let Some(mask) = spec.encoder.and_then(|encoder| encoder.token_dropout) {
            x = without_masked(&x, ids, mask)?;
        }
        x = pass.visit(HookPoint::Embed, x)?;
        if let Some(row) = &self.token_type {
            x = x.f_add(row)?;
        }
        if let Some(table) = &self.pos_embed {
            let positions = match spec.encoder.and_then(|encoder| encoder.padding) {
                Some(padding) => table.rows_around(ids, padding)?,
                None => table.rows(pass.start(), ids.size()[1])?.unsqueeze(0).expand_as(&x),
            };
            x = x.f_add(&pass.visit(HookPoint::PosEmbed, positions)?)?;
        }
        match &self.embed_norm {
            Some(norm) => Ok(norm.forward(&x)?),
            None => Ok(x),
        }
    }

    /// The residual stream leaving the last block to logits; none, too, where no head is stored.
    fn unembed(&self, x: Tensor, spec: &Spec, pass: &mut Pass<'_>) -> Result<Option<Tensor>, ModelError> {
        let end = HookPoint::Block(self.blocks.len(), B::ResidPre);
        let x = pass.visit(end, x)?;
        if pass.ends_at(end) {
            return Ok(None);
        }
        let normalized = self.final_norm(x, pass)?;
        if pass.ends_at(HookPoint::FinalNormalized) || !spec.has_head() {
            return Ok(None);
        }
        let read = match self.unembed.transform() {
            Some(transform) => pass.visit(HookPoint::HeadNormalized, transform.forward(&normalized)?)?,
            None => normalized,
        };
        if pass.ends_at(HookPoint::HeadNormalized) {
            return Ok(None);
        }
        Ok(Some(pass.visit(HookPoint::Logits, self.unembed.head(&read)?)?))
    }

    /// The final norm with its hooks, where there is one.
    fn final_norm(&self, x: Tensor, pass: &mut Pass<'_>) -> Result<Tensor, ModelError> {
        let Some(norm) = self.unembed.norm() else { return Ok(x) };
        let normalized = if pass.wants(HookPoint::FinalScale) {
            let scale = pass.visit(HookPoint::FinalScale, norm.scale(&x)?)?;
            norm.with_scale(&x, &scale)?
        } else {
            norm.forward(&x)?
        };
        Ok(pass.visit(HookPoint::FinalNormalized, normalized)?)
    }
}

impl Block {
    /// The residual stream entering block `i` to the one leaving it; none when the tap ended the pass.
    fn forward(
        &self,
        i: usize,
        resid: Tensor,
        shared: &Shared<'_>,
        pass: &mut Pass<'_>,
    ) -> Result<Option<Tensor>, ModelError> {
        let at = |hook| HookPoint::Block(i, hook);
        let rules = pass.rules();
        let read = normed(rules, self.ln1.as_ref(), resid.shallow_clone())?;
        let attn = normed(rules, self.ln1_post.as_ref(), self.attention.forward(&read, shared, pass)?)?;
        let attn = pass.visit(at(B::AttnOut), scaled(attn, shared.spec))?;
        if pass.ends_in_block(at(B::AttnOut)) {
            return Ok(None);
        }
        let (stream, mlp_in) = match shared.spec.residual {
            ResidualKind::Sequential => {
                let mid = pass.visit(at(B::ResidMid), resid + attn)?;
                let mid = normed(rules, self.stream_norms.as_ref().map(|[norm, _]| norm), mid)?;
                let mlp_in = normed(rules, self.ln2.as_ref(), mid.shallow_clone())?;
                (mid, mlp_in)
            }
            ResidualKind::Parallel => {
                let mlp_in = normed(rules, self.ln2.as_ref(), resid.shallow_clone())?;
                (resid + attn, mlp_in)
            }
            ResidualKind::ParallelSharedNorm => (resid + attn, read),
        };
        if pass.ends_in_block(at(B::ResidMid)) {
            return Ok(None);
        }
        let mlp = normed(rules, self.ln2_post.as_ref(), self.mlp.forward(&mlp_in, pass)?)?;
        let mlp = pass.visit(at(B::MlpOut), scaled(mlp, shared.spec))?;
        let out = pass.visit(at(B::ResidPost), stream + mlp)?;
        if pass.ends_in_block(at(B::ResidPost)) {
            return Ok(None);
        }
        normed(rules, self.stream_norms.as_ref().map(|[_, norm]| norm), out).map(Some)
    }
}

/// What a branch adds to the residual stream.
fn scaled(branch: Tensor, spec: &Spec) -> Tensor {
    match spec.residual_scale {
        Some(scale) => branch * scale,
        None => branch,
    }
}

/// `norm(x)`, or `x` where there is no norm.
fn normed(rules: Rules, norm: Option<&Norm>, x: Tensor) -> Result<Tensor, ModelError> {
    match norm {
        Some(norm) => rules.norm(norm, &x),
        None => Ok(x),
    }
}
