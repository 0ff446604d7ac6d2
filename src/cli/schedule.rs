//! `schedule`: blocks in another order, against the model as it is.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use layerscope::{
    intervene::schedule::{Comparison, Named, deletions, painters, parse, points},
    results::run::{Found, METRICS, MetricRow, RunDir, read_metrics, write_metrics},
};
use serde_json::{Value, json};

use super::{
    args::{CommonArgs, Layers, ModelArgs, TextArgs},
    exit::Failure,
    interrupt::on_interrupt,
    lens::load,
    numbers::{LEGEND, hint_clusters, with_interval},
    output::{Output, shown},
    passes::PassArgs,
    source::{AllWindows, Source, counts},
    table::Table,
};

/// Run the model's blocks in another order, and compare with the model as it is
#[derive(Debug, Args)]
pub(crate) struct ScheduleArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Blocks in the order they run, such as 0,1,4x3,[2-5],7 or skip:3, swap:2,4, reverse:2-5, shuffle:2-5, parallel:2-5,
    /// loop:2-5x3, loop-parallel:2-5x3; repeat for several
    #[arg(long, value_name = "STEPS")]
    schedule: Vec<String>,
    /// Every block left out alone
    #[arg(long)]
    deletions: bool,
    /// The middle blocks skipped, repeated, reversed, shuffled, side by side, and that three times
    #[arg(long)]
    painters: bool,
    /// Blocks at each end that --painters leaves alone; by default a quarter
    #[arg(long, value_name = "N", requires = "painters")]
    margin: Option<usize>,
    /// Folder to write
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Lens folder that reads the changed stream beside the logit lens; repeat for several
    #[arg(long, value_name = "LENSDIR", conflicts_with = "no_readouts")]
    lens: Vec<PathBuf>,
    /// Use a lens that was fitted to another unembedding
    #[arg(long)]
    other_unembedding: bool,
    /// Read lenses at these layers too, such as 0,4,8-12; by default at all that a schedule runs
    #[arg(long, value_name = "LAYERS")]
    layers: Option<Layers>,
    /// Read the end only
    #[arg(long, conflicts_with = "layers")]
    no_readouts: bool,
    #[command(flatten)]
    pass: PassArgs,
    /// Start over in a folder that holds another run
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: CommonArgs,
}

