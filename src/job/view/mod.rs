//! `view`: what lenses read at every layer and token of prompts.

mod json;
mod learned;
mod prompt;
mod save;

use std::{num::NonZeroUsize, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::{json::loss, prompt::Prompt};
use super::{
    ChatSettings, Job, JobError, Layers, ModelSettings, Session, Watch, bos_line,
    lens::{Lenses, check_shapes, open, read, site_of},
};
use crate::{
    intervene::future::GridCell,
    lens::trajectory::{Trajectory, trajectories},
    lenses::{LayerIndex, Lens},
    sources::text::Tokenizer,
};

/// Show what a lens reads at every layer and token of a prompt
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct View {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The prompt; `-` reads it from stdin; repeat for several, which --html can compare
    #[cfg_attr(feature = "cli", arg(long, required_unless_present = "chat", value_name = "STR"))]
    pub text: Vec<String>,
    /// Chats to answer.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub chat: ChatSettings,
    /// Lens to read with, `logit` or a lens folder; repeat for several
    #[cfg_attr(feature = "cli", arg(long, default_value = "logit", value_name = "logit|LENSDIR"))]
    pub lens: Vec<PathBuf>,
    /// Use a lens that was fitted to another unembedding
    #[cfg_attr(feature = "cli", arg(long))]
    pub other_unembedding: bool,
    /// Likeliest tokens kept per cell in files and --json
    #[cfg_attr(feature = "cli", arg(long, default_value = "10", value_name = "K"))]
    pub top_k: NonZeroUsize,
    /// Only these layers, such as 0,4,8-12
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// Every N-th layer, the last one always kept; by default chosen so that the table fits the terminal
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub layer_stride: Option<NonZeroUsize>,
    /// Look at the first N tokens only
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub tokens: Option<NonZeroUsize>,
    /// Tokens in a cell, for a future-prompt lens
    #[cfg_attr(feature = "cli", arg(long, default_value = "4", value_name = "N"))]
    pub ahead: NonZeroUsize,
    /// Write one offline page with the prompt layer by layer: every token, every layer, future lenses too
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE.html"))]
    pub html: Option<PathBuf>,
    /// Write a run directory, which `report` shows later without the model
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: Option<PathBuf>,
    /// Write the JSON (version 2) that logitlenskit's widget shows; one prompt, one lens
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE.json"))]
    pub logitlenskit: Option<PathBuf>,
    /// Start over in a folder that holds another run, and replace files
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
    /// Lines there are for layers where the table is shown: of more layers every N-th is read
    #[serde(skip)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub lines: Option<usize>,
}

impl Default for View {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            text: Vec::new(),
            chat: ChatSettings::default(),
            lens: vec!["logit".into()],
            other_unembedding: false,
            top_k: NonZeroUsize::MIN.saturating_add(9),
            layers: None,
            layer_stride: None,
            tokens: None,
            ahead: NonZeroUsize::MIN.saturating_add(3),
            html: None,
            out: None,
            logitlenskit: None,
            force: false,
            seed: 0,
            lines: None,
        }
    }
}

/// What was read.
pub struct Viewed {
    /// The model's name.
    pub model: String,
    /// Its number of layers `L`.
    pub n_layers: usize,
    /// Rows of its embedding.
    pub vocab: usize,
    /// Spells the tokens.
    pub tokenizer: Tokenizer,
    /// The prompts.
    pub prompts: Vec<Prompt>,
    /// What lenses say of each.
    pub readings: Readings,
}

/// What lenses say of each prompt.
pub enum Readings {
    /// Per prompt and lens, every layer and position.
    Trajectories(Vec<Vec<Trajectory>>),
    /// Per prompt, by layer, what every state goes on to say, of a lens of learned prompts.
    Grids(Vec<Vec<(usize, Vec<GridCell>)>>),
    /// They are in the files asked for.
    Saved,
}

impl Job for View {
    const COMMAND: &'static str = "view";
    type Outcome = Viewed;

    crate::job::writes_out!();

    fn answer(&self, found: Viewed) -> Result<Value, JobError> {
        Ok(self.json(&found))
    }

    fn run(&self, watch: &dyn Watch) -> Result<Viewed, JobError> {
        let (learned, others) = self.learned()?;
        if let ([one], false) = (&learned[..], self.writes_files()) {
            return self.grid(&one.folder, watch);
        }
        let requests = read(&others)?;
        if site_of(&requests) != "resid_pre" {
            let problem =
                format!("the table shows lenses of resid_pre, this one reads {}", site_of(&requests));
            return Err(JobError::setting("lens", problem));
        }
        self.check_files(&requests)?;
        let session = Session::open(&self.model, watch)?;
        session.needs_head(Self::COMMAND)?;
        check_shapes(&requests, &session.spec)?;
        let layers = session.layers(self.layers.as_ref())?;
        let tokenizer = session.tokenizer(watch)?;
        let prompts = self.prompts(&session, &tokenizer)?;
        session.announce(watch);
        watch.note(&format!("BOS: {}", bos_line(tokenizer.bos())));
        let lines = self.lines.filter(|_| !self.writes_files());
        let step = self.layer_stride.map(NonZeroUsize::get);
        let layers: Vec<_> =
            stride(layers, step, lines, session.spec.n_layers).into_iter().map(LayerIndex).collect();
        if self.writes_files() {
            self.save(&session, &tokenizer, &prompts, (&requests, &learned), &layers, watch)?;
            return Ok(viewed(&session, tokenizer, prompts, Readings::Saved));
        }
        let model = session.load(watch)?;
        let lenses = of_next_token(open(&requests, model, self.other_unembedding, watch)?, watch);
        let read = |prompt: &Prompt| {
            trajectories(model, &lenses, &prompt.ids, &layers, self.top_k.get())
                .map_err(|error| self.of(prompt, error))
        };
        let read = prompts.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(viewed(&session, tokenizer, prompts, Readings::Trajectories(read)))
    }
}

fn viewed(session: &Session, tokenizer: Tokenizer, prompts: Vec<Prompt>, readings: Readings) -> Viewed {
    Viewed {
        model: session.name(),
        n_layers: session.spec.n_layers,
        vocab: session.spec.vocab,
        tokenizer,
        prompts,
        readings,
    }
}

/// The lenses that can be shown beside the model's own next token: those of horizon 1.
fn of_next_token(lenses: Lenses, watch: &dyn Watch) -> Vec<Box<dyn Lens>> {
    let n = lenses.all.len();
    let next: Vec<_> = lenses.all.into_iter().filter(|lens| lens.horizon().0 == 1).collect();
    if next.len() < n {
        watch.note("of future lenses the table shows the next token; `lens eval` measures the later ones");
    }
    next
}

/// Every `chosen`-th layer counted back from the last, or as many as fit the `lines` of a terminal; the last layer
/// stays.
fn stride(layers: Vec<usize>, chosen: Option<usize>, lines: Option<usize>, last: usize) -> Vec<usize> {
    const FRAME: usize = 8; // header, legend and prompt lines
    let fitting = lines.map_or(1, |lines| layers.len().div_ceil(lines.saturating_sub(FRAME).max(8)));
    let step = chosen.unwrap_or(fitting).max(1);
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
