//! `lens transfer`: translators of one layer on the states of every other.

mod measure;
mod readers;

use std::{
    io::Write as _,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::readers::Readers;
use super::{
    Halves, LensRequest, activations, activations::Stream, block_hook, check_shapes, open, read, records,
    site_of,
};
use crate::{
    hook::{BlockHook, HookPoint},
    job::{
        AllWindows, Cluster, IntervalSettings, Job, JobError, Layers, LeakageSettings, ModelSettings,
        PrecisionSetting, Session, Source, TextSettings, Watch, claimed, counts,
    },
    lens::artifact::LensKind,
    lenses::LayerIndex,
    results::run::{
        Found, METRICS, Manifest, MetricRow, RunDir, RunError, read_metrics, write_atomic, write_metrics,
    },
    sources::text::WindowOptions,
    states::{Masker, Masking, store::ActivationStore},
};

/// Tokens that are read when no number is asked for.
const TOKENS: u64 = 1 << 16;
/// The verdict in words.
const VERDICT: &str = "verdict.txt";

/// Measure how translators of one layer read the states of every other, and whether one lens serves all
///
/// One half of the documents gives moments (geometry, corrections, the constant predictor), the other is measured on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(mut_arg("data", |data| data.required(false).required_unless_present("activations"))))]
pub struct Transfer {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The text.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub text: TextSettings,
    /// In place of [`TextSettings::data`]: an export of what the lenses read and of the last layer's `resid_pre` at all
    /// positions.
    #[cfg_attr(feature = "cli", arg(
        long,
        help = "In place of --data: an export of resid_pre (or the lenses' site) and of the last layer's resid_pre at all positions",
        conflicts_with_all = ["data", "text_column", "stdin_format", "seq_len", "pack", "bos"],
        value_name = "EXPORT"
    ))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activations: Option<PathBuf>,
    /// The tuned (linear, Jacobian) lens to transfer; further ones: shared lenses to judge it by, or a twin fitted with another seed;
    /// none: geometry of the layers alone
    #[cfg_attr(feature = "cli", arg(long, value_name = "LENSDIR"))]
    pub lens: Vec<PathBuf>,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: PathBuf,
    /// Only these layers, such as 0,4,8-12; by default all that the lens has
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// Read these tokens of an encoder, each behind the mask token: all of them in turn, or 15 % at random (the
    /// default)
    #[cfg_attr(feature = "cli", arg(long, value_enum, value_name = "all|random"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Masking>,
    /// Leave out the matrices of corrected states, which cost three times the matrix
    #[cfg_attr(feature = "cli", arg(long))]
    pub no_corrections: bool,
    /// Precision of the readout
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = PrecisionSetting::Exact, value_name = "PRECISION"))]
    pub readout: PrecisionSetting,
    /// What the 95 % intervals are over
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Cluster::Document, value_name = "CLUSTER"))]
    pub cluster: Cluster,
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

impl Default for Transfer {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            text: TextSettings::default(),
            activations: None,
            lens: Vec::new(),
            out: PathBuf::new(),
            layers: None,
            mask: None,
            no_corrections: false,
            readout: PrecisionSetting::Exact,
            cluster: Cluster::Document,
            intervals: IntervalSettings::default(),
            other_unembedding: false,
            batch_tokens: None,
            leakage: LeakageSettings::default(),
            force: false,
            seed: 0,
        }
    }
}

/// What a transfer found.
#[derive(Debug, Clone, PartialEq)]
pub struct Transferred {
    /// The numbers, as in `metrics.parquet`.
    pub rows: Vec<MetricRow>,
    /// Whether one lens serves all layers, in words.
    pub verdict: String,
}

/// What is measured, decided before weights are read.
struct Plan {
    site: BlockHook,
    layers: Vec<LayerIndex>,
    text: AllWindows,
    halves: Halves,
    batch_tokens: usize,
    /// What hides an encoder's tokens.
    masker: Option<Masker>,
}

impl Plan {
    /// What is read of the model beside its last layer.
    fn points(&self) -> Vec<HookPoint> {
        points(&self.layers, self.site)
    }
}

fn points(layers: &[LayerIndex], site: BlockHook) -> Vec<HookPoint> {
    layers.iter().map(|layer| HookPoint::Block(layer.0, site)).collect()
}

impl Job for Transfer {
    const COMMAND: &'static str = "lens transfer";
    type Outcome = Transferred;

    crate::job::writes_out!();

    fn answer(&self, found: Transferred) -> Result<Value, JobError> {
        Ok(json!({ "rows": found.rows.len(), "verdict": found.verdict }))
    }

