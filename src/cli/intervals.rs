//! How the 95 % intervals of a command are made.

use clap::{Args, ValueEnum};
use layerscope::results::statistics::{Intervals, Method, Resamples};
use serde_json::{Value, json};

/// Makes of intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Interval {
    /// Leave each document (group, prompt) out in turn, with Student's t; Wilson's for shares
    Jackknife,
    /// Percentiles of a bootstrap, as earlier versions had them: too short with few or unequal documents
    Bootstrap,
}

/// The settings.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct IntervalArgs {
    /// What makes the 95 % intervals; jackknife, unless --replicates asks for resamples
    #[arg(long, value_enum, value_name = "METHOD")]
    interval: Option<Interval>,
    /// Resamples, of bootstrap intervals and of the comparison of layers by probes; 1000 by default
    #[arg(long, value_name = "N")]
    replicates: Option<usize>,
}

impl IntervalArgs {
    /// How intervals are made. Draws depend on `seed`.
    pub(crate) fn policy(self, seed: u64) -> Intervals {
        Intervals::new(self.method(), Resamples::new(seed, self.replicates()))
    }

    fn method(self) -> Method {
        match (self.interval, self.replicates) {
            (Some(Interval::Jackknife), _) | (None, None) => Method::Jackknife,
            (Some(Interval::Bootstrap), _) | (None, Some(_)) => Method::Bootstrap,
        }
    }

    fn replicates(self) -> usize {
        self.replicates.unwrap_or(1000)
    }

    /// For a manifest.
    pub(crate) fn config(self) -> Value {
        let method = match self.method() {
            Method::Jackknife => "jackknife",
            Method::Bootstrap => "bootstrap",
        };
        json!({ "method": method, "replicates": self.replicates() })
    }
}
