use std::path::PathBuf;

use crate::{hook::HookError, model::ModelError, results::run::RunError};

/// An edit that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// Not the grammar.
    #[error("edit `{edit}`: {reason}")]
    Syntax {
        /// The edit.
        edit: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No such hook in this model.
    #[error("edit `{edit}`: {source}")]
    Hook {
        /// The edit.
        edit: String,
        /// Which, and what there is.
        source: HookError,
    },
    /// A hook whose values cannot be changed this way.
    #[error("edit `{edit}`: {hook} {reason}")]
    Unfit {
        /// The edit.
        edit: String,
        /// The hook's name.
        hook: String,
        /// Why not.
        reason: String,
    },
    /// A position outside the sequence.
    #[error("edit `{edit}`: no position {position} in {tokens} tokens")]
    Position {
        /// The edit.
        edit: String,
        /// The position.
        position: i64,
        /// Tokens there are.
        tokens: usize,
    },
    /// A file that cannot be used.
    #[error("edit `{edit}`: {source}")]
    File {
        /// The edit.
        edit: String,
        /// Why not.
        source: ModelError,
    },
    /// A file of a run that is not what the run wrote.
    #[error("edit `{edit}`: {source}")]
    Damaged {
        /// The edit.
        edit: String,
        /// The file, what was found and what was expected.
        source: Box<RunError>,
    },
    /// A vector that does not fit.
    #[error("edit `{edit}`: {}: {reason}", path.display())]
    Vector {
        /// The edit.
        edit: String,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}
