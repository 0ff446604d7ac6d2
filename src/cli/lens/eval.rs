use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use layerscope::{
    hook::HookPoint,
    lens::evaluate::{Baselines, Cell, EvalError, Evaluation, Reading, TOKENS, TokenTable, Watch},
    lenses::Readout,
    model::Model,
    results::run::{
        Found, LensRecord, METRICS, MetricRow, RunDir, read_metrics, write_atomic, write_metrics,
    },
    results::statistics::Intervals,
    sources::text::Window,
    states::States,
};
use serde_json::json;

use super::{
    super::{
        args::{CommonArgs, Layers, ModelArgs, TextArgs},
        exit::Failure,
        interrupt::on_interrupt,
        leakage::LeakageArgs,
        output::{Output, shown},
        source::{Source, counts},
    },
    load,
    readout::{ReadoutArg, told},
    report,
    site::block_hook,
};
use crate::cli::{intervals::IntervalArgs, numbers::hint_clusters};

/// What intervals are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cluster {
    /// Documents
    Document,
    /// Windows, for a text of one document
    Window,
}

impl Cluster {
    /// Intervals over such clusters: windows are neighbours in one text, and alike.
    pub(crate) fn of(self, intervals: Intervals) -> Intervals {
        if self == Self::Window { intervals.serial() } else { intervals }
    }

    /// Per window, what it counts as; none: its documents.
    pub(crate) fn of_windows(self, windows: &[Window]) -> Option<Vec<u64>> {
        (self == Self::Window).then(|| (0..windows.len() as u64).collect())
    }
}

/// Evaluate lenses on a text, every layer in one pass, with intervals over documents
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// `logit` or a lens folder; repeat for several
    #[arg(long, required = true, value_name = "logit|LENSDIR")]
    lens: Vec<PathBuf>,
    /// Folder to write
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Only these layers, such as 0,4,8-12; by default all below the last
    #[arg(long, value_name = "LAYERS")]
    layers: Option<Layers>,
    /// Precision of the readout
    #[arg(long, value_enum, default_value_t = ReadoutArg::Exact, value_name = "PRECISION")]
    readout: ReadoutArg,
    /// What the 95 % intervals are over
    #[arg(long, value_enum, default_value_t = Cluster::Document, value_name = "CLUSTER")]
    cluster: Cluster,
    #[command(flatten)]
    intervals: IntervalArgs,
    /// Leave out the marginal bias, which keeps one distribution per lens and layer
    #[arg(long)]
    no_marginals: bool,
    /// Write tokens.parquet as well: every lens at every layer of every token, one row each
    #[arg(long)]
    per_token: bool,
    /// Use a lens that was fitted to another unembedding
    #[arg(long)]
    other_unembedding: bool,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[arg(long, value_name = "N")]
    batch_tokens: Option<NonZeroUsize>,
    #[command(flatten)]
    leakage: LeakageArgs,
    /// Start over in a folder that holds another run
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// Windows that are sorted by length together.
const AT_ONCE: usize = 256;

