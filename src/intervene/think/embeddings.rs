//! The token embeddings as they enter the network, and where a vector lies among them.

use tch::{Device, Kind, Tensor};

use super::ThinkError;
use crate::{
    hook::{Capture, HookPoint, Selection},
    model::{Model, ModelError, wide},
};

/// The embedding of every token at `hook_embed` (Gemma's scaling included, no positions).
#[derive(Debug)]
pub struct Embeddings {
    /// `[vocab, d_model]`, in the model's number type.
    vectors: Tensor,
    /// Lengths `[vocab]`, f64 on the CPU.
    norms: Tensor,
    /// The same ascending.
    sorted: Vec<f64>,
}

impl Embeddings {
    /// Of the first `vocab` tokens. A second copy of the embedding matrix: `vocab · d_model` numbers.
    ///
    /// # Errors
    /// When a token is outside the model's vocabulary.
    pub fn of(model: &Model, vocab: usize) -> Result<Self, ThinkError> {
        let _no_grad = tch::no_grad_guard();
        let mut parts = Vec::new();
        for start in (0..vocab).step_by(model.spec().n_ctx) {
            let end = vocab.min(start + model.spec().n_ctx);
            let ids = Tensor::arange_start(start as i64, end as i64, (Kind::Int64, Device::Cpu));
            let mut capture = Capture::new([HookPoint::Embed].into_iter().collect::<Selection>());
            let _none = model.forward(&ids.view([1, -1]), &mut capture)?;
            let kept = capture.get(HookPoint::Embed).map(|t| t.squeeze_dim(0));
            parts.push(kept.ok_or_else(|| ModelError::Input("the embeddings were not computed".into()))?);
        }
        let vectors = Tensor::f_cat(&parts, 0)?;
        let norms = lengths(&vectors)?.to_device(Device::Cpu);
        let mut sorted = Vec::<f64>::try_from(&norms)?;
        sorted.sort_unstable_by(f64::total_cmp);
        Ok(Self { vectors, norms, sorted })
    }

    /// `[vocab, d_model]`.
    pub fn vectors(&self) -> &Tensor {
        &self.vectors
    }

    /// Mean length.
    pub fn mean_norm(&self) -> f64 {
        self.sorted.iter().sum::<f64>() / self.sorted.len() as f64
    }

    /// Length at a share of the distribution: 0 the shortest embedding's, 0.5 the median, 1 the longest one's.
    pub fn norm_at(&self, share: f64) -> f64 {
        let place = (share * (self.sorted.len() - 1) as f64).round() as usize;
        self.sorted.get(place).copied().unwrap_or(f64::NAN)
    }

    /// Share of embeddings that are no longer than `norm`.
    pub fn percentile(&self, norm: f64) -> f64 {
        self.sorted.partition_point(|n| *n <= norm) as f64 / self.sorted.len() as f64
    }

    /// Embeddings of `ids` (any shape), in the model's number type: `[.., d_model]`.
    ///
    /// # Errors
    /// When an id is outside the vocabulary.
    pub fn lookup(&self, ids: &Tensor) -> Result<Tensor, ThinkError> {
        Ok(Tensor::f_embedding(&self.vectors, &ids.to_device(self.vectors.device()), -1, false, false)?)
    }

    /// The `k` embeddings of largest cosine with each of `x [rows, d_model]`, with their cosines; 0 for a vector
    /// without length.
    ///
    /// # Errors
    /// When the width is another.
    pub fn nearest(&self, x: &Tensor, k: usize) -> Result<Vec<Vec<(u32, f64)>>, ThinkError> {
        let widened = |t: &Tensor| t.f_to_kind(wide(t.kind()));
        let products = widened(x)?.f_matmul(&widened(&self.vectors)?.tr())?.f_to_device(Device::Cpu)?;
        let scale =
            lengths(x)?.to_device(Device::Cpu).f_outer(&self.norms)?.f_clamp_min(f64::MIN_POSITIVE)?;
        let cosines = products.f_to_kind(Kind::Double)?.f_div(&scale)?;
        let (top, ids) = cosines.f_topk((k as i64).min(self.sorted.len() as i64), -1, true, true)?;
        let row = |(ids, top): (Tensor, Tensor)| -> Result<Vec<(u32, f64)>, ThinkError> {
            let (ids, top) = (Vec::<i64>::try_from(ids)?, Vec::<f64>::try_from(top)?);
            Ok(ids.into_iter().map(|id| id as u32).zip(top).collect())
        };
        ids.unbind(0).into_iter().zip(top.unbind(0)).map(row).collect()
    }
}

/// Lengths of the rows of `[.., d]`, f64.
pub(super) fn lengths(x: &Tensor) -> Result<Tensor, tch::TchError> {
    x.f_to_kind(Kind::Double)?.f_norm_scalaropt_dim(2.0, [-1_i64].as_slice(), false)
}

/// Cosines of the paired rows of `[.., d]`, f64 on the CPU; 0 where one has no length.
pub(super) fn cosines(a: &Tensor, b: &Tensor) -> Result<Vec<f64>, ThinkError> {
    let wide = |t: &Tensor| t.f_to_kind(Kind::Double);
    let cosines = Tensor::f_cosine_similarity(&wide(a)?, &wide(b)?, -1, 1e-300)?;
    Ok(Vec::<f64>::try_from(cosines.f_reshape([-1])?.to_device(Device::Cpu))?)
}
