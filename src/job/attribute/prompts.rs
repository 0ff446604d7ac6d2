//! Many prompts of a file, each with its own answer: means over prompts.

use std::path::Path;

use serde::Deserialize;
use serde_json::json;
use tch::Tensor;

use super::{Attribute, Attributed, Prompt, Quantity, file, over_again, rows, told, write};
use crate::{
    attribution::{Mean, Means, attribute, components},
    job::{JobError, Session, Setting, Watch, claimed_anew, kind_name, lines::Lines},
    results::run::{Claim, Counts},
    sources::text::Tokenizer,
    states::check_stream,
};

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The prompt.
    pub prompt: String,
    /// The token whose logit is taken apart; by default what the model says.
    pub answer: Option<String>,
    /// A token whose logit is taken off it.
    pub foil: Option<String>,
    /// At which position; by default the last.
    pub position: Option<i64>,
}

impl Attribute {
    /// Means over the prompts of a file.
    pub(super) fn many(
        &self,
        path: &Path,
        session: &Session,
        watch: &dyn Watch,
    ) -> Result<Attributed, JobError> {
        let lines = Lines::<Line>::read(path)?;
        let quantity = self.quantity_of(&lines)?;
        let tokenizer = session.tokenizer(watch)?;
        let prompts = read_all(&lines, session, &tokenizer)?;
        session.announce(watch);
        let claim = self.claim_of_prompts(&lines.sha256, session, &tokenizer, watch)?;
        let means = self.means_over(&prompts, quantity, (session, &tokenizer), watch)?;
        let n_layers = session.spec.n_layers;
        let rows = rows::of_means(&means, quantity, n_layers);
        if let Some(claim) = claim {
            let tokens = prompts.iter().map(|(_, prompt)| prompt.ids.len() as u64).sum();
            let counts = Counts { documents: prompts.len() as u64, tokens, ..Counts::default() };
            write(claim, &rows, counts, |dir| file::of_means(dir, &means))?;
        }
        Ok(Attributed { rows, asked: None, n_layers, quantity, soft_cap: session.spec.logit_cap })
    }

    /// What is taken apart, the same of every line.
    fn quantity_of(&self, lines: &Lines<Line>) -> Result<Quantity, JobError> {
        let foil = lines.all.iter().find(|(_, line)| line.foil.is_some());
        let none = lines.all.iter().find(|(_, line)| line.foil.is_none());
        match (foil, none) {
            (Some((place, _)), None) if self.less_mean => {
                Err(JobError::usage(format!("{place}: foil and {} exclude each other", Setting("less_mean"))))
            }
            (Some((with, _)), Some((without, _))) => Err(JobError::usage(format!(
                "{without}: no foil, where {with} has one; a difference and a logit have no mean"
            ))),
            (Some(_), None) => Ok(Quantity::Difference),
            (None, _) => Ok(self.quantity()),
        }
    }

    fn means_over(
        &self,
        prompts: &[(String, Prompt)],
        quantity: Quantity,
        (session, tokenizer): (&Session, &Tokenizer),
        watch: &dyn Watch,
    ) -> Result<Vec<Mean>, JobError> {
        let (model, vocab) = (session.load(watch)?, session.vocab(tokenizer));
        let intervals = self.intervals.policy(self.seed);
        let mut means = Means::new(components(&session.spec, false), session.spec.n_layers, intervals)?;
        let stage = watch.begin("attributing", "prompts", Some(prompts.len() as u64));
        for (number, (place, prompt)) in prompts.iter().enumerate() {
            let ids = Tensor::from_slice(&prompt.ids).view([1, -1]);
            check_stream(model, &ids).map_err(|error| JobError::from(error).at(place))?;
            let (_, targets) = prompt.targets(model, vocab, quantity)?;
            let found = attribute(model, &ids, &[prompt.position as i64], &targets[0], false);
            means.add(&found.map_err(|error| told(error, |_| place.clone()))?, &[number as u64])?;
            stage.done(1).map_err(|stopped| over_again(stopped.into()))?;
        }
        Ok(means.finish())
    }

    fn claim_of_prompts(
        &self,
        sha256: &str,
        session: &Session,
        tokenizer: &Tokenizer,
        watch: &dyn Watch,
    ) -> Result<Option<Claim>, JobError> {
        let Some(out) = &self.out else { return Ok(None) };
        let mut manifest = session.manifest(self, tokenizer, watch)?;
        manifest.seed = self.seed;
        manifest.config = json!({
            "prompts": sha256, "less_mean": self.less_mean, "intervals": self.intervals.config(), "dtype": kind_name(session.kind),
        });
        claimed_anew(out, manifest, self.force, watch).map(Some)
    }
}

/// The prompts in tokens, each with the line it stands in.
fn read_all(
    lines: &Lines<Line>,
    session: &Session,
    tokenizer: &Tokenizer,
) -> Result<Vec<(String, Prompt)>, JobError> {
    let read = |(place, line): &(String, Line)| {
        let Line { prompt, answer, foil, position } = line;
        let wanted = (answer.as_ref(), foil.as_ref(), *position);
        let prompt = Prompt::read(prompt, wanted, session, tokenizer).map_err(|e| e.at(place))?;
        Ok((place.clone(), prompt))
    };
    lines.all.iter().map(read).collect()
}