impl ScheduleArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let names: Vec<PathBuf> = std::iter::once("logit".into()).chain(self.lens.iter().cloned()).collect();
        let asked = load::read(&names)?;
        if load::site(&asked) != "resid_pre" {
            return Err(Failure::usage(anyhow!(
                "--lens: a lens reads {}, not resid_pre",
                load::site(&asked)
            )));
        }
        let source = Source::open(&self.model, &self.text, output)?;
        load::check_shapes(&asked, &source.session.spec)?;
        let n_layers = source.session.spec.n_layers;
        let schedules = self.schedules(n_layers)?;
        let mut layers = source.session.layers(self.layers.as_ref())?;
        layers.retain(|layer| !self.no_readouts && *layer < n_layers);
        source.session.announce(output);
        let options = source.window_options(&self.text)?;
        let text = source.windows(&options, output)?;
        output.note(format!("documents: {}", text.lead));
        let pack = self.text.pack;
        let mut manifest =
            source.manifest("schedule", &self.model, &text.lead, pack, &self.common, output)?;
        manifest.lenses =
            asked.iter().filter_map(|a| a.record().transpose()).collect::<Result<Vec<_>, _>>()?;
        let own = json!({
            "schedules": schedules.iter().map(|s| json!([s.name, s.schedule.to_string()])).collect::<Vec<_>>(),
            "layers": layers,
        });
        manifest.config = self.pass.config(own, &source, &self.text, &options);
        let claim = output.claimed(RunDir::claim(&self.out, manifest, self.force)?);
        if claim.found() == Found::Complete {
            output.note(format!("{} is complete already", self.out.display()));
            return self.report(&schedules, &read_metrics(&self.out)?, n_layers, output);
        }
        let rows = self.compare(&source, &asked, &schedules, &layers, &text, output)?;
        let dir = claim.begin(&|p| p == Path::new(METRICS))?;
        write_metrics(&self.out, &rows)?;
        dir.finish(counts(text.stats, rows.len() as u64), None)?;
        self.report(&schedules, &rows, n_layers, output)
    }

    /// What to run, each name once.
    fn schedules(&self, n_layers: usize) -> Result<Vec<Named>, Failure> {
        let seed = self.common.seed;
        let mut all = Vec::new();
        for text in &self.schedule {
            let schedule = parse(text, n_layers, seed).map_err(Failure::usage)?;
            all.push(Named { name: text.clone(), schedule });
        }
        if self.deletions {
            all.extend(deletions(n_layers).map_err(Failure::usage)?);
        }
        if self.painters {
            let margin = self.margin.unwrap_or(n_layers / 4);
            all.extend(painters(n_layers, margin, seed).map_err(Failure::usage)?);
        }
        if all.is_empty() {
            return Err(Failure::usage(anyhow!(
                "nothing to run; give --schedule, --deletions or --painters"
            )));
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
        source: &Source,
        asked: &[load::Asked],
        schedules: &[Named],
        layers: &[usize],
        text: &AllWindows,
        output: Output,
    ) -> Result<Vec<MetricRow>, Failure> {
        let stop = on_interrupt()?;
        let (model, readout) = self.pass.load(source, output)?;
        let n_layers = source.session.spec.n_layers;
        let points = points(schedules, layers, n_layers);
        let lenses = load::open(asked, &model, self.other_unembedding, output)?;
        let intervals = self.pass.intervals(self.common.seed);
        let of = (&lenses.all[..], &lenses.kinds[..]);
        let mut comparison = Comparison::new(&readout, of, schedules, &points, n_layers, intervals)?;
        self.pass.each(source, text, ("running", output), &stop, |windows, clusters| {
            Ok(comparison.add(&model, windows, clusters)?)
        })?;
        comparison.add_text(&text.windows, self.pass.clusters(&text.windows).as_deref())?;
        Ok(comparison.finish())
    }

    fn report(
        &self,
        schedules: &[Named],
        rows: &[MetricRow],
        n_layers: usize,
        output: Output,
    ) -> Result<(), Failure> {
        const SHOWN: [&str; 3] = ["kl", "agreement", "ce"];
        let find = |subject: &str, metric: &str| {
            let end = |r: &&MetricRow| r.layer as usize == n_layers && r.unit != "bits/byte";
            rows.iter().filter(end).find(|r| r.subject == subject && r.metric == metric)
        };
        let mut table = Table::new(["schedule", "blocks", "KL(model ‖ schedule)", "agreement", "ce"]);
        let mut listed = Vec::new();
        for Named { name, schedule } in schedules {
            let cells = SHOWN.map(|m| find(name, m).map_or_else(String::new, with_interval));
            table.row([name.clone(), schedule.blocks().count().to_string()].into_iter().chain(cells));
            let [kl, agreement, ce] = SHOWN.map(|m| find(name, m).map(|row| row.estimate));
            listed.push(json!({
                "schedule": name, "steps": schedule.to_string(), "kl": kl, "agreement": agreement, "ce": ce,
            }));
        }
        let ce = find("model", "ce");
        let own = ce.map_or_else(String::new, with_interval);
        table.row(["model", &n_layers.to_string(), "", "", &own]);
        let text = format!("nats and shares ({LEGEND})\n{table}");
        output.print(text.trim_end())?;
        hint_clusters(rows, output);
        output.wrote(&self.out, "all numbers, by layer too, with their intervals");
        output.result(json!({
            "out": shown(&self.out),
            "rows": rows.len(),
            "schedules": Value::from(listed),
            "model": { "ce": ce.map(|row| row.estimate) },
        }))?;
        Ok(())
    }
}
