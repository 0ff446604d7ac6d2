//! What a fit leaves behind and prints.

use std::collections::BTreeMap;

use layerscope::{
    lens::artifact::{LensConfig, LensKind, ModelRef, unembed_sha256},
    lens::fit::{FitLog, Target},
    lenses::Readout,
    results::run::Manifest,
};
use serde_json::{Value, json};
use tch::Tensor;

use super::{
    super::super::{
        exit::Failure,
        output::{Output, shown},
        source::Source,
        table::Table,
    },
    ROTATED,
    args::{FitArgs, Kind_},
    plan::Plan,
};

impl FitArgs {
    /// The parameters that are kept: the best held-out translators; of closed forms, themselves.
    pub(super) fn tensors(
        &self,
        plan: &Plan,
        targets: &[Target],
    ) -> Result<BTreeMap<String, Tensor>, Failure> {
        let mut tensors = BTreeMap::new();
        for target in targets {
            let closed = target.fitter.recipe().steps == 0;
            for (place, layer) in plan.layers.iter().enumerate() {
                let map = if closed {
                    target.fitter.translators().whole(place)?
                } else {
                    target.fitter.best()[place].1.copy()
                };
                let prefix = match self.kind {
                    Kind_::Tuned | Kind_::Linear => format!("layer.{layer}"),
                    Kind_::Future | Kind_::FutureVocab | Kind_::FuturePrompt => {
                        format!("layer.{layer}.horizon.{}", target.horizon)
                    }
                    Kind_::Shared => format!("{}.layer.{layer}", target.name),
                };
                tensors.insert(format!("{prefix}.weight"), map.weight);
                tensors.insert(format!("{prefix}.bias"), map.bias);
            }
        }
        Ok(tensors)
    }

    /// What `config.json` says.
    pub(super) fn lens_config(
        &self,
        source: &Source,
        plan: &Plan,
        readout: &Readout,
        manifest: &Manifest,
    ) -> Result<LensConfig, Failure> {
        let spec = &source.session.spec;
        let rungs = plan.rungs.iter().map(ToString::to_string).chain([ROTATED.to_owned()]);
        let mut details = manifest.config.clone();
        details["rungs"] = if self.kind == Kind_::Shared { rungs.collect() } else { json!([]) };
        Ok(LensConfig {
            kind: match self.kind {
                Kind_::Tuned => LensKind::Tuned,
                Kind_::Shared => LensKind::Shared,
                Kind_::Linear => LensKind::Linear,
                Kind_::Future => LensKind::Future,
                Kind_::FutureVocab => LensKind::FutureVocab,
                Kind_::FuturePrompt => LensKind::FuturePrompt,
            },
            site: self.site.clone(),
            model: ModelRef {
                name: source.session.name(),
                sha256: manifest.model.as_ref().map(|m| m.sha256.clone()),
            },
            d_model: spec.d_model,
            n_layers: spec.n_layers,
            unembed_sha256: Some(unembed_sha256(readout.unembed())?),
            tokenizer_sha256: manifest.tokenizer_sha256.clone(),
            layers: plan.layers.iter().map(|l| l.0).collect(),
            horizons: match self.kind {
                Kind_::Tuned | Kind_::Shared | Kind_::Linear => vec![1],
                Kind_::Future | Kind_::FutureVocab | Kind_::FuturePrompt => (1..=self.horizons).collect(),
            },
            details,
        })
    }

    /// Prints what every layer gained.
    pub(super) fn report(&self, plan: &Plan, log: &FitLog, output: Output) -> Result<(), Failure> {
        let (table, summary) = table(self, plan, log);
        output.print(&table)?;
        let stuck = self.stuck(plan, log);
        if !stuck.is_empty() {
            output.note(format!(
                "no step made these better on held-out text than what they began from: {}; more tokens, or a smaller --rate \
                 or --trust, may",
                stuck.join(", ")
            ));
        }
        output.note(format!(
            "next, on other text: layerscope lens eval --model {} --data FILE --lens logit --lens {} --out RUN",
            self.model.model.display(),
            self.out.display()
        ));
        output.result(json!({ "out": shown(&self.out), "held_out": summary }))?;
        Ok(())
    }
}

impl FitArgs {
    /// Layers that ended where they began, of fits whose layers are independent.
    fn stuck(&self, plan: &Plan, log: &FitLog) -> Vec<String> {
        if !matches!(self.kind, Kind_::Tuned | Kind_::Future) {
            return Vec::new();
        }
        let mut best: BTreeMap<(&str, usize), [f64; 2]> = BTreeMap::new();
        for row in log.rows() {
            if let Some(loss) = row.held_out {
                let cell = best.entry((&row.target, row.layer)).or_insert([f64::INFINITY; 2]);
                let part = &mut cell[usize::from(row.step > 0)];
                *part = part.min(loss);
            }
        }
        let stuck = best.iter().filter(|(_, [start, steps])| steps.is_finite() && steps >= start);
        stuck.map(|((target, layer), _)| format!("{target}, layer {}", plan.layers[*layer])).collect()
    }
}

/// Held-out losses per layer: of the logit lens, with which every fit begins, and of every target.
fn table(args: &FitArgs, plan: &Plan, log: &FitLog) -> (String, Value) {
    let mut names: Vec<&str> = Vec::new();
    for row in log.rows() {
        if !names.contains(&row.target.as_str()) {
            names.push(&row.target);
        }
    }
    // A closed form is kept as it is; of a fit, the best.
    let closed = args.kind == Kind_::Linear || (args.kind == Kind_::Future && !args.refine);
    let kept = |name: &str, layer: usize| {
        let mut losses =
            log.rows().iter().filter(|r| r.target == name && r.layer == layer).filter_map(|r| r.held_out);
        if closed { losses.next_back().unwrap_or(f64::NAN) } else { losses.fold(f64::INFINITY, f64::min) }
    };
    let identity = |layer: usize| {
        let first = log.rows().iter().find(|r| r.layer == layer && r.horizon == 1);
        first.and_then(|r| r.held_out).map_or_else(String::new, |loss| format!("{loss:.4}"))
    };
    let mut table = Table::new(["layer", "logit"].into_iter().chain(names.iter().copied()));
    for (place, layer) in plan.layers.iter().enumerate() {
        let cells = names.iter().map(|name| format!("{:.4}", kept(name, place)));
        table.row([layer.to_string(), identity(place)].into_iter().chain(cells));
    }
    let loss = format!("{:?}", args.loss).to_lowercase();
    let text = format!("held-out {loss}, nats\n{table}").trim_end().to_owned();
    let summary: BTreeMap<&str, Vec<f64>> =
        names.iter().map(|name| (*name, (0..plan.layers.len()).map(|l| kept(name, l)).collect())).collect();
    (text, json!(summary))
}
