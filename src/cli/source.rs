//! A model and a text together, and what a manifest says of them.

use super::{
    args::{CommonArgs, ModelArgs, TextArgs},
    exit::Failure,
    inputs::Inputs,
    output::Output,
    session::Session,
};
use layerscope::{
    results::run::{Counts, Manifest},
    sources::text::{TextStats, Tokenizer, Window, WindowOptions, open_windows, resolve_seq_len},
};

/// Where tokens come from and what reads them.
pub(crate) struct Source {
    pub(crate) session: Session,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) inputs: Inputs,
}

/// Windows of the whole text, read into memory.
pub(crate) struct AllWindows {
    pub(crate) windows: Vec<Window>,
    pub(crate) stats: TextStats,
    /// What is put in front of documents and why.
    pub(crate) lead: String,
}

impl Source {
    /// Checks model, tokenizer and text; reads no weights.
    pub(crate) fn open(model: &ModelArgs, text: &TextArgs, output: Output) -> Result<Self, Failure> {
        let session = Session::open(model, output)?;
        let tokenizer = session.tokenizer(model)?;
        Ok(Self { session, tokenizer, inputs: Inputs::open(text)? })
    }

    /// How the text is cut.
    pub(crate) fn window_options(&self, text: &TextArgs) -> Result<WindowOptions, Failure> {
        let seq_len = resolve_seq_len(text.seq_len, self.session.spec.n_ctx).map_err(Failure::usage)?;
        Ok(WindowOptions { seq_len, max_tokens: text.tokens, pack: text.pack })
    }

    /// Reads the text.
    pub(crate) fn windows(&self, options: &WindowOptions, output: Output) -> Result<AllWindows, Failure> {
        let mut stream =
            open_windows(self.inputs.corpus()?, &self.tokenizer, options).map_err(Failure::usage)?;
        let bar = output.bar("reading", "tokens", options.max_tokens);
        let mut windows = Vec::new();
        for window in stream.by_ref() {
            let window = window?;
            bar.inc(window.ids.len() as u64);
            windows.push(window);
        }
        bar.finish_and_clear();
        Ok(AllWindows { windows, stats: stream.stats(), lead: stream.reason().to_owned() })
    }

    /// Tokens that can be said: the tokenizer's, not the padding rows that a checkpoint may have beyond them.
    pub(crate) fn vocab(&self) -> usize {
        (self.tokenizer.max_id() as usize + 1).min(self.session.spec.vocab)
    }

    /// A manifest with everything filled in that does not depend on the command.
    pub(crate) fn manifest(
        &self,
        kind: &str,
        model: &ModelArgs,
        lead: &str,
        pack: bool,
        common: &CommonArgs,
        output: Output,
    ) -> Result<Manifest, Failure> {
        let mut manifest = self.session.manifest(kind, &self.tokenizer, model.bos, output)?;
        if let Some(bos) = &mut manifest.bos {
            lead.clone_into(&mut bos.reason);
            if pack {
                (bos.id, bos.token, bos.prefix) = (None, None, Vec::new());
            }
        }
        manifest.seed = common.seed;
        manifest.data = self.inputs.hashes()?;
        Ok(manifest)
    }
}

/// What a manifest counts.
pub(crate) fn counts(stats: TextStats, rows: u64) -> Counts {
    Counts {
        documents: stats.documents,
        empty_documents: stats.empty_documents,
        tokens: stats.tokens,
        text_bytes: stats.text_bytes,
        rows,
    }
}
