//! `report`: figures and tables of finished runs.

use clap::Args;
use layerscope::{
    job::{Job as _, Report},
    results::{
        report::{Caveat, PAGE, Report as Drawn},
        words::counted,
    },
};

use super::{args::OutputArgs, exit::Failure, output::Output};

/// Show what runs found: one offline page, figures (SVG, PNG, CSV) and tables (CSV, Markdown, LaTeX); no model is
/// needed
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    job: Report,
    #[command(flatten)]
    output: OutputArgs,
}

impl ReportArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(&self.output);
        let found = self.job.run(&output)?;
        for (text, runs) in together(&found.drawn.caveats) {
            output.note(format!("{}: {text}", runs.join(", ")));
        }
        self.tell(&found.drawn, output)?;
        output.result(found.json(&self.job.out))?;
        Ok(())
    }

    /// What was written, a line per folder.
    fn tell(&self, shown: &Drawn, output: Output) -> Result<(), Failure> {
        let place = |folder: &str| self.job.out.join(folder).display().to_string();
        let (figures, tables) = (shown.figures.len(), shown.tables.len());
        output.print(&format!("{}: {} (svg, png, csv)", place("figures"), counted(figures, "figure")))?;
        output.print(&format!("{}: {} (csv, md, tex)", place("tables"), counted(tables, "table")))?;
        output.print(&format!("{}: everything on one page, to open in a browser", place(PAGE)))?;
        Ok(())
    }
}

/// Every caveat once, with its runs.
fn together(caveats: &[Caveat]) -> Vec<(&str, Vec<&str>)> {
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    for caveat in caveats {
        match all.iter_mut().find(|(text, _)| *text == caveat.text) {
            Some((_, runs)) => runs.push(&caveat.run),
            None => all.push((&caveat.text, vec![&caveat.run])),
        }
    }
    all
}
