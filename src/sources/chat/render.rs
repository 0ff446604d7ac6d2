//! From a chat to its text.

use serde_json::{Map, Value};

use super::{Chat, ChatError, ChatTemplate, Turn};

/// How a rendered chat ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ending {
    /// After the last message.
    #[default]
    Closed,
    /// Where the model begins its answer (`add_generation_prompt`).
    Prompt,
    /// Inside the last message, which goes on (`continue_final_message`).
    Continue,
}

/// A chat as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text, special tokens written out.
    pub text: String,
    /// Where the contents of its messages are.
    pub turns: Vec<Turn>,
}

/// What marks the end of a message that goes on; its last space shows whether the template trims.
const TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";
/// Names that different models have for what was thought.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

impl ChatTemplate {
    /// The chat's text, and where its messages are in it.
    ///
    /// # Errors
    /// A template that refuses the chat, or renders a content otherwise than it is.
    pub fn render(&self, chat: &Chat, ending: Ending) -> Result<Rendered, ChatError> {
        let text = self.text(chat, ending)?;
        let turns = self.turns(chat, ending, &text)?;
        Ok(Rendered { text, turns })
    }

    /// The chat's text alone.
    ///
    /// # Errors
    /// A template that refuses the chat, or a last message that cannot be continued.
    pub fn text(&self, chat: &Chat, ending: Ending) -> Result<String, ChatError> {
        let mut messages: Vec<_> = chat.messages.iter().map(with_reasoning).collect();
        let last = if ending == Ending::Continue { Some(self.tag_last(&mut messages)?) } else { None };
        let tools = chat.tools.as_ref().or(self.tools.as_ref());
        let mut variables = Map::from_iter([
            ("messages".to_owned(), messages.into_iter().map(Value::Object).collect()),
            ("tools".to_owned(), tools.cloned().into()),
            ("documents".to_owned(), Value::Null),
            ("add_generation_prompt".to_owned(), (ending == Ending::Prompt).into()),
        ]);
        variables.extend(self.variables.clone());
        let text = self.run(&variables.into())?;
        last.map_or(Ok(text.clone()), |last| cut(&text, &last))
    }

    /// Puts the tag behind the last message; returns the text that it is behind.
    fn tag_last(&self, messages: &mut [Map<String, Value>]) -> Result<String, ChatError> {
        let none = || ChatError::Continue("it has no text".into());
        if !self.source.contains("content") {
            return Err(ChatError::Continue("the chat template does not use `content`".into()));
        }
        let content = messages.last_mut().and_then(|message| message.get_mut("content")).ok_or_else(none)?;
        let text = match content {
            Value::Array(parts) => {
                parts.iter_mut().rev().find_map(|part| part.get_mut("text")).ok_or_else(none)?
            }
            content => content,
        };
        let before = text.as_str().ok_or_else(none)?.to_owned();
        *text = format!("{before}{TAG}").into();
        Ok(before)
    }
}

/// What is in front of the tag.
fn cut(text: &str, last: &str) -> Result<String, ChatError> {
    let at = text.rfind(TAG.trim_end()).filter(|_| text.contains(last.trim()));
    let at = at.ok_or_else(|| ChatError::Continue("the chat template does not render it as it is".into()))?;
    let kept = &text[..at];
    Ok(if text[at..].starts_with(TAG) { kept } else { kept.trim_end() }.to_owned())
}

/// A message whose thoughts have every name that templates read.
fn with_reasoning(message: &Map<String, Value>) -> Map<String, Value> {
    let thought =
        REASONING.iter().find_map(|key| message.get(*key).filter(|value| !value.is_null())).cloned();
    let Some(thought) = thought else { return message.clone() };
    let mut all = Map::from_iter([("thinking".to_owned(), thought.clone())]);
    all.extend(message.clone());
    all.insert("reasoning_content".into(), thought);
    all
}
