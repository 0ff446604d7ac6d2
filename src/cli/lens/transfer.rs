use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::anyhow;
use clap::Args;
use indicatif::ProgressBar;
use layerscope::{
    evaluate::EvalError,
    hook::HookPoint,
    lenses::{LayerIndex, Lens, LogitLens, Readout},
    model::Model,
    run::{Found, LensRecord, METRICS, MetricRow, RunDir, read_metrics, write_metrics},
    score::Resamples,
    states::States,
    text::Window,
    transfer::{Layers as Moments, Mean, Sharing, Subjects, Transfer, verdict},
};
use serde_json::json;
use tch::Device;

use super::{
    super::{
        args::{CommonArgs, Layers, ModelArgs, TextArgs},
        exit::Failure,
        interrupt::on_interrupt,
        output::{Output, human},
        source::{AllWindows, Source, counts},
        table::Table,
    },
    eval::Cluster,
    fit::ROTATED,
    load,
    readout::ReadoutArg,
    site::block_hook,
};

/// Tokens that are read when `--tokens` is not given.
const TOKENS: u64 = 1 << 16;
/// The verdict in words.
const VERDICT: &str = "verdict.txt";

/// Measure how translators of one layer read the states of every other, and whether one lens serves all
///
/// One half of the documents gives moments (geometry, corrections, the constant predictor), the other is measured on.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// The tuned lens to transfer; further ones: shared lenses to judge it by, or a twin fitted with another seed
    #[arg(long, required = true, value_name = "LENSDIR")]
    lens: Vec<String>,
    /// Folder to write
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Only these layers, such as 0,4,8-12; by default all that the lens has
    #[arg(long, value_name = "LAYERS")]
    layers: Option<Layers>,
    /// Leave out the matrices of corrected states, which cost three times the matrix
    #[arg(long)]
    no_corrections: bool,
    /// Precision of the readout: exact (f32) or fast (bf16 where the machine has it)
    #[arg(long, value_enum, default_value_t = ReadoutArg::Exact, value_name = "PRECISION")]
    readout: ReadoutArg,
    /// What the 95 % intervals resample
    #[arg(long, value_enum, default_value_t = Cluster::Document, value_name = "CLUSTER")]
    cluster: Cluster,
    /// Bootstrap replicates
    #[arg(long, default_value_t = 400, value_name = "N")]
    replicates: usize,
    /// Use a lens that was fitted to another unembedding
    #[arg(long)]
    other_unembedding: bool,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[arg(long, value_name = "N")]
    batch_tokens: Option<NonZeroUsize>,
    /// Start over in a folder that holds another run
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// The readers of a run, by their part in it.
struct Readers {
    lens: Box<dyn Lens>,
    others: Vec<Box<dyn Lens>>,
    /// Places among the others.
    shared: Vec<usize>,
    /// Controls, by the folder they come from.
    rotated: Vec<(String, usize)>,
    twin: Option<usize>,
}

