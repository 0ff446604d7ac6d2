//! `lens causal`: whether a lens goes by what the model goes by.

mod report;
mod work;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::anyhow;
use clap::Args;
use layerscope::{
    lens::causal::{Plan, Removal, Set},
    results::run::{Found, LensRecord, METRICS, Manifest, RunDir, read_metrics, write_metrics},
    states::write_tensors,
};
use serde_json::json;
use tch::Tensor;

use super::{
    super::{
        args::{CommonArgs, Layers, ModelArgs, TextArgs},
        exit::Failure,
        interrupt::on_interrupt,
        leakage::LeakageArgs,
        output::Output,
        passes::PassArgs,
        source::{AllWindows, Source, counts},
    },
    halves::Halves,
    load::{self, Asked},
};

/// Tokens that are read when `--tokens` is not given.
const TOKENS: u64 = 1 << 14;
/// Directions of a set when `--directions` is not given, where the stream has as many: a rank correlation of ten says little.
const DIRECTIONS: usize = 40;
/// The directions, by lens and layer.
const BASES: &str = "bases.safetensors";

/// Remove the directions that a lens goes by from the model, and see whether the model goes by them too
///
/// One half of the documents gives the directions, mean states and other tokens' states; the other is measured on.
#[derive(Debug, Args)]
pub(crate) struct CausalArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Folders of lenses of the next token; the logit lens is always beside them
    #[arg(long, num_args = 1.., value_name = "LENSDIR")]
    lens: Vec<PathBuf>,
    /// Leave the logit lens out
    #[arg(long, requires = "lens")]
    no_logit: bool,
    /// Folder to write
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Only these layers, such as 0,4,8-12; by default all, the last one too
    #[arg(long, value_name = "LAYERS")]
    layers: Option<Layers>,
    /// Directions per lens and layer, and of each control: a number, or `all` that the stream has; by default 40. Intervals are over
    /// directions too: there are none below 5, and they rest on little below 30
    #[arg(long, value_name = "K")]
    directions: Option<Directions>,
    /// What stands on a direction that is removed: mean (of all states), zero, or resample (another token's state)
    #[arg(long, default_value_t = Removal::Mean, value_name = "MODE")]
    mode: Removal,
    /// Positions of the first half on which directions are sought
    #[arg(long, default_value_t = 2048, value_name = "N")]
    basis_tokens: usize,
    /// Leave the first position of every window as it is, and out of means and bases: it often holds a sink
    #[arg(long)]
    keep_first: bool,
    /// Use a lens that was fitted to another unembedding
    #[arg(long)]
    other_unembedding: bool,
    #[command(flatten)]
    pass: PassArgs,
    #[command(flatten)]
    leakage: LeakageArgs,
    /// Start over in a folder that holds another run
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// `--directions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Directions {
    All,
    Some(usize),
}

impl FromStr for Directions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(k) if k > 0 => Ok(Self::Some(k)),
            _ if text == "all" => Ok(Self::All),
            _ => Err(format!("`{text}` is neither a number from 1 on nor `all`")),
        }
    }
}

/// What is measured, decided before weights are read.
struct Job {
    layers: Vec<usize>,
    k: usize,
    text: AllWindows,
    halves: Halves,
}

