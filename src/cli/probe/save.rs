//! Fitted probes as files: `probes/logistic.resid_pre.3.safetensors` and `.json` beside it.

use std::{collections::BTreeMap, io::Write as _, path::Path};

use layerscope::{
    probe::{Cell, Target},
    run::{Manifest, RunError, write_atomic, write_tensors},
};
use serde_json::json;
use tch::Tensor;

use super::{super::exit::Failure, sweep::Job};

/// Writes the probes of the first split. Weights `[k, d]` and bias `[k]` read raw states: the standardisation by the training
/// part is folded into them.
pub(super) fn probes(
    run: &Path,
    job: &Job,
    points: &[(String, usize)],
    cells: &[Vec<Cell>],
    manifest: &Manifest,
) -> Result<(), Failure> {
    let classes = match &job.task.target {
        Target::Classes { names, .. } => Some(names),
        Target::Numbers(_) => None,
    };
    for ((hook, layer), cells) in points.iter().zip(cells) {
        let Some(cell) = cells.first() else { continue };
        for (estimator, reading) in &cell.readings {
            let stem = format!("{}.{hook}.{layer}", estimator.name());
            let linear = &reading.fitted.linear;
            let (k, d) = linear.weights.dim();
            let weights: Vec<f64> = linear.weights.iter().copied().collect();
            let tensors = BTreeMap::from([
                ("weight".to_owned(), Tensor::from_slice(&weights).view([k as i64, d as i64])),
                ("bias".to_owned(), Tensor::from_slice(&linear.bias.to_vec())),
            ]);
            write_tensors(&run.join("probes").join(format!("{stem}.safetensors")), &tensors)?;
            let config = json!({
                "probe": estimator.name(),
                "hook": hook,
                "layer": layer,
                "positions": job.plan.positions.to_string(),
                "classes": classes,
                "link": format!("{:?}", linear.link).to_lowercase(),
                "l2": reading.fitted.l2,
                "converged": reading.fitted.converged,
                "seed": manifest.seed,
                "model": manifest.model.as_ref().map(|m| &m.sha256),
                "tokenizer": manifest.tokenizer_sha256,
                "reads": "raw states: scores = x weightᵀ + bias; the training part's z-scores are folded in",
            });
            let path = run.join("probes").join(format!("{stem}.json"));
            write_atomic(&path, |file| {
                let text = format!("{config:#}\n");
                file.write_all(text.as_bytes()).map_err(|e| RunError::io("write", &path, e))
            })?;
        }
    }
    Ok(())
}
