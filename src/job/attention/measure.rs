//! The passes over the text.

use super::{Attention, SQUARES};
use crate::{
    attention::{
        Ablation, Ablations, HeadMeans, HeadScores, HeadSet, prompt_patterns, squares, write_squares,
    },
    job::{AllWindows, JobError, Source, Watch},
    results::{
        patterns::Patterns,
        run::{MetricRow, RunError},
        trace::PromptToken,
        words::counted,
    },
    sources::text::{Batch, each_batch},
};

impl Attention {
    /// Every number, and of a prompt every link.
    pub(super) fn measure(
        &self,
        source: &Source<'_>,
        (layers, sets): (&[usize], &[HeadSet]),
        text: &AllWindows,
        watch: &dyn Watch,
    ) -> Result<(Vec<MetricRow>, Option<Patterns>), JobError> {
        let model = source.session.load(watch)?;
        let intervals = self.pass.intervals(self.seed);
        let mut heads = HeadScores::new(layers, source.session.spec.n_heads, intervals)?;
        self.each("measuring heads", source, text, watch, |batch, clusters| {
            Ok(heads.add(model, &batch.windows, clusters)?)
        })?;
        let mut rows = heads.finish();
        if !sets.is_empty() {
            let ablated = self.ablated(source, sets, text, watch)?;
            if ablated.is_empty() {
                watch.warn("no token of the text follows another: there is no loss to measure without heads");
            }
            rows.extend(ablated);
        }
        let patterns = self.prompt.as_ref().map(|_| patterns(source, layers, text, watch)).transpose()?;
        Ok((rows, patterns))
    }

    /// Losses without each set of heads.
    fn ablated(
        &self,
        source: &Source<'_>,
        sets: &[HeadSet],
        text: &AllWindows,
        watch: &dyn Watch,
    ) -> Result<Vec<MetricRow>, JobError> {
        let (model, readout) = self.pass.load(source, watch)?;
        let ablation = self.ablate.unwrap_or(Ablation::Zero);
        let mut layers: Vec<usize> = sets.iter().flat_map(HeadSet::heads).map(|(layer, _)| *layer).collect();
        layers.sort_unstable();
        layers.dedup();
        let mut means = HeadMeans::new(&layers);
        if ablation == Ablation::Mean {
            self.each("averaging heads", source, text, watch, |batch, _| {
                Ok(means.add(model, &batch.windows)?)
            })?;
        }
        let n = counted(sets.len() as u64, "set");
        watch.note(&format!("the text runs again without {n} of heads, one after the other"));
        let intervals = self.pass.intervals(self.seed);
        let mut ablations = Ablations::new(model, &readout, (sets, ablation), &means, intervals)?;
        self.each("taking heads away", source, text, watch, |batch, clusters| {
            let next = self.next(&batch.windows);
            Ok(ablations.add(model, &batch.windows, &next, clusters)?)
        })?;
        Ok(ablations.finish())
    }

    /// Hands `add` the windows in batches of one length, and per window what it counts as where that is not its
    /// document.
    fn each(
        &self,
        what: &'static str,
        source: &Source<'_>,
        text: &AllWindows,
        watch: &dyn Watch,
        mut add: impl FnMut(&Batch<'_>, Option<&[u64]>) -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        let clusters = self.pass.clusters(&text.windows);
        let stage = watch.begin(what, "tokens", Some(text.stats.tokens));
        each_batch(&text.windows, self.pass.batch_tokens(source), &stage, |batch| {
            let own = clusters.as_ref().map(|all| batch.places.iter().map(|i| all[*i]).collect::<Vec<_>>());
            add(&batch, own.as_deref())
        })
    }

    /// Patterns and scores as files, one per window.
    pub(super) fn save(
        &self,
        source: &Source<'_>,
        layers: &[usize],
        text: &AllWindows,
        watch: &dyn Watch,
    ) -> Result<(), JobError> {
        if self.save.is_empty() {
            return Ok(());
        }
        let model = source.session.load(watch)?;
        let folder = self.out.join(SQUARES);
        std::fs::create_dir_all(&folder).map_err(|e| RunError::io("create", &folder, e))?;
        self.each("saving patterns", source, text, watch, |batch, _| {
            let write = |i: usize, tensors: &[_]| {
                write_squares(&folder.join(format!("window={}.safetensors", batch.places[i])), tensors)
            };
            Ok(squares(model, &batch.windows, (&self.save, layers), write)?)
        })
    }
}

/// Every link of the one window.
fn patterns(
    source: &Source<'_>,
    layers: &[usize],
    text: &AllWindows,
    watch: &dyn Watch,
) -> Result<Patterns, JobError> {
    let model = source.session.load(watch)?;
    let ids = text.windows.first().map_or(&[][..], |window| &window.ids);
    let token = |id: &u32| PromptToken { id: *id, text: source.tokenizer.piece(*id).whole() };
    Ok(Patterns { tokens: ids.iter().map(token).collect(), heads: prompt_patterns(model, ids, layers)? })
}
