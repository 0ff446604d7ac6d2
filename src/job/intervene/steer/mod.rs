//! `steer`: directions added to the residual stream, swept by layer and strength beside random ones.

mod found;
mod source;
mod sweep;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Tensor;

pub use self::found::FoundSettings;
pub(in crate::job) use self::source::directions;
use self::{
    found::{DIRECTIONS, Sought},
    source::Loaded,
};
use crate::{
    intervene::steer::{Contrast, Direction},
    job::{
        BoxError, Job, JobError, Layers, ModelSettings, PassSettings, Session, Setting, Source, TextSettings,
        Watch, claimed, counts,
    },
    results::run::{Found as Claimed, METRICS, MetricRow, RunDir, read_metrics, write_metrics},
};

/// Add a direction to the residual stream at every layer and strength, and measure what follows beside random
/// directions
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Steer {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// Neutral text, on which the cost is measured
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub text: TextSettings,
    /// A sweep's folder or one saved probe (its weights), or FILE.safetensors:KEY (one vector, or a row per layer from
    /// layer 0 on, or tensors KEY.LAYER); of a probe of several classes PATH:CLASS; repeat for several
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIRECTION"))]
    pub direction: Vec<String>,
    /// Directions that the model itself is asked for.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub found: FoundSettings,
    /// Layers to steer, such as 0,4,8-12; by default all that the directions have
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// How far to push, in mean lengths of the layer's stream
    #[cfg_attr(
        feature = "cli",
        arg(long, value_delimiter = ',', allow_hyphen_values = true, default_values_t = STRENGTHS, value_name = "X,…")
    )]
    pub strengths: Vec<f64>,
    /// Random directions of the same length at every layer, the control among which the others are ranked
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 20, value_name = "N"))]
    pub random: usize,
    /// The response is the logit of this token less that of --away, such as " he"
    #[cfg_attr(feature = "cli", arg(long, value_name = "TOKEN", requires = "away"))]
    pub toward: Option<String>,
    /// See --toward
    #[cfg_attr(feature = "cli", arg(long, value_name = "TOKEN", requires = "toward"))]
    pub away: Option<String>,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: PathBuf,
    /// How predictions are read and what intervals are over.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub pass: PassSettings,
    /// Start over in a folder that holds another run
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
}

/// To both sides, as far as a half.
const STRENGTHS: [f64; 4] = [-0.5, -0.25, 0.25, 0.5];

impl Default for Steer {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            text: TextSettings::default(),
            direction: Vec::new(),
            found: FoundSettings::default(),
            layers: None,
            strengths: STRENGTHS.to_vec(),
            random: 20,
            toward: None,
            away: None,
            out: PathBuf::new(),
            pass: PassSettings::default(),
            force: false,
            seed: 0,
        }
    }
}

/// What steering did.
#[derive(Debug, Clone, PartialEq)]
pub struct Steered {
    /// The numbers, as in `metrics.parquet`.
    pub rows: Vec<MetricRow>,
}

/// What is to be done, but for what the model has to say first.
struct Plan {
    directions: Vec<Direction>,
    sought: Sought,
    /// Where the model is asked.
    layers: Vec<usize>,
    contrast: Option<Contrast>,
}

impl Job for Steer {
    const COMMAND: &'static str = "steer";
    type Outcome = Steered;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<Steered, JobError> {
        self.check()?;
        let session = Session::open(&self.model, watch)?;
        session.needs_decoder(Self::COMMAND)?;
        let source = Source::open(&session, &self.text, watch)?;
        let loaded = source::read(&self.direction).map_err(JobError::usage)?;
        let layers = session.layers(self.layers.as_ref())?;
        let plan = self.plan(&source, &loaded, layers, watch).map_err(JobError::usage)?;
        session.announce(watch);
        let options = source.window_options(&self.text)?;
        let text = source.windows(&options, watch)?;
        watch.note(&format!("documents: {}", text.lead));
        let mut manifest = source.manifest(self, (&text.lead, self.text.pack), self.seed, watch)?;
        manifest.config = self.pass.config(self.config(&plan, &loaded), &source, &self.text, &options);
        let claim = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch);
        if claim.found() == Claimed::Complete {
            watch.note(&format!("{} is complete already", self.out.display()));
            return Ok(Steered { rows: read_metrics(&self.out)? });
        }
        let (rows, found) = self.measure(&source, plan, &text, watch)?;
        let dir = claim.begin(&|p| p == Path::new(METRICS) || p == Path::new(DIRECTIONS))?;
        found.write(&self.out)?;
        write_metrics(&self.out, &rows)?;
        dir.finish(counts(text.stats, rows.len() as u64), None)?;
        Ok(Steered { rows })
    }
}

