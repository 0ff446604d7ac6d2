//! Passes of a text through a model that is changed in several ways: what `schedule`, `steer` and `lens causal` share.

use std::num::NonZeroUsize;

use crate::{
    lenses::Readout,
    model::Model,
    results::statistics::Intervals,
    sources::text::{Batch, Window, WindowOptions, each_batch},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{AllWindows, Cluster, IntervalSettings, JobError, PrecisionSetting, Source, TextSettings, Watch};

/// How predictions are read and what intervals rest on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct PassSettings {
    /// Precision of the readout
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = PrecisionSetting::Exact, value_name = "PRECISION"))]
    pub readout: PrecisionSetting,
    /// What the 95 % intervals are over
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Cluster::Document, value_name = "CLUSTER"))]
    pub cluster: Cluster,
    /// How intervals are made.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub intervals: IntervalSettings,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub batch_tokens: Option<NonZeroUsize>,
}

impl Default for PassSettings {
    fn default() -> Self {
        Self {
            readout: PrecisionSetting::Exact,
            cluster: Cluster::Document,
            intervals: IntervalSettings::default(),
            batch_tokens: None,
        }
    }
}

impl PassSettings {
    /// For a manifest: the command's own settings, an object, then those of the pass and the text.
    pub fn config(
        &self,
        mut own: Value,
        source: &Source<'_>,
        text: &TextSettings,
        options: &WindowOptions,
    ) -> Value {
        let shared = json!({
            "readout": self.readout.effective(source.session.device),
            "cluster": self.cluster,
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
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub fn load<'s>(&self, source: &Source<'s>, watch: &dyn Watch) -> Result<(&'s Model, Readout), JobError> {
        self.readout.announce(source.session.device, watch);
        let model = source.session.load(watch)?;
        let (precision, threads) = (self.readout.precision(source.session.device), source.session.threads);
        let readout = Readout::new(model.unembed(), source.vocab(), precision, threads)?;
        Ok((model, readout))
    }

    /// How intervals are made.
    pub fn intervals(&self, seed: u64) -> Intervals {
        self.cluster.of(self.intervals.policy(seed))
    }

    /// Tokens in a forward pass.
    pub fn batch_tokens(&self, source: &Source<'_>) -> usize {
        source.session.batch_tokens(self.batch_tokens)
    }

    /// Hands `add` the windows in batches of one length, and what each row counts as where that is not its document.
    ///
    /// # Errors
    /// Those of `add`; [`JobError::Interrupted`].
    pub fn each(
        &self,
        source: &Source<'_>,
        text: &AllWindows,
        (what, watch): (&'static str, &dyn Watch),
        mut add: impl FnMut(&[&Window], Option<&[u64]>) -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        let stage = watch.begin(what, "tokens", Some(text.stats.tokens));
        each_batch(&text.windows, self.batch_tokens(source), &stage, |batch| {
            add(&batch.windows, self.clusters_of(&batch).as_deref())
        })
    }

    /// Per row of a batch, what it counts as; none: its document.
    pub fn clusters_of(&self, batch: &Batch<'_>) -> Option<Vec<u64>> {
        let rows = batch.places.iter().zip(&batch.windows);
        (self.cluster == Cluster::Window)
            .then(|| rows.flat_map(|(place, w)| std::iter::repeat_n(*place as u64, w.ids.len())).collect())
    }

    /// Per window, what it counts as; none: its documents.
    pub fn clusters(&self, windows: &[Window]) -> Option<Vec<u64>> {
        self.cluster.of_windows(windows)
    }

    /// What intervals are over.
    pub fn cluster(&self) -> Cluster {
        self.cluster
    }
}