impl TransferArgs {
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let stop = on_interrupt()?;
        let asked = load::read(&self.lens)?;
        if !asked.first().is_some_and(|a| a.is("tuned")) {
            return Err(Failure::usage(anyhow!(
                "--lens: the first must be a tuned lens, which has a translator per layer"
            )));
        }
        if asked.iter().any(|a| a.is("future")) {
            return Err(Failure::usage(anyhow!(
                "--lens: a future lens predicts other tokens, and has no place in this matrix"
            )));
        }
        if asked.iter().filter(|a| a.is("tuned")).count() > 2 {
            return Err(Failure::usage(anyhow!(
                "--lens: at most two tuned lenses, the one to transfer and its twin"
            )));
        }
        let source = Source::open(&self.model, &self.text, output)?;
        source.session.announce(output);
        self.text.tokens.get_or_insert(TOKENS);
        let options = source.window_options(&self.text)?;
        let text = source.windows(&options, output)?;
        output.note(format!("documents: {}", text.lead));
        let mut manifest = source.manifest(
            "lens transfer",
            &self.model,
            &text.lead,
            self.text.pack,
            &self.common,
            output,
        )?;
        for lens in &asked {
            lens.warn_if_seen(&manifest.data, output);
        }
        manifest.lenses =
            asked.iter().filter_map(|a| a.record().transpose()).collect::<Result<Vec<LensRecord>, _>>()?;
        manifest.config = json!({
            "layers": self.layers.as_ref().map(|l| l.0.clone()),
            "corrections": !self.no_corrections,
            "readout": self.readout.effective(source.session.device),
            "cluster": format!("{:?}", self.cluster).to_lowercase(),
            "replicates": self.replicates,
            "vocab": source.vocab(),
            "tokens": self.text.tokens,
            "seq_len": options.seq_len,
            "pack": options.pack,
            "text_column": self.text.text_column,
            "batch_tokens": self.batch_tokens,
        });
        let owns = |p: &Path| p == Path::new(METRICS) || p == Path::new(VERDICT);
        let dir = RunDir::start(&self.out, manifest, self.force, &owns)?;
        if dir.found() == Found::Complete {
            output.note(format!("{} is complete already", self.out.display()));
            let words = std::fs::read_to_string(self.out.join(VERDICT))?;
            return self.report(&read_metrics(&self.out)?, &words, output);
        }
        self.readout.announce(source.session.device, output);
        let model = source.session.load(output)?;
        let (rows, words) = self.measure(&source, &model, &asked, &text, &stop, output)?;
        write_metrics(&self.out, &rows)?;
        let path = self.out.join(VERDICT);
        layerscope::run::write_atomic(&path, |f| {
            std::io::Write::write_all(f, words.as_bytes())
                .map_err(|e| layerscope::run::RunError::io("write", &path, e))
        })?;
        dir.finish(counts(text.stats, rows.len() as u64), None)?;
        self.report(&rows, &words, output)
    }

    fn measure(
        &self,
        source: &Source,
        model: &Model,
        asked: &[load::Asked],
        text: &AllWindows,
        stop: &AtomicBool,
        output: Output,
    ) -> Result<(Vec<MetricRow>, String), Failure> {
        let lenses = load::open(asked, model, self.other_unembedding, output)?;
        let site = block_hook(&lenses.site)
            .ok_or_else(|| Failure::failed(anyhow!("a lens reads the unknown site {}", lenses.site)))?;
        let readers = readers(lenses);
        let layers = self.choose(source, readers.lens.as_ref())?;
        let points: Vec<HookPoint> = layers.iter().map(|l| HookPoint::Block(l.0, site)).collect();
        let readout =
            Readout::new(model.unembed(), source.vocab(), self.readout.precision(), source.session.threads)?;
        let (first, second) = halves(&text.windows, self.cluster)?;
        let bar = output.bar("moments", "tokens", Some(tokens(&text.windows, &first)));
        let batch = self
            .batch_tokens
            .map_or(if source.session.device == Device::Cpu { 2048 } else { 16_384 }, NonZeroUsize::get);
        let mut moments = Moments::new(&layers, readout.d_model(), model.device());
        let mut mean = Mean::new(readout.vocab());
        let pass = Pass { model, points: &points, windows: &text.windows, batch, stop };
        pass.run(&first, &bar, &mut |states, _| {
            moments.add(states)?;
            mean.add(&readout, &readout.normalize(&states.last)?)?;
            Ok(())
        })?;
        let cells = layers.len() * layers.len() * if self.no_corrections { 1 } else { 4 };
        let flops = tokens(&text.windows, &second) * (2 * cells * readout.vocab() * readout.d_model()) as u64;
        output.note(format!("{} × {} cells, {}", layers.len(), layers.len(), human(flops, "FLOP")));
        let bar = output.bar("transfer", "tokens", Some(tokens(&text.windows, &second)));
        let resamples = Resamples::new(self.common.seed, self.replicates);
        let subjects = Subjects { lens: readers.lens.as_ref(), others: &readers.others };
        let geometry = (!self.no_corrections).then_some(&moments);
        let mut transfer = Transfer::new(&readout, subjects, &layers, geometry, &mean, resamples)?;
        let by_window = self.cluster == Cluster::Window;
        pass.run(&second, &bar, &mut |states, windows| {
            let clusters: Vec<u64> = if by_window {
                windows
                    .iter()
                    .flat_map(|i| std::iter::repeat_n(*i as u64, text.windows[*i].ids.len()))
                    .collect()
            } else {
                states.docs.clone()
            };
            transfer.add(states, &clusters)
        })?;
        let mut rows = transfer.rows(&lenses_site(site));
        rows.extend(moments.rows(&lenses_site(site))?);
        let words = words(&mut transfer, &readers, &rows);
        Ok((rows, words))
    }

    fn choose(&self, source: &Source, lens: &dyn Lens) -> Result<Vec<LayerIndex>, Failure> {
        let mut layers: Vec<LayerIndex> =
            source.session.layers(self.layers.as_ref())?.into_iter().map(LayerIndex).collect();
        layers.retain(|l| lens.reads(*l));
        if layers.len() < 2 {
            return Err(Failure::usage(anyhow!(
                "a transfer needs two layers that the lens reads; there are {}",
                layers.len()
            )));
        }
        Ok(layers)
    }

    fn report(&self, rows: &[MetricRow], words: &str, output: Output) -> Result<(), Failure> {
        output.print(&matrix(rows))?;
        output.print(words)?;
        output.note(format!(
            "{}: both penalties, KL, agreement, corrections, geometry",
            self.out.join(METRICS).display()
        ));
        output.result(json!({ "out": self.out, "rows": rows.len(), "verdict": words }))?;
        Ok(())
    }
}

fn lenses_site(site: layerscope::hook::BlockHook) -> String {
    HookPoint::Block(0, site).short_name().to_owned()
}

/// `folder` of `folder:rung`.
fn folder_of(name: &str) -> String {
    name.rsplit_once(':').map_or(name, |(folder, _)| folder).to_owned()
}

