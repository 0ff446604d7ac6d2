//! What can go wrong between a data file and a window of token ids.

use crate::sources::chat::ChatError;
use std::path::PathBuf;

/// An error of the text part: one line, with the file, the place in it and the operands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A chat that cannot be rendered.
    #[error("{place}: {source}")]
    Chat {
        /// Where it is.
        place: String,
        /// What the part below said; it is the cause of this error.
        source: ChatError,
    },
    /// A chat where no model's template is at hand.
    #[error("{place}: a chat, which needs a model whose template renders it")]
    NoTemplate {
        /// Where it is.
        place: String,
    },
    /// No data file was given.
    #[error("no data file given")]
    NoInput,
    /// The file is not there.
    #[error("{}: no such file", .0.display())]
    NoSuchFile(PathBuf),
    /// A folder was given where a file is needed.
    #[error("{}: is a folder, a data file is needed", .0.display())]
    IsFolder(PathBuf),
    /// The operating system refused to open or read a file.
    #[error("{name}: {source}")]
    Io {
        /// The file, as it was given.
        name: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The file's extension names no known format.
    #[error("{}: unknown extension {found:?}, known are {known}", .path.display())]
    UnknownExtension {
        /// The file.
        path: PathBuf,
        /// Its extension, empty when it has none.
        found: String,
        /// The known extensions, comma separated.
        known: &'static str,
    },
    /// `-` was given more than once.
    #[error("stdin (-) can be read only once")]
    StdinTwice,
    /// Parquet and Arrow need to seek, a stream cannot.
    #[error("{name}: Parquet and Arrow cannot be read from a stream, give a file")]
    CannotStream {
        /// The stream.
        name: String,
    },
    /// A folder that is not the shards of one data set.
    #[error("{}: is a folder {why}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it, and what to give instead.
        why: String,
    },
    /// A file whose first bytes are of another format than its name.
    #[error("{place}: is {is}")]
    NotThisFormat {
        /// The file.
        place: String,
        /// What it is, and what to do.
        is: &'static str,
    },
    /// A document of a compressed file that is larger than allowed.
    #[error("{place}: a document of more than {limit} bytes")]
    TooLarge {
        /// File and line.
        place: String,
        /// The most bytes.
        limit: u64,
    },
    /// Bytes that are not UTF-8.
    #[error("{place}: invalid UTF-8 at byte {offset} of the {within}")]
    InvalidUtf8 {
        /// File and line.
        place: String,
        /// Byte offset, from 0.
        offset: u64,
        /// What the offset counts from the start of: `file` or `field`.
        within: &'static str,
    },
    /// A line that is not JSON.
    #[error("{place}: not JSON: {message}")]
    Json {
        /// File and line.
        place: String,
        /// The parser's message and the column.
        message: String,
    },
    /// A line of JSON that is not an object.
    #[error("{place}: expected a JSON object, got {found}")]
    NotAnObject {
        /// File and line.
        place: String,
        /// The JSON type found.
        found: &'static str,
    },
    /// The text column is not there.
    #[error(
        "{place}: no column {column:?}{}, columns here: {}{}", hint(.column, .present), list(.present), chat(.present)
    )]
    NoColumn {
        /// File, and line where columns may differ by line.
        place: String,
        /// The column asked for.
        column: String,
        /// The columns that are there.
        present: Vec<String>,
    },
    /// The text column holds something else than text.
    #[error("{place}: column {column:?} must be text, got {found}")]
    NotText {
        /// File and line.
        place: String,
        /// The column.
        column: String,
        /// The type found.
        found: String,
    },
    /// A column that is not the text holds something else than one value.
    #[error("{place}: column {column:?} must be text or a number, got {found}")]
    NotScalar {
        /// File and line.
        place: String,
        /// The column.
        column: String,
        /// The type found.
        found: String,
    },
    /// A `.json` file that is not a list.
    #[error("{place}: expected a list of JSON objects, or one object a line, got {found}")]
    NotAList {
        /// The file.
        place: String,
        /// The JSON type found.
        found: &'static str,
    },
    /// A malformed CSV record.
    #[error("{place}: bad csv: {message}")]
    Csv {
        /// File and line.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A Parquet or Arrow file that cannot be read.
    #[error("{place}: bad {format}: {message}")]
    Columnar {
        /// File, and row when known.
        place: String,
        /// `parquet` or `arrow`.
        format: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The inputs hold no document at all.
    #[error("no document in {inputs}")]
    NoDocuments {
        /// The inputs.
        inputs: String,
    },
    /// Every document is empty.
    #[error("all {documents} documents are empty in {inputs}")]
    AllEmpty {
        /// How many there are.
        documents: u64,
        /// The inputs.
        inputs: String,
    },
    /// `tokenizer.json` is missing.
    #[error("{}: no such file{hint}", .path.display())]
    NoTokenizer {
        /// The missing file.
        path: PathBuf,
        /// What to do, or empty.
        hint: String,
    },
    /// `tokenizer.json` is there and cannot be used.
    #[error("{}: not a usable tokenizer: {message}", .path.display())]
    BadTokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A configuration file beside the tokenizer is malformed.
    #[error("{}: {message}", .path.display())]
    BadConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The tokenizer failed on a text or on ids: its file, or a bound on time and memory, does not allow it.
    #[error("{}: the tokenizer failed on {on}: {message}", .path.display())]
    Tokenizer {
        /// The tokenizer's file.
        path: PathBuf,
        /// What it was given: a document, the start of a text, ids.
        on: String,
        /// What the library said.
        message: String,
    },
    /// A text that must be one token is another number of them.
    #[error(
        "{text:?} is not one token but {}: {}{}", .tokens.len(), list(.tokens),
        .hint.as_ref().map_or_else(String::new, |hint| format!(" (did you mean {hint:?}?)"))
    )]
    NotOneToken {
        /// The text.
        text: String,
        /// What its tokens stand for.
        tokens: Vec<String>,
        /// A text that is one token.
        hint: Option<String>,
    },
    /// The model has fewer embedding rows than the tokenizer has ids.
    #[error(
        "vocabulary mismatch: the tokenizer's largest id is {max_id}, the model has {model_vocab} embedding rows"
    )]
    VocabMismatch {
        /// The tokenizer's largest id.
        max_id: u32,
        /// Rows of the model's embedding.
        model_vocab: usize,
    },
    /// A BOS token is asked for and no file names one.
    #[error(
        "{asked} asks for a BOS token, but neither the post-processor of tokenizer.json nor tokenizer_config.json, \
         special_tokens_map.json or config.json in {} names one", .dir.display()
    )]
    NoBos {
        /// What asks for it.
        asked: &'static str,
        /// The model folder.
        dir: PathBuf,
    },
    /// The BOS token that a file names is not in the vocabulary.
    #[error("{}: bos_token {token:?} is not in the tokenizer's vocabulary", .path.display())]
    UnknownBos {
        /// The file.
        path: PathBuf,
        /// The token named there.
        token: String,
    },
    /// Packing needs an EOS token.
    #[error(
        "--pack joins documents with EOS, but neither tokenizer_config.json, special_tokens_map.json nor config.json names one"
    )]
    NoEos,
    /// A window length outside the model's context.
    #[error("--seq-len {seq_len} must be between 1 and the model's context length {context}")]
    SeqLen {
        /// The length asked for.
        seq_len: usize,
        /// The model's context length.
        context: usize,
    },
    /// A window in which an encoder's template leaves no room for text.
    #[error("--seq-len {seq_len} leaves no room: the tokenizer's template alone has {around} tokens")]
    NoRoom {
        /// The length asked for.
        seq_len: usize,
        /// Tokens around every text.
        around: usize,
    },
    /// Zero tokens asked for.
    #[error("--tokens must be at least 1")]
    NoTokensAsked,
    /// The whole input is shorter than one packed chunk.
    #[error("--pack: the input has {tokens} tokens, less than one chunk of {seq_len}")]
    TooShortToPack {
        /// Tokens in the input, EOS included.
        tokens: u64,
        /// The chunk length.
        seq_len: usize,
    },
}

