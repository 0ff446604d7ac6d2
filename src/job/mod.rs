//! Jobs: every command of the program as a value.
//!
//! A job holds all settings of a command. It reads and writes as TOML or JSON, says in [`Manifest::request`] of the run
//! it makes what it was, and runs in front of anybody who [`Watch`]es: the command line, a notebook, a worker of a
//! cluster.
//!
//! ```text
//! settings -> Session::open (config, tokenizer, device; no weights yet) -> checks -> weights -> work -> run folder, Outcome
//! ```
//!
//! [`Manifest::request`]: crate::results::run::Manifest::request

mod any;
pub mod attention;
pub mod attribute;
pub mod bundled;
mod chat;
pub mod convert;
mod encoder;
mod error;
pub mod export;
pub mod import;
pub mod info;
mod inputs;
mod intervals;
pub mod intervene;
mod kept;
mod layers;
mod leakage;
pub mod lens;
pub mod lines;
mod model;
mod passes;
pub mod probe;
mod readout;
mod report;
mod rerun;
pub mod selftest;
mod session;
mod setting;
mod stdin;
mod text;
pub mod verify;
pub mod view;
pub mod worker;

use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use crate::watch::{Progress, Stage, Stopped, Underway, Watch};
pub use any::AnyJob;
pub use chat::{ChatPrompts, ChatSettings};
pub use error::{BoxError, Ending, JobError, ending_of, one_line};
pub use inputs::{Inputs, hashes};
pub use intervals::{Cluster, IntervalMethod, IntervalSettings};
pub use layers::Layers;
pub use leakage::{LeakageSettings, fitted_on};
pub use model::ModelSettings;
pub use passes::PassSettings;
pub use readout::{PrecisionSetting, audit_note};
pub use report::{Report, Reported};
pub use rerun::{Rerun, rerun};
pub use session::{Session, bos_line, device_name, kind_name};
pub use setting::{SetTo, Setting, spell_as_fields, spell_as_flags};
pub(crate) use stdin::{read_stdin, stdin};
pub use text::{AllWindows, Source, TextSettings, counts};
pub use verify::{Verified, Verify};

use crate::results::run::{Claim, Found, Manifest, RunDir};

/// A command as a value.
pub trait Job: Serialize + DeserializeOwned {
    /// The command's name: `lens eval`.
    const COMMAND: &'static str;
    /// What a finished job gives back beside its run folder.
    type Outcome;

    /// Does the work. Everything that can be wrong with the settings is found before weights are read.
    ///
    /// # Errors
    /// [`JobError`], which says whether settings were wrong, the work failed, a check did not hold, or somebody stopped
    /// it.
    fn run(&self, watch: &dyn Watch) -> Result<Self::Outcome, JobError>;

    /// What a program is told of the outcome beside the run folder; null where the folder says everything.
    ///
    /// # Errors
    /// [`JobError::Check`] where the job checked something that does not hold.
    fn answer(&self, outcome: Self::Outcome) -> Result<Value, JobError> {
        drop(outcome);
        Ok(Value::Null)
    }

    /// The folder that the job writes; none where it was not asked to write one.
    fn out(&self) -> Option<&Path>;

    /// Has the job write another folder.
    fn set_out(&mut self, out: PathBuf);
}

/// The two methods of a job whose setting `out` is its folder, a path that there is or may be.
macro_rules! writes_out {
    () => {
        fn out(&self) -> Option<&std::path::Path> {
            crate::job::Out::get(&self.out)
        }

        fn set_out(&mut self, out: std::path::PathBuf) {
            crate::job::Out::set(&mut self.out, out);
        }
    };
}
pub(crate) use writes_out;

/// A setting that is the folder to write.
pub(crate) trait Out {
    /// The folder; none where none was asked for.
    fn get(&self) -> Option<&Path>;
    /// Another folder.
    fn set(&mut self, out: PathBuf);
}

impl Out for PathBuf {
    fn get(&self) -> Option<&Path> {
        Some(self)
    }

    fn set(&mut self, out: PathBuf) {
        *self = out;
    }
}

impl Out for Option<PathBuf> {
    fn get(&self) -> Option<&Path> {
        self.as_deref()
    }

    fn set(&mut self, out: PathBuf) {
        *self = Some(out);
    }
}

/// A manifest of this job, with nothing filled in that its inputs determine.
pub(crate) fn new_manifest<J: Job>(job: &J) -> Manifest {
    let mut manifest = Manifest::new(J::COMMAND);
    manifest.argv = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    manifest.request = serde_json::to_value(job).ok(); // none where a path in it is no text
    manifest
}

/// Says what is wrong with a complete run's files, which are made again now.
pub fn claimed(claim: Claim, watch: &dyn Watch) -> Claim {
    for damage in claim.damaged() {
        watch.note(&format!("{}; made again", damage.finding()));
    }
    claim
}

/// Takes hold of a folder whose run is short and kept in memory: one that is complete is made again, and that is said.
///
/// # Errors
/// Those of [`RunDir::claim`].
pub(crate) fn claimed_anew(
    out: &Path,
    manifest: Manifest,
    force: bool,
    watch: &dyn Watch,
) -> Result<Claim, JobError> {
    let claim = claimed(RunDir::claim(out, manifest, force)?, watch);
    if claim.found() == Found::Complete {
        watch.note(&format!("{} is complete already; made again", out.display()));
    }
    Ok(claim)
}

/// A path in JSON and messages, in which nothing but UTF-8 can stand.
pub(crate) fn shown(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}
