//! `think space`: are a layer's states and the token embeddings one space?

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    intervene::think::{Embeddings, Share, Space},
    job::{
        AllWindows, IntervalSettings, Job, JobError, Layers, ModelSettings, Session, Source, TextSettings,
        Watch, claimed, counts,
    },
    results::run::{Found, METRICS, MetricRow, RunDir, read_metrics, write_metrics},
    sources::text::{WindowOptions, each_batch},
};

/// Compare every layer's states with the token embeddings: could one be read as the other?
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct ThinkSpace {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The text.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub text: TextSettings,
    /// Layers, such as 0,4,8-12; by default all
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: PathBuf,
    /// How intervals are made.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub intervals: IntervalSettings,
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

/// How alike states and embeddings are.
#[derive(Debug, Clone, PartialEq)]
pub struct SpaceMeasured {
    /// Whether the model's unembedding is its embedding.
    pub tied: bool,
    /// The numbers, as in `metrics.parquet`.
    pub rows: Vec<MetricRow>,
}

impl Job for ThinkSpace {
    const COMMAND: &'static str = "think space";
    type Outcome = SpaceMeasured;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<SpaceMeasured, JobError> {
        let session = Session::open(&self.model, watch)?;
        session.needs_decoder(Self::COMMAND)?;
        let source = Source::open(&session, &self.text, watch)?;
        let layers = session.layers(self.layers.as_ref())?;
        session.announce(watch);
        let tied = session.spec.tied;
        watch.note(if tied {
            "the unembedding is tied to the embedding: the last layer's states are read by these very vectors"
        } else {
            "the unembedding is a matrix of its own: nothing makes the last layer's states look like embeddings"
        });
        let options = source.window_options(&self.text)?;
        let text = source.windows(&options, watch)?;
        watch.note(&format!("documents: {}", text.lead));
        let mut manifest = source.manifest(self, (&text.lead, self.text.pack), self.seed, watch)?;
        manifest.config = self.config(&source, &layers, &options);
        let claim = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch);
        if claim.found() == Found::Complete {
            watch.note(&format!("{} is complete already", self.out.display()));
            return Ok(SpaceMeasured { tied, rows: read_metrics(&self.out)? });
        }
        let rows = self.measure(&source, &layers, &text, watch)?;
        let dir = claim.begin(&|p| p == Path::new(METRICS))?;
        write_metrics(&self.out, &rows)?;
        dir.finish(counts(text.stats, rows.len() as u64), None)?;
        Ok(SpaceMeasured { tied, rows })
    }
}

impl ThinkSpace {
    fn config(&self, source: &Source<'_>, layers: &[usize], options: &WindowOptions) -> Value {
        let session = source.session;
        json!({
            "model_name": session.name(),
            "layers": layers,
            "n_layers": session.spec.n_layers,
            "tied": session.spec.tied,
            "vocab": source.vocab(),
            "tokens": self.text.tokens,
            "seq_len": options.seq_len,
            "pack": options.pack,
            "text_column": self.text.text_column,
            "intervals": self.intervals.config(),
        })
    }

    fn measure(
        &self,
        source: &Source<'_>,
        layers: &[usize],
        text: &AllWindows,
        watch: &dyn Watch,
    ) -> Result<Vec<MetricRow>, JobError> {
        let model = source.session.load(watch)?;
        let embeddings = Embeddings::of(model, source.vocab())?;
        let intervals = self.intervals.policy(self.seed);
        let mut space = Space::new(model, &embeddings, layers, &text.windows, (self.seed, intervals))?;
        let line = |share: &Share| format!("{} for {} %", share.components, share.of_embeddings * 100.0);
        let lines: Vec<String> = space.shares().iter().map(line).collect();
        watch.note(&format!("principal components of the embedding matrix: {}", lines.join(", ")));
        let stage = watch.begin("comparing", "tokens", Some(text.stats.tokens));
        each_batch(&text.windows, source.session.batch_tokens(self.batch_tokens), &stage, |batch| {
            space.add(model, &embeddings, &batch.windows)?;
            Ok::<_, JobError>(())
        })?;
        drop(stage);
        Ok(space.finish()?)
    }
}
