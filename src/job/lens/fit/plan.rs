//! Everything a fit decides before weights are read.

use std::num::NonZeroUsize;

use serde_json::{Value, json};

use super::{super::site, Fit, Init};
use crate::{
    hook::{BlockHook, HookPoint},
    job::{AllWindows, JobError, SetTo, Setting, Source},
    lens::artifact::LensKind,
    lens::fit::{FitError, Split, split},
    lenses::{self, LayerIndex, Rung, fit::Optimizer},
    model::hook_points,
    states::{Masker, Masking, SHARE},
};

/// Everything decided before weights are read.
pub(super) struct Plan {
    pub(super) site: BlockHook,
    pub(super) layers: Vec<LayerIndex>,
    /// The layer that translators map to: the last, or [`Fit::target`].
    pub(super) target: usize,
    /// The model's.
    pub(super) n_layers: usize,
    pub(super) points: Vec<HookPoint>,
    pub(super) split: Split,
    pub(super) step_tokens: usize,
    pub(super) batch_tokens: usize,
    pub(super) rate: f64,
    pub(super) rungs: Vec<Rung>,
    /// Longest window.
    pub(super) seq_len: usize,
    /// What hides an encoder's tokens.
    pub(super) masker: Option<Masker>,
}

impl Plan {
    /// The points that states are needed of, beside the last layer's stream.
    pub(super) fn exported(&self) -> Vec<HookPoint> {
        let mut points = self.points.clone();
        let target = HookPoint::resid_pre(self.target);
        if self.target < self.n_layers && !points.contains(&target) {
            points.push(target);
        }
        points
    }
}

impl Fit {
    pub(super) fn plan(
        &self,
        source: &Source<'_>,
        text: &AllWindows,
        seq_len: usize,
        masker: Option<Masker>,
    ) -> Result<Plan, JobError> {
        let spec = &source.session.spec;
        let site = site(&self.site).map_err(JobError::usage)?;
        let target = self.target_layer(spec.n_layers)?;
        let layers = self.layers_below(target, source)?;
        let points: Vec<HookPoint> = layers.iter().map(|l| HookPoint::Block(l.0, site)).collect();
        let there = hook_points(spec);
        if let Some(missing) = points.iter().find(|p| !there.contains(p)) {
            let site = SetTo("site", site.short_name());
            return Err(JobError::usage(format!("{site}: this model has no {missing}")));
        }
        let rungs = rungs(&self.rung).map_err(|e| JobError::setting("rung", e))?;
        let split = split(&text.windows, self.seed);
        let tokens: usize = split.train.iter().map(|i| text.windows[*i].ids.len()).sum();
        let step_tokens = self.step_tokens.map_or_else(
            || (tokens / 62).clamp(4096, 16_384).min((tokens / 16).max(1024)),
            NonZeroUsize::get,
        );
        let some = masker.as_ref().is_some_and(|masker| masker.masking() == Masking::Random);
        let read = if some { SHARE } else { 1.0 };
        let rows = (read * step_tokens as f64) as usize;
        let rate = self.rate.unwrap_or_else(|| self.default_rate(rows, spec.d_model));
        self.check_numbers(rate)?;
        self.check_horizons(text)?;
        self.check_text(&split, tokens, step_tokens)?;
        Ok(Plan {
            site,
            layers,
            target,
            n_layers: spec.n_layers,
            points,
            split,
            step_tokens,
            batch_tokens: source.session.batch_tokens(self.batch_tokens),
            rate,
            rungs,
            seq_len,
            masker,
        })
    }

    /// The layer that translators map to.
    pub(super) fn target_layer(&self, n_layers: usize) -> Result<usize, JobError> {
        if self.target.is_some() && !matches!(self.kind, LensKind::Linear | LensKind::Jacobian) {
            let target = Setting("target");
            let line =
                format!("{target} is for linear and Jacobian lenses; the others map to the last layer");
            return Err(JobError::usage(line));
        }
        let target = self.target.unwrap_or(n_layers);
        if target > n_layers || target == 0 {
            let problem = format!("no layer {target} above the first; the last is {n_layers}");
            return Err(JobError::setting("target", problem));
        }
        Ok(target)
    }

    pub(super) fn layers_below(
        &self,
        target: usize,
        source: &Source<'_>,
    ) -> Result<Vec<LayerIndex>, JobError> {
        let mut layers = source.session.layers(self.layers.as_ref())?;
        layers.retain(|l| *l < target);
        if layers.is_empty() {
            let problem = format!("none is below layer {target}, which the lens maps to");
            return Err(JobError::setting("layers", problem));
        }
        Ok(layers.into_iter().map(LayerIndex).collect())
    }

