//! `attention`: what heads look at over a text, and what the model loses without them.

mod measure;
mod texts;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    AllWindows, Job, JobError, Layers, ModelSettings, PassSettings, Session, Setting, Source, TextSettings,
    Watch, claimed, counts,
};
use crate::{
    attention::{Ablation, HeadSet, Square},
    results::{
        patterns::{PATTERNS, Patterns, read_patterns, write_patterns},
        run::{Found, METRICS, MetricRow, RunDir, read_metrics, write_metrics},
    },
    sources::text::WindowOptions,
};

/// Texts of `repeated_random`, unless another number is asked for.
const SEEDS: NonZeroUsize = NonZeroUsize::new(40).unwrap();

/// The folder of the files of [`Attention::save`].
const SQUARES: &str = "patterns";

/// Measure what attention heads look at, and what the model loses without them
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(mut_arg("data", |data| data
    .required(false)
    .required_unless_present_any(["prompt", "repeated_random"])
    .conflicts_with_all(["prompt", "repeated_random"]))))]
pub struct Attention {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The text.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub text: TextSettings,
    /// In place of --data: one prompt, of which every link is kept; `-` is stdin
    #[cfg_attr(feature = "cli", arg(long, value_name = "STR", conflicts_with = "repeated_random"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// In place of --data: texts of BOS and N different random tokens said twice, on which induction heads show
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeated_random: Option<NonZeroUsize>,
    /// Texts of --repeated-random, each with draws of its own
    #[cfg_attr(feature = "cli", arg(long, default_value_t = SEEDS, value_name = "N", conflicts_with_all = ["data", "prompt"]))]
    pub seeds: NonZeroUsize,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: PathBuf,
    /// Only heads of these layers, such as 0,4,8-12
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// Also measure the loss without each head: nothing in its place, or what it gives on average
    #[cfg_attr(feature = "cli", arg(long, value_enum, value_name = "zero|mean"))]
    pub ablate: Option<Ablation>,
    /// Take only these heads away, LAYER.HEAD each; several together are joined by +, such as 1.0+1.3
    #[cfg_attr(feature = "cli", arg(long, num_args = 1.., value_name = "HEADS", requires = "ablate"))]
    pub heads: Vec<HeadSet>,
    /// Write patterns, or scores before the softmax, as well: a safetensors file per window in RUN/patterns
    #[cfg_attr(feature = "cli", arg(long, value_enum, num_args = 1.., value_name = "pattern|attn_scores"))]
    pub save: Vec<Square>,
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

impl Default for Attention {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            text: TextSettings::default(),
            prompt: None,
            repeated_random: None,
            seeds: SEEDS,
            out: PathBuf::new(),
            layers: None,
            ablate: None,
            heads: Vec::new(),
            save: Vec::new(),
            pass: PassSettings::default(),
            force: false,
            seed: 0,
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Attended {
    /// The numbers, as in `metrics.parquet`.
    pub rows: Vec<MetricRow>,
    /// Of a prompt, every link.
    pub patterns: Option<Patterns>,
}

impl Job for Attention {
    const COMMAND: &'static str = "attention";
    type Outcome = Attended;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<Attended, JobError> {
        self.check()?;
        let session = Session::open(&self.model, watch)?;
        session.needs_decoder(Self::COMMAND)?;
        let layers = self.layers(&session)?;
        let sets = self.sets(&session, &layers)?;
        let source = Source::open(&session, &self.text, watch)?;
        session.announce(watch);
        let (text, options) = self.texts(&source, watch)?;
        watch.note(&format!("documents: {}", text.lead));
        let mut manifest = source.manifest(self, (&text.lead, false), self.seed, watch)?;
        manifest.config = self.config(&source, (&layers, &sets), (&text, &options));
        let claim = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch);
        if claim.found() == Found::Complete {
            watch.note(&format!("{} is complete already", self.out.display()));
            let patterns = self.prompt.as_ref().map(|_| read_patterns(&self.out)).transpose()?;
            return Ok(Attended { rows: read_metrics(&self.out)?, patterns });
        }
        let (rows, patterns) = self.measure(&source, (&layers, &sets), &text, watch)?;
        let dir = claim.begin(&|p| {
            [METRICS, PATTERNS].iter().any(|own| p == Path::new(own)) || p.starts_with(SQUARES)
        })?;
        self.save(&source, &layers, &text, watch)?;
        if let Some(patterns) = &patterns {
            write_patterns(&self.out, patterns)?;
        }
        write_metrics(&self.out, &rows)?;
        dir.finish(counts(text.stats, rows.len() as u64), None)?;
        Ok(Attended { rows, patterns })
    }
}

impl Attention {
    /// What can be told of the settings alone.
    fn check(&self) -> Result<(), JobError> {
        let given = [self.prompt.is_some(), self.repeated_random.is_some(), !self.text.data.is_empty()];
        if given.iter().filter(|given| **given).count() != 1 {
            let [data, prompt, random] = ["data", "prompt", "repeated_random"].map(Setting);
            return Err(JobError::usage(format!("give one of {data}, {prompt} and {random}")));
        }
        if self.text.pack {
            let why = "a row of joined documents looks at several; measure them apart";
            return Err(JobError::setting("pack", why));
        }
        if !self.heads.is_empty() && self.ablate.is_none() {
            return Err(JobError::setting("heads", format!("for {} alone", Setting("ablate"))));
        }
        if self.ablate.is_some() && self.repeated_random == Some(NonZeroUsize::MIN) {
            let line = format!("of one token nothing is copied; {} needs two or more", Setting("ablate"));
            return Err(JobError::setting("repeated_random", line));
        }
        Ok(())
    }

