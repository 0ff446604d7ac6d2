//! What makes texts of the chats in data files: the model's template, opened when the first chat comes.

use std::{path::PathBuf, sync::OnceLock};

use serde_json::Value;

use super::{Chat, ChatError, ChatTemplate, Ending, Rendered, TemplateSettings};

/// A model's folder, how its template is to be used, and the template itself once it is needed.
#[derive(Debug)]
pub struct Chats {
    dir: PathBuf,
    settings: TemplateSettings,
    template: OnceLock<ChatTemplate>,
}

impl Chats {
    /// Of the model in `dir`.
    pub fn new(dir: impl Into<PathBuf>, settings: &TemplateSettings) -> Self {
        Self { dir: dir.into(), settings: settings.clone(), template: OnceLock::new() }
    }

    /// The template.
    ///
    /// # Errors
    /// When the model has none.
    pub fn template(&self) -> Result<&ChatTemplate, ChatError> {
        if let Some(template) = self.template.get() {
            return Ok(template);
        }
        let template = ChatTemplate::open(&self.dir, &self.settings)?;
        Ok(self.template.get_or_init(|| template))
    }

    /// What the text of chats depends on, where there was one.
    pub fn identity(&self) -> Option<Value> {
        self.template.get().map(|template| template.identity(&self.settings))
    }

    /// How a chat of a data file ends.
    fn ending(&self) -> Ending {
        match (self.settings.continue_final_message, self.settings.add_generation_prompt) {
            (true, _) => Ending::Continue,
            (false, true) => Ending::Prompt,
            (false, false) => Ending::Closed,
        }
    }

    /// Renders a chat that is written as JSON.
    pub(crate) fn render(&self, json: &str) -> Result<Rendered, ChatError> {
        let value =
            serde_json::from_str(json).map_err(|error| ChatError::NoChat(format!("not JSON: {error}")))?;
        self.template()?.render(&Chat::new(value)?, self.ending())
    }

    /// Renders a chat that the model is to answer, or whose last message is to go on.
    ///
    /// # Errors
    /// A model without a template, or a template that refuses the chat.
    pub fn prompt(&self, chat: &Chat) -> Result<String, ChatError> {
        let ending = if self.settings.continue_final_message { Ending::Continue } else { Ending::Prompt };
        self.template()?.text(chat, ending)
    }
}
