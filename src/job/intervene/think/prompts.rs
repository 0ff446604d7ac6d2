//! Prompts to think about: texts, or the beginnings of documents.

use super::{super::texts::prompt_texts, Think};
use crate::{
    intervene::think::fits,
    job::{Inputs, JobError, Setting, TextSettings},
    results::run::DataFile,
    sources::text::{Tokenizer, WindowOptions, excerpt, open_windows},
};

/// Tokens of a prompt that is the beginning of a document.
const TOKENS: usize = 32;
/// Most such prompts.
const PROMPTS: usize = 200;

/// A prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThoughtPrompt {
    /// As text.
    pub text: String,
    /// As tokens.
    pub ids: Vec<u32>,
}

/// The prompts of a job, each with room for its thoughts and answer, and the files that they are from.
pub(super) fn read(
    job: &Think,
    tokenizer: &Tokenizer,
    context: usize,
) -> Result<(Vec<ThoughtPrompt>, Vec<DataFile>), JobError> {
    let (prompts, files) = if job.data.is_empty() {
        (texts(&job.text, tokenizer)?, Vec::new())
    } else {
        documents(job, tokenizer, context)?
    };
    for prompt in &prompts {
        fits(prompt.ids.len(), job.steps, job.max_new_tokens.get(), context)
            .map_err(|error| JobError::usage(format!("{}: {error}", excerpt(&prompt.text))))?;
    }
    Ok((prompts, files))
}

fn texts(texts: &[String], tokenizer: &Tokenizer) -> Result<Vec<ThoughtPrompt>, JobError> {
    let prompt = |text: String| {
        let ids = tokenizer.encode(&text)?;
        if text.is_empty() || ids.is_empty() {
            return Err(JobError::usage(format!(
                "{} is empty; a thought comes from the last token of a prompt",
                Setting("text")
            )));
        }
        Ok(ThoughtPrompt { text, ids })
    };
    prompt_texts(texts)?.into_iter().map(prompt).collect()
}

/// The first tokens of every document.
fn documents(
    job: &Think,
    tokenizer: &Tokenizer,
    context: usize,
) -> Result<(Vec<ThoughtPrompt>, Vec<DataFile>), JobError> {
    let tokens = job.prompt_tokens.map_or(TOKENS, usize::from);
    fits(tokens, job.steps, job.max_new_tokens.get(), context).map_err(JobError::usage)?;
    let inputs = Inputs::open(&TextSettings {
        data: job.data.clone(),
        text_column: job.text_column.clone(),
        seq_len: Some(tokens),
        ..TextSettings::default()
    })?;
    let options = WindowOptions { seq_len: tokens, max_tokens: None, pack: false };
    let mut prompts = Vec::new();
    for window in open_windows(inputs.corpus()?, tokenizer, &options).map_err(JobError::usage)? {
        let window = window?;
        if window.segments.iter().all(|segment| segment.doc_pos > 0) {
            continue; // the rest of a document
        }
        let bos = &tokenizer.bos().prefix;
        let lead = if window.ids.starts_with(bos) { bos.len() } else { 0 };
        prompts.push(ThoughtPrompt { text: tokenizer.decode(&window.ids[lead..])?, ids: window.ids });
        if prompts.len() == job.prompts.map_or(PROMPTS, usize::from) {
            break;
        }
    }
    if prompts.is_empty() {
        return Err(JobError::usage(format!("{} has no document with a token", Setting("data"))));
    }
    Ok((prompts, inputs.hashes()?))
}
