//! `--readout`: how exactly logits are computed.

use clap::ValueEnum;
use layerscope::lenses::{Precision, Readout};

use super::super::output::Output;

/// See [`Precision`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub(crate) enum ReadoutArg {
    Exact,
    Fast,
}

impl ReadoutArg {
    pub(crate) fn precision(self) -> Precision {
        match self {
            Self::Exact => Precision::Exact,
            Self::Fast => Precision::Fast,
        }
    }

    /// What it comes to on a device: without bf16 arithmetic a fast readout is an exact one.
    pub(crate) fn effective(self, device: tch::Device) -> &'static str {
        if self == Self::Fast && Readout::has_fast(device) { "fast" } else { "exact" }
    }

    /// Says so when fast was asked for and cannot be had.
    pub(crate) fn announce(self, device: tch::Device, output: Output) {
        if self == Self::Fast && self.effective(device) == "exact" {
            output.note("readout: f32, since this CPU has no bf16 arithmetic");
        }
    }
}
