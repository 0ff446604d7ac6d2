//! How exactly logits are computed.

use serde::{Deserialize, Serialize};
use tch::Device;

use super::{SetTo, Watch};
use crate::lenses::{Precision, Readout};

/// See [`Precision`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum PrecisionSetting {
    /// Fast where the machine has bf16 arithmetic, exact elsewhere
    Auto,
    /// f32
    Exact,
    /// bf16, corrected and checked in f32
    Fast,
}

impl PrecisionSetting {
    /// What it comes to on a device.
    pub fn precision(self, device: Device) -> Precision {
        match self {
            Self::Auto if Readout::has_fast(device) => Precision::Fast,
            Self::Auto | Self::Exact => Precision::Exact,
            Self::Fast => Precision::Fast,
        }
    }

    /// The same in a word, for a manifest.
    pub fn effective(self, device: Device) -> &'static str {
        match self.precision(device) {
            Precision::Exact => "exact",
            Precision::Fast => "fast",
        }
    }

    /// Says what is not to be had on a device without bf16 arithmetic.
    pub fn announce(self, device: Device, watch: &dyn Watch) {
        match self {
            Self::Exact => {}
            _ if Readout::has_fast(device) => {}
            Self::Auto => watch.note("readout: exact, since this CPU has no bf16 arithmetic"),
            Self::Fast => watch.note(&format!(
                "readout: fast as asked for, but this CPU has no bf16 arithmetic: {} takes less time",
                SetTo("readout", "exact")
            )),
        }
    }
}

/// Says how good a fast readout was, once it has read.
pub fn audit_note(readout: &Readout, watch: &dyn Watch) {
    let audit = readout.audit();
    if audit.rows == 0 {
        return;
    }
    let percent = 100.0 * audit.exact as f64 / audit.rows as f64;
    let off = if audit.compared == 0 {
        "none were compared with an exact readout".to_owned()
    } else {
        format!(
            "{} others compared with an exact readout: log-probabilities off by {:.4} nats (root mean square; mean {:+.4}, at most {:.4})",
            audit.compared,
            audit.root_mean_square(),
            audit.mean(),
            audit.largest
        )
    };
    watch.note(&format!(
        "readout: fast; {percent:.1} % of {} rows read exactly, since bf16 is too coarse for them; {off}",
        audit.rows
    ));
}
