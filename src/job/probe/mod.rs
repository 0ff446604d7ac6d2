//! Jobs about probes: what a linear reader finds in every layer.

mod apply;
mod exported;
mod labelled;
mod labels;
mod law;
mod points;
mod rare;
mod sweep;
mod transfer;

use std::path::PathBuf;

use rayon::{ThreadPool, ThreadPoolBuilder};

pub use apply::{Apply, Scored};
pub use labels::LabelSettings;
pub use law::{Law, Regressed};
pub use points::PointSettings;
pub use rare::RareSettings;
pub use sweep::{Summarised, Sweep, Swept};
pub use transfer::{Transfer, Transferred};

use exported::{check_made_by, from_store, open_export};

use super::{Job, JobError, Session, Watch, hashes, shown};
use crate::{
    hook::HookPoint,
    probe::{Features, ProbeError},
    results::run::Manifest,
    sources::text::Tokenizer,
};

/// A stop that a repeated job goes on from, or a failure.
fn ended(error: ProbeError) -> JobError {
    match error {
        ProbeError::Interrupted(_) => JobError::interrupted(error),
        other => JobError::failed(other),
    }
}

/// A manifest with everything filled in that the job, the model and these labelled files determine.
fn manifest<J: Job>(
    job: &J,
    (session, tokenizer): (&Session, &Tokenizer),
    (data, seed): (&[PathBuf], u64),
    watch: &dyn Watch,
) -> Result<Manifest, JobError> {
    let mut manifest = session.manifest(job, tokenizer, watch)?;
    manifest.seed = seed;
    let names: Vec<String> = data.iter().map(shown).collect();
    manifest.data = hashes(data, &names)?;
    Ok(manifest)
}

/// The threads that probes are fitted on.
fn threads(session: &Session) -> Result<ThreadPool, JobError> {
    ThreadPoolBuilder::new().num_threads(session.threads).build().map_err(JobError::failed)
}

/// Hook and layer of every point, as results name them.
fn names(features: &Features, points: &[HookPoint]) -> Vec<(String, usize)> {
    let places = (0..points.len()).map(|place| features.name(place));
    places.map(|(hook, layer)| (hook.to_owned(), layer)).collect()
}

/// Refuses to choose among no penalties.
fn check_l2(l2: &[f64]) -> Result<(), JobError> {
    if l2.is_empty() { Err(JobError::setting("l2", "there is no penalty to choose")) } else { Ok(()) }
}

/// The L2 penalties that are tried by default.
fn default_l2() -> Vec<f64> {
    vec![0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0]
}
