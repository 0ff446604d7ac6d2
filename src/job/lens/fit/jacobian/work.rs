//! Prompt after prompt, and the checkpoint from which a stopped fit goes on.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use tch::{Kind, Tensor};

use super::{super::checkpoint::refuse_damaged, plan::Plan};
use crate::{
    job::{JobError, Watch},
    lens::jacobian::JacobianError,
    lenses::{Jacobian, JacobianSums, LayerIndex},
    model::{Model, Weights},
    results::words::counted,
    sources::text::Window,
    states::write_tensors,
    watch::Underway,
};

/// How many prompts were added, in a checkpoint.
const DONE: &str = "done";

/// The sums so far.
pub(super) struct Sums {
    done: usize,
    layers: Vec<JacobianSums>,
}

impl Plan {
    /// The Jacobians over all prompts, from where a checkpoint was taken.
    pub(super) fn jacobians(
        &self,
        model: &Model,
        checkpoint: &Path,
        every: Duration,
        watch: &dyn Watch,
    ) -> Result<BTreeMap<LayerIndex, Jacobian>, JobError> {
        refuse_damaged(checkpoint, watch)?;
        let mut sums = if checkpoint.exists() { self.restore(checkpoint)? } else { self.blank(model) };
        if sums.done > 0 {
            watch.note(&format!("going on after {} of an earlier run", counted(sums.done, "prompt")));
        }
        let rows = self.rows.per_prompt();
        let stage = watch.begin("differentiating", "rows", Some((rows * self.prompts.len()) as u64));
        stage.set((rows * sums.done) as u64);
        let mut written = Instant::now();
        while let Some(prompt) = self.prompts.get(sums.done) {
            stage.say(format!("prompt {} of {}", sums.done + 1, self.prompts.len()));
            match self.add(model, prompt, &mut sums, &stage) {
                Err(JacobianError::Interrupted(stopped)) => {
                    self.save(&sums, checkpoint)?;
                    return Err(JacobianError::Interrupted(stopped).into());
                }
                other => other?,
            }
            if written.elapsed() >= every {
                self.save(&sums, checkpoint)?;
                written = Instant::now();
            }
        }
        let finish = |(layer, sums): (&usize, &JacobianSums)| Ok((LayerIndex(*layer), sums.finish()?));
        self.estimator.layers.iter().zip(&sums.layers).map(finish).collect()
    }

    /// Adds the next prompt's rows.
    fn add(
        &self,
        model: &Model,
        prompt: &Window,
        sums: &mut Sums,
        stage: &Underway<'_>,
    ) -> Result<(), JacobianError> {
        let rows = self.rows.of(sums.done);
        let found = self.estimator.rows(model, &prompt.ids, &rows, prompt.document(), stage)?;
        for (sums, jacobian) in sums.layers.iter_mut().zip(&found) {
            sums.add(&rows, jacobian)?;
        }
        sums.done += 1;
        Ok(())
    }

    fn blank(&self, model: &Model) -> Sums {
        let layers = self.estimator.layers.iter().map(|_| JacobianSums::new(model.spec().d_model));
        Sums { done: 0, layers: layers.collect() }
    }

    fn save(&self, sums: &Sums, path: &Path) -> Result<(), JobError> {
        let mut tensors = BTreeMap::from([(DONE.to_owned(), Tensor::from_slice(&[sums.done as f64]))]);
        for (layer, sums) in self.estimator.layers.iter().zip(&sums.layers) {
            let parts = sums.state().into_iter();
            tensors.extend(parts.map(|(name, part)| (format!("{layer}/{name}"), part.shallow_clone())));
        }
        Ok(write_tensors(path, &tensors)?)
    }

    fn restore(&self, path: &Path) -> Result<Sums, JobError> {
        let file = Weights::open_file(path, Kind::Double)?;
        let done = file.take_any(DONE)?.double_value(&[0]) as usize;
        let d = self.rows.d_model();
        let one = |layer: &usize| -> Result<JacobianSums, JobError> {
            JacobianSums::restore(d, |name| Ok::<_, JobError>(file.take_any(&format!("{layer}/{name}"))?))
        };
        Ok(Sums { done, layers: self.estimator.layers.iter().map(one).collect::<Result<_, _>>()? })
    }
}
