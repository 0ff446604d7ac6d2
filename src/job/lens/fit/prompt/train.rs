//! Training, cell after cell, and the checkpoint that is written after each.

use std::{collections::BTreeMap, path::Path};

use serde_json::json;
use tch::{Kind, Tensor};

use super::{super::checkpoint::refuse_damaged, Plan};
use crate::{
    intervene::future::{PromptCell, Sources, Trained, train},
    job::{JobError, Watch},
    lens::artifact::prompt_name,
    model::{Model, Weights},
    results::words::counted,
    sources::text::Window,
    states::write_tensors,
};

/// Prompts by layer and horizon.
pub(super) type Prompts = BTreeMap<PromptCell, Trained>;

impl Plan {
    /// The states and continuations of all contexts: of those trained on, and of those held out.
    pub(super) fn sources(&self, model: &Model, watch: &dyn Watch) -> Result<(Sources, Sources), JobError> {
        let tokens = self.train.iter().chain(&self.held_out).map(|context| context.ids.len() as u64).sum();
        let stage = watch.begin("continuing", "tokens", Some(tokens));
        let run = |contexts: &[Window]| {
            let (k, vocab, tokens) = (self.horizons, self.vocab, self.batch_tokens);
            Sources::run(model, contexts, &self.layers, k, vocab, tokens, &stage)
        };
        Ok((run(&self.train)?, run(&self.held_out)?))
    }

    /// Trains what a checkpoint does not have, and writes one after every cell.
    pub(super) fn cells(
        &self,
        model: &Model,
        sources: (&Sources, &Sources),
        checkpoint: &Path,
        watch: &dyn Watch,
    ) -> Result<Prompts, JobError> {
        refuse_damaged(checkpoint, watch)?;
        let mut trained = if checkpoint.exists() { restore(checkpoint)? } else { Prompts::new() };
        if !trained.is_empty() {
            watch.note(&format!("going on after {} of an earlier run", counted(trained.len(), "prompt")));
        }
        let cells = self
            .layers
            .iter()
            .flat_map(|l| (1..=self.horizons).map(|horizon| PromptCell { layer: *l, horizon }));
        let left: Vec<PromptCell> = cells.filter(|cell| !trained.contains_key(cell)).collect();
        let steps = self.recipe.steps(sources.0.rows());
        let stage = watch.begin("training", "steps", Some((steps * left.len()) as u64));
        for (done, cell) in left.into_iter().enumerate() {
            stage.set((steps * done) as u64);
            let one = train(model, self.vocab, sources, cell, &self.recipe, self.seed, &stage)?;
            report(cell, &one, watch);
            trained.insert(cell, one);
            write_tensors(checkpoint, &tensors(&trained, true))?;
        }
        Ok(trained)
    }
}

fn report(cell: PromptCell, one: &Trained, watch: &dyn Watch) {
    let PromptCell { layer, horizon } = cell;
    let (before, after) = (one.before, one.after);
    watch.note(&format!("layer {layer}, horizon {horizon}: held-out KL {before:.4} -> {after:.4}"));
    watch.event("trained", json!({ "layer": layer, "horizon": horizon, "before": before, "after": after }));
}

/// Prompts by the names of the folder; of a checkpoint with what was measured of them.
pub(super) fn tensors(trained: &Prompts, measured: bool) -> BTreeMap<String, Tensor> {
    let mut tensors = BTreeMap::new();
    for (cell, one) in trained {
        let name = prompt_name(cell.layer, cell.horizon);
        if measured {
            let numbers = [cell.layer as f64, cell.horizon as f64, one.steps as f64, one.before, one.after];
            tensors.insert(format!("{name}.measured"), Tensor::from_slice(&numbers));
        }
        tensors.insert(name, one.prompt.shallow_clone());
    }
    tensors
}

/// What a checkpoint holds.
fn restore(path: &Path) -> Result<Prompts, JobError> {
    let file = Weights::open_file(path, Kind::Double)?;
    let mut trained = Prompts::new();
    for (name, _) in file.shapes() {
        let Some(prompt) = name.strip_suffix(".measured") else { continue };
        let numbers = Vec::<f64>::try_from(file.take_any(name)?)?;
        let [layer, horizon, steps, before, after] = numbers[..] else {
            return Err(JobError::failed(format!(
                "{}: {name} has {} numbers",
                path.display(),
                numbers.len()
            )));
        };
        let cell = PromptCell { layer: layer as usize, horizon: horizon as usize };
        let prompt = file.take_any(prompt)?.to_kind(Kind::Float);
        trained.insert(cell, Trained { prompt, steps: steps as usize, before, after });
    }
    Ok(trained)
}
