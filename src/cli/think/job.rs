//! What is to be done, checked before weights are read.

use anyhow::anyhow;
use layerscope::{
    intervene::generate::{Settings, stop_ids},
    intervene::think::{Feedback, Replacement, fits},
    results::run::DataFile,
    sources::text::{Format, Tokenizer, WindowOptions, excerpt, open_windows},
};

use super::{ThinkArgs, args::RescaleArg};
use crate::cli::{
    args::TextArgs,
    exit::Failure,
    inputs::Inputs,
    output::Output,
    session::{Session, read_stdin},
};

/// Everything checked.
pub(super) struct Job {
    pub(super) prompts: Vec<Prompt>,
    /// Where prompts came from, and what is put in front of them.
    pub(super) data: Vec<DataFile>,
    /// Its rescaling is decided when the embeddings are there.
    pub(super) feedback: Feedback,
    pub(super) replacements: Vec<Replacement>,
    pub(super) settings: Settings,
}

/// A prompt.
pub(super) struct Prompt {
    pub(super) text: String,
    pub(super) ids: Vec<u32>,
}

impl Job {
    pub(super) fn new(
        args: &ThinkArgs,
        session: &Session,
        tokenizer: &Tokenizer,
        output: Output,
    ) -> Result<Self, Failure> {
        let spec = &session.spec;
        let layer = args.layer.unwrap_or(spec.n_layers);
        let norm = args.norm(layer, spec.n_layers);
        let feedback =
            Feedback { norm, decay: args.decay, ..Feedback::new(args.steps, layer, spec.n_layers) };
        feedback.check(spec.n_layers).map_err(Failure::usage)?;
        let (prompts, data) = if args.data.is_empty() {
            (texts(&args.text, tokenizer)?, Vec::new())
        } else {
            documents(args, tokenizer, spec.n_ctx)?
        };
        let new = args.max_new_tokens.get();
        for prompt in &prompts {
            fits(prompt.ids.len(), args.steps, new, spec.n_ctx)
                .map_err(|error| Failure::usage(anyhow!("{}: {error}", excerpt(&prompt.text))))?;
        }
        let replacements = replacements(&args.replace, prompts.len(), args.steps, output)?;
        let stop = if args.ignore_eos {
            Vec::new()
        } else {
            stop_ids(session.path(), tokenizer).map_err(Failure::usage)?
        };
        let vocab = (tokenizer.max_id() as usize + 1).min(spec.vocab);
        let settings = Settings { stop, cache: !args.no_cache, vocab: Some(vocab), ..Settings::greedy(new) };
        Ok(Self { prompts, data, feedback, replacements, settings })
    }

    /// How a state becomes a thought, in words.
    pub(super) fn describe(&self, rescale: RescaleArg, n_layers: usize) -> String {
        let Feedback { steps, layer, norm, decay, .. } = self.feedback;
        let last = if layer == n_layers { " (the last)" } else { "" };
        let norm = if norm { "after the final norm" } else { "without the final norm" };
        let length = match rescale {
            RescaleArg::None => "at its own length",
            RescaleArg::Embedding => "at the mean length of embeddings",
        };
        let decay = if decay == 1.0 { String::new() } else { format!(", times {decay}^i") };
        format!(
            "{steps} thoughts: the stream of layer {layer}{last}, {norm}, {length}{decay}, as the next input embedding"
        )
    }
}

fn texts(texts: &[String], tokenizer: &Tokenizer) -> Result<Vec<Prompt>, Failure> {
    if texts.iter().filter(|text| *text == "-").count() > 1 {
        return Err(Failure::usage(anyhow!("--text: stdin (`-`) can be read once")));
    }
    let prompt = |text: &String| {
        let text = if text == "-" { read_stdin().map_err(Failure::usage)? } else { text.clone() };
        let ids = tokenizer.encode(&text)?;
        if text.is_empty() || ids.is_empty() {
            return Err(Failure::usage(anyhow!(
                "--text is empty; a thought comes from the last token of a prompt"
            )));
        }
        Ok(Prompt { text, ids })
    };
    texts.iter().map(prompt).collect()
}

/// The first tokens of every document.
fn documents(
    args: &ThinkArgs,
    tokenizer: &Tokenizer,
    context: usize,
) -> Result<(Vec<Prompt>, Vec<DataFile>), Failure> {
    let tokens = args.prompt_tokens.map_or(32, usize::from);
    fits(tokens, args.steps, args.max_new_tokens.get(), context).map_err(Failure::usage)?;
    let inputs = Inputs::open(&TextArgs {
        data: args.data.clone(),
        text_column: args.text_column.clone(),
        stdin_format: Format::Txt,
        tokens: None,
        seq_len: Some(tokens),
        pack: false,
    })?;
    let options = WindowOptions { seq_len: tokens, max_tokens: None, pack: false };
    let mut prompts = Vec::new();
    for window in open_windows(inputs.corpus()?, tokenizer, &options).map_err(Failure::usage)? {
        let window = window?;
        if window.segments.iter().all(|segment| segment.doc_pos > 0) {
            continue; // the rest of a document
        }
        let bos = &tokenizer.bos().prefix;
        let lead = if window.ids.starts_with(bos) { bos.len() } else { 0 };
        prompts.push(Prompt { text: tokenizer.decode(&window.ids[lead..])?, ids: window.ids });
        if prompts.len() == args.prompts.map_or(200, usize::from) {
            break;
        }
    }
    if prompts.is_empty() {
        return Err(Failure::usage(anyhow!("--data has no document with a token")));
    }
    Ok((prompts, inputs.hashes()?))
}

/// What is asked, or everything that so many prompts allow.
fn replacements(
    asked: &[String],
    prompts: usize,
    steps: usize,
    output: Output,
) -> Result<Vec<Replacement>, Failure> {
    if asked.iter().any(|name| name == "none") {
        let alone = asked.len() == 1;
        return if alone {
            Ok(Vec::new())
        } else {
            Err(Failure::usage(anyhow!("--replace: none stands alone")))
        };
    }
    let parse = |name: &String| name.parse().map_err(|e| Failure::usage(anyhow!("--replace: {e}, none")));
    let mut wanted = asked.iter().map(parse).collect::<Result<Vec<Replacement>, _>>()?;
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
        return Err(Failure::usage(anyhow!("--replace {why}; give --text twice, or --data")));
    }
    output.warn(format!("left out of the replacements: {why}"));
    Ok(wanted.into_iter().filter(|r| !r.needs_others()).collect())
}
