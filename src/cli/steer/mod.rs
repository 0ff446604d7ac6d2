//! `steer`: directions added to the residual stream, swept by layer and strength beside random ones.

mod found;
mod report;
mod source;

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use anyhow::anyhow;
use clap::Args;
use layerscope::{
    intervene::steer::{Contrast, Direction, Setting, SteerError, Sweep},
    lens::evaluate::EvalError,
    results::run::{Found as Claimed, METRICS, MetricRow, RunDir, read_metrics, write_metrics},
    results::words::counted,
    sources::text::Window,
};
use serde_json::json;
use tch::Tensor;

use self::found::{Asked, DIRECTIONS, Found, FoundArgs};
use super::{
    args::{CommonArgs, Layers, ModelArgs, TextArgs},
    exit::Failure,
    interrupt::on_interrupt,
    output::Output,
    passes::PassArgs,
    source::{AllWindows, Source, counts},
};

/// Add a direction to the residual stream at every layer and strength, and measure what follows beside random directions
#[derive(Debug, Args)]
pub(crate) struct SteerArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Neutral text, on which the cost is measured
    #[command(flatten)]
    text: TextArgs,
    /// A sweep's folder or one saved probe (its weights), or FILE.safetensors:KEY (one vector, or a row per layer from
    /// layer 0 on, or tensors KEY.LAYER); of a probe of several classes PATH:CLASS; repeat for several
    #[arg(long, value_name = "DIRECTION")]
    direction: Vec<String>,
    #[command(flatten)]
    found: FoundArgs,
    /// Layers to steer, such as 0,4,8-12; by default all that the directions have
    #[arg(long, value_name = "LAYERS")]
    layers: Option<Layers>,
    /// How far to push, in mean lengths of the layer's stream
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true, default_values_t = [-0.5, -0.25, 0.25, 0.5], value_name = "X,…")]
    strengths: Vec<f64>,
    /// Random directions of the same length at every layer, the control among which the others are ranked
    #[arg(long, default_value_t = 20, value_name = "N")]
    random: usize,
    /// The response is the logit of this token less that of --away, such as " he"
    #[arg(long, value_name = "TOKEN", requires = "away")]
    toward: Option<String>,
    /// See --toward
    #[arg(long, value_name = "TOKEN", requires = "toward")]
    away: Option<String>,
    /// Folder to write
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    #[command(flatten)]
    pass: PassArgs,
    /// Start over in a folder that holds another run
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// What is asked, but for what the model has to say first.
struct Job {
    directions: Vec<Direction>,
    asked: Asked,
    /// Where the model is asked.
    layers: Vec<usize>,
    contrast: Option<Contrast>,
}

