//! `report`: figures and tables of finished runs.

use std::path::PathBuf;

use clap::Args;
use layerscope::{
    results::report::{Caveat, PAGE, Report as Shown, ReportError, Written},
    results::words::counted,
};
use serde_json::json;

use super::{
    args::OutputArgs,
    exit::Failure,
    output::{Output, argv},
};

/// Show what runs found: one offline page, figures (SVG, PNG, CSV) and tables (CSV, Markdown, LaTeX); no model is needed
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Folders written by lens eval, lens transfer, future, probe, steer, schedule, trace, view --out or verify --out
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace another report
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl Report {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.output);
        let shown = Shown::of(&self.runs).map_err(ended)?;
        for run in shown.runs.iter().filter(|run| run.manifest.outputs.is_none()) {
            let run = run.path.display();
            output.note(format!(
                "{run}: its manifest is from before there were checksums; its files were not checked"
            ));
        }
        let bar = output.bar("drawing", "figures", Some(shown.figures.len() as u64));
        let argv = argv();
        let written = shown.write(&self.out, argv, self.force, &|| bar.inc(1)).map_err(ended)?;
        bar.finish_and_clear();
        for (text, runs) in together(&shown.caveats) {
            output.note(format!("{}: {text}", runs.join(", ")));
        }
        self.tell(&shown, &written, output)
    }

    /// What was written, a line per folder.
    fn tell(&self, shown: &Shown, written: &Written, output: Output) -> Result<(), Failure> {
        let place = |folder: &str| self.out.join(folder).display().to_string();
        let (figures, tables) = (shown.figures.len(), shown.tables.len());
        output.print(&format!("{}: {} (svg, png, csv)", place("figures"), counted(figures, "figure")))?;
        output.print(&format!("{}: {} (csv, md, tex)", place("tables"), counted(tables, "table")))?;
        output.print(&format!("{}: everything on one page, to open in a browser", place(PAGE)))?;
        let figure = |f: &layerscope::results::report::Figure| json!({ "name": f.name, "title": f.title, "caption": f.caption });
        let table = |t: &layerscope::results::report::Table| json!({ "name": t.name, "title": t.title });
        let caveat = |c: &Caveat| json!({ "run": c.run, "text": c.text, "metrics": c.metrics });
        output.result(json!({
            "out": self.out.display().to_string(),
            "figures": shown.figures.iter().map(figure).collect::<Vec<_>>(),
            "tables": shown.tables.iter().map(table).collect::<Vec<_>>(),
            "caveats": shown.caveats.iter().map(caveat).collect::<Vec<_>>(),
            "files": written.files,
        }))?;
        Ok(())
    }
}

fn ended(error: ReportError) -> Failure {
    if error.is_usage() { Failure::usage(error) } else { Failure::failed(error) }
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
