//! Prompts that are given a state: fixed ones and learned ones.

use super::{Fixed, Future, given::Learned, stopped};
use crate::{
    intervene::future::{Control, Prompt, PromptName, Table, fits},
    job::{JobError, Watch},
    results::run::RowKind,
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
            let name = PromptName { of: "fixed", number: Some(i + 1), kind: RowKind::FutureFixed };
            table.prompt(name, &one.prompt, layers, &all, &Control::ALL)?;
            progress.inc(layers.len() as u64);
        }
        for &layer in layers {
            for lens in learned {
                let prompts = lens.folder.prompts()?;
                let name = PromptName { of: &lens.name, number: None, kind: RowKind::FuturePrompt };
                for (&(_, horizon), tensor) in
                    prompts.iter().filter(|((l, k), _)| *l == layer && *k <= self.horizons)
                {
                    stopped(watch)?;
                    let prompt = Prompt::Soft(tensor.shallow_clone());
                    fits(prompt.tokens() as usize, self.horizons, table.context())
                        .map_err(JobError::usage)?;
                    table.prompt(name, &prompt, &[layer], &[horizon], &Control::ALL[..4])?;
                    // Free running takes one prompt for all tokens: that of the paper's N = 1, else the first.
                    let leader = if prompts.contains_key(&(layer, 2)) { 2 } else { 1 };
                    if horizon == leader {
                        table.prompt(name, &prompt, &[layer], &all, &[Control::Free])?;
                    }
                }
                progress.inc(1);
            }
        }
        Ok(())
    }
}
