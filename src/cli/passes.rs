//! Passes of a text through a model that is changed in several ways: what `schedule`, `steer` and `lens causal` share.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicBool, Ordering},
};

use clap::Args;
use layerscope::{
    lens::evaluate::EvalError,
    lenses::Readout,
    model::Model,
    results::statistics::Intervals,
    sources::text::{Window, WindowOptions, batches},
};
use serde_json::{Value, json};

use super::{
    args::TextArgs,
    exit::Failure,
    lens::{Cluster, ReadoutArg},
    output::Output,
    source::{AllWindows, Source},
};
use crate::cli::intervals::IntervalArgs;

/// How predictions are read and what intervals rest on.
#[derive(Debug, Args)]
pub(crate) struct PassArgs {
    /// Precision of the readout
    #[arg(long, value_enum, default_value_t = ReadoutArg::Exact, value_name = "PRECISION")]
    readout: ReadoutArg,
    /// What the 95 % intervals are over
    #[arg(long, value_enum, default_value_t = Cluster::Document, value_name = "CLUSTER")]
    cluster: Cluster,
    #[command(flatten)]
    intervals: IntervalArgs,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[arg(long, value_name = "N")]
    batch_tokens: Option<NonZeroUsize>,
}

impl PassArgs {
    /// For a manifest: the command's own settings, an object, then those of the pass and the text.
    pub(crate) fn config(
        &self,
        mut own: Value,
        source: &Source,
        text: &TextArgs,
        options: &WindowOptions,
    ) -> Value {
        let shared = json!({
            "readout": self.readout.effective(source.session.device),
            "cluster": format!("{:?}", self.cluster).to_lowercase(),
            "intervals": self.intervals.config(),
            "vocab": source.vocab(),
            "tokens": text.tokens,
            "seq_len": options.seq_len,
            "pack": options.pack,
            "text_column": text.text_column,
            "batch_tokens": self.batch_tokens,
        });
        if let (Value::Object(own), Value::Object(shared)) = (&mut own, shared) {
            own.extend(shared);
        }
        own
    }

    /// The model and what reads it.
    pub(crate) fn load(&self, source: &Source, output: Output) -> Result<(Model, Readout), Failure> {
        self.readout.announce(source.session.device, output);
        let model = source.session.load(output)?;
        let (precision, threads) = (self.readout.precision(source.session.device), source.session.threads);
        let readout = Readout::new(model.unembed(), source.vocab(), precision, threads)?;
        Ok((model, readout))
    }

    /// How intervals are made.
    pub(crate) fn intervals(&self, seed: u64) -> Intervals {
        self.cluster.of(self.intervals.policy(seed))
    }

    /// Tokens in a forward pass.
    pub(crate) fn batch_tokens(&self, source: &Source) -> usize {
        source.session.batch_tokens(self.batch_tokens)
    }

    /// Hands `add` the windows in batches of one length, and what each row counts as where that is not its document.
    pub(crate) fn each(
        &self,
        source: &Source,
        text: &AllWindows,
        (what, output): (&'static str, Output),
        stop: &AtomicBool,
        mut add: impl FnMut(&[&Window], Option<&[u64]>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let bar = output.bar(what, "tokens", Some(text.stats.tokens));
        let windows: Vec<&Window> = text.windows.iter().collect();
        for (some, clusters) in self.batched(source, &windows) {
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::interrupted(EvalError::Interrupted));
            }
            add(&some, clusters.as_deref())?;
            bar.inc(some.iter().map(|w| w.ids.len() as u64).sum());
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Windows in batches of one length, and what each row counts as where that is not its document.
    pub(crate) fn batched<'w>(
        &self,
        source: &Source,
        windows: &[&'w Window],
    ) -> impl Iterator<Item = (Vec<&'w Window>, Option<Vec<u64>>)> {
        let cluster = self.cluster;
        batches(windows, self.batch_tokens(source)).into_iter().map(move |batch| {
            let some: Vec<&Window> = batch.iter().map(|i| windows[*i]).collect();
            let clusters = (cluster == Cluster::Window).then(|| {
                batch.iter().flat_map(|i| std::iter::repeat_n(*i as u64, windows[*i].ids.len())).collect()
            });
            (some, clusters)
        })
    }

    /// Per window, what it counts as; none: its documents.
    pub(crate) fn clusters(&self, windows: &[Window]) -> Option<Vec<u64>> {
        self.cluster.of_windows(windows)
    }

    /// What intervals are over.
    pub(crate) fn cluster(&self) -> Cluster {
        self.cluster
    }
}