    /// The layers whose heads are measured.
    fn layers(&self, session: &Session) -> Result<Vec<usize>, JobError> {
        let n_layers = session.spec.n_layers;
        let mut layers = session.layers(self.layers.as_ref())?;
        if let Some(asked) = &self.layers
            && asked.0.contains(&n_layers)
        {
            let line =
                format!("layer {n_layers} has no heads; this model's are in layers 0 to {}", n_layers - 1);
            return Err(JobError::setting("layers", line));
        }
        layers.retain(|layer| *layer < n_layers);
        Ok(layers)
    }

    /// What is taken away: the heads asked for, or each of `layers`.
    fn sets(&self, session: &Session, layers: &[usize]) -> Result<Vec<HeadSet>, JobError> {
        if self.ablate.is_none() {
            return Ok(Vec::new());
        }
        session.needs_head(Self::COMMAND)?;
        let spec = &session.spec;
        let outside = |(layer, head): &&(usize, usize)| *layer >= spec.n_layers || *head >= spec.n_heads;
        if let Some((layer, head)) = self.heads.iter().flat_map(HeadSet::heads).find(outside) {
            let line = format!(
                "no head {layer}.{head}; this model has layers 0 to {} with heads 0 to {}",
                spec.n_layers - 1,
                spec.n_heads - 1
            );
            return Err(JobError::setting("heads", line));
        }
        if !self.heads.is_empty() {
            let mut sets = Vec::new();
            for set in &self.heads {
                if !sets.contains(set) {
                    sets.push(set.clone());
                }
            }
            return Ok(sets);
        }
        let of = |layer: &usize| (0..spec.n_heads).map(|head| HeadSet::one(*layer, head)).collect::<Vec<_>>();
        Ok(layers.iter().flat_map(of).collect())
    }

    fn config(
        &self,
        source: &Source<'_>,
        (layers, sets): (&[usize], &[HeadSet]),
        (text, options): (&AllWindows, &WindowOptions),
    ) -> Value {
        let mut own = json!({ "layers": layers, "ablate": self.ablate, "heads": sets, "save": self.save });
        if self.prompt.is_some() {
            // Of stdin the setting does not say what was read.
            own["prompt_ids"] = json!(text.windows.first().map(|window| &window.ids));
        }
        if let Some(length) = self.repeated_random {
            own["repeated_random"] = json!({ "length": length, "texts": self.seeds, "seed": self.seed });
        }
        self.pass.config(own, source, &self.text, options)
    }
}
