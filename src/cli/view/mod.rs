//! `view`: the lens table of a prompt.

mod color;
mod future;
mod json;
mod save;
mod table;

use std::{num::NonZeroUsize, path::PathBuf};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use layerscope::{
    lens::trajectory::{Trajectory, trajectories},
    lenses::{LayerIndex, Lens, stats::Readings},
    results::words::counted,
    sources::text::{TokenText, Tokenizer, excerpt},
};

use self::color::{ColorDepth, ColorWhen};
use super::{
    args::{CommonArgs, Layers, ModelArgs},
    exit::Failure,
    lens::load,
    output::Output,
    session::{Session, bos_line, read_stdin},
};

/// Show what a lens reads at every layer and token of a prompt
#[derive(Debug, Args)]
pub(crate) struct View {
    #[command(flatten)]
    model: ModelArgs,
    /// The prompt; `-` reads it from stdin; repeat for several, which --html can compare
    #[arg(long, required = true, value_name = "STR")]
    text: Vec<String>,
    /// Lens to read with, `logit` or a lens folder; repeat for several
    #[arg(long, default_value = "logit", value_name = "logit|LENSDIR")]
    lens: Vec<PathBuf>,
    /// Use a lens that was fitted to another unembedding
    #[arg(long)]
    other_unembedding: bool,
    /// What colours a cell
    #[arg(long, value_enum, default_value_t = Metric::Prob)]
    metric: Metric,
    /// Likeliest tokens kept per cell in files and --json
    #[arg(long, default_value = "10", value_name = "K")]
    top_k: NonZeroUsize,
    /// Only these layers, such as 0,4,8-12
    #[arg(long, value_name = "LAYERS")]
    layers: Option<Layers>,
    /// Every N-th layer, the last one always kept; by default chosen so that the table fits the terminal
    #[arg(long, value_name = "N")]
    layer_stride: Option<NonZeroUsize>,
    /// Look at the first N tokens only
    #[arg(long, value_name = "N")]
    tokens: Option<NonZeroUsize>,
    /// Tokens in a cell, for a future-prompt lens
    #[arg(long, default_value = "4", value_name = "N")]
    ahead: NonZeroUsize,
    /// Colours: auto (24-bit, 256 or none, as the terminal can), always or never
    #[arg(long, value_enum, default_value_t = ColorWhen::Auto, value_name = "WHEN")]
    color: ColorWhen,
    /// Write one offline page with the prompt layer by layer: every token, every layer, future lenses too
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Write a run directory, which `report` shows later without the model
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Write the JSON (version 2) that logitlenskit's widget shows; one prompt, one lens
    #[arg(long, value_name = "FILE.json")]
    logitlenskit: Option<PathBuf>,
    /// Start over in a folder that holds another run, and replace files
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: CommonArgs,
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

/// A prompt as it went through the model.
struct Prompt {
    text: String,
    ids: Vec<u32>,
    tokens: Vec<TokenText>,
}

impl View {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let (learned, others) = self.learned()?;
        if let ([one], false) = (&learned[..], self.writes_files()) {
            return self.grid(&one.folder);
        }
        let asked = load::read(&others)?;
        if load::site(&asked) != "resid_pre" {
            return Err(Failure::usage(anyhow!(
                "--lens: the table shows lenses of resid_pre, this one reads {}",
                load::site(&asked)
            )));
        }
        self.check_files(&asked)?;
        let session = Session::open(&self.model, output)?;
        load::check_shapes(&asked, &session.spec)?;
        let layers = session.layers(self.layers.as_ref())?;
        let tokenizer = session.tokenizer(&self.model)?;
        let prompts = self.prompts(&session, &tokenizer)?;
        session.announce(output);
        output.note(format!("BOS: {}", bos_line(tokenizer.bos())));
        let rows = console::Term::stdout().size_checked().map(|(rows, _)| usize::from(rows));
        let layers = stride(
            layers,
            self.layer_stride.map(NonZeroUsize::get),
            if output.is_json() || self.writes_files() { None } else { rows },
            session.spec.n_layers,
        );
        let layers: Vec<_> = layers.into_iter().map(LayerIndex).collect();
        if self.writes_files() {
            return self.save(&session, &tokenizer, &prompts, (&asked, &learned), &layers);
        }
        let model = session.load(output)?;
        let lenses = shown(load::open(&asked, &model, self.other_unembedding, output)?, output);
        let read = |prompt: &Prompt| {
            let read = trajectories(&model, &lenses, &prompt.ids, &layers, self.top_k.get());
            read.map_err(|error| self.of(prompt, error))
        };
        let read = prompts.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if output.is_json() {
            let one = |(prompt, read): (&Prompt, &Vec<Trajectory>)| {
                json::prompt(&session, &tokenizer, prompt, read)
            };
            output.result(json::whole(prompts.iter().zip(&read).map(one).collect()))?;
            return Ok(());
        }
        let style = table::Style {
            metric: self.metric,
            depth: ColorDepth::detect(self.color),
            width: console::Term::stdout().size_checked().map_or(120, |(_, columns)| usize::from(columns)),
            vocab: session.spec.vocab,
            n_layers: session.spec.n_layers,
        };
        for (prompt, read) in prompts.iter().zip(&read) {
            for trajectory in read {
                output.print(&self.draw(&tokenizer, prompt, trajectory, &style))?;
            }
            if let Some((loss, n)) = read.iter().find_map(|t| json::loss(t, session.spec.n_layers)) {
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

    /// An error of one prompt, which names it where there are several.
    fn of(&self, prompt: &Prompt, error: impl Into<anyhow::Error>) -> Failure {
        let error = error.into();
        Failure::failed(if self.text.len() > 1 {
            error.context(format!("--text {:?}", prompt.text))
        } else {
            error
        })
    }

    fn prompts(&self, session: &Session, tokenizer: &Tokenizer) -> Result<Vec<Prompt>, Failure> {
        if self.text.iter().filter(|text| *text == "-").count() > 1 {
            return Err(Failure::usage(anyhow!("--text: stdin (`-`) can be read once")));
        }
        self.text.iter().map(|text| self.prompt(text, session, tokenizer)).collect()
    }

    fn prompt(&self, text: &str, session: &Session, tokenizer: &Tokenizer) -> Result<Prompt, Failure> {
        let text = if text == "-" { read_stdin().map_err(Failure::usage)? } else { text.to_owned() };
        if text.is_empty() {
            return Err(Failure::usage(anyhow!("--text is empty")));
        }
        let mut ids = tokenizer.encode(&text)?;
        ids.truncate(self.tokens.map_or(usize::MAX, NonZeroUsize::get));
        let (n, context) = (ids.len(), session.spec.n_ctx);
        if text.is_empty() {
            return Err(Failure::usage(anyhow!("--text is empty")));
        }
        if n == 0 {
            return Err(Failure::usage(anyhow!("--text {} gives no tokens", excerpt(&text))));
        }
        if n > context {
            let text = excerpt(&text);
            return Err(Failure::usage(anyhow!(
                "--text {text} gives {n} tokens, the model's context is {context}; --tokens {context} looks at the first ones"
            )));
        }
        let tokens = ids.iter().map(|&id| tokenizer.piece(id)).collect();
        Ok(Prompt { text, ids, tokens })
    }
}

/// The lenses that can be shown beside the model's own next token: those of horizon 1.
fn shown(lenses: load::Lenses, output: Output) -> Vec<Box<dyn Lens>> {
    let n = lenses.all.len();
    let next: Vec<_> = lenses.all.into_iter().filter(|lens| lens.horizon().0 == 1).collect();
    if next.len() < n {
        output.note("of future lenses the table shows the next token; `lens eval` measures the later ones");
    }
    next
}

/// Every `asked`-th layer counted back from the last, or as many as fit `rows` of a terminal; the last layer stays.
fn stride(layers: Vec<usize>, asked: Option<usize>, rows: Option<usize>, last: usize) -> Vec<usize> {
    const FRAME: usize = 8; // header, legend and prompt lines
    let fitting = rows.map_or(1, |rows| layers.len().div_ceil(rows.saturating_sub(FRAME).max(8)));
    let step = asked.unwrap_or(fitting).max(1);
    let mut kept: Vec<_> = layers.into_iter().rev().step_by(step).collect();
    kept.reverse();
    if kept.last() != Some(&last) {
        kept.push(last);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::stride;

    #[test]
    fn the_last_layer_always_stays() {
        assert_eq!(stride((0..=8).collect(), Some(3), None, 8), [2, 5, 8]);
        assert_eq!(stride(vec![0, 1], None, None, 8), [0, 1, 8]);
        assert_eq!(stride((0..=80).collect(), None, Some(40), 80).len(), 27);
        assert_eq!(stride((0..=8).collect(), None, Some(40), 8).len(), 9);
    }
}
