//! A job of whatever command, as manifests and job files hold it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Job, JobError, Report, Verify, Watch, info, intervene, lens, view};
use crate::results::run::Manifest;

/// From which likeness on a name may have been meant for another.
const ALIKE: f64 = 0.8;

/// What a JSON value is, in words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

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

            /// Does the work, and says what a program is told beside the folder: [`Job::answer`].
            ///
            /// # Errors
            /// Those of the job, and a check of it that does not hold.
            pub fn answer(&self, watch: &dyn Watch) -> Result<Value, JobError> {
                match self { $(Self::$variant(job) => job.answer(job.run(watch)?)),* }
            }

            /// Every setting with its value.
            ///
            /// # Errors
            /// A path in it that is no text.
            pub fn settings(&self) -> serde_json::Result<Value> {
                match self { $(Self::$variant(job) => serde_json::to_value(job)),* }
            }
        }
    };
}

jobs! {
    Info: info::Info,
    Verify: Verify,
    View: view::View,
    Export: super::export::Export,
    Attention: super::attention::Attention,
    Import: super::import::Import,
    Convert: super::convert::Convert,
    ProbeSweep: super::probe::Sweep,
    ProbeLaw: super::probe::Law,
    ProbeTransfer: super::probe::Transfer,
    ProbeApply: super::probe::Apply,
    LensFit: lens::Fit,
    LensEval: lens::Eval,
    LensTransfer: lens::Transfer,
    LensCausal: lens::Causal,
    LensImport: lens::ImportLens,
    LensConcepts: lens::Concepts,
    LensVectors: lens::LensVectors,
    LensAudit: lens::Audit,
    Attribute: super::attribute::Attribute,
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
    /// As [`AnyJob::new`], from somebody who writes settings by hand: one that the command does not have is refused,
    /// since a misspelt setting would otherwise be one that keeps its default.
    ///
    /// # Errors
    /// Those of [`AnyJob::new`]; settings that the command does not have.
    pub fn checked(command: &str, settings: Value) -> Result<Self, JobError> {
        let named: Vec<String> = match &settings {
            Value::Object(settings) => settings.keys().cloned().collect(),
            other => {
                return Err(JobError::usage(format!(
                    "{command}: settings are an object, not {}",
                    kind(other)
                )));
            }
        };
        let job = Self::new(command, settings)?;
        let known = job.settings()?;
        let Some(name) = named.iter().find(|name| known.get(name.as_str()).is_none()) else { return Ok(job) };
        let near = known.as_object().into_iter().flatten().map(|(known, _)| known);
        let near =
            near.max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
        let near = near.filter(|near| strsim::jaro_winkler(near, name) > ALIKE);
        let hint = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        Err(JobError::usage(format!("{command} has no setting {name:?}{hint}")))
    }

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
