//! What `lens fit` says.

use std::collections::BTreeMap;

use clap::ValueEnum as _;
use layerscope::job::lens::{Fit, HeldOut, Measured, Prompted};
use serde_json::{Value, json};

use crate::cli::{
    exit::Failure,
    output::{Output, shown},
    table::Table,
};

/// Prints what every layer gained.
pub(super) fn translators(job: &Fit, found: &HeldOut, output: Output) -> Result<(), Failure> {
    output.print(&losses(job, found))?;
    if !found.stuck.is_empty() {
        let stuck: Vec<String> =
            found.stuck.iter().map(|(target, layer)| format!("{target}, layer {layer}")).collect();
        output.note(format!(
            "no step made these better on held-out text than what they began from: {}; more tokens, or a smaller --rate \
             or --trust, may",
            stuck.join(", ")
        ));
    }
    output.note(format!(
        "next, on other text: layerscope lens eval --model {} --data FILE --lens logit --lens {} --out RUN",
        job.model.model.display(),
        job.out.display()
    ));
    let summary: BTreeMap<&String, &Vec<f64>> =
        found.targets.iter().map(|(name, losses)| (name, losses)).collect();
    output.result(json!({ "out": shown(&job.out), "held_out": summary }))?;
    Ok(())
}

/// Held-out losses per layer: of the logit lens, with which every fit begins, and of every target.
fn losses(job: &Fit, found: &HeldOut) -> String {
    let names = found.targets.iter().map(|(name, _)| name.as_str());
    let mut table = Table::new(["layer", "logit"].into_iter().chain(names));
    for (place, layer) in found.layers.iter().enumerate() {
        let logit = found.logit[place].map_or_else(String::new, |loss| format!("{loss:.4}"));
        let cells = found.targets.iter().map(|(_, losses)| format!("{:.4}", losses[place]));
        table.row([layer.to_string(), logit].into_iter().chain(cells));
    }
    let loss = job.loss.to_possible_value();
    let loss = loss.as_ref().map_or("loss", |value| value.get_name());
    format!("held-out {loss}, nats\n{table}").trim_end().to_owned()
}

/// Prints the held-out KL by layer and horizon.
pub(super) fn prompts(job: &Fit, found: &[Prompted], output: Output) -> Result<(), Failure> {
    let headers = (1..=job.horizons).map(|k| format!("+{k}"));
    let mut table = Table::new(["layer".to_owned()].into_iter().chain(headers));
    for prompts in found.chunk_by(|a, b| a.layer == b.layer) {
        let cells = prompts.iter().map(|one| format!("{:.3} -> {:.3}", one.before, one.after));
        table.row([prompts[0].layer.to_string()].into_iter().chain(cells));
    }
    output.print(
        format!("held-out KL(model ‖ prompted), nats, before and after training\n{table}").trim_end(),
    )?;
    output.note(format!(
        "next, on other text: layerscope future --model {} --data FILE --lens {} --out RUN",
        job.model.model.display(),
        job.out.display()
    ));
    output.result(json!({ "out": shown(&job.out), "prompts": found.len() }))?;
    Ok(())
}

/// Prints how large every Jacobian is, and how well it is known.
pub(super) fn jacobians(job: &Fit, found: &[Measured], output: Output) -> Result<(), Failure> {
    let mut table = Table::new(["layer", "‖J‖", "standard error", "cosine of a refit", "prompts per row"]);
    let or_none = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |x| format!("{x:.3}"));
    for one in found {
        let known = [one.error, one.refit_cosine].map(or_none);
        let cells = [one.layer.to_string(), format!("{:.3}", one.norm)].into_iter().chain(known);
        table.row(cells.chain([one.prompts.to_string()]));
    }
    output.print(table.to_string().trim_end())?;
    if let Some(noisy) = found.iter().find(|one| one.refit_cosine.is_some_and(|cosine| cosine < FAITHFUL)) {
        output.note(format!(
            "layer {}: another fit of this size would have a cosine of {:.2} with this one only; more --n-prompts make it \
             steadier",
            noisy.layer,
            noisy.refit_cosine.unwrap_or_default()
        ));
    }
    output.note(format!(
        "next, on other text: layerscope lens eval --model {} --data FILE --lens logit --lens {} --out RUN",
        job.model.model.display(),
        job.out.display()
    ));
    let layers: Vec<Value> = found
        .iter()
        .map(|one| {
            json!({ "layer": one.layer, "prompts": one.prompts, "norm": one.norm, "error": one.error,
                    "refit_cosine": one.refit_cosine })
        })
        .collect();
    output.result(json!({ "out": shown(&job.out), "jacobians": layers }))?;
    Ok(())
}

/// Below this cosine a fit is more chance than anybody would want to read.
const FAITHFUL: f64 = 0.9;