impl CausalArgs {
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let stop = on_interrupt()?;
        if !self.no_logit && !self.lens.iter().any(|name| load::is_logit(name)) {
            self.lens.insert(0, "logit".into());
        }
        let asked = load::read(&self.lens)?;
        check_kinds(&asked)?;
        let source = Source::open(&self.model, &self.text, output)?;
        load::check_shapes(&asked, &source.session.spec)?;
        source.session.announce(output);
        let job = self.job(&source, &asked, output)?;
        let manifest = self.manifest(&source, &asked, &job, output)?;
        let claim = output.claimed(RunDir::claim(&self.out, manifest, self.force)?);
        if claim.found() == Found::Complete {
            output.note(format!("{} is complete already", self.out.display()));
            return report::show(&self.out, &read_metrics(&self.out)?, output);
        }
        let (model, readout) = self.pass.load(&source, output)?;
        let lenses = load::open(&asked, &model, self.other_unembedding, output)?;
        let plans = self.plans(&source, (&model, &readout), &lenses, &job, &stop, output)?;
        let rows = self.measure(&source, (&model, &readout), &lenses, (&plans, &job), &stop, output)?;
        let dir = claim.begin(&|p| p == Path::new(METRICS) || p == Path::new(BASES))?;
        write_tensors(&self.out.join(BASES), &bases(&plans))?;
        write_metrics(&self.out, &rows)?;
        dir.finish(counts(job.text.stats, rows.len() as u64), None)?;
        report::show(&self.out, &rows, output)
    }

    fn job(&mut self, source: &Source, asked: &[Asked], output: Output) -> Result<Job, Failure> {
        let d = source.session.spec.d_model;
        let k = match self.directions {
            None => DIRECTIONS.min(d),
            Some(Directions::All) => d,
            Some(Directions::Some(k)) if k <= d => k,
            Some(Directions::Some(k)) => {
                return Err(Failure::usage(anyhow!("--directions {k}: the stream has {d}")));
            }
        };
        let mut layers = source.session.layers(self.layers.as_ref())?;
        layers.retain(|layer| asked.iter().any(|lens| lens.reads(*layer)));
        if layers.is_empty() {
            return Err(Failure::usage(anyhow!("no lens reads any of these layers")));
        }
        self.text.tokens.get_or_insert(TOKENS);
        let text = source.windows(&source.window_options(&self.text)?, output)?;
        output.note(format!("documents: {}", text.lead));
        let halves = Halves::of(&text.windows, self.pass.cluster())?;
        halves.note.iter().for_each(|note| output.note(note));
        let (positions, least) = (self.basis_tokens, 2);
        if positions < least {
            return Err(Failure::usage(anyhow!("--basis-tokens {positions}: at least {least} are needed")));
        }
        Ok(Job { layers, k, text, halves })
    }

    fn manifest(
        &self,
        source: &Source,
        asked: &[Asked],
        job: &Job,
        output: Output,
    ) -> Result<Manifest, Failure> {
        let (lead, pack) = (&job.text.lead, self.text.pack);
        let mut manifest = source.manifest("lens causal", &self.model, lead, pack, &self.common, output)?;
        self.leakage.of_lenses(asked, &job.text.windows, source, &mut manifest, output)?;
        manifest.lenses =
            asked.iter().filter_map(|a| a.record().transpose()).collect::<Result<Vec<LensRecord>, _>>()?;
        let own = json!({
            "lenses": asked.len(),
            "logit": !self.no_logit,
            "layers": job.layers,
            "directions": job.k,
            "mode": self.mode.to_string(),
            "basis_tokens": self.basis_tokens,
            "keep_first": self.keep_first,
        });
        let options = source.window_options(&self.text)?;
        manifest.config = self.pass.config(own, source, &self.text, &options);
        Ok(manifest)
    }
}

/// Lenses that say what the next token is, of the stream that enters a block.
fn check_kinds(asked: &[Asked]) -> Result<(), Failure> {
    let future = |a: &Asked| ["future", "future-vocab", "future-prompt"].iter().any(|kind| a.is(kind));
    if asked.iter().any(future) {
        return Err(Failure::usage(anyhow!(
            "--lens: a future lens says what comes later, not what the model says next; the two cannot be compared"
        )));
    }
    match load::site(asked) {
        "resid_pre" => Ok(()),
        site => Err(Failure::usage(anyhow!(
            "--lens: a lens of {site}; directions are removed from the stream that enters a block (resid_pre)"
        ))),
    }
}

/// `SET.layer.L [k, d_model]` (`tuned.cbe`, `pca`, `random`), and `mean.layer.L [d_model]`.
fn bases(plans: &[Plan]) -> BTreeMap<String, Tensor> {
    let of = |plan: &Plan| {
        let layer = plan.layer();
        let set = |set: &Set| (format!("{}.layer.{layer}", set.name), set.vectors.shallow_clone());
        let mean = (format!("mean.layer.{layer}"), plan.ground.mean.shallow_clone());
        plan.sets.iter().map(set).chain([mean]).collect::<Vec<_>>()
    };
    plans.iter().flat_map(of).collect()
}