    fn check_numbers(&self, rate: f64) -> Result<(), JobError> {
        if rate > 0.0 && rate.is_finite() && self.trust > 0.0 && self.ridge >= 0.0 {
            return Ok(());
        }
        let [rate, trust, ridge] = ["rate", "trust", "ridge"].map(Setting);
        Err(JobError::usage(format!("{rate} and {trust} must be above 0, {ridge} not below")))
    }

    fn check_horizons(&self, text: &AllWindows) -> Result<(), JobError> {
        if self.horizons == 0 {
            return Err(JobError::usage(format!("{} must be at least 1", Setting("horizons"))));
        }
        let longest = text.windows.iter().map(|w| w.ids.len()).max().unwrap_or(0);
        if matches!(self.kind, LensKind::Future | LensKind::FutureVocab) && self.horizons > longest {
            let horizons = SetTo("horizons", self.horizons);
            return Err(JobError::usage(format!("{horizons}: the longest window has {longest} tokens")));
        }
        Ok(())
    }

    /// What a fit would stumble over later, when the folder is there already.
    fn check_text(&self, split: &Split, tokens: usize, step_tokens: usize) -> Result<(), JobError> {
        if let (LensKind::Shared, Optimizer::FirstOrder(optimizer)) = (self.kind, self.optimizer.into()) {
            return Err(JobError::usage(lenses::Error::Optimizer { optimizer, rung: Rung::Affine }));
        }
        if split.held_out.is_empty() {
            return Err(JobError::usage(FitError::NothingHeldOut));
        }
        let steps = match self.kind {
            LensKind::Tuned | LensKind::Shared => true,
            LensKind::Future => self.refine,
            LensKind::Linear | LensKind::FutureVocab | LensKind::FuturePrompt | LensKind::Jacobian => false,
        };
        if steps && 2 * tokens < step_tokens {
            return Err(JobError::usage(FitError::TooFew { tokens, need: step_tokens }));
        }
        if self.kind == LensKind::FutureVocab && self.refine {
            return Err(JobError::setting("refine", "a map to the vocabulary is a closed form only"));
        }
        Ok(())
    }

    /// The natural gradient's rate falls where a step has few tokens for the width of the model.
    fn default_rate(&self, step_tokens: usize, d: usize) -> f64 {
        let optimizer = Optimizer::from(self.optimizer);
        let base = optimizer.default_rate();
        if optimizer == Optimizer::Kfac {
            base * (step_tokens as f64 / (10.0 * d as f64)).min(1.0)
        } else {
            base
        }
    }

    /// What determines the lens. `tokens` is where the text ends at the latest.
    pub(super) fn config(&self, source: &Source<'_>, plan: &Plan, tokens: Option<u64>) -> Value {
        let begins = self.optimizer == super::OptimizerSetting::Kfac;
        let mut config = json!({
            "kind": self.kind,
            "site": plan.site.short_name(),
            "layers": plan.layers.iter().map(|l| l.0).collect::<Vec<_>>(),
            "loss": self.loss,
            "optimizer": self.optimizer,
            "rate": plan.rate,
            "trust": self.trust,
            "step_tokens": plan.step_tokens,
            "batch_tokens": plan.batch_tokens,
            "patience": self.patience,
            "init": if begins { self.init } else { Init::Zero },
            "ridge": self.ridge,
            "rungs": plan.rungs.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "target": self.target,
            "horizons": self.horizons,
            "refine": self.refine,
            "readout": self.readout.effective(source.session.device),
            "vocab": source.vocab(),
            "tokens": tokens,
            "seq_len": plan.seq_len,
            "pack": self.text.pack,
            "text_column": self.text.text_column,
        });
        if let Some(masker) = &plan.masker {
            config["mask"] = json!(masker.masking());
            config["seed"] = json!(self.seed);
        }
        config
    }
}

/// The rungs by their names.
fn rungs(names: &[String]) -> Result<Vec<Rung>, String> {
    let mut rungs = Vec::new();
    for name in names {
        let named = match name.as_str() {
            "all" => Rung::SHARED.to_vec(),
            name => vec![name.parse::<Rung>()?],
        };
        for rung in named {
            if !rungs.contains(&rung) {
                rungs.push(rung);
            }
        }
    }
    Ok(rungs)
}
