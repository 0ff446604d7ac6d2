//! `attribute`: a logit as the sum of what embeddings, heads, MLPs and biases brought to it.

mod corpus;
mod file;
mod given;
mod json;
mod prompt;
mod prompts;
mod rows;
mod settings;

use std::path::Path;

use serde_json::Value;

use self::given::Prompt;
pub use self::{
    file::COMPONENTS,
    prompt::{Asked, Says, Token},
    prompts::Line as AttributeLine,
    settings::{Accumulated, Attribute, TargetToken},
};
use super::{Ending, Job, JobError, Session, SetTo, Stopped, Watch, kind_name};
use crate::{
    attribution::{AttributionError, check_family},
    model::wide,
    results::run::{Claim, Counts, MetricRow, write_metrics},
    sources::text::Tokenizer,
};

/// What was found.
pub struct Attributed {
    /// The numbers, as in `metrics.parquet`.
    pub rows: Vec<MetricRow>,
    /// Of a prompt, what was asked of it.
    pub asked: Option<Asked>,
    /// Blocks of the model.
    pub n_layers: usize,
    /// What is taken apart.
    pub quantity: Quantity,
    /// The cap on the model's logits; what is taken apart is what they were before it.
    pub soft_cap: Option<f64>,
}

/// What is taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// A logit.
    Logit,
    /// A logit less another.
    Difference,
    /// A logit less the mean of all.
    LessMean,
}

impl Quantity {
    /// The metric under which the model's own value stands.
    pub fn metric(self) -> &'static str {
        match self {
            Self::Logit => "logit",
            Self::Difference => "logit_diff",
            Self::LessMean => "logit_less_mean",
        }
    }
}

impl Job for Attribute {
    const COMMAND: &'static str = "attribute";
    type Outcome = Attributed;

    crate::job::writes_out!();

    fn answer(&self, found: Attributed) -> Result<Value, JobError> {
        Ok(found.json())
    }

    fn run(&self, watch: &dyn Watch) -> Result<Attributed, JobError> {
        self.check()?;
        let session = Session::open(&self.model, watch)?;
        session.needs_decoder(Self::COMMAND)?;
        check_family(&session.spec, self.neurons.is_some()).map_err(JobError::usage)?;
        if wide(session.kind) != session.kind {
            let (kind, coarse) = (SetTo("dtype", "f32"), kind_name(session.kind));
            return Err(JobError::usage(format!(
                "the sum of all parts is held against the logit, which {coarse} is too coarse for; give {kind}"
            )));
        }
        match (&self.prompt, &self.prompts) {
            (Some(prompt), _) => self.prompt(prompt, &session, watch),
            (None, Some(prompts)) => self.many(prompts, &session, watch),
            (None, None) => self.corpus(&session, watch),
        }
    }
}

/// The id of a token that was given as text.
fn token(tokenizer: &Tokenizer, text: Option<&String>) -> Result<Option<i64>, JobError> {
    let id = text.map(|text| tokenizer.one_token(text)).transpose();
    id.map(|id| id.map(i64::from)).map_err(JobError::usage)
}

/// What is said of an attribution that failed; a sum that does not hold is a check, which names its row.
fn told(error: AttributionError, row: impl FnOnce(usize) -> String) -> JobError {
    match error {
        AttributionError::Sum { row: place, .. } => JobError::check(format!("{}: {error}", row(place))),
        other => other.into(),
    }
}

/// A pass that was stopped keeps sums and no rows, so that nothing can go on from it.
fn over_again(error: JobError) -> JobError {
    match error.ending() {
        Ending::Interrupted => AttributionError::Interrupted(Stopped).into(),
        _ => error,
    }
}

/// Writes a run: its numbers, and what `file` makes of the components.
fn write(
    claim: Claim,
    rows: &[MetricRow],
    counts: Counts,
    file: impl FnOnce(&Path) -> Result<(), JobError>,
) -> Result<(), JobError> {
    let dir = claim.begin(&file::owns)?;
    write_metrics(dir.path(), rows)?;
    file(dir.path())?;
    dir.finish(Counts { rows: rows.len() as u64, ..counts }, None)?;
    Ok(())
}
