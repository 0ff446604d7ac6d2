//! `export`.

use clap::Args;
use layerscope::{
    job::{
        Job as _,
        export::{Cost, Export, Planned},
    },
    results::words::{counted, human},
    states::store::Format,
};

use super::{args::OutputArgs, exit::Failure, output::Output};

/// Write activations of a corpus to Parquet, Arrow, npy or safetensors
///
/// Streams: memory does not grow with the corpus. Killed and repeated, it goes on at the first shard that is not whole.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    job: Export,
    #[command(flatten)]
    output: OutputArgs,
}

impl ExportArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let exported = self.job.run(&output)?;
        match exported.cost {
            Some(cost) => output.print(&self.describe(&exported.plan, cost))?,
            None => self.report(&exported.plan, output)?,
        }
        output.result(exported.json(&self.job.out))?;
        Ok(())
    }

    /// A dry run for people.
    fn describe(&self, plan: &Planned, cost: Cost) -> String {
        let c = &plan.counts;
        let (disk, memory) = (human(plan.size.disk_bytes, "B"), human(cost.memory_bytes, "B"));
        [
            format!("documents  {} ({} empty)", c.documents, c.empty_documents),
            format!("tokens     {} ({})", c.tokens, plan.lead),
            format!("rows       {} at positions {}", c.rows, self.job.positions),
            format!("columns    {}", plan.points.len()),
            format!("compute    {}", human(cost.flops, "FLOP")),
            format!("memory     about {memory} (weights, one batch, one shard)"),
            format!(
                "disk       at most {disk}, before compression, in {}",
                counted(plan.size.shards, "shard")
            ),
        ]
        .join("\n")
    }

    fn report(&self, plan: &Planned, output: Output) -> Result<(), Failure> {
        let out = self.job.out.display();
        let (rows, columns) = (counted(plan.counts.rows, "row"), counted(plan.points.len(), "column"));
        output.print(&format!("{out}: {rows} × {columns} in {}", counted(plan.size.shards, "shard")))?;
        if self.job.format == Format::Parquet {
            let first = &plan.points[0].1;
            output.note(format!(
                "read it: polars.read_parquet(\"{out}/acts/hook={}/layer={}/*.parquet\")",
                first.hook, first.layer
            ));
        }
        Ok(())
    }
}
