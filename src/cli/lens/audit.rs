//! `lens audit`.

use clap::Args;
use layerscope::job::{Job as _, lens::Audit};
use serde_json::json;

use super::{causal, concepts, report};
use crate::cli::{
    args::OutputArgs,
    exit::Failure,
    numbers::hint_clusters,
    output::{Output, shown},
};

/// Measure lenses in every way there is: lens eval, lens concepts and lens causal on one text
///
/// Three runs in one folder: eval (how near the lens is to the model), concepts (words that an answer goes through; with
/// --prompts) and causal (whether the model goes by what the lens goes by). The logit lens is beside them.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    job: Audit,
    #[command(flatten)]
    output: OutputArgs,
}

impl AuditArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let found = self.job.run(&output)?;
        output.print(&report::layers(&found.eval.rows, found.eval.hidden))?;
        if let Some(found) = &found.concepts {
            output.print(concepts::tables(&found.rows).trim_end())?;
        }
        causal::print(&found.causal.rows, output)?;
        hint_clusters(&found.causal.rows, output);
        let out = self.job.out.display();
        output.note(format!("next, as figures and a page: layerscope report {out}/* --out DIR"));
        let parts = ["eval", "concepts", "causal"].map(|part| self.job.part(part));
        let parts: Vec<String> = parts.iter().filter(|part| part.exists()).map(shown).collect();
        output.result(json!({ "out": shown(&self.job.out), "runs": parts }))?;
        Ok(())
    }
}
