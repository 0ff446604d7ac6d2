//! `future`: what states say of later tokens, by every method and with controls.

mod given;
mod prompts;

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::given::Given;
use crate::{
    intervene::future::{FutureError, PAPER_PROMPTS, Prompt, Rows, Sources, Table, derangement, drawn, fits},
    job::{
        IntervalSettings, Job, JobError, Layers, LeakageSettings, ModelSettings, Session, SetTo, Setting,
        Source, Stopped, TextSettings, Watch, claimed,
        lens::{Lenses, is_logit},
    },
    lenses::{Precision, Readout},
    results::{
        run::{Counts, Found, METRICS, Manifest, MetricRow, RunDir, read_metrics, write_metrics},
        words::counted,
    },
    sources::text::{Window, WindowOptions, resolve_seq_len},
};

/// Which token of a text is T.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum At {
    /// The last one of every document
    #[default]
    Last,
    /// Places drawn from the whole text
    Drawn,
}

/// Read later tokens off single states: lenses, fixed and learned prompts, and the controls that they need
///
/// The targets are the model's own greedy continuation. Prompts are fed its earlier tokens, so that only the difference
/// from a shuffled transplant (`information`) is in the state; `NAME:free` is fed nothing but what it said itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Future {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The text.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub text: TextSettings,
    /// Lens folder: future-prompt, future-vocab, future, or any other kind for the next token; repeat for several
    #[cfg_attr(feature = "cli", arg(long, value_name = "logit|LENSDIR"))]
    pub lens: Vec<PathBuf>,
    /// Fixed prompt in place of the paper's four; repeat for several, whose mean is `fixed`
    #[cfg_attr(feature = "cli", arg(long, value_name = "STR"))]
    pub prompt: Vec<String>,
    /// No fixed prompts
    #[cfg_attr(feature = "cli", arg(long, conflicts_with = "prompt"))]
    pub no_fixed: bool,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: PathBuf,
    /// Only these layers, such as 1,4,8; by default 1 to the last
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// How many tokens ahead; 1 is the next token
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 4, value_name = "K"))]
    pub horizons: usize,
    /// Most contexts
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 1000, value_name = "N"))]
    pub contexts: usize,
    /// Which states are read
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = At::Last, value_name = "WHERE"))]
    pub at: At,
    /// Column that names a row's document, for intervals and shuffling (with --at last); by default every row is one
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub document_column: Option<String>,
    /// How intervals are made.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub intervals: IntervalSettings,
    /// Use a lens that was fitted to another unembedding
    #[cfg_attr(feature = "cli", arg(long))]
    pub other_unembedding: bool,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub batch_tokens: Option<NonZeroUsize>,
    /// What is done about leakage.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub leakage: LeakageSettings,
    /// Start over in a folder that holds another run
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
}

/// A fixed prompt and its text.
struct Fixed {
    text: String,
    prompt: Prompt,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct FutureFound {
    /// The numbers, as in `metrics.parquet`.
    pub rows: Vec<MetricRow>,
}

impl Default for Future {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            text: TextSettings::default(),
            lens: Vec::new(),
            prompt: Vec::new(),
            no_fixed: false,
            out: PathBuf::new(),
            layers: None,
            horizons: 4,
            contexts: 1000,
            at: At::Last,
            document_column: None,
            intervals: IntervalSettings::default(),
            other_unembedding: false,
            batch_tokens: None,
            leakage: LeakageSettings::default(),
            force: false,
            seed: 0,
        }
    }
}

impl Job for Future {
    const COMMAND: &'static str = "future";
    type Outcome = FutureFound;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<FutureFound, JobError> {
        self.check()?;
        let given = Given::read(&self.lens)?;
        let session = Session::open(&self.model, watch)?;
        session.needs_decoder(Self::COMMAND)?;
        let source = Source::open(&session, &self.text, watch)?;
        given.check_shapes(&session.spec)?;
        session.announce(watch);
        let layers = match &self.layers {
            Some(_) => session.layers(self.layers.as_ref())?,
            None => (1..=session.spec.n_layers).collect(),
        };
        let fixed = self.fixed(&source, watch)?;
        let contexts = self.contexts(&source, watch)?;
        let docs: Vec<u64> = contexts.iter().filter_map(|c| c.segments.first()).map(|s| s.doc_id).collect();
        derangement(&docs, self.seed).map_err(JobError::usage)?;
        let documents = docs.into_iter().collect::<BTreeSet<_>>().len();
        watch.note(&format!("{} of {}", counted(contexts.len(), "context"), counted(documents, "document")));
        let manifest = self.manifest(&source, &given, (&layers, &fixed, &contexts), watch)?;
        let claim = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch);
        if claim.found() == Found::Complete {
            watch.note(&format!("{} is complete already", self.out.display()));
            return Ok(FutureFound { rows: read_metrics(&self.out)? });
        }
        let lenses = given.open(session.load(watch)?, self.other_unembedding, watch)?;
        let dir = claim.begin(&|p| p == Path::new(METRICS))?;
        let rows = self.measure(&source, (&given, &lenses), (&layers, &fixed, &contexts), watch)?;
        write_metrics(&self.out, &rows)?;
        let (tokens, n) = (contexts.iter().map(|c| c.ids.len() as u64).sum(), rows.len() as u64);
        dir.finish(Counts { documents: documents as u64, tokens, rows: n, ..Counts::default() }, None)?;
        Ok(FutureFound { rows })
    }
}

/// Layers, fixed prompts, and the contexts whose last states are read.
type Plan<'p> = (&'p [usize], &'p [Fixed], &'p [Window]);