impl SteerArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        if self.direction.is_empty() && self.found.is_nothing() {
            return Err(Failure::usage(anyhow!(
                "no direction: give --direction (a probe's or a file's), --pairs (from pairs of texts) or --sentence (one that is learnt)"
            )));
        }
        if let Some(bad) = self.strengths.iter().find(|x| !x.is_finite() || **x == 0.0) {
            return Err(Failure::usage(anyhow!("--strengths must be numbers other than 0, not {bad}")));
        }
        let source = Source::open(&self.model, &self.text, output)?;
        let sources = source::read(&self.direction).map_err(Failure::usage)?;
        let layers = source.session.layers(self.layers.as_ref())?;
        let job = self.job(&source, &sources, layers, output).map_err(Failure::usage)?;
        source.session.announce(output);
        let options = source.window_options(&self.text)?;
        let text = source.windows(&options, output)?;
        output.note(format!("documents: {}", text.lead));
        let pack = self.text.pack;
        let mut manifest = source.manifest("steer", &self.model, &text.lead, pack, &self.common, output)?;
        let own = json!({
            "directions": sources.iter().map(source::Loaded::record).collect::<Vec<_>>(),
            "layers": self.layers.as_ref().map(|layers| &layers.0),
            "strengths": self.strengths,
            "random": self.random,
            "toward": self.toward,
            "away": self.away,
            "found": (!job.asked.is_nothing()).then(|| job.asked.record(&self.found.sentence)),
        });
        manifest.config = self.pass.config(own, &source, &self.text, &options);
        let claim = output.claimed(RunDir::claim(&self.out, manifest, self.force)?);
        if claim.found() == Claimed::Complete {
            output.note(format!("{} is complete already", self.out.display()));
            return report::show(&self.out, &read_metrics(&self.out)?, output);
        }
        let (rows, found) = self.measure(&source, job, &text, output)?;
        let dir = claim.begin(&|p| p == Path::new(METRICS) || p == Path::new(DIRECTIONS))?;
        found.write(&self.out)?;
        write_metrics(&self.out, &rows)?;
        dir.finish(counts(text.stats, rows.len() as u64), None)?;
        report::show(&self.out, &rows, output)
    }

    /// The directions that are there already, and what the model is asked for.
    fn job(
        &self,
        source: &Source,
        sources: &[source::Loaded],
        layers: Vec<usize>,
        output: Output,
    ) -> anyhow::Result<Job> {
        let spec = &source.session.spec;
        let asked = self.layers.as_ref().map(|layers| layers.0.as_slice());
        let mut directions: Vec<Direction> = Vec::new();
        for loaded in sources {
            let mut vectors = loaded.vectors(asked, spec.n_layers)?;
            if asked.is_none() {
                left_out(&loaded.name, &mut vectors, output)?;
            }
            directions.push(Direction::new(loaded.name.clone(), vectors, spec.d_model)?);
        }
        let found = self.found.read(&source.tokenizer, spec.n_ctx)?;
        let names: Vec<&str> = directions.iter().map(|d| d.name.as_str()).chain(found.names()).collect();
        if let Some((_, name)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            return Err(anyhow!("two directions are called {name}"));
        }
        let token = |text: &Option<String>| {
            text.as_ref().map(|text| source.tokenizer.one_token(text).map(i64::from)).transpose()
        };
        let contrast = token(&self.toward)?.zip(token(&self.away)?);
        let contrast = contrast.map(|(toward, away)| Contrast { toward, away });
        Ok(Job { directions, asked: found, layers, contrast })
    }

    /// The random directions with the others, and every setting.
    fn settings(&self, directions: &mut Vec<Direction>, d_model: usize) -> Vec<Setting> {
        let mut layers: Vec<usize> = directions.iter().flat_map(Direction::layers).collect();
        layers.sort_unstable();
        layers.dedup();
        directions.extend((0..self.random).map(|i| Direction::random(i, &layers, d_model, self.common.seed)));
        let one_side = self.one_side();
        let settings = directions.iter().enumerate().flat_map(|(direction, of)| {
            let strengths = if of.random { &one_side } else { &self.strengths };
            let strengths = |layer| strengths.iter().map(move |s| (layer, *s));
            of.layers().flat_map(strengths).map(move |(layer, strength)| Setting {
                direction,
                layer,
                strength,
            })
        });
        settings.collect()
    }

    /// How far random directions are pushed: a random direction is as likely as its opposite, so that one side stands for both.
    fn one_side(&self) -> Vec<f64> {
        let mut lengths: Vec<f64> = Vec::new();
        for length in self.strengths.iter().map(|x| x.abs()) {
            if !lengths.contains(&length) {
                lengths.push(length);
            }
        }
        lengths
    }

    /// Lengths first, then the directions that the model is asked for, then one pass of the text through every setting.
    fn measure(
        &self,
        source: &Source,
        mut job: Job,
        text: &AllWindows,
        output: Output,
    ) -> Result<(Vec<MetricRow>, Found), Failure> {
        let stop = on_interrupt()?;
        let (model, readout) = self.pass.load(source, output)?;
        let windows: Vec<&Window> = text.windows.iter().collect();
        let rows = self.pass.batch_tokens(source);
        let bar = output.bar("lengths", "tokens", Some(text.stats.tokens));
        let lengths = Sweep::lengths(&model, &windows, rows, |n| bar.inc(n as u64))?;
        bar.finish_and_clear();
        let intervals = self.pass.intervals(self.common.seed);
        let (at, with) = ((&job.layers[..], &lengths[..]), (rows, intervals, self.common.seed));
        let mut found = job.asked.find(&model, &source.tokenizer, at, with, (&stop, output))?;
        job.directions.append(&mut found.directions);
        let settings = self.settings(&mut job.directions, model.spec().d_model);
        let mut sweep = Sweep::new(&readout, &job.directions, &settings, &lengths, job.contrast, intervals)?;
        self.announce(&job.directions, &settings, output);
        let batches: Vec<_> = self.pass.batched(source, &windows).collect();
        let bar =
            output.bar("steering", "settings of a batch", Some((settings.len() * batches.len()) as u64));
        for (some, clusters) in batches {
            let added = sweep.add(&model, &some, clusters.as_deref(), || {
                bar.inc(1);
                if stop.load(Ordering::Relaxed) { Err(SteerError::Interrupted) } else { Ok(()) }
            });
            if added.is_err() {
                bar.finish_and_clear();
            }
            added.map_err(|error| match error {
                SteerError::Interrupted => Failure::interrupted(EvalError::Interrupted),
                error => error.into(),
            })?;
        }
        bar.finish_and_clear();
        let mut all = sweep.finish();
        all.append(&mut found.rows);
        Ok((all, found))
    }
}

impl SteerArgs {
    /// What there is to do, and how much of it is the control.
    fn announce(&self, directions: &[Direction], settings: &[Setting], output: Output) {
        let random = settings.iter().filter(|setting| directions[setting.direction].random).count();
        let mut layers: Vec<usize> = settings.iter().map(|setting| setting.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        let control = match random {
            0 => String::new(),
            n => format!(
                ", {n} of them {} at {} of {} (one side stands for both)",
                counted(self.random, "random direction"),
                counted(self.one_side().len(), "length"),
                counted(layers.len(), "layer"),
            ),
        };
        output.note(format!(
            "{}, each a pass of the text from its layer on{control}",
            counted(settings.len(), "setting")
        ));
    }
}

/// Leaves out layers without a direction: a probe finds nothing to go by where all states are alike.
fn left_out(name: &str, vectors: &mut Vec<(usize, Tensor)>, output: Output) -> anyhow::Result<()> {
    let none = |vector: &Tensor| vector.norm().double_value(&[]) == 0.0;
    let gone: Vec<String> = vectors.iter().filter(|(_, v)| none(v)).map(|(l, _)| l.to_string()).collect();
    vectors.retain(|(_, vector)| !none(vector));
    if vectors.is_empty() {
        return Err(anyhow!("direction {name} has no length at any layer"));
    }
    if !gone.is_empty() {
        output.warn(format!("{name} has no length at layer {} and is left out there", gone.join(", ")));
    }
    Ok(())
}
