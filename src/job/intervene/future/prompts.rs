//! Prompts that are given a state: fixed ones and learned ones.

use super::{Fixed, Future, given::Learned, stopped};
use crate::{
    intervene::future::{Control, Prompt, Table, fits},
    job::{JobError, Watch},
};

impl Future {
    /// Fixed prompts (each by itself, and their mean with its controls), then learned ones.
    pub(super) fn prompts(
        &self,
        table: &mut Table<'_>,
        fixed: &[Fixed],
        learned: &[Learned],
        layers: &[usize],
        watch: &dyn Watch,
    ) -> Result<(), JobError> {
        let all: Vec<usize> = (1..=self.horizons).collect();
        let progress = watch.begin(
            "transplanting",
            "layers",
            Some((layers.len() * (fixed.len() + learned.len())) as u64),
        );
        for (i, one) in fixed.iter().enumerate() {
            stopped(watch)?;
            let own = format!("fixed:{}", i + 1);
            let names = ("fixed", Some(own.as_str()), "future-fixed");
            table.prompt(names, &one.prompt, layers, &all, &Control::ALL)?;
            progress.inc(layers.len() as u64);
        }
        for &layer in layers {
            for lens in learned {
                let prompts = lens.folder.prompts()?;
                let names = (lens.name.as_str(), None, "future-prompt");
                for (&(_, horizon), tensor) in
                    prompts.iter().filter(|((l, k), _)| *l == layer && *k <= self.horizons)
                {
                    stopped(watch)?;
                    let prompt = Prompt::Soft(tensor.shallow_clone());
                    fits(prompt.tokens() as usize, self.horizons, table.context())
                        .map_err(JobError::usage)?;
                    table.prompt(names, &prompt, &[layer], &[horizon], &Control::ALL[..4])?;
                    // Free running takes one prompt for all tokens: that of the paper's N = 1, else the first.
                    let leader = if prompts.contains_key(&(layer, 2)) { 2 } else { 1 };
                    if horizon == leader {
                        table.prompt(names, &prompt, &[layer], &all, &[Control::Free])?;
                    }
                }
                progress.inc(1);
            }
        }
        Ok(())
    }
}