/// Sorts the lenses into their parts; the logit lens always reads along.
fn readers(lenses: load::Lenses) -> Readers {
    let mut all = lenses.all.into_iter().zip(lenses.kinds);
    let mut readers = Readers {
        lens: Box::new(LogitLens),
        others: Vec::new(),
        shared: Vec::new(),
        rotated: Vec::new(),
        twin: None,
    };
    if let Some((lens, _)) = all.next() {
        readers.lens = lens;
    }
    readers.others.push(Box::new(LogitLens));
    for (lens, kind) in all {
        let place = readers.others.len();
        match kind.as_str() {
            "shared" if lens.name().ends_with(ROTATED) => {
                readers.rotated.push((folder_of(lens.name()), place));
            }
            "shared" => readers.shared.push(place),
            "tuned" => readers.twin = Some(place),
            _ => {}
        }
        readers.others.push(lens);
    }
    readers
}

/// Every other document (of one document: every other window).
fn halves(windows: &[Window], cluster: Cluster) -> Result<(Vec<usize>, Vec<usize>), Failure> {
    let doc = |i: usize| windows[i].segments.first().map_or(0, |s| s.doc_id);
    let several = (1..windows.len()).any(|i| doc(i) != doc(0));
    let by = |i: &usize| if several && cluster == Cluster::Document { doc(*i) } else { *i as u64 };
    let (first, second): (Vec<usize>, Vec<usize>) = (0..windows.len()).partition(|i| by(i) % 2 == 1);
    if first.is_empty() || second.is_empty() {
        return Err(Failure::usage(anyhow!(
            "the text has one window: nothing is left to take moments from; give more text"
        )));
    }
    Ok((first, second))
}

fn tokens(windows: &[Window], some: &[usize]) -> u64 {
    some.iter().map(|i| windows[*i].ids.len() as u64).sum()
}

/// Takes states, and the places of their windows.
type Take<'a> = dyn FnMut(&States, &[usize]) -> Result<(), EvalError> + 'a;

/// A pass over some windows.
struct Pass<'a> {
    model: &'a Model,
    points: &'a [HookPoint],
    windows: &'a [Window],
    batch: usize,
    stop: &'a AtomicBool,
}

impl Pass<'_> {
    fn run(&self, some: &[usize], bar: &ProgressBar, f: &mut Take<'_>) -> Result<(), Failure> {
        let windows: Vec<&Window> = some.iter().map(|i| &self.windows[*i]).collect();
        let ended = States::each(self.model, self.points, &windows, self.batch, |states, places| {
            if self.stop.load(Ordering::Relaxed) {
                return Err(EvalError::Interrupted);
            }
            let places: Vec<usize> = places.iter().map(|i| some[*i]).collect();
            f(states, &places)?;
            bar.inc(states.rows() as u64);
            Ok(())
        });
        bar.finish_and_clear();
        ended.map_err(|e| match e {
            EvalError::Interrupted => Failure::interrupted(e),
            other => other.into(),
        })
    }
}

/// The verdict.
fn words(transfer: &mut Transfer<'_>, readers: &Readers, rows: &[MetricRow]) -> String {
    let sharing: Vec<Sharing> = readers
        .shared
        .iter()
        .map(|&place| {
            let (layers, score) = transfer.sharing(place);
            let name = readers.others[place].name().to_owned();
            let same = |(folder, _): &&(String, usize)| *folder == folder_of(&name);
            let rotated = readers.rotated.iter().find(same).map(|(_, rotated)| *rotated);
            let control =
                rotated.map(|rotated| (transfer.sharing(rotated).1, transfer.index(place, rotated)));
            Sharing { name, score, layers, control }
        })
        .collect();
    let twin = readers.twin.map(|place| {
        let name = readers.others[place].name();
        let kl: Vec<f64> = rows
            .iter()
            .filter(|r| r.subject == name && r.kind == "reader" && r.metric == "ce")
            .filter_map(|r| {
                let own = |o: &&MetricRow| {
                    o.kind == "transfer"
                        && o.metric == "ce"
                        && o.layer == r.layer
                        && o.source_layer == Some(r.layer)
                };
                Some((r.estimate - rows.iter().find(own)?.estimate).abs())
            })
            .collect();
        kl.iter().sum::<f64>() / kl.len().max(1) as f64
    });
    verdict(rows, &sharing, twin)
}

/// `penalty_state` by lens layer (rows) and state layer (columns).
fn matrix(rows: &[MetricRow]) -> String {
    let of = |r: &&MetricRow| r.kind == "transfer" && r.metric == "penalty_state";
    let mut layers: Vec<i32> = rows.iter().filter(of).map(|r| r.layer).collect();
    layers.sort_unstable();
    layers.dedup();
    let mut table =
        Table::new(std::iter::once("lens\\state".to_owned()).chain(layers.iter().map(ToString::to_string)));
    for &i in &layers {
        let cell = |j: &i32| {
            let same = |r: &&MetricRow| of(r) && r.layer == *j && r.source_layer == Some(i);
            rows.iter().find(same).map_or_else(String::new, |r| format!("{:.3}", r.estimate))
        };
        table.row(std::iter::once(i.to_string()).chain(layers.iter().map(cell)));
    }
    format!("penalty_state = CE[lens i, state j] - CE[lens j, state j], nats\n{table}")
}
