//! Everything a fit decides before weights are read.

use std::num::NonZeroUsize;

use anyhow::anyhow;
use layerscope::{
    hook::HookPoint,
    lens::fit::{FitError, Split, split},
    lenses::{LayerIndex, Rung, fit::Optimizer},
    model::hook_points,
};
use serde_json::{Value, json};

use super::{
    super::{
        super::{
            exit::Failure,
            source::{AllWindows, Source},
        },
        site::site,
    },
    args::{FitArgs, Kind_},
};

/// Everything decided before weights are read.
pub(super) struct Plan {
    pub(super) layers: Vec<LayerIndex>,
    /// The layer that translators map to: the last, or `--target`.
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
}

impl FitArgs {
    pub(super) fn plan(&self, source: &Source, text: &AllWindows, seq_len: usize) -> Result<Plan, Failure> {
        let spec = &source.session.spec;
        let site = site(&self.site).map_err(|e| Failure::usage(anyhow!(e)))?;
        if self.target.is_some() && self.kind != Kind_::Linear {
            return Err(Failure::usage(anyhow!(
                "--target is for linear lenses; the others map to the last layer"
            )));
        }
        let last = self.target.unwrap_or(spec.n_layers);
        if last > spec.n_layers || last == 0 {
            return Err(Failure::usage(anyhow!(
                "--target: no layer {last} above the first; the last is {}",
                spec.n_layers
            )));
        }
        let mut layers = source.session.layers(self.layers.as_ref())?;
        layers.retain(|l| *l < last);
        if layers.is_empty() {
            return Err(Failure::usage(anyhow!(
                "--layers: none is below layer {last}, which the lens maps to"
            )));
        }
        let point = |l: &usize| HookPoint::Block(*l, site);
        let points: Vec<HookPoint> = layers.iter().map(point).collect();
        let there = hook_points(spec);
        if let Some(missing) = points.iter().find(|p| !there.contains(p)) {
            return Err(Failure::usage(anyhow!("--site {}: this model has no {missing}", self.site)));
        }
        let rungs = rungs(&self.rung).map_err(|e| Failure::usage(anyhow!(e)))?;
        let split = split(&text.windows, self.common.seed);
        let tokens: usize = split.train.iter().map(|i| text.windows[*i].ids.len()).sum();
        let step_tokens = self.step_tokens.map_or_else(
            || (tokens / 62).clamp(4096, 16_384).min((tokens / 16).max(1024)),
            NonZeroUsize::get,
        );
        let batch_tokens = source.session.batch_tokens(self.batch_tokens);
        let rate = self.rate.unwrap_or_else(|| self.default_rate(step_tokens, spec.d_model));
        if !(rate > 0.0 && rate.is_finite() && self.trust > 0.0 && self.ridge >= 0.0) {
            return Err(Failure::usage(anyhow!("--rate and --trust must be above 0, --ridge not below")));
        }
        if self.horizons == 0 {
            return Err(Failure::usage(anyhow!("--horizons must be at least 1")));
        }
        let longest = text.windows.iter().map(|w| w.ids.len()).max().unwrap_or(0);
        if matches!(self.kind, Kind_::Future | Kind_::FutureVocab) && self.horizons > longest {
            return Err(Failure::usage(anyhow!(
                "--horizons {}: the longest window has {longest} tokens",
                self.horizons
            )));
        }
        self.check_text(&split, tokens, step_tokens)?;
        let layers = layers.into_iter().map(LayerIndex).collect();
        Ok(Plan {
            layers,
            target: last,
            n_layers: spec.n_layers,
            points,
            split,
            step_tokens,
            batch_tokens,
            rate,
            rungs,
            seq_len,
        })
    }

    /// What a fit would stumble over later, when the folder is there already.
    fn check_text(&self, split: &Split, tokens: usize, step_tokens: usize) -> Result<(), Failure> {
        let (optimizer, rung) = (self.optimizer(), Rung::Affine);
        if self.kind == Kind_::Shared && optimizer != Optimizer::Kfac {
            return Err(Failure::usage(layerscope::lenses::Error::Optimizer { optimizer, rung }));
        }
        if split.held_out.is_empty() {
            return Err(Failure::usage(FitError::NothingHeldOut));
        }
        let steps = match self.kind {
            Kind_::Tuned | Kind_::Shared => true,
            Kind_::Future => self.refine,
            Kind_::Linear | Kind_::FutureVocab | Kind_::FuturePrompt => false,
        };
        if steps && 2 * tokens < step_tokens {
            return Err(Failure::usage(FitError::TooFew { tokens, need: step_tokens }));
        }
        Ok(())
    }

    /// The natural gradient's rate falls where a step has few tokens for the width of the model.
    fn default_rate(&self, step_tokens: usize, d: usize) -> f64 {
        let optimizer = self.optimizer();
        let base = optimizer.default_rate();
        if optimizer == Optimizer::Kfac {
            base * (step_tokens as f64 / (10.0 * d as f64)).min(1.0)
        } else {
            base
        }
    }

    /// What determines the lens.
    pub(super) fn config(&self, source: &Source, plan: &Plan) -> Value {
        let name = |v: &dyn std::fmt::Debug| format!("{v:?}").to_lowercase();
        json!({
            "kind": if self.kind == Kind_::FutureVocab { "future-vocab".into() } else { name(&self.kind) },
            "site": self.site,
            "layers": plan.layers.iter().map(|l| l.0).collect::<Vec<_>>(),
            "loss": name(&self.loss),
            "optimizer": name(&self.optimizer),
            "rate": plan.rate,
            "trust": self.trust,
            "step_tokens": plan.step_tokens,
            "batch_tokens": plan.batch_tokens,
            "patience": self.patience,
            "init": if self.optimizer() == Optimizer::Kfac { name(&self.init) } else { "zero".into() },
            "ridge": self.ridge,
            "rungs": plan.rungs.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "target": self.target,
            "horizons": self.horizons,
            "refine": self.refine,
            "readout": self.readout.effective(source.session.device),
            "vocab": source.vocab(),
            "tokens": self.text.0.tokens,
            "seq_len": plan.seq_len,
            "pack": self.text.0.pack,
            "text_column": self.text.0.text_column,
        })
    }
}

/// The rungs of `--rung`.
fn rungs(names: &[String]) -> Result<Vec<Rung>, String> {
    let mut rungs = Vec::new();
    for name in names {
        let asked = match name.as_str() {
            "all" => Rung::SHARED.to_vec(),
            name => vec![name.parse::<Rung>().map_err(|e| format!("--rung: {e}"))?],
        };
        for rung in asked {
            if !rungs.contains(&rung) {
                rungs.push(rung);
            }
        }
    }
    Ok(rungs)
}
