//! `lens concepts`: whether lenses show the words that an answer goes through.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{LensRequest, Lenses, check_shapes, open, read, records, site_of};
use crate::{
    job::{
        IntervalSettings, Job, JobError, Layers, ModelSettings, Session, Setting, Watch, claimed,
        lines::Lines,
    },
    lens::{
        concepts::{Concept, Item, items, ranks, rows},
        subject_of,
    },
    lenses::{Precision, Readout},
    results::{
        run::{Counts, Found, METRICS, MetricRow, RunDir, over, read_metrics, write_metrics},
        words::counted,
    },
    sources::text::Tokenizer,
};

/// Read prompts for words that their answers go through and that they do not say, under every lens
///
/// The smallest rank of such a word over the layers, at the prompt's last position, beside the same of another prompt's
/// words. A line of the file is an object: a prompt, and a list of its intermediates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Concepts {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// JSON lines with `prompt` and `intermediates`
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE.jsonl"))]
    pub prompts: PathBuf,
    /// `logit` or a lens folder; repeat for several
    #[cfg_attr(feature = "cli", arg(long, required = true, value_name = "logit|LENSDIR"))]
    pub lens: Vec<PathBuf>,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: PathBuf,
    /// Only these layers, such as 0,4,8-12; by default all below the last
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// How intervals are made.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub intervals: IntervalSettings,
    /// Use a lens that was fitted to another unembedding
    #[cfg_attr(feature = "cli", arg(long))]
    pub other_unembedding: bool,
    /// Start over in a folder that holds another run
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
}

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prompt: String,
    intermediates: Vec<String>,
    /// For people: nothing is read for it.
    #[serde(default, rename = "answer")]
    _answer: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct ConceptsFound {
    /// Means over prompts, as in `metrics.parquet`.
    pub rows: Vec<MetricRow>,
    /// Words that are several tokens in every spelling, and were left out.
    pub left_out: Vec<String>,
}

impl Job for Concepts {
    const COMMAND: &'static str = "lens concepts";
    type Outcome = ConceptsFound;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<ConceptsFound, JobError> {
        let requests = read(&self.lens)?;
        check_kinds(&requests)?;
        let lines = Lines::<Line>::read(&self.prompts)?;
        let session = Session::open(&self.model, watch)?;
        session.needs_decoder(Self::COMMAND)?;
        check_shapes(&requests, &session.spec)?;
        let tokenizer = session.tokenizer(watch)?;
        let mut layers = session.layers(self.layers.as_ref())?;
        layers.retain(|layer| *layer < session.spec.n_layers);
        let (items, left_out) = self.items(&lines, &session, &tokenizer)?;
        session.announce(watch);
        said(&lines, &items, &left_out, watch);
        let mut manifest = session.manifest(self, &tokenizer, watch)?;
        manifest.seed = self.seed;
        manifest.lenses = records(&requests)?;
        manifest.config = json!({
            "prompts": lines.sha256, "layers": layers, "intervals": self.intervals.config(),
            "vocab": session.vocab(&tokenizer),
        });
        let claim = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch);
        if claim.found() == Found::Complete {
            watch.note(&format!("{} is complete already", self.out.display()));
            return Ok(ConceptsFound { rows: read_metrics(&self.out)?, left_out });
        }
        let model = session.load(watch)?;
        let lenses = open(&requests, model, self.other_unembedding, watch)?;
        let dir = claim.begin(&|p| p == Path::new(METRICS))?;
        let rows = self.measure((&session, session.vocab(&tokenizer)), &lenses, &layers, &items, watch)?;
        write_metrics(&self.out, &rows)?;
        let tokens = items.iter().map(|item| item.ids.len() as u64).sum();
        let counts =
            Counts { documents: items.len() as u64, tokens, rows: rows.len() as u64, ..Counts::default() };
        dir.finish(counts, None)?;
        Ok(ConceptsFound { rows, left_out })
    }
}

impl Concepts {
    /// The prompts in tokens, with their words and controls; and the words that are no token.
    fn items(
        &self,
        lines: &Lines<Line>,
        session: &Session,
        tokenizer: &Tokenizer,
    ) -> Result<(Vec<Item>, Vec<String>), JobError> {
        let (mut prompts, mut left_out) = (Vec::new(), Vec::new());
        let vocab = session.vocab(tokenizer);
        for (place, line) in &lines.all {
            let ids = tokenizer.encode(&line.prompt)?;
            let (n, context) = (ids.len(), session.spec.n_ctx);
            if n == 0 || n > context {
                let problem = format!("the prompt gives {n} tokens; the model takes 1 to {context}");
                return Err(JobError::usage(problem).at(place));
            }
            let mut own = Vec::new();
            for word in &line.intermediates {
                match Concept::new(word, tokenizer, vocab) {
                    Some(concept) => own.push(concept),
                    None => left_out.push(word.clone()),
                }
            }
            if !own.is_empty() {
                prompts.push((ids.into_iter().map(i64::from).collect(), own));
            }
        }
        if prompts.is_empty() {
            let line = "no prompt has an intermediate that is one token of this model";
            return Err(JobError::setting("prompts", line));
        }
        Ok((items(&prompts, self.seed), left_out))
    }

    /// Every prompt under every lens, and the means over prompts.
    fn measure(
        &self,
        (session, vocab): (&Session, usize),
        lenses: &Lenses,
        layers: &[usize],
        items: &[Item],
        watch: &dyn Watch,
    ) -> Result<Vec<MetricRow>, JobError> {
        let model = session.load(watch)?;
        let readout = Readout::new(model.unembed(), vocab, Precision::Exact, session.threads)?;
        let who: Vec<_> = lenses
            .all
            .iter()
            .zip(&lenses.kinds)
            .map(|(lens, kind)| (subject_of(lens.as_ref()), *kind))
            .collect();
        let stage = watch.begin("reading", "prompts", Some(items.len() as u64));
        let mut each = Vec::with_capacity(items.len());
        for item in items {
            each.push(rows(&who, &ranks(model, &readout, &lenses.all, layers, item)?, vocab));
            stage.done(1)?;
        }
        Ok(over(&each, self.intervals.policy(self.seed))?)
    }
}

/// Lenses that say what the next token is, of the stream that enters a block.
fn check_kinds(requests: &[LensRequest]) -> Result<(), JobError> {
    if requests.iter().any(LensRequest::reads_ahead) {
        return Err(JobError::setting("lens", "a future lens says what comes later, not what a state holds"));
    }
    match site_of(requests) {
        "resid_pre" => Ok(()),
        site => Err(JobError::setting("lens", format!("a lens of {site}; words are read at resid_pre"))),
    }
}

fn said(lines: &Lines<Line>, items: &[Item], left_out: &[String], watch: &dyn Watch) {
    let words: usize = items.iter().map(|item| item.own.len()).sum();
    watch.note(&format!(
        "{} of {}, {}",
        items.len(),
        counted(lines.all.len(), "prompt"),
        counted(words, "word")
    ));
    if let [first, ..] = left_out {
        watch.note(&format!(
            "{} left out, {first:?} first: no spelling is one token",
            counted(left_out.len(), "word")
        ));
    }
    let alone = items.iter().filter(|item| item.other.is_empty()).count();
    if alone > 0 {
        let prompts = Setting("prompts");
        watch.warn(&format!(
            "{prompts}: {} without a control: all words are its own",
            counted(alone, "prompt")
        ));
    }
}
