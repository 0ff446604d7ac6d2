//! `import`.

use clap::Args;
use layerscope::{
    job::{Job as _, import::Import},
    results::words::counted,
};
use serde_json::json;

use super::{
    args::OutputArgs,
    exit::Failure,
    output::{Output, shown},
};

/// Read activations that another tool made, compare some with the model, and write them as `export` does
///
/// Some documents are run again first: of files that name the wrong layers, or hold states that are normed or
/// processed, nothing is written (exit 3).
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    job: Import,
    #[command(flatten)]
    output: OutputArgs,
}

impl ImportArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let imported = self.job.run(&output)?;
        let (counts, out) = (imported.counts, self.job.out.display());
        let (rows, columns) = (counted(counts.rows, "row"), counted(imported.columns.len(), "column"));
        output.print(&format!("{out}: {rows} × {columns} of {}", counted(counts.documents, "document")))?;
        output.result(json!({
            "out": shown(&self.job.out),
            "rows": counts.rows,
            "documents": counts.documents,
            "columns": imported.columns,
            "left_aside": imported.left_aside,
            "agreement": imported
                .agreement
                .iter()
                .map(|a| json!({ "hook": a.point.to_string(), "relative_error": a.error }))
                .collect::<Vec<_>>(),
        }))?;
        Ok(())
    }
}
