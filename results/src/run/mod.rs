//! The run directory: the one place where this tool leaves files behind.
//!
//! Every file is written under a temporary name and renamed, so that a reader sees a whole file or none
//! ([`write_atomic`]). `manifest.json` comes first with status `running` and last with status `complete`
//! ([`Manifest`]); a repeated command finds its own job there and goes on, another job is refused with the setting that
//! differs ([`RunDir`]). The manifest of a complete run has the checksum of every file, which is compared whenever one
//! is read ([`read_output`]).

mod atomic;
mod compute;
mod dir;
mod earlier;
mod error;
#[doc(hidden)]
pub mod fault;
mod kind;
mod leakage;
mod lock;
mod manifest;
mod metrics;
mod outputs;
mod over;
mod parts;
mod shown;
mod subject;
mod sweep;
mod there;

pub use atomic::{AtomicFile, Written, hash_bytes, hash_file, write_atomic, write_atomic_sized};
pub use compute::Compute;
pub use dir::{Claim, Found, Owns, RunDir};
pub use error::RunError;
pub use kind::RowKind;
pub use leakage::{Basis, Leakage, Overlap};
pub use manifest::{
    BosRecord, Counts, DataFile, FORMAT_VERSION, LIBTORCH, LensRecord, MANIFEST, Manifest, ModelRecord,
    Status, Tool,
};
pub use metrics::{METRICS, MetricRow, read_metrics, write_metrics, write_table};
pub use outputs::{Output, Outputs, check_file, read_output};
pub use over::over;
pub use shown::{LEGEND, with_interval};
pub use subject::{Direction, Parts, Subject, TOGETHER, basis_name};
pub use sweep::sweep;
