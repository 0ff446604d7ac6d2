//! One prompt's Jacobians, by vector-Jacobian products.

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use crate::{
    hook::{BlockHook, HookPoint, Tap, TapError},
    model::{Model, ModelError, Rules},
    states::not_finite,
    watch::{Stopped, Underway},
};

/// A fit that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum JacobianError {
    /// The network failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Sums or means do not fit.
    #[error(transparent)]
    Lens(#[from] layerscope_lenses::Error),
    /// A derivative that is NaN or infinite.
    #[error("the Jacobian of layer {layer} is not finite in a prompt of document {document}")]
    #[allow(missing_docs)]
    NotFinite { layer: usize, document: u64 },
    /// A prompt without a place to read.
    #[error("a prompt of {tokens} tokens has no place after the first {skip} and before the last")]
    #[allow(missing_docs)]
    Short { tokens: usize, skip: usize },
    /// The user stopped it.
    #[error("interrupted; repeat the command to go on")]
    Interrupted(#[from] Stopped),
}

impl From<tch::TchError> for JacobianError {
    fn from(error: tch::TchError) -> Self {
        Self::Model(error.into())
    }
}

/// What is differentiated, and how.
#[derive(Debug, Clone)]
pub struct Estimator {
    /// The layers read, below `target`.
    pub layers: Vec<usize>,
    /// The layer whose change is measured; `n_layers` is what leaves the last block.
    pub target: usize,
    /// Places at a prompt's beginning that count neither as sources nor as targets.
    pub skip: usize,
    /// Rows of the Jacobian in one pass back: the prompt is in the batch so many times.
    pub batch: usize,
    /// The rules of the way back.
    pub rules: Rules,
}

impl Estimator {
    /// The rows `rows` of a prompt's Jacobian, `[rows, d_model]` for each layer read, in the model's number type.
    ///
    /// Costs one pass forward of `batch` copies of the prompt, and one back for every `batch` rows; the graph is kept
    /// in between. `stage` counts rows.
    ///
    /// # Errors
    /// [`JacobianError::Interrupted`], a prompt that is too short, one whose derivatives are not finite, and what the network says.
    pub fn rows(
        &self,
        model: &Model,
        ids: &[u32],
        rows: &[usize],
        document: u64,
        stage: &Underway<'_>,
    ) -> Result<Vec<Tensor>, JacobianError> {
        let places = self.places(ids.len())?;
        let batch = self.batch.clamp(1, rows.len().max(1));
        tch::with_grad(|| {
            let mut probes = Probes::new(self, model, (batch, ids.len()), &places)?;
            let ids = Tensor::from_slice(&ids.iter().map(|id| i64::from(*id)).collect::<Vec<_>>());
            let ids = ids.f_expand([batch as i64, ids.size()[0]], true)?;
            let _none = model.forward_by(self.rules, &ids, &mut probes)?;
            let ends = probes.sum_of_targets()?;
            let leaves: Vec<&Tensor> = self.layers.iter().map(|layer| &probes.leaves[layer]).collect();
            let mut parts: Vec<Vec<Tensor>> = self.layers.iter().map(|_| Vec::new()).collect();
            let chunks = rows.chunks(batch).len();
            for (i, chunk) in rows.chunks(batch).enumerate() {
                stage.go_on()?;
                let index: Vec<i64> = chunk.iter().map(|row| *row as i64).collect();
                let index = Tensor::from_slice(&index).unsqueeze(1).to_device(model.device());
                let chunk = chunk.len() as i64;
                let picked = ends.f_narrow(0, 0, chunk)?.f_gather(1, &index, false)?;
                let total = picked.f_sum(picked.kind())?;
                let found = Tensor::f_run_backward(&[&total], &leaves, i + 1 < chunks, false)?;
                for (part, gradient) in parts.iter_mut().zip(&found) {
                    part.push(gradient.f_select(1, 0)?.f_narrow(0, 0, chunk)? / places.len() as f64);
                }
                stage.inc(chunk as u64);
            }
            let whole = parts.iter().map(|part| Tensor::f_cat(part, 0)).collect::<Result<Vec<_>, _>>()?;
            self.check(&whole, document)?;
            Ok(whole)
        })
    }

    /// The places of a prompt of so many tokens that count.
    fn places(&self, tokens: usize) -> Result<std::ops::Range<usize>, JacobianError> {
        let places = self.skip..tokens.saturating_sub(1);
        if places.is_empty() {
            return Err(JacobianError::Short { tokens, skip: self.skip });
        }
        Ok(places)
    }

    fn check(&self, jacobians: &[Tensor], document: u64) -> Result<(), JacobianError> {
        for (layer, jacobian) in self.layers.iter().zip(jacobians) {
            if not_finite(jacobian)?.is_some() {
                return Err(JacobianError::NotFinite { layer: *layer, document });
            }
        }
        Ok(())
    }
}

/// Adds a change of zero to every layer read, the same at all places that count, and keeps the target.
struct Probes {
    /// By layer, `[batch, 1, d_model]`: what derivatives are taken in.
    leaves: BTreeMap<usize, Tensor>,
    /// `[1, seq, 1]`: one at places that count.
    mask: Tensor,
    places: (i64, i64),
    target: usize,
    kept: Option<Tensor>,
}

impl Probes {
    fn new(
        estimator: &Estimator,
        model: &Model,
        (batch, seq): (usize, usize),
        places: &std::ops::Range<usize>,
    ) -> Result<Self, JacobianError> {
        let options = (model.kind(), model.device());
        let size = [batch as i64, 1, model.spec().d_model as i64];
        let leaf = |layer: &usize| Ok((*layer, Tensor::f_zeros(size, options)?.set_requires_grad(true)));
        let mask = Tensor::f_zeros([1, seq as i64, 1], options)?;
        let places = (places.start as i64, places.len() as i64);
        let _same = mask.f_narrow(1, places.0, places.1)?.f_fill_(1.0)?;
        let leaves = estimator.layers.iter().map(leaf).collect::<Result<_, JacobianError>>()?;
        Ok(Self { leaves, mask, places, target: estimator.target, kept: None })
    }

    /// The target summed over the places that count, `[batch, d_model]`, in f32 or wider.
    fn sum_of_targets(&self) -> Result<Tensor, JacobianError> {
        let target = self.target;
        let none = || ModelError::Input(format!("layer {target} was not computed"));
        let kept = self.kept.as_ref().ok_or_else(none)?;
        let wide = crate::model::wide(kept.kind());
        Ok(kept.f_narrow(1, self.places.0, self.places.1)?.f_sum_dim_intlist(1, false, wide)?)
    }
}

impl Tap for Probes {
    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        let HookPoint::Block(layer, _) = point else { return Ok(value) };
        if layer == self.target {
            self.kept = Some(value.shallow_clone());
        }
        let Some(leaf) = self.leaves.get(&layer) else { return Ok(value) };
        let changed = leaf.f_mul(&self.mask).and_then(|change| value.f_add(&change));
        changed.map_err(|error: TchError| TapError::edit(point, &error))
    }

    fn wants(&self, point: HookPoint) -> bool {
        let asked = |layer: usize| layer == self.target || self.leaves.contains_key(&layer);
        matches!(point, HookPoint::Block(layer, BlockHook::ResidPre) if asked(layer))
    }

    fn stop_after(&self) -> Option<HookPoint> {
        Some(HookPoint::resid_pre(self.target))
    }
}