impl TextError {
    pub(crate) fn io(name: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { name: name.into(), source }
    }

    /// The same of a tokenizer's failure, on something with a better name.
    pub(super) fn on(self, name: &str) -> Self {
        match self {
            Self::Tokenizer { path, message, .. } => Self::Tokenizer { path, on: name.into(), message },
            other => other,
        }
    }
}

/// ` (did you mean "x"?)` for the nearest of `present`, or nothing.
fn hint(wanted: &str, present: &[String]) -> String {
    let close = |name: &&String| strsim::jaro_winkler(&wanted.to_lowercase(), &name.to_lowercase());
    let best = present.iter().max_by(|a, b| close(a).total_cmp(&close(b)));
    best.filter(|name| close(name) >= 0.75)
        .map_or_else(String::new, |name| format!(" (did you mean {name:?}?)"))
}

/// Names a column of conversations, which hold no one text.
fn chat(present: &[String]) -> String {
    let known = ["messages", "conversations", "conversation"];
    let found = present.iter().find(|name| known.contains(&name.as_str()));
    found.map_or_else(String::new, |name| {
        format!("; {name:?} is a chat, which is not read here: name a column of text")
    })
}

/// Names for an error line, at most twelve of them.
pub(crate) fn list(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let mut shown: Vec<_> = names.iter().take(SHOWN).map(|name| format!("{name:?}")).collect();
    if names.len() > SHOWN {
        shown.push(format!("and {} more", names.len() - SHOWN));
    }
    if shown.is_empty() { "none".into() } else { shown.join(", ") }
}
