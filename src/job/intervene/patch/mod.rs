//! `patch`: what a target prompt says of a state that was put into it.

mod json;
mod source;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::source::Line;
use self::source::{Source, Texts};
use crate::{
    intervene::{
        future::fits,
        patch::{Inspected, Preset, TargetPrompt, inspect},
    },
    job::{
        Job, JobError, Layers, ModelSettings, Session, Setting, Watch, claimed_anew,
        lens::{Lenses, check_shapes, open, read, site_of},
        lines::Lines,
        shown,
    },
    lenses::{Precision, Readout},
    results::{
        run::{Claim, Counts, METRICS, MetricRow, over, write_metrics},
        statistics::Intervals,
        words::counted,
    },
    sources::text::Tokenizer,
};

/// Put states of one prompt into another and see what the model says (Patchscopes, `SelfIE`)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Patch {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The text whose states are read; `-` reads it from stdin
    #[cfg_attr(
        feature = "cli",
        arg(long, required_unless_present = "prompts", conflicts_with = "prompts", value_name = "STR")
    )]
    pub source: Option<String>,
    /// Many sources instead: a JSON object per line with `source`. Numbers are means over sources with their intervals
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub prompts: Option<PathBuf>,
    /// Position in the source: a number, `last` or `all`
    #[cfg_attr(feature = "cli", arg(long, default_value = "last", value_name = "N|last|all"))]
    pub position: String,
    /// Target prompt by name
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Preset::TokenIdentity, conflicts_with = "target"))]
    pub preset: Preset,
    /// Target prompt in words
    #[cfg_attr(feature = "cli", arg(long, value_name = "STR"))]
    pub target: Option<String>,
    /// What states take the place of in --target, wherever it occurs; by default its last token
    #[cfg_attr(feature = "cli", arg(long, value_name = "STR", requires = "target"))]
    pub placeholder: Option<String>,
    /// Source layers, such as 0,4,8-12; by default all
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// Layer the states go into; by default the one they come from
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYER"))]
    pub target_layer: Option<usize>,
    /// Lens whose map of the source layer states go through first
    #[cfg_attr(feature = "cli", arg(long, value_name = "LENSDIR"))]
    pub map: Option<PathBuf>,
    /// Tokens of an answer; by default 1 for token-identity, 20 for a target of your own and for description, 30 for
    /// selfie
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub steps: Option<usize>,
    /// Write a run directory
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: Option<PathBuf>,
    /// Use a lens that was fitted to another unembedding
    #[cfg_attr(feature = "cli", arg(long))]
    pub other_unembedding: bool,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub batch_tokens: Option<NonZeroUsize>,
    /// Start over in a folder that holds another run
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
}

impl Default for Patch {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            source: None,
            prompts: None,
            position: "last".to_owned(),
            preset: Preset::TokenIdentity,
            target: None,
            placeholder: None,
            layers: None,
            target_layer: None,
            map: None,
            steps: None,
            out: None,
            other_unembedding: false,
            batch_tokens: None,
            force: false,
            seed: 0,
        }
    }
}

/// What the target prompt says of one layer's states.
#[derive(Debug)]
pub struct Answer {
    /// The layer that the states come from.
    pub layer: usize,
    /// The layer that they go into.
    pub target_layer: usize,
    /// Per position of the source that was asked for, what the target says.
    pub inspected: Vec<Inspected>,
}

/// What was found.
pub struct Patched {
    /// The numbers, as in `metrics.parquet`; of several sources means over them.
    pub rows: Vec<MetricRow>,
    /// Sources that were read.
    pub sources: usize,
    /// Of one source: its tokens, the positions asked for, and the answers by layer.
    pub answers: Option<(Vec<i64>, Vec<i64>, Vec<Answer>)>,
    /// Spells the tokens.
    pub tokenizer: Tokenizer,
}

/// The prompt that states are put into, and how long it answers.
struct Put {
    name: String,
    words: String,
    steps: usize,
    target: TargetPrompt,
}

impl Job for Patch {
    const COMMAND: &'static str = "patch";
    type Outcome = Patched;

    crate::job::writes_out!();

    fn answer(&self, found: Patched) -> Result<Value, JobError> {
        Ok(found.json()?)
    }