impl Future {
    fn manifest(
        &self,
        source: &Source<'_>,
        given: &Given,
        (layers, fixed, contexts): Plan<'_>,
        watch: &dyn Watch,
    ) -> Result<Manifest, JobError> {
        let lead = source.tokenizer.bos().reason.clone();
        let mut manifest = source.manifest(self, (&lead, false), self.seed, watch)?;
        self.leakage.of_folders(&given.fitted_in(), contexts, source, &mut manifest, watch)?;
        manifest.lenses = given.records()?;
        manifest.config = self.config(layers, fixed, contexts.len(), &given.others);
        Ok(manifest)
    }

    /// Every method on every context.
    fn measure(
        &self,
        source: &Source<'_>,
        (given, lenses): (&Given, &Lenses),
        (layers, fixed, contexts): Plan<'_>,
        watch: &dyn Watch,
    ) -> Result<Vec<MetricRow>, JobError> {
        let session = source.session;
        let model = session.load(watch)?;
        let readout = Readout::new(model.unembed(), source.vocab(), Precision::Exact, session.threads)?;
        let batch_tokens = session.batch_tokens(self.batch_tokens);
        let tokens = contexts.iter().map(|context| context.ids.len() as u64).sum();
        let stage = watch.begin("continuing", "tokens", Some(tokens));
        let (horizons, vocab) = (self.horizons, source.vocab());
        let sources = Sources::run(model, contexts, layers, horizons, vocab, batch_tokens, &stage)?;
        drop(stage);
        let mut table = Table::new(model, &readout, &sources, self.seed, batch_tokens)?;
        for (lens, kind) in lenses.all.iter().zip(&lenses.kinds) {
            table.lens(lens.as_ref(), *kind)?;
        }
        for lens in &given.vocabs {
            for (cell, map) in lens.folder.vocab_maps(model.device())? {
                table.vocab(&lens.name, cell, &map)?;
            }
        }
        self.prompts(&mut table, fixed, &given.learned, layers, watch)?;
        Ok(table.rows(contexts, self.intervals.policy(self.seed))?)
    }

    fn check(&self) -> Result<(), JobError> {
        let [pack, horizons, contexts, column, no_fixed, lens] =
            ["pack", "horizons", "contexts", "document_column", "no_fixed", "lens"].map(Setting);
        let why = if self.text.pack {
            format!("{pack}: contexts are of one document; leave it out")
        } else if self.horizons == 0 || self.contexts == 0 {
            format!("{horizons} and {contexts} must be at least 1")
        } else if self.at == At::Drawn && self.document_column.is_some() {
            format!("{column} goes with {}", SetTo("at", "last"))
        } else if self.no_fixed && self.lens.is_empty() {
            format!("{no_fixed}: give a {lens} then")
        } else {
            return Ok(());
        };
        Err(JobError::usage(why))
    }

    fn fixed(&self, source: &Source<'_>, watch: &dyn Watch) -> Result<Vec<Fixed>, JobError> {
        let own = self.prompt.iter().map(String::as_str);
        let texts: Vec<&str> = match (self.no_fixed, self.prompt.is_empty()) {
            (true, _) => vec![],
            (_, true) => PAPER_PROMPTS.to_vec(),
            (_, false) => own.collect(),
        };
        let mut all = Vec::new();
        for text in texts {
            let prompt = Prompt::words(text, &source.tokenizer).map_err(JobError::usage)?;
            let tokens = prompt.tokens() as usize;
            fits(tokens, self.horizons, source.session.spec.n_ctx).map_err(JobError::usage)?;
            watch.note(&format!("fixed:{} is {text:?}, {}", all.len() + 1, counted(tokens, "token")));
            all.push(Fixed { text: text.to_owned(), prompt });
        }
        Ok(all)
    }

    fn contexts(&self, source: &Source<'_>, watch: &dyn Watch) -> Result<Vec<Window>, JobError> {
        let room = (source.session.spec.n_ctx + 1).saturating_sub(self.horizons);
        let seq_len =
            resolve_seq_len(Some(self.text.seq_len.unwrap_or(room)), room).map_err(JobError::usage)?;
        if self.at == At::Drawn {
            let options = WindowOptions { seq_len, max_tokens: self.text.tokens, pack: false };
            let text = source.windows(&options, watch)?;
            return drawn(&text.windows, self.contexts, self.seed).map_err(JobError::usage);
        }
        let rows = Rows {
            paths: source.inputs.paths(),
            text_column: self.text.text_column.as_deref(),
            document_column: self.document_column.as_deref(),
            seq_len,
            count: self.contexts,
        };
        rows.read(&source.tokenizer).map_err(JobError::usage)
    }

    fn config(&self, layers: &[usize], fixed: &[Fixed], contexts: usize, others: &[PathBuf]) -> Value {
        let prompt = |f: &Fixed| json!({ "text": f.text, "tokens": f.prompt.tokens() });
        json!({
            "layers": layers,
            "horizons": self.horizons,
            "contexts": contexts,
            "at": self.at,
            "prompts": fixed.iter().map(prompt).collect::<Vec<_>>(),
            "lenses": self.lens.len(),
            "logit": others.iter().any(|name| is_logit(name)),
            "intervals": self.intervals.config(),
            "tokens": self.text.tokens,
            "seq_len": self.text.seq_len,
            "text_column": self.text.text_column,
            "document_column": self.document_column,
            "batch_tokens": self.batch_tokens,
        })
    }
}

fn stopped(watch: &dyn Watch) -> Result<(), JobError> {
    if watch.stopped() { Err(FutureError::from(Stopped).into()) } else { Ok(()) }
}
