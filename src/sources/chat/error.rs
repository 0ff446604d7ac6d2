//! What can be wrong with a chat or its template.

use std::path::PathBuf;

/// A chat that cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The model's folder names no template.
    #[error("{}: no chat template (no chat_template.jinja, none in tokenizer_config.json); give a file that holds one", dir.display())]
    NoTemplate {
        /// The folder.
        dir: PathBuf,
    },
    /// There are several templates, and none of them is the one to take.
    #[error("{}: no chat template {asked:?}; there are {}", dir.display(), names.join(", "))]
    NoSuchTemplate {
        /// The folder.
        dir: PathBuf,
        /// The name asked for.
        asked: String,
        /// The names there are.
        names: Vec<String>,
    },
    /// A file cannot be read, or is not what it must be.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// What was given is no list of messages.
    #[error("{0}")]
    NoChat(String),
    /// The template cannot be read, or refuses the chat.
    #[error("chat template{name}: {message}")]
    Template {
        /// ` of NAME`, or nothing.
        name: String,
        /// What it says, and where.
        message: String,
    },
    /// The last message cannot be continued.
    #[error("the last message cannot be continued: {0}")]
    Continue(String),
    /// A message that cannot be found again in what the template made of it.
    #[error(
        "the chat template does not render the content of message {turn} ({role}) as it is, so its tokens cannot be told"
    )]
    LostTurn {
        /// Which message, from 0.
        turn: usize,
        /// Its role.
        role: String,
    },
}
