//! How the 95 % intervals of a job are made, and what they are over.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    results::statistics::{Intervals, Method, Resamples},
    sources::text::Window,
};

/// Makes of intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum IntervalMethod {
    /// Leave each document (group, prompt) out in turn, with Student's t; Wilson's for shares
    Jackknife,
    /// Percentiles of a bootstrap, as earlier versions had them: too short with few or unequal documents
    Bootstrap,
}

/// The settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct IntervalSettings {
    /// What makes the 95 % intervals; jackknife, unless --replicates asks for resamples
    #[cfg_attr(feature = "cli", arg(long, value_enum, value_name = "METHOD"))]
    pub interval: Option<IntervalMethod>,
    /// Resamples, of bootstrap intervals and of the comparison of layers by probes; 1000 by default
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub replicates: Option<usize>,
}

impl IntervalSettings {
    /// How intervals are made. Draws depend on `seed`.
    pub fn policy(self, seed: u64) -> Intervals {
        let method = match self.method() {
            IntervalMethod::Jackknife => Method::Jackknife,
            IntervalMethod::Bootstrap => Method::Bootstrap,
        };
        Intervals::new(method, Resamples::new(seed, self.replicates()))
    }

    fn method(self) -> IntervalMethod {
        match (self.interval, self.replicates) {
            (Some(method), _) => method,
            (None, None) => IntervalMethod::Jackknife,
            (None, Some(_)) => IntervalMethod::Bootstrap,
        }
    }

    fn replicates(self) -> usize {
        self.replicates.unwrap_or(1000)
    }

    /// For a manifest.
    pub fn config(self) -> Value {
        json!({ "method": self.method(), "replicates": self.replicates() })
    }
}

/// What intervals are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Cluster {
    /// Documents
    #[default]
    Document,
    /// Windows, for a text of one document
    Window,
}

impl Cluster {
    /// Intervals over such clusters: windows are neighbours in one text, and alike.
    pub fn of(self, intervals: Intervals) -> Intervals {
        if self == Self::Window { intervals.serial() } else { intervals }
    }

    /// Per window, what it counts as; none: its documents.
    pub fn of_windows(self, windows: &[Window]) -> Option<Vec<u64>> {
        (self == Self::Window).then(|| (0..windows.len() as u64).collect())
    }
}
