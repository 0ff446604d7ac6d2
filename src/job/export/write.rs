//! The pass of the text through the model, into files.

use super::{Export, Planned};
use crate::{
    job::{JobError, Source, Watch},
    results::words::counted,
    sources::text::open_windows,
    states::{export, store::StoreWriter},
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
        let stage = watch.begin("exporting", "tokens", Some(plan.counts.tokens));
        export.run(&mut windows, writer, &stage)?;
        Ok(())
    }
}
