//! `generate`: a prompt goes on, also under edits.

mod say;

use clap::Args;
use layerscope::{intervene::generate::Measured, job::intervene::Generate};

use self::say::Voice;
use super::{args::OutputArgs, exit::Failure, output::Output, table::Table};

/// Continue a prompt, greedily or sampled, also with edits of what the model holds
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    job: Generate,
    #[command(flatten)]
    output: OutputArgs,
}

impl GenerateArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let found = self.job.run_with(&output, &mut Voice::new(self.job.text.len(), output))?;
        let Some(measured) = &found.measured else { return Ok(()) }; // the text is all that was asked for
        if let Some(out) = &self.job.out {
            output.wrote(out, "every number, by step");
        }
        if found.changed {
            output.note(moved(measured).trim_end());
        }
        output.result(self.job.json(&found, measured))?;
        Ok(())
    }
}

/// How far edits and schedule move every prompt's predictions.
fn moved(measured: &[Measured]) -> String {
    let mut table = Table::new(["prompt", "tokens", "mean KL, nats", "largest", "at new token"]);
    for (i, m) in measured.iter().enumerate() {
        let mean = m.kl.iter().sum::<f64>() / m.kl.len().max(1) as f64;
        let most = m.kl.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let (at, most) = most.map_or((0, 0.0), |(at, kl)| (at + 1, *kl));
        let cells = [(i + 1).to_string(), m.kl.len().to_string(), format!("{mean:.4}"), format!("{most:.4}")];
        table.row(cells.into_iter().chain([at.to_string()]));
    }
    format!("KL(model left alone ‖ model as it ran), along the new tokens\n{table}")
}