impl EvalArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let stop = on_interrupt()?;
        let asked = load::read(&self.lens)?;
        let source = Source::open(&self.model, &self.text, output)?;
        load::check_shapes(&asked, &source.session.spec)?;
        source.session.announce(output);
        let mut layers = source.session.layers(self.layers.as_ref())?;
        layers.retain(|l| *l < source.session.spec.n_layers);
        let points = Self::points(load::site(&asked), &layers)?;
        let options = source.window_options(&self.text)?;
        let text = source.windows(&options, output)?;
        output.note(format!("documents: {}", text.lead));
        let mut manifest =
            source.manifest("lens eval", &self.model, &text.lead, self.text.pack, &self.common, output)?;
        self.leakage.of_lenses(&asked, &text.windows, &source, &mut manifest, output)?;
        manifest.lenses =
            asked.iter().filter_map(|a| a.record().transpose()).collect::<Result<Vec<LensRecord>, _>>()?;
        manifest.config = json!({
            "lenses": asked.len(),
            "layers": layers,
            "readout": self.readout.effective(source.session.device),
            "cluster": format!("{:?}", self.cluster).to_lowercase(),
            "intervals": self.intervals.config(),
            "marginals": !self.no_marginals,
            "per_token": self.per_token,
            "vocab": source.vocab(),
            "tokens": self.text.tokens,
            "seq_len": options.seq_len,
            "pack": options.pack,
            "text_column": self.text.text_column,
            "batch_tokens": self.batch_tokens,
        });
        let claim = output.claimed(RunDir::claim(&self.out, manifest, self.force)?);
        if claim.found() == Found::Complete {
            output.note(format!("{} is complete already", self.out.display()));
            return self.report(&read_metrics(&self.out)?, output);
        }
        self.readout.announce(source.session.device, output);
        let model = source.session.load(output)?;
        let lenses = load::open(&asked, &model, self.other_unembedding, output)?;
        let dir = claim.begin(&|p| p == Path::new(METRICS) || p == Path::new(TOKENS))?;
        let precision = self.readout.precision(source.session.device);
        let readout = Readout::new(model.unembed(), source.vocab(), precision, source.session.threads)?;
        let horizons = asked.iter().map(load::Asked::horizons).max().unwrap_or(1);
        let future = asked.iter().any(|a| a.is("future"));
        let intervals = self.cluster.of(self.intervals.policy(self.common.seed));
        let mut evaluation = Evaluation::new(
            &readout,
            &lenses.all,
            &lenses.kinds,
            &points,
            source.session.spec.n_layers,
            intervals,
            !self.no_marginals,
        )?;
        let mut baselines = future.then(|| Baselines::count(text.windows.iter(), horizons, source.vocab()));
        let pass = Pass {
            model: &model,
            readout: &readout,
            points: &points,
            windows: &text.windows,
            clusters: self.cluster.of_windows(&text.windows),
            batch_tokens: source.session.batch_tokens(self.batch_tokens),
            bar: output.bar("evaluating", "tokens", Some(text.stats.tokens)),
            stop,
        };
        if self.per_token {
            let names = lenses.all.iter().map(|lens| lens.name().to_owned()).collect();
            let numbers = layers.iter().copied().chain([source.session.spec.n_layers]).collect();
            write_atomic(&self.out.join(TOKENS), |file| {
                let mut table = TokenTable::new(file, names, numbers);
                let mut add =
                    |cell: &Cell, states: &States, reading: &Reading| Ok(table.add(cell, states, reading)?);
                pass.run(&mut evaluation, baselines.as_mut(), &mut add)?;
                Ok::<_, Failure>(table.close()?)
            })?;
        } else {
            pass.run(&mut evaluation, baselines.as_mut(), &mut |_, _, _| Ok(()))?;
        }
        told(&readout, output);
        evaluation.add_text(&text.windows, pass.clusters.as_deref())?;
        let mut rows = evaluation.finish();
        if let Some(baselines) = &baselines {
            rows.extend(baselines.rows(text.windows.iter(), intervals)?);
        }
        write_metrics(&self.out, &rows)?;
        dir.finish(counts(text.stats, rows.len() as u64), None)?;
        self.report(&rows, output)
    }

    fn points(site: &str, layers: &[usize]) -> Result<Vec<HookPoint>, Failure> {
        let site = block_hook(site)
            .ok_or_else(|| Failure::failed(anyhow!("a lens reads the unknown site {site}")))?;
        if layers.is_empty() {
            return Err(Failure::usage(anyhow!("--layers: no layer below the last")));
        }
        Ok(layers.iter().map(|l| HookPoint::Block(*l, site)).collect())
    }

    fn report(&self, rows: &[MetricRow], output: Output) -> Result<(), Failure> {
        output.print(&report::layers(rows))?;
        hint_clusters(rows, output);
        output.wrote(&self.out, "all numbers with their intervals");
        output.result(json!({ "out": shown(&self.out), "rows": rows.len() }))?;
        Ok(())
    }
}

/// One pass of the text through the model.
struct Pass<'a> {
    model: &'a Model,
    readout: &'a Readout,
    points: &'a [HookPoint],
    windows: &'a [Window],
    /// Per window, what it counts as; none: its documents.
    clusters: Option<Vec<u64>>,
    batch_tokens: usize,
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Pass<'_> {
    fn run(
        &self,
        evaluation: &mut Evaluation<'_>,
        mut baselines: Option<&mut Baselines>,
        watch: &mut Watch<'_>,
    ) -> Result<(), Failure> {
        for (first, some) in (0..).step_by(AT_ONCE).zip(self.windows.chunks(AT_ONCE)) {
            let some: Vec<&Window> = some.iter().collect();
            let ended = States::each(self.model, self.points, &some, self.batch_tokens, |states, places| {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(EvalError::Interrupted);
                }
                let of = self.clusters.as_ref().map(|c| -> Vec<u64> {
                    let of = |i: &usize| std::iter::repeat_n(c[first + *i], some[*i].ids.len());
                    places.iter().flat_map(of).collect()
                });
                let own = evaluation.add(states, of.as_deref(), watch)?;
                if let Some(baselines) = &mut baselines {
                    baselines.add(self.readout, &own, &states.docs)?;
                }
                self.bar.inc(states.rows() as u64);
                Ok(())
            });
            ended.map_err(|e| match e {
                EvalError::Interrupted => Failure::interrupted(e),
                other => other.into(),
            })?;
        }
        self.bar.finish_and_clear();
        Ok(())
    }
}
