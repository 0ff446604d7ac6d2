//! A job of whatever command, as manifests and job files hold it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Job, JobError, Report, Verify, Watch, intervene, lens, view};
use crate::results::run::Manifest;

/// Names every command once, with the job that it is.
macro_rules! jobs {
    ($($variant:ident: $job:ty),* $(,)?) => {
        /// A job of whatever command.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum AnyJob {
            $(
                #[doc = concat!("See [`", stringify!($job), "`].")]
                $variant(Box<$job>),
            )*
        }

        impl AnyJob {
            /// The commands there are.
            pub const COMMANDS: &'static [&'static str] = &[$(<$job as Job>::COMMAND),*];

            /// The job of a command with these settings; settings that are left out have their defaults.
            ///
            /// # Errors
            /// An unknown command, or a setting of another type.
            pub fn new(command: &str, settings: Value) -> Result<Self, JobError> {
                let bad = |e: serde_json::Error| JobError::usage(format!("{command}: {e}"));
                $(
                    if command == <$job as Job>::COMMAND {
                        return Ok(Self::$variant(serde_json::from_value(settings).map_err(bad)?));
                    }
                )*
                let known = Self::COMMANDS.join(", ");
                Err(JobError::usage(format!("no command {command:?} runs as a job; there are {known}")))
            }

            /// Its command.
            pub fn command(&self) -> &'static str {
                match self { $(Self::$variant(_) => <$job as Job>::COMMAND),* }
            }

            /// The folder that it writes; none where it writes none.
            pub fn out(&self) -> Option<&Path> {
                match self { $(Self::$variant(job) => job.out()),* }
            }

            /// Has it write another folder.
            pub fn set_out(&mut self, out: PathBuf) {
                match self { $(Self::$variant(job) => job.set_out(out)),* }
            }

            /// Does the work; what it found is in its folder.
            ///
            /// # Errors
            /// Those of the job.
            pub fn run(&self, watch: &dyn Watch) -> Result<(), JobError> {
                match self { $(Self::$variant(job) => job.run(watch).map(drop)),* }
            }
        }
    };
}

jobs! {
    Verify: Verify,
    View: view::View,
    Export: super::export::Export,
    Import: super::import::Import,
    ProbeSweep: super::probe::Sweep,
    ProbeLaw: super::probe::Law,
    ProbeTransfer: super::probe::Transfer,
    ProbeApply: super::probe::Apply,
    LensFit: lens::Fit,
    LensEval: lens::Eval,
    LensTransfer: lens::Transfer,
    LensCausal: lens::Causal,
    Future: intervene::Future,
    Patch: intervene::Patch,
    Schedule: intervene::Schedule,
    Trace: intervene::Trace,
    Generate: intervene::Generate,
    Steer: intervene::Steer,
    Think: intervene::Think,
    ThinkSpace: intervene::ThinkSpace,
    Report: Report,
}

impl AnyJob {
    /// The job that made a run.
    ///
    /// # Errors
    /// A folder without a manifest, or with one from before jobs were recorded.
    pub fn of_run(run: &Path) -> Result<Self, JobError> {
        let named = |problem: &str| JobError::usage(format!("{}: {problem}", run.display()));
        let manifest =
            Manifest::read(run)?.ok_or_else(|| named("no run is here: there is no manifest.json"))?;
        let Some(settings) = manifest.request else {
            return Err(named(
                "its manifest does not say with which settings it was made; repeat the command",
            ));
        };
        Self::new(&manifest.kind, settings)
    }
}