impl Steer {
    /// What is wrong with the settings by themselves.
    fn check(&self) -> Result<(), JobError> {
        if self.direction.is_empty() && self.found.is_nothing() {
            let [direction, pairs, sentence] = ["direction", "pairs", "sentence"].map(Setting);
            return Err(JobError::usage(format!(
                "no direction: give {direction} (a probe's or a file's), {pairs} (from pairs of texts) or {sentence} (one that is learnt)"
            )));
        }
        if let Some(bad) = self.strengths.iter().find(|x| !x.is_finite() || **x == 0.0) {
            let strengths = Setting("strengths");
            return Err(JobError::usage(format!("{strengths} must be numbers other than 0, not {bad}")));
        }
        if self.toward.is_some() != self.away.is_some() {
            return Err(JobError::setting("toward", format!("goes with {}", Setting("away"))));
        }
        Ok(())
    }

    /// The command's own settings, for a manifest.
    fn config(&self, plan: &Plan, loaded: &[Loaded]) -> Value {
        json!({
            "directions": loaded.iter().map(Loaded::record).collect::<Vec<_>>(),
            "layers": self.layers.as_ref().map(|layers| &layers.0),
            "strengths": self.strengths,
            "random": self.random,
            "toward": self.toward,
            "away": self.away,
            "found": (!plan.sought.is_nothing()).then(|| plan.sought.record(&self.found.sentence)),
        })
    }

    /// The directions that are there already, and what the model is asked for.
    fn plan(
        &self,
        source: &Source<'_>,
        loaded: &[Loaded],
        layers: Vec<usize>,
        watch: &dyn Watch,
    ) -> Result<Plan, BoxError> {
        let spec = &source.session.spec;
        let only = self.layers.as_ref().map(|layers| layers.0.as_slice());
        let mut directions: Vec<Direction> = Vec::new();
        for one in loaded {
            let mut vectors = one.vectors(only, spec.n_layers)?;
            if only.is_none() {
                left_out(&one.name, &mut vectors, watch)?;
            }
            directions.push(Direction::new(one.name.clone(), vectors, spec.d_model)?);
        }
        let sought = self.found.read(&source.tokenizer, spec.n_ctx)?;
        let names: Vec<&str> = directions.iter().map(|d| d.name.as_str()).chain(sought.names()).collect();
        if let Some((_, name)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            return Err(format!("two directions are called {name}").into());
        }
        let token = |text: &Option<String>| {
            text.as_ref().map(|text| source.tokenizer.one_token(text).map(i64::from)).transpose()
        };
        let contrast = token(&self.toward)?.zip(token(&self.away)?);
        let contrast = contrast.map(|(toward, away)| Contrast { toward, away });
        Ok(Plan { directions, sought, layers, contrast })
    }
}

/// Leaves out layers without a direction: a probe finds nothing to go by where all states are alike.
fn left_out(name: &str, vectors: &mut Vec<(usize, Tensor)>, watch: &dyn Watch) -> Result<(), BoxError> {
    let none = |vector: &Tensor| vector.norm().double_value(&[]) == 0.0;
    let gone: Vec<String> = vectors.iter().filter(|(_, v)| none(v)).map(|(l, _)| l.to_string()).collect();
    vectors.retain(|(_, vector)| !none(vector));
    if vectors.is_empty() {
        return Err(format!("direction {name} has no length at any layer").into());
    }
    if !gone.is_empty() {
        watch.warn(&format!("{name} has no length at layer {} and is left out there", gone.join(", ")));
    }
    Ok(())
}
