//! `schedule`: blocks in another order, against the model as it is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    intervene::schedule::{Comparison, Named, deletions, painters, parse, points},
    job::{
        AllWindows, Job, JobError, Layers, ModelSettings, PassSettings, Session, Setting, Source,
        TextSettings, Watch, claimed, counts,
        lens::{LensRequest, check_shapes, open, read, records, site_of},
    },
    results::run::{Found, METRICS, MetricRow, RunDir, read_metrics, write_metrics},
};

/// Run the model's blocks in another order, and compare with the model as it is
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Schedule {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The text.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub text: TextSettings,
    /// Blocks in the order they run, such as 0,1,4x3,[2-5],7 or skip:3, swap:2,4, reverse:2-5, shuffle:2-5,
    /// parallel:2-5, loop:2-5x3, loop-parallel:2-5x3; repeat for several
    #[cfg_attr(feature = "cli", arg(long, value_name = "STEPS"))]
    pub schedule: Vec<String>,
    /// Every block left out alone
    #[cfg_attr(feature = "cli", arg(long))]
    pub deletions: bool,
    /// The middle blocks skipped, repeated, reversed, shuffled, side by side, and that three times
    #[cfg_attr(feature = "cli", arg(long))]
    pub painters: bool,
    /// Blocks at each end that --painters leaves alone; by default a quarter
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", requires = "painters"))]
    pub margin: Option<usize>,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: PathBuf,
    /// Lens folder that reads the changed stream beside the logit lens; repeat for several
    #[cfg_attr(feature = "cli", arg(long, value_name = "LENSDIR", conflicts_with = "no_readouts"))]
    pub lens: Vec<PathBuf>,
    /// Use a lens that was fitted to another unembedding
    #[cfg_attr(feature = "cli", arg(long))]
    pub other_unembedding: bool,
    /// Read lenses at these layers too, such as 0,4,8-12; by default at all that a schedule runs
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// Read the end only
    #[cfg_attr(feature = "cli", arg(long, conflicts_with = "layers"))]
    pub no_readouts: bool,
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

/// What was run and found.
#[derive(Debug)]
pub struct Scheduled {
    /// The schedules, each once, in the order asked for.
    pub schedules: Vec<Named>,
    /// Number of blocks of the model; its own numbers are at this layer.
    pub n_layers: usize,
    /// The numbers, as in `metrics.parquet`.
    pub rows: Vec<MetricRow>,
}

impl Job for Schedule {
    const COMMAND: &'static str = "schedule";
    type Outcome = Scheduled;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<Scheduled, JobError> {
        let names: Vec<PathBuf> = std::iter::once("logit".into()).chain(self.lens.iter().cloned()).collect();
        let requests = read(&names)?;
        if site_of(&requests) != "resid_pre" {
            return Err(JobError::setting(
                "lens",
                format!("a lens reads {}, not resid_pre", site_of(&requests)),
            ));
        }
        let session = Session::open(&self.model, watch)?;
        session.needs_decoder(Self::COMMAND)?;
        let source = Source::open(&session, &self.text, watch)?;
        check_shapes(&requests, &session.spec)?;
        let n_layers = session.spec.n_layers;
        let schedules = self.schedules(n_layers)?;
        let mut layers = session.layers(self.layers.as_ref())?;
        layers.retain(|layer| !self.no_readouts && *layer < n_layers);
        session.announce(watch);
        let options = source.window_options(&self.text)?;
        let text = source.windows(&options, watch)?;
        watch.note(&format!("documents: {}", text.lead));
        let mut manifest = source.manifest(self, (&text.lead, self.text.pack), self.seed, watch)?;
        manifest.lenses = records(&requests)?;
        let own = json!({ "schedules": named(&schedules), "layers": layers });
        manifest.config = self.pass.config(own, &source, &self.text, &options);
        let claim = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch);
        if claim.found() == Found::Complete {
            watch.note(&format!("{} is complete already", self.out.display()));
            return Ok(Scheduled { schedules, n_layers, rows: read_metrics(&self.out)? });
        }
        let rows = self.compare(&source, &requests, (&schedules, &layers), &text, watch)?;
        let dir = claim.begin(&|p| p == Path::new(METRICS))?;
        write_metrics(&self.out, &rows)?;
        dir.finish(counts(text.stats, rows.len() as u64), None)?;
        Ok(Scheduled { schedules, n_layers, rows })
    }
}

/// Schedules by name, for a manifest.
fn named(schedules: &[Named]) -> Vec<Value> {
    schedules.iter().map(|s| json!([s.name, s.schedule.to_string()])).collect()
}

impl Schedule {
    /// What to run, each name once.
    fn schedules(&self, n_layers: usize) -> Result<Vec<Named>, JobError> {
        let seed = self.seed;
        let mut all = Vec::new();
        for text in &self.schedule {
            let schedule = parse(text, n_layers, seed).map_err(JobError::usage)?;
            all.push(Named { name: text.clone(), schedule });
        }
        if self.deletions {
            all.extend(deletions(n_layers).map_err(JobError::usage)?);
        }
        if self.painters {
            let margin = self.margin.unwrap_or(n_layers / 4);
            all.extend(painters(n_layers, margin, seed).map_err(JobError::usage)?);
        }
        if all.is_empty() {
            let [schedule, deletions, painters] = ["schedule", "deletions", "painters"].map(Setting);
            let line = format!("nothing to run; give {schedule}, {deletions} or {painters}");
            return Err(JobError::usage(line));
        }
        let mut seen = Vec::new();
        all.retain(|named| {
            let new = !seen.contains(&named.name);
            seen.push(named.name.clone());
            new
        });
        Ok(all)
    }

    /// One pass of the text through every schedule.
    fn compare(
        &self,
        source: &Source<'_>,
        requests: &[LensRequest],
        (schedules, layers): (&[Named], &[usize]),
        text: &AllWindows,
        watch: &dyn Watch,
    ) -> Result<Vec<MetricRow>, JobError> {
        let (model, readout) = self.pass.load(source, watch)?;
        let n_layers = source.session.spec.n_layers;
        let points = points(schedules, layers, n_layers);
        let lenses = open(requests, model, self.other_unembedding, watch)?;
        let intervals = self.pass.intervals(self.seed);
        let of = (&lenses.all[..], &lenses.kinds[..]);
        let mut comparison = Comparison::new(&readout, of, schedules, &points, n_layers, intervals)?;
        self.pass.each(source, text, ("running", watch), |windows, clusters| {
            Ok(comparison.add(model, windows, clusters)?)
        })?;
        comparison.add_text(&text.windows, self.pass.clusters(&text.windows).as_deref())?;
        Ok(comparison.finish())
    }
}