    fn run(&self, watch: &dyn Watch) -> Result<Transferred, JobError> {
        activations::check_source(&self.text, &self.model, self.activations.as_deref())?;
        let requests = read(&self.lens)?;
        check_kinds(&requests)?;
        let session = Session::open(&self.model, watch)?;
        if !requests.is_empty() {
            session.needs_head(Self::COMMAND)?;
        }
        let settings = self.text.up_to(TOKENS);
        let source = Source::open(&session, &settings, watch)?;
        check_shapes(&requests, &session.spec)?;
        session.announce(watch);
        let dir = self.activations.as_deref();
        let store = dir.map(|dir| activations::open(dir, &session)).transpose()?;
        let (plan, options) = self.plan(&source, &requests, (&settings, store.as_ref()), watch)?;
        let manifest = self.manifest(&source, &requests, (&plan, store.as_ref()), &options, watch)?;
        let claim = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch);
        if claim.found() == Found::Complete {
            watch.note(&format!("{} is complete already", self.out.display()));
            let verdict = std::fs::read_to_string(self.out.join(VERDICT))?;
            return Ok(Transferred { rows: read_metrics(&self.out)?, verdict });
        }
        self.readout.announce(session.device, watch);
        let model = session.load(watch)?;
        let lenses = open(&requests, model, self.other_unembedding, watch)?;
        let dir = claim.begin(&|p| p == Path::new(METRICS) || p == Path::new(VERDICT))?;
        let stream = match &store {
            Some(store) => Stream::Exported(activations::unpack(
                store,
                &session,
                &plan.points(),
                &plan.text,
                &self.out,
                watch,
            )?),
            None => Stream::Model { model, masker: plan.masker.as_ref() },
        };
        let found = if requests.is_empty() {
            self.geometry((model, &stream), &plan, watch)?
        } else {
            self.measure(&source, (model, &stream), &Readers::new(lenses), &plan, watch)?
        };
        write_metrics(&self.out, &found.rows)?;
        let path = self.out.join(VERDICT);
        let words = found.verdict.as_bytes();
        write_atomic(&path, |f| f.write_all(words).map_err(|e| RunError::io("write", &path, e)))?;
        dir.finish(counts(plan.text.stats, found.rows.len() as u64), None)?;
        Ok(found)
    }
}

impl Transfer {
    fn plan(
        &self,
        source: &Source<'_>,
        requests: &[LensRequest],
        (settings, store): (&TextSettings, Option<&ActivationStore>),
        watch: &dyn Watch,
    ) -> Result<(Plan, WindowOptions), JobError> {
        let site = site_of(requests);
        let site = block_hook(site)
            .ok_or_else(|| JobError::failed(format!("a lens reads the unknown site {site}")))?;
        let mut layers = source.session.layers(self.layers.as_ref())?;
        layers.retain(|l| requests.first().is_none_or(|lens| lens.reads(*l)));
        if layers.len() < 2 {
            return Err(JobError::usage(format!(
                "a transfer needs two layers that the lens reads; there are {}",
                layers.len()
            )));
        }
        let layers: Vec<LayerIndex> = layers.into_iter().map(LayerIndex).collect();
        let (text, options) = if let Some(store) = store {
            activations::check_points(store, &points(&layers, site), source.session.spec.n_layers)?;
            activations::text(store, source, settings.tokens)?
        } else {
            let options = source.window_options(settings)?;
            (source.windows(&options, watch)?, options)
        };
        watch.note(&format!("documents: {}", text.lead));
        let halves = Halves::of(&text.windows, self.cluster)?;
        halves.note.iter().for_each(|note| watch.note(note));
        let batch_tokens = source.session.batch_tokens(self.batch_tokens);
        let masker = match requests {
            // Geometry is of the states of every token.
            [] if self.mask.is_none() => None,
            _ => source.session.masker(self.mask, &source.tokenizer, self.seed)?,
        };
        Ok((Plan { site, layers, text, halves, batch_tokens, masker }, options))
    }

    fn manifest(
        &self,
        source: &Source<'_>,
        requests: &[LensRequest],
        (plan, store): (&Plan, Option<&ActivationStore>),
        options: &WindowOptions,
        watch: &dyn Watch,
    ) -> Result<Manifest, JobError> {
        let mut manifest = source.manifest(self, (&plan.text.lead, self.text.pack), self.seed, watch)?;
        manifest.config = json!({
            "layers": self.layers.as_ref().map(|l| l.0.clone()),
            "corrections": !self.no_corrections,
            "readout": self.readout.effective(source.session.device),
            "cluster": self.cluster,
            "intervals": self.intervals.config(),
            "vocab": source.vocab(),
            "tokens": options.max_tokens,
            "seq_len": options.seq_len,
            "pack": options.pack,
            "text_column": self.text.text_column,
            "batch_tokens": self.batch_tokens,
        });
        if let Some(masker) = &plan.masker {
            manifest.config["mask"] = json!(masker.masking());
            manifest.config["seed"] = json!(self.seed);
        }
        if let Some(store) = store {
            activations::record(store, &mut manifest);
        }
        self.leakage.of_lenses(requests, &plan.text.windows, source, &mut manifest, watch)?;
        manifest.lenses = records(requests)?;
        Ok(manifest)
    }
}

fn check_kinds(requests: &[LensRequest]) -> Result<(), JobError> {
    let Some(first) = requests.first() else { return Ok(()) };
    let per_layer = [LensKind::Tuned, LensKind::Linear, LensKind::Jacobian];
    let Some(kind) = per_layer.into_iter().find(|kind| first.is(*kind)) else {
        let why = "the first must be a tuned, linear or Jacobian lens, which has a translator per layer";
        return Err(JobError::setting("lens", why));
    };
    let alike = requests.iter().filter(|a| a.is(kind)).count();
    let wrong = if requests.iter().any(|a| a.is(LensKind::Future)) {
        "a future lens predicts other tokens, and has no place in this matrix"
    } else if alike > 2 {
        "at most two lenses of the first's kind, the one to transfer and its twin"
    } else {
        return Ok(());
    };
    Err(JobError::setting("lens", wrong))
}
