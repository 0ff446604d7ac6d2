//! What is to be thought, checked before weights are read.

use super::{
    Rescaling, Think,
    prompts::{self, ThoughtPrompt},
};
use crate::{
    intervene::{
        generate::{Settings, stop_ids},
        think::{Feedback, Replacement},
    },
    job::{JobError, Session, Setting, Watch},
    results::run::DataFile,
    sources::text::Tokenizer,
};

/// Everything checked.
pub(super) struct Plan {
    pub(super) prompts: Vec<ThoughtPrompt>,
    /// The files that prompts came from.
    pub(super) data: Vec<DataFile>,
    /// Its rescaling is decided when the embeddings are there.
    pub(super) feedback: Feedback,
    pub(super) replacements: Vec<Replacement>,
    /// Of the answer.
    pub(super) settings: Settings,
}

impl Plan {
    pub(super) fn new(
        job: &Think,
        session: &Session,
        tokenizer: &Tokenizer,
        watch: &dyn Watch,
    ) -> Result<Self, JobError> {
        let spec = &session.spec;
        let layer = job.layer.unwrap_or(spec.n_layers);
        let norm = job.norm || (layer == spec.n_layers && !job.no_norm);
        let feedback = Feedback { norm, decay: job.decay, ..Feedback::new(job.steps, layer, spec.n_layers) };
        feedback.check(spec.n_layers).map_err(JobError::usage)?;
        let (prompts, data) = prompts::read(job, tokenizer, spec.n_ctx)?;
        let replacements = replacements(&job.replace, prompts.len(), job.steps, watch)?;
        let stop = if job.ignore_eos {
            Vec::new()
        } else {
            stop_ids(session.path(), tokenizer).map_err(JobError::usage)?
        };
        let vocab = session.vocab(tokenizer);
        let settings = Settings {
            stop,
            cache: !job.no_cache,
            vocab: Some(vocab),
            ..Settings::greedy(job.max_new_tokens.get())
        };
        Ok(Self { prompts, data, feedback, replacements, settings })
    }

    /// How a state becomes a thought, in words.
    pub(super) fn describe(&self, rescale: Rescaling, n_layers: usize) -> String {
        let Feedback { steps, layer, norm, decay, .. } = self.feedback;
        let last = if layer == n_layers { " (the last)" } else { "" };
        let norm = if norm { "after the final norm" } else { "without the final norm" };
        let length = match rescale {
            Rescaling::None => "at its own length",
            Rescaling::Embedding => "at the mean length of embeddings",
        };
        let decay = if decay == 1.0 { String::new() } else { format!(", times {decay}^i") };
        format!(
            "{steps} thoughts: the stream of layer {layer}{last}, {norm}, {length}{decay}, as the next input embedding"
        )
    }
}

/// The replacements by name, or everything that so many prompts allow.
fn replacements(
    names: &[String],
    prompts: usize,
    steps: usize,
    watch: &dyn Watch,
) -> Result<Vec<Replacement>, JobError> {
    if names.iter().any(|name| name == "none") {
        let alone = names.len() == 1;
        return if alone { Ok(Vec::new()) } else { Err(JobError::setting("replace", "none stands alone")) };
    }
    let parse =
        |name: &String| name.parse().map_err(|e: String| JobError::setting("replace", format!("{e}, none")));
    let mut wanted = names.iter().map(parse).collect::<Result<Vec<Replacement>, _>>()?;
    let given = !wanted.is_empty();
    if !given {
        wanted = Replacement::ALL.to_vec();
    }
    wanted.sort_unstable();
    wanted.dedup();
    let cannot: Vec<&str> =
        wanted.iter().filter(|r| r.needs_others() && prompts < 2).map(|r| r.name()).collect();
    if cannot.is_empty() || steps == 0 {
        return Ok(wanted);
    }
    let why = format!("{}: made of other prompts' thoughts, and there is one prompt", cannot.join(", "));
    if given {
        let [replace, text, data] = ["replace", "text", "data"].map(Setting);
        return Err(JobError::usage(format!("{replace} {why}; give {text} twice, or {data}")));
    }
    watch.warn(&format!("left out of the replacements: {why}"));
    Ok(wanted.into_iter().filter(|r| !r.needs_others()).collect())
}