    fn run(&self, watch: &dyn Watch) -> Result<Patched, JobError> {
        let asked = read(self.map.as_slice())?;
        if site_of(&asked) != "resid_pre" {
            let problem = format!("{} reads {}, not resid_pre", Setting("map"), site_of(&asked));
            return Err(JobError::usage(problem));
        }
        let session = Session::open(&self.model, watch)?;
        session.needs_decoder(Self::COMMAND)?;
        check_shapes(&asked, &session.spec)?;
        let tokenizer = session.tokenizer(watch)?;
        let mut layers = session.layers(self.layers.as_ref())?;
        layers.retain(|l| asked.iter().all(|lens| lens.reads(*l)));
        self.check_target_layer(session.spec.n_layers)?;
        let lines = self.prompts.as_deref().map(Lines::read).transpose()?;
        let sources = self.sources(lines.as_ref(), &tokenizer, session.spec.n_ctx)?;
        let put = self.put(&tokenizer, session.spec.n_ctx)?;
        session.announce(watch);
        let tokens: usize = sources.iter().map(|source| source.ids.len()).sum();
        let places: Vec<String> = put.target.places.iter().map(ToString::to_string).collect();
        watch.note(&format!(
            "target: {}, the state at {}; source: {}",
            counted(put.target.prompt.tokens(), "token"),
            places.join(", "),
            counted(tokens, "token")
        ));
        let claim = self.claim(&session, &tokenizer, (&layers, &put.words), lines.as_ref(), watch)?;
        let lenses = open(&asked, session.load(watch)?, self.other_unembedding, watch)?;
        let (each, first) = self.patch(&session, &tokenizer, (&sources, &put), (&layers, &lenses), watch)?;
        let rows = match (&self.prompts, &each[..]) {
            (None, [rows]) => rows.clone(),
            _ => over(&each, Intervals::default())?,
        };
        if let Some(claim) = claim {
            write(claim, &rows, &sources)?;
        }
        let n = sources.len();
        let one = sources.into_iter().next().filter(|_| self.prompts.is_none() && n == 1);
        let answers = one.map(|texts| (texts.ids, texts.positions, first));
        Ok(Patched { rows, sources: n, answers, tokenizer })
    }
}

/// Rows by source, and the answers of the first.
type BySource = (Vec<Vec<MetricRow>>, Vec<Answer>);

impl Patch {
    fn check_target_layer(&self, last: usize) -> Result<(), JobError> {
        match self.target_layer.filter(|l| *l > last) {
            None => Ok(()),
            Some(layer) => {
                let problem = format!("no layer {layer}; this model's layers are 0 to {last}");
                Err(JobError::setting("target_layer", problem))
            }
        }
    }

    /// Every source's states at every layer, put into the target.
    fn patch(
        &self,
        session: &Session,
        tokenizer: &Tokenizer,
        (sources, put): (&[Texts], &Put),
        (layers, lenses): (&[usize], &Lenses),
        watch: &dyn Watch,
    ) -> Result<BySource, JobError> {
        let model = session.load(watch)?;
        let vocab = session.vocab(tokenizer);
        let readout = Readout::new(model.unembed(), vocab, Precision::Exact, session.threads)?;
        let progress = watch.begin("patching", "layers", Some((layers.len() * sources.len()) as u64));
        let (mut each, mut first) = (Vec::new(), None);
        for texts in sources {
            let source = Source::read(model, &readout, texts)?;
            let (mut rows, mut answers) = (Vec::new(), Vec::new());
            for &layer in layers {
                let states = source.mapped(lenses.all.first().map(AsRef::as_ref), layer)?;
                let target_layer = self.target_layer.unwrap_or(layer);
                let tokens = session.batch_tokens(self.batch_tokens);
                let inspected = inspect(model, vocab, &put.target, target_layer, &states, put.steps, tokens)?;
                rows.extend(source.rows(&readout, &put.name, (layer, target_layer), &inspected)?);
                answers.push(Answer { layer, target_layer, inspected });
                progress.inc(1);
            }
            each.push(rows);
            first.get_or_insert(answers);
        }
        Ok((each, first.unwrap_or_default()))
    }

    /// The target prompt.
    fn put(&self, tokenizer: &Tokenizer, context: usize) -> Result<Put, JobError> {
        let (name, words, placeholder, steps) = self.target();
        let target = TargetPrompt::new(&words, placeholder, tokenizer).map_err(JobError::usage)?;
        fits(target.prompt.tokens() as usize, steps, context).map_err(JobError::usage)?;
        Ok(Put { name, words, steps, target })
    }

    /// Name, words, placeholder, steps.
    fn target(&self) -> (String, String, Option<&str>, usize) {
        if let Some(words) = &self.target {
            return (
                "target".into(),
                words.clone(),
                self.placeholder.as_deref(),
                self.steps.unwrap_or(20).max(1),
            );
        }
        let (name, preset) = (self.preset.name(), self.preset);
        let (words, placeholder) = preset.words();
        (name.into(), words.into(), placeholder, self.steps.unwrap_or(preset.steps()).max(1))
    }

    fn claim(
        &self,
        session: &Session,
        tokenizer: &Tokenizer,
        (layers, target): (&[usize], &str),
        lines: Option<&Lines<Line>>,
        watch: &dyn Watch,
    ) -> Result<Option<Claim>, JobError> {
        let Some(out) = &self.out else { return Ok(None) };
        let mut manifest = session.manifest(self, tokenizer, watch)?;
        manifest.config = json!({
            "source": self.source, "prompts": lines.map(|lines| &lines.sha256), "position": self.position, "target": target, "placeholder": self.placeholder,
            "layers": layers, "target_layer": self.target_layer, "map": self.map.as_ref().map(shown), "steps": self.steps,
        });
        claimed_anew(out, manifest, self.force, watch).map(Some)
    }
}

fn write(claim: Claim, rows: &[MetricRow], sources: &[Texts]) -> Result<(), JobError> {
    let dir = claim.begin(&|p| p == Path::new(METRICS))?;
    write_metrics(dir.path(), rows)?;
    let tokens: usize = sources.iter().map(|source| source.ids.len()).sum();
    let (documents, tokens, rows) = (sources.len() as u64, tokens as u64, rows.len() as u64);
    dir.finish(Counts { documents, tokens, rows, ..Counts::default() }, None)?;
    Ok(())
}
