//! Texts, and a model that reads them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Inputs, Job, JobError, Session, Watch};
use crate::{
    results::run::{Counts, Manifest},
    sources::{
        chat::{Chats, TemplateSettings},
        text::{Format, TextStats, Tokenizer, Window, WindowOptions, open_windows, resolve_seq_len},
    },
};

/// Which text, and how it is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct TextSettings {
    /// Documents: .txt (one document), .jsonl, .json, .csv, .tsv (or these with .gz, .zst), .parquet, .arrow; a folder
    /// of shards; `-` is stdin
    #[cfg_attr(feature = "cli", arg(long, required = true, num_args = 1.., value_name = "FILE"))]
    pub data: Vec<PathBuf>,
    /// Column of the text
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub text_column: Option<String>,
    /// Format of stdin
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Format::Txt, value_name = "FORMAT"))]
    pub stdin_format: Format,
    /// Stop after so many tokens
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub tokens: Option<u64>,
    /// Longest window; by default the model's context
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub seq_len: Option<usize>,
    /// Join documents with EOS and cut equal chunks; attention then crosses documents
    #[cfg_attr(feature = "cli", arg(long))]
    pub pack: bool,
    /// How chats become text.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub template: TemplateSettings,
}

impl Default for TextSettings {
    fn default() -> Self {
        Self {
            data: Vec::new(),
            text_column: None,
            stdin_format: Format::Txt,
            tokens: None,
            seq_len: None,
            pack: false,
            template: TemplateSettings::default(),
        }
    }
}

impl TextSettings {
    /// The same, up to so many tokens where no number is asked for.
    #[must_use]
    pub fn up_to(&self, tokens: u64) -> Self {
        Self { tokens: Some(self.tokens.unwrap_or(tokens)), ..self.clone() }
    }
}

/// Where tokens come from and what reads them.
pub struct Source<'s> {
    /// The model.
    pub session: &'s Session,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The text's files.
    pub inputs: Inputs,
}

/// Windows of the whole text, read into memory.
pub struct AllWindows {
    /// The windows, in reading order.
    pub windows: Vec<Window>,
    /// What was read.
    pub stats: TextStats,
    /// What is put in front of documents and why.
    pub lead: String,
}

impl<'s> Source<'s> {
    /// Checks tokenizer and text; reads no weights.
    ///
    /// # Errors
    /// When a file is not there, or is not what its name says.
    pub fn open(session: &'s Session, text: &TextSettings, watch: &dyn Watch) -> Result<Self, JobError> {
        let tokenizer = session.tokenizer(watch)?;
        let chats = Chats::new(session.path(), &text.template);
        Ok(Self { session, tokenizer, inputs: Inputs::open(text)?.with_chats(chats) })
    }

    /// How the text is cut.
    ///
    /// # Errors
    /// A window that is longer than the model's context.
    pub fn window_options(&self, text: &TextSettings) -> Result<WindowOptions, JobError> {
        if text.pack && self.session.spec.encoder.is_some() {
            let why = "windows of an encoder begin and end as its tokenizer's template has it";
            return Err(JobError::setting("pack", why));
        }
        let seq_len = resolve_seq_len(text.seq_len, self.session.spec.n_ctx).map_err(JobError::usage)?;
        Ok(WindowOptions { seq_len, max_tokens: text.tokens, pack: text.pack })
    }

    /// Reads the text.
    ///
    /// # Errors
    /// A text that cannot be read.
    pub fn windows(&self, options: &WindowOptions, watch: &dyn Watch) -> Result<AllWindows, JobError> {
        let mut stream =
            open_windows(self.inputs.corpus()?, &self.tokenizer, options).map_err(JobError::usage)?;
        let progress = watch.begin("reading", "tokens", options.max_tokens);
        let mut windows = Vec::new();
        for window in stream.by_ref() {
            let window = window?;
            progress.inc(window.ids.len() as u64);
            windows.push(window);
        }
        Ok(AllWindows { windows, stats: stream.stats(), lead: stream.reason().to_owned() })
    }

    /// Tokens that can be said: the tokenizer's, not the padding rows that a checkpoint may have beyond them.
    pub fn vocab(&self) -> usize {
        self.session.vocab(&self.tokenizer)
    }

    /// A manifest with everything filled in that does not depend on the command. `lead` is what is put in front of
    /// documents and why.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn manifest<J: Job>(
        &self,
        job: &J,
        (lead, pack): (&str, bool),
        seed: u64,
        watch: &dyn Watch,
    ) -> Result<Manifest, JobError> {
        let mut manifest = self.session.manifest(job, &self.tokenizer, watch)?;
        if let Some(bos) = &mut manifest.bos {
            lead.clone_into(&mut bos.reason);
            if pack {
                (bos.id, bos.token, bos.prefix) = (None, None, Vec::new());
            }
        }
        manifest.chat = self.inputs.chat_identity();
        manifest.seed = seed;
        manifest.data = self.inputs.hashes()?;
        Ok(manifest)
    }
}

/// What a manifest counts.
pub fn counts(stats: TextStats, rows: u64) -> Counts {
    Counts {
        documents: stats.documents,
        empty_documents: stats.empty_documents,
        tokens: stats.tokens,
        text_bytes: stats.text_bytes,
        rows,
    }
}
