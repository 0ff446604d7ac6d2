//! The pass of the text through the model, into files.

use super::{Export, Planned};
use crate::{
    job::{JobError, Progress, Source, Watch},
    results::words::counted,
    sources::text::open_windows,
    states::{
        export::{self, ExportError},
        store::StoreWriter,
    },
};

impl Export {
    /// Runs the model over the text.
    pub(super) fn write(
        source: &Source<'_>,
        plan: &Planned,
        writer: &mut StoreWriter,
        watch: &dyn Watch,
    ) -> Result<(), JobError> {
        if !writer.done().is_empty() {
            let (done, shards) = (writer.done().len(), counted(plan.size.shards, "shard"));
            watch.note(&format!("resuming: {done} of {shards} are there"));
        }
        let mut windows = open_windows(source.inputs.corpus()?, &source.tokenizer, &plan.windows)?;
        let export = export::Export {
            model: source.session.load(watch)?,
            tokenizer: &source.tokenizer,
            points: &plan.points,
            positions: &plan.chosen,
            batch_tokens: plan.batch_tokens,
        };
        let progress = watch.begin("exporting", "tokens", Some(plan.counts.tokens));
        let ended = export.run(&mut windows, writer, &mut Watched { progress, watch });
        ended.map(|_rows| ()).map_err(|e| match e {
            ExportError::Interrupted => JobError::interrupted(e),
            other => other.into(),
        })
    }
}

/// A job's watch, as an export reports to it.
struct Watched<'w> {
    progress: Box<dyn Progress>,
    watch: &'w dyn Watch,
}

impl export::Watch for Watched<'_> {
    fn advance(&mut self, tokens: u64) {
        self.progress.inc(tokens);
    }

    fn interrupted(&self) -> bool {
        self.watch.stopped()
    }
}
