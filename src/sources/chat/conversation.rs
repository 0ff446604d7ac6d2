//! A conversation as data files have it.

use serde_json::{Map, Value};

use super::ChatError;

/// Messages, each an object with a role, and what else a template may ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct Chat {
    /// The messages, in order.
    pub messages: Vec<Map<String, Value>>,
    /// Descriptions of the tools that the model may call.
    pub tools: Option<Vec<Value>>,
}

impl Chat {
    /// A list of messages, or an object with the lists `messages` and perhaps `tools`.
    ///
    /// # Errors
    /// [`ChatError::NoChat`], which says what is wrong.
    pub fn new(value: Value) -> Result<Self, ChatError> {
        let wrong = |reason: String| ChatError::NoChat(reason);
        let (messages, tools) = match value {
            Value::Array(messages) => (messages, None),
            Value::Object(mut object) => {
                let tools = match object.remove("tools") {
                    None | Some(Value::Null) => None,
                    Some(Value::Array(tools)) => Some(tools),
                    Some(_) => return Err(wrong("`tools` of a chat must be a list".into())),
                };
                match object.remove("messages") {
                    Some(Value::Array(messages)) => (messages, tools),
                    _ => {
                        return Err(wrong(
                            "a chat must be a list of messages, or an object with the list `messages`".into(),
                        ));
                    }
                }
            }
            _ => {
                return Err(wrong(
                    "a chat must be a list of messages, or an object with the list `messages`".into(),
                ));
            }
        };
        let message = |(i, message): (usize, Value)| match message {
            Value::Object(mut message) if message.get("role").is_some_and(Value::is_string) => {
                // Tables have every key in every message, and many templates would write the null out.
                message.retain(|_, value| !value.is_null());
                Ok(message)
            }
            Value::Object(_) => Err(wrong(format!("message {i} of the chat has no `role`"))),
            _ => Err(wrong(format!("message {i} of the chat is no object with `role` and `content`"))),
        };
        let messages: Vec<_> = messages.into_iter().enumerate().map(message).collect::<Result<_, _>>()?;
        if messages.is_empty() {
            return Err(wrong("a chat without messages".into()));
        }
        Ok(Self { messages, tools })
    }

    /// One question of a user.
    pub fn question(text: &str) -> Self {
        let message =
            [("role", "user"), ("content", text)].map(|(key, value)| (key.to_owned(), value.into()));
        Self { messages: vec![Map::from_iter(message)], tools: None }
    }

    /// The role of a message.
    pub(super) fn role(&self, turn: usize) -> &str {
        self.messages[turn].get("role").and_then(Value::as_str).unwrap_or_default()
    }
}

/// The chats of a file: one as JSON, or one a line. Text that is no JSON is a user's question.
///
/// # Errors
/// [`ChatError::NoChat`].
pub fn chats(text: &str) -> Result<Vec<Chat>, ChatError> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Err(ChatError::NoChat("no chat is given".into()));
    }
    match serde_json::from_str::<Value>(text) {
        // A list of chats is a list of lists or of objects with messages.
        Ok(Value::Array(all))
            if all.first().is_some_and(|one| one.is_array() || one.get("messages").is_some()) =>
        {
            all.into_iter().map(Chat::new).collect()
        }
        Ok(value @ (Value::Array(_) | Value::Object(_))) => Ok(vec![Chat::new(value)?]),
        _ if text.trim_start().starts_with(['{', '[']) => {
            let line = |(i, line): (usize, &str)| {
                let value = serde_json::from_str(line);
                let value = value.map_err(|e| ChatError::NoChat(format!("line {}: not JSON: {e}", i + 1)))?;
                Chat::new(value)
            };
            text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(line).collect()
        }
        _ => Ok(vec![Chat::question(text.trim_end_matches(['\n', '\r']))]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(value: Value) -> String {
        Chat::new(value).unwrap_err().to_string()
    }

    #[test]
    fn what_is_a_chat() {
        let messages = json!([{"role": "user", "content": "hi"}]);
        let bare = Chat::new(messages.clone()).unwrap();
        assert_eq!(Chat::new(json!({"messages": messages, "tools": null, "id": 3})).unwrap(), bare);
        assert_eq!(Chat::question("hi"), bare);
        let tools = Chat::new(json!({"messages": messages, "tools": [{"name": "f"}]})).unwrap().tools;
        assert_eq!(tools.unwrap().len(), 1);
        assert_eq!(error(json!([])), "a chat without messages");
        assert_eq!(error(json!([{"content": "hi"}])), "message 0 of the chat has no `role`");
        assert!(error(json!(["hi"])).starts_with("message 0 of the chat is no object"));
        for no_chat in [json!(3), json!({"text": "hi"}), json!({"messages": "hi"})] {
            assert!(error(no_chat).starts_with("a chat must be a list of messages"));
        }
    }

    #[test]
    fn files_of_chats() {
        let one = r#"[{"role":"user","content":"hi"}]"#;
        let lines = format!("{{\"messages\":{one}}}\n\n{one}\n");
        for (text, n) in [(one.to_owned(), 1), (lines, 2), (format!("[{one},{one}]"), 2), ("hi\n".into(), 1)]
        {
            let all = chats(&text).unwrap();
            assert_eq!(all, vec![Chat::question("hi"); n], "{text}");
        }
        assert!(chats("{\"messages\": [}\n").unwrap_err().to_string().starts_with("line 1: not JSON"));
        assert_eq!(chats(" \n").unwrap_err().to_string(), "no chat is given");
    }
}
