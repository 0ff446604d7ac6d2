//! `probe apply`: saved probes on other data.

mod probes;
mod regroup;
mod score;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{LabelSettings, labelled::Labelled, manifest, threads};
use crate::{
    hook::HookPoint,
    job::{IntervalSettings, Job, JobError, LeakageSettings, ModelSettings, Session, Watch, claimed, shown},
    probe::SCORES,
    results::run::{Counts, Found, METRICS, Manifest, MetricRow, RunDir, read_metrics, write_metrics},
    sources::text::Tokenizer,
};

use probes::{Ready, leakage};
use regroup::as_fitted;

/// Score other labelled data with saved probes
///
/// Nothing is fitted: `probe sweep` writes RUN/probes, and this reads them on the data at hand, at the layers they were
/// fitted on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Apply {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// Folders of sweeps, or single probes (RUN/probes/NAME.safetensors)
    #[cfg_attr(feature = "cli", arg(long, required = true, num_args = 1.., value_name = "RUN|FILE"))]
    pub probe: Vec<PathBuf>,
    /// Labelled data: .csv, .tsv, .jsonl, .json, .parquet or .conllu
    #[cfg_attr(feature = "cli", arg(long, required = true, num_args = 1.., value_name = "FILE"))]
    pub data: Vec<PathBuf>,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: PathBuf,
    /// How labels and states are read.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub labels: LabelSettings,
    /// How intervals are made.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub intervals: IntervalSettings,
    /// What is done about leakage.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub leakage: LeakageSettings,
    /// Start over in a folder that holds another run
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
}

/// How saved probes did.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The numbers, as in `metrics.parquet`.
    pub rows: Vec<MetricRow>,
}

impl Job for Apply {
    const COMMAND: &'static str = "probe apply";
    type Outcome = Scored;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<Scored, JobError> {
        let session = Session::open(&self.model, watch)?;
        session.announce(watch);
        let (probes, points) = self.probes(&session)?;
        let facts = &probes[0].saved.facts;
        let labels = self.labels_at(facts.positions);
        let tokenizer = session.tokenizer(watch)?;
        let mut labelled = labels.read(&self.data, &session, &tokenizer, watch)?;
        as_fitted(facts, &mut labelled, watch)?;
        let mut manifest = self.manifest((&session, &tokenizer), (&labelled, &points), &probes, watch)?;
        self.leakage.judge(leakage(&probes, &labelled)?, &mut manifest, watch)?;
        let claim = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch);
        if claim.found() == Found::Complete {
            watch.note(&format!("{} is complete already", self.out.display()));
            return Ok(Scored { rows: read_metrics(&self.out)? });
        }
        let dir = claim
            .begin(&|p| [METRICS, SCORES, "features", "negations"].iter().any(|name| p.starts_with(name)))?;
        let features = labelled.features(&self.out, &session, &points);
        labels.states(&session, &[(&features, &labelled)], watch)?;
        let rows = threads(&session)?.install(|| self.score(&probes, &labelled, &features))?;
        write_metrics(&self.out, &rows)?;
        let (documents, tokens) = labelled.size();
        dir.finish(Counts { documents, tokens, rows: rows.len() as u64, ..Counts::default() }, None)?;
        Ok(Scored { rows })
    }
}

impl Apply {
    fn manifest(
        &self,
        (session, tokenizer): (&Session, &Tokenizer),
        (labelled, points): (&Labelled, &[HookPoint]),
        probes: &[Ready],
        watch: &dyn Watch,
    ) -> Result<Manifest, JobError> {
        let mut manifest = manifest(self, (session, tokenizer), (&self.data, self.seed), watch)?;
        let model = manifest.model.as_ref().map(|m| m.sha256.clone());
        if probes.iter().any(|probe| probe.saved.facts.model != model) {
            watch.warn("a probe was fitted to the states of another model than this one");
        }
        let one = |r: &Ready| json!({ "subject": r.subject, "file": shown(&r.saved.path), "sha256": r.saved.sha256 });
        let own = [("probes", probes.iter().map(one).collect()), ("intervals", self.intervals.config())];
        manifest.config = self.labels.config(labelled, points).into_iter().chain(own).collect();
        Ok(manifest)
    }
}
