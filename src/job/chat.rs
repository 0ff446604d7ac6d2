//! Chats as prompts.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{JobError, Session, read_stdin};
use crate::sources::chat::{Chats, TemplateSettings, chats};

/// Chats for the model to answer, rendered by its own template.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct ChatSettings {
    /// Chats for the model to answer: JSON messages, an object with messages and tools, or one a line; a text is a
    /// user's question; `-` is stdin
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE|-"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<PathBuf>,
    /// How chats become text.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub template: TemplateSettings,
}

/// Chats as text.
#[derive(Debug, Default)]
pub struct ChatPrompts {
    /// The texts, special tokens written out.
    pub texts: Vec<String>,
    /// What they depend on, for a manifest; none where there is no chat.
    pub identity: Option<Value>,
}

impl ChatSettings {
    /// Renders the chats, each up to where the model is to go on.
    ///
    /// # Errors
    /// A file that holds no chats, a model without a template, or a template that refuses a chat.
    pub fn prompts(&self, session: &Session) -> Result<ChatPrompts, JobError> {
        let Some(path) = &self.chat else { return Ok(ChatPrompts::default()) };
        let shown = path.display().to_string();
        let text = if shown == "-" {
            read_stdin()?
        } else {
            std::fs::read_to_string(path).map_err(|error| JobError::usage(error).at(&shown))?
        };
        let all = chats(&text).map_err(|error| JobError::usage(error).at(&shown))?;
        let renderer = Chats::new(session.path(), &self.template);
        let texts = all.iter().map(|chat| renderer.prompt(chat));
        let texts = texts.collect::<Result<_, _>>().map_err(JobError::usage)?;
        Ok(ChatPrompts { texts, identity: renderer.identity() })
    }
}
