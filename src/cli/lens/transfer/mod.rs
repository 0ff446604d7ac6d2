//! `lens transfer`: what is asked, and what happens before a token is read.

mod measure;
mod report;

use std::{
    io::Write as _,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::Args;
use layerscope::{
    hook::BlockHook,
    lenses::{LayerIndex, Lens, LogitLens},
    results::run::{
        Found, LensRecord, METRICS, Manifest, RunDir, RunError, read_metrics, write_atomic, write_metrics,
    },
    sources::text::WindowOptions,
};
use serde_json::json;

use super::{
    super::{
        args::{CommonArgs, Layers, ModelArgs, TextArgs},
        exit::Failure,
        interrupt::on_interrupt,
        leakage::LeakageArgs,
        output::Output,
        source::{AllWindows, Source, counts},
    },
    eval::Cluster,
    fit::ROTATED,
    halves::Halves,
    load,
    readout::ReadoutArg,
    site::block_hook,
};
use crate::cli::intervals::IntervalArgs;

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
    lens: Vec<PathBuf>,
    /// Folder to write
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Only these layers, such as 0,4,8-12; by default all that the lens has
    #[arg(long, value_name = "LAYERS")]
    layers: Option<Layers>,
    /// Leave out the matrices of corrected states, which cost three times the matrix
    #[arg(long)]
    no_corrections: bool,
    /// Precision of the readout
    #[arg(long, value_enum, default_value_t = ReadoutArg::Exact, value_name = "PRECISION")]
    readout: ReadoutArg,
    /// What the 95 % intervals are over
    #[arg(long, value_enum, default_value_t = Cluster::Document, value_name = "CLUSTER")]
    cluster: Cluster,
    #[command(flatten)]
    intervals: IntervalArgs,
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

/// What is measured, decided before weights are read.
struct Plan {
    site: BlockHook,
    layers: Vec<LayerIndex>,
    text: AllWindows,
    halves: Halves,
    batch_tokens: usize,
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
        check_kinds(&asked)?;
        let source = Source::open(&self.model, &self.text, output)?;
        load::check_shapes(&asked, &source.session.spec)?;
        source.session.announce(output);
        self.text.tokens.get_or_insert(TOKENS);
        let options = source.window_options(&self.text)?;
        let plan = self.plan(&source, &asked, &options, output)?;
        let manifest = self.manifest(&source, &asked, &plan, &options, output)?;
        let claim = output.claimed(RunDir::claim(&self.out, manifest, self.force)?);
        if claim.found() == Found::Complete {
            output.note(format!("{} is complete already", self.out.display()));
            let words = std::fs::read_to_string(self.out.join(VERDICT))?;
            return report::show(&self.out, &read_metrics(&self.out)?, &words, output);
        }
        self.readout.announce(source.session.device, output);
        let model = source.session.load(output)?;
        let readers = readers(load::open(&asked, &model, self.other_unembedding, output)?);
        let dir = claim.begin(&|p| p == Path::new(METRICS) || p == Path::new(VERDICT))?;
        let (rows, words) = self.measure(&source, &model, &readers, &plan, &stop, output)?;
        write_metrics(&self.out, &rows)?;
        let path = self.out.join(VERDICT);
        write_atomic(&path, |f| f.write_all(words.as_bytes()).map_err(|e| RunError::io("write", &path, e)))?;
        dir.finish(counts(plan.text.stats, rows.len() as u64), None)?;
        report::show(&self.out, &rows, &words, output)
    }

    fn plan(
        &self,
        source: &Source,
        asked: &[load::Asked],
        options: &WindowOptions,
        output: Output,
    ) -> Result<Plan, Failure> {
        let site = load::site(asked);
        let site = block_hook(site)
            .ok_or_else(|| Failure::failed(anyhow!("a lens reads the unknown site {site}")))?;
        let mut layers = source.session.layers(self.layers.as_ref())?;
        layers.retain(|l| asked[0].reads(*l));
        if layers.len() < 2 {
            return Err(Failure::usage(anyhow!(
                "a transfer needs two layers that the lens reads; there are {}",
                layers.len()
            )));
        }
        let text = source.windows(options, output)?;
        output.note(format!("documents: {}", text.lead));
        let halves = Halves::of(&text.windows, self.cluster)?;
        halves.note.iter().for_each(|note| output.note(note));
        let batch_tokens = source.session.batch_tokens(self.batch_tokens);
        Ok(Plan { site, layers: layers.into_iter().map(LayerIndex).collect(), text, halves, batch_tokens })
    }

    fn manifest(
        &self,
        source: &Source,
        asked: &[load::Asked],
        plan: &Plan,
        options: &WindowOptions,
        output: Output,
    ) -> Result<Manifest, Failure> {
        let (lead, pack) = (&plan.text.lead, self.text.pack);
        let mut manifest = source.manifest("lens transfer", &self.model, lead, pack, &self.common, output)?;
        self.leakage.of_lenses(asked, &plan.text.windows, source, &mut manifest, output)?;
        manifest.lenses =
            asked.iter().filter_map(|a| a.record().transpose()).collect::<Result<Vec<LensRecord>, _>>()?;
        manifest.config = json!({
            "layers": self.layers.as_ref().map(|l| l.0.clone()),
            "corrections": !self.no_corrections,
            "readout": self.readout.effective(source.session.device),
            "cluster": format!("{:?}", self.cluster).to_lowercase(),
            "intervals": self.intervals.config(),
            "vocab": source.vocab(),
            "tokens": self.text.tokens,
            "seq_len": options.seq_len,
            "pack": options.pack,
            "text_column": self.text.text_column,
            "batch_tokens": self.batch_tokens,
        });
        Ok(manifest)
    }
}

fn check_kinds(asked: &[load::Asked]) -> Result<(), Failure> {
    let tuned = asked.iter().filter(|a| a.is("tuned")).count();
    let wrong = if !asked.first().is_some_and(|a| a.is("tuned")) {
        "the first must be a tuned lens, which has a translator per layer"
    } else if asked.iter().any(|a| a.is("future")) {
        "a future lens predicts other tokens, and has no place in this matrix"
    } else if tuned > 2 {
        "at most two tuned lenses, the one to transfer and its twin"
    } else {
        return Ok(());
    };
    Err(Failure::usage(anyhow!("--lens: {wrong}")))
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
