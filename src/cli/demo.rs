//! The tour: its words and commands are those of `demo/tour.txt`.

use std::path::{Path, PathBuf};

use clap::{Args, Parser};
use layerscope::{
    job::bundled,
    results::{
        shell::{quoted, typed},
        words::{counted, human},
    },
    states::store::ActivationStore,
};

use super::{Cli, args::OutputArgs, exit::Failure, output::Output, run};

/// Lines that begin with `$` are commands, with `MODEL` and `DEMO` for the folders of the model and of the tour; the
/// others are printed.
const TOUR: &str = include_str!("demo/tour.txt");

/// Take the tour on the bundled model: a logit-lens table, an export, fitted lenses, probes, changes to the model, and
/// a report; a few minutes
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Folder to write
    #[arg(long, default_value = "out/demo", value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

impl Demo {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(&self.output);
        bundled::write(&self.out)?;
        let out = self.out.display().to_string();
        output.note(format!("The bundled model and 1000 short texts sampled from it are in {out}.\n"));
        for line in TOUR.lines() {
            let place = |word: &str| match word {
                "MODEL" => format!("{out}/model"),
                word => word.strip_prefix("DEMO/").map_or(word.to_owned(), |name| format!("{out}/{name}")),
            };
            if let Some(command) = line.strip_prefix("$ ") {
                self.step(&typed(command).iter().map(|word| place(word)).collect::<Vec<_>>())?;
            } else if let Some(export) = line.strip_prefix("read back ") {
                summary(Path::new(&place(export)), output)?;
            } else {
                output.note(line.replace("DEMO", &out));
            }
        }
        Ok(())
    }

    /// Runs another command as if it had been typed.
    fn step(&self, words: &[String]) -> Result<(), Failure> {
        let output = Output::new(&self.output);
        output
            .note(format!("$ layerscope {}", words.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" ")));
        let flags = [(self.output.json, "--json"), (self.output.quiet, "--quiet")];
        let flags = flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag);
        let argv = ["layerscope"].into_iter().chain(words.iter().map(String::as_str)).chain(flags);
        run(Cli::try_parse_from(argv).map_err(Failure::usage)?.command)
    }
}

/// Reads the export back and says how the residual stream grows.
fn summary(dir: &Path, output: Output) -> Result<(), Failure> {
    let store = ActivationStore::open(dir)?;
    output.print(&format!(
        "read back: {}; the residual stream's typical length by layer",
        counted(store.n_rows(), "row")
    ))?;
    let lengths = store.root_mean_squares()?;
    let lengths: Vec<String> =
        lengths.iter().map(|(layer, length)| format!("{layer}: {length:.1}")).collect();
    output.print(&format!("  {}", lengths.join("  ")))?;
    let bytes = store.n_rows() * store.columns().iter().map(|c| c.width * 4).sum::<usize>();
    output.note(format!("({} of activations)", human(bytes as u64, "B")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command of the tour is one that there is, with options that it has.
    #[test]
    fn the_tour_can_be_typed() {
        let commands: Vec<Vec<String>> =
            TOUR.lines().filter_map(|l| l.strip_prefix("$ ")).map(typed).collect();
        assert_eq!(commands.len(), 22);
        for words in commands {
            let argv = ["layerscope"].into_iter().chain(words.iter().map(String::as_str));
            assert!(Cli::try_parse_from(argv).is_ok(), "{words:?}");
        }
    }
}
