//! `view`: the lens table of a prompt.

mod color;
mod grid;
mod table;

use clap::{Args, ValueEnum};
use layerscope::{
    job::{
        Job as _,
        view::{Prompt, Readings as Read, View, Viewed, loss},
    },
    lens::trajectory::Trajectory,
    lenses::stats::Readings,
    results::words::counted,
    sources::text::Tokenizer,
};

use self::color::{ColorDepth, ColorWhen};
use super::{args::OutputArgs, exit::Failure, output::Output};

/// Show what a lens reads at every layer and token of a prompt
#[derive(Debug, Args)]
pub(crate) struct ViewArgs {
    #[command(flatten)]
    job: View,
    /// What colours a cell
    #[arg(long, value_enum, default_value_t = Metric::Prob)]
    metric: Metric,
    /// Colours: auto (24-bit, 256 or none, as the terminal can), always or never
    #[arg(long, value_enum, default_value_t = ColorWhen::Auto, value_name = "WHEN")]
    color: ColorWhen,
    #[command(flatten)]
    output: OutputArgs,
}

/// What colours a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Metric {
    /// Probability of the lens's top token
    Prob,
    /// Entropy of the lens's prediction, nats
    Entropy,
    /// KL(model ‖ lens), nats
    Kl,
    /// Rank of the model's final top token; 0 is first
    Rank,
    /// Cross-entropy of the true next token, nats
    Ce,
}

impl Metric {
    /// The value at position `i`; none where it is not defined.
    fn of(self, r: &Readings, i: usize) -> Option<f64> {
        match self {
            Self::Prob => r.top_probs[i].first().copied(),
            Self::Entropy => Some(r.entropy[i]),
            Self::Kl => Some(r.kl[i]),
            Self::Rank => Some(r.rank_of_final[i] as f64),
            Self::Ce => r.ce[i],
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Prob => "probability of the cell's token",
            Self::Entropy => "entropy of the prediction, nats",
            Self::Kl => "KL(model ‖ lens), nats",
            Self::Rank => "rank of the model's final token (0 is first)",
            Self::Ce => "cross-entropy of the true next token, nats",
        }
    }
}

impl ViewArgs {
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let output = Output::new(&self.output);
        let lines = console::Term::stdout().size_checked().map(|(lines, _)| usize::from(lines));
        self.job.lines = if output.is_json() { None } else { lines };
        let found = self.job.run(&output)?;
        match &found.readings {
            Read::Trajectories(read) => self.tables(&found, read, output),
            Read::Grids(grids) => self.grids(&found, grids, output),
            Read::Saved => Ok(output.result(self.job.json(&found))?),
        }
    }

    /// A table per prompt and lens.
    fn tables(&self, found: &Viewed, read: &[Vec<Trajectory>], output: Output) -> Result<(), Failure> {
        if output.is_json() {
            return Ok(output.result(found.json())?);
        }
        let style = table::Style {
            metric: self.metric,
            depth: ColorDepth::detect(self.color),
            width: console::Term::stdout().size_checked().map_or(120, |(_, columns)| usize::from(columns)),
            vocab: found.vocab,
            n_layers: found.n_layers,
        };
        for (prompt, read) in found.prompts.iter().zip(read) {
            for trajectory in read {
                output.print(&self.draw(&found.tokenizer, prompt, trajectory, &style))?;
            }
            if let Some((loss, n)) = read.iter().find_map(|t| loss(t, found.n_layers)) {
                output.note(format!(
                    "the model's loss on this text: {loss:.4} nats, mean of {}",
                    counted(n, "token")
                ));
            }
        }
        Ok(())
    }

    fn draw(
        &self,
        tokenizer: &Tokenizer,
        prompt: &Prompt,
        trajectory: &Trajectory,
        style: &table::Style,
    ) -> String {
        let table = table::Table {
            prompt: &prompt.tokens,
            ids: &prompt.ids,
            readings: &trajectory.readings,
            layers: &trajectory.layers,
            depth: &trajectory.depth(),
            piece: &|id| tokenizer.piece(id as u32).shown,
        };
        format!("{} lens, {}\n{}", trajectory.lens, self.metric.describe(), table.draw(style))
    }
}
