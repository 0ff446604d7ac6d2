//! Where a model keeps its chat template.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ChatError, Clock, jinja::Engine};
use crate::{
    model::{Gguf, parse_python},
    results::hash::sha256,
    sources::text::tokenizer_config,
};

/// Names of special tokens that templates may use.
const SPECIAL: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// The larger of honest templates have some twenty kilobytes.
const LARGEST: u64 = 4 << 20;

/// How chats become text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct TemplateSettings {
    /// Chat template in place of the model's own: a file, or the name of one of several that the model has
    #[cfg_attr(feature = "cli", arg(long, help_heading = "Chats", value_name = "FILE|NAME"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// Tools that chats may call, a JSON list
    #[cfg_attr(feature = "cli", arg(long, help_heading = "Chats", value_name = "FILE.json"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<PathBuf>,
    /// Variable of the chat template, a name and its JSON; repeat for several
    #[cfg_attr(feature = "cli", arg(long, help_heading = "Chats", value_name = "KEY=JSON"))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub template_option: Vec<String>,
    /// Day that a chat template takes for today, such as 2025-01-31
    #[cfg_attr(feature = "cli", arg(long, help_heading = "Chats", value_name = "DATE"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_date: Option<Clock>,
    /// Render chats up to where the model begins its answer
    #[cfg_attr(
        feature = "cli",
        arg(long, help_heading = "Chats", conflicts_with = "continue_final_message")
    )]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub add_generation_prompt: bool,
    /// Leave the last message of a chat open, to be continued
    #[cfg_attr(feature = "cli", arg(long, help_heading = "Chats"))]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub continue_final_message: bool,
}

crate::by_text::serde_by_text!(Clock);

/// A template, compiled, with what it knows beside the messages.
#[derive(Debug)]
pub struct ChatTemplate {
    /// Its text.
    pub(super) source: String,
    /// Its name in messages: ` of FILE`, or nothing.
    name: String,
    engine: Engine,
    clock: Clock,
    /// Special tokens and options.
    pub(super) variables: Map<String, Value>,
    pub(super) tools: Option<Vec<Value>>,
}

impl ChatTemplate {
    /// The template of the model in `dir`, or the one that is asked for. Of several templates `tool_use` is taken where
    /// there are tools, else `default`.
    ///
    /// # Errors
    /// When there is none, or it is no template.
    pub fn open(dir: &Path, settings: &TemplateSettings) -> Result<Self, ChatError> {
        let tools = settings.tools.as_deref().map(tools).transpose()?;
        let (name, source) = chosen(dir, settings.chat_template.as_deref(), tools.is_some())?;
        let clock = settings.chat_date.unwrap_or_else(Clock::today);
        let engine = Engine::new(&source, clock)
            .map_err(|message| ChatError::Template { name: name.clone(), message })?;
        let mut variables = special_tokens(dir)?;
        for option in &settings.template_option {
            let (key, value) = option.split_once('=').ok_or_else(|| {
                ChatError::NoChat(format!(
                    "template option {option:?} is not KEY=JSON, such as enable_thinking=false"
                ))
            })?;
            // What is no JSON is a text.
            variables.insert(key.into(), serde_json::from_str(value).unwrap_or_else(|_| value.into()));
        }
        Ok(Self { source, name, engine, clock, variables, tools })
    }

    /// Renders with these variables.
    pub(super) fn run(&self, variables: &Value) -> Result<String, ChatError> {
        let error = |message| ChatError::Template { name: self.name.clone(), message };
        self.engine.render(variables).map_err(error)
    }

    /// What the template's text depends on, for a manifest: its hash, the options, and the day where it asks for it.
    pub fn identity(&self, settings: &TemplateSettings) -> Value {
        let mut identity =
            Map::from_iter([("template_sha256".to_owned(), sha256(self.source.as_bytes()).into())]);
        if self.source.contains("strftime_now") {
            identity.insert("date".into(), self.clock.to_string().into());
        }
        if let Some(tools) = &self.tools {
            identity.insert("tools".into(), tools.clone().into());
        }
        if !settings.template_option.is_empty() {
            identity.insert("options".into(), settings.template_option.clone().into());
        }
        for (key, set) in [
            ("add_generation_prompt", settings.add_generation_prompt),
            ("continue_final_message", settings.continue_final_message),
        ] {
            identity.extend(set.then(|| (key.to_owned(), true.into())));
        }
        identity.into()
    }
}

/// The template's name, for messages, and its text.
fn chosen(dir: &Path, asked: Option<&str>, tools: bool) -> Result<(String, String), ChatError> {
    if let Some(file) = asked.map(Path::new).filter(|file| file.is_file()) {
        let text = read(file)?.unwrap_or_default();
        return Ok((format!(" of {}", file.display()), text));
    }
    let mut found = found(dir)?;
    let name = asked.unwrap_or(if tools && found.iter().any(|(name, _)| name == "tool_use") {
        "tool_use"
    } else {
        "default"
    });
    match found.iter().position(|(own, _)| own == name) {
        Some(at) => {
            Ok((if name == "default" { String::new() } else { format!(" {name}") }, found.swap_remove(at).1))
        }
        None if found.is_empty() && asked.is_none() => Err(ChatError::NoTemplate { dir: dir.into() }),
        None => {
            let names = found.into_iter().map(|(name, _)| name).collect();
            Err(ChatError::NoSuchTemplate { dir: dir.into(), asked: name.into(), names })
        }
    }
}

/// Every template of a model by its name; files of their own come before what other files hold.
fn found(dir: &Path) -> Result<Vec<(String, String)>, ChatError> {
    let mut found = Vec::new();
    if let Some(text) = read(&dir.join("chat_template.jinja"))? {
        found.push(("default".to_owned(), text));
    }
    let more = std::fs::read_dir(dir.join("additional_chat_templates")).into_iter().flatten().flatten();
    for file in more.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "jinja")) {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        found.extend(read(&file)?.map(|text| (name, text)));
    }
    if !found.is_empty() {
        return Ok(found);
    }
    if let Some(file) = Gguf::file_of(dir) {
        let file = gguf(&file)?;
        found
            .extend(file.text("tokenizer.chat_template").map(|text| ("default".to_owned(), text.to_owned())));
    }
    for file in ["tokenizer_config.json", "chat_template.json"] {
        if !found.is_empty() {
            break;
        }
        let named = json(&dir.join(file))?;
        match named.get("chat_template") {
            Some(Value::String(text)) => found.push(("default".into(), text.clone())),
            Some(Value::Array(list)) => {
                let text = |one: &Value, key: &str| Some(one.get(key)?.as_str()?.to_owned());
                found
                    .extend(list.iter().filter_map(|one| Some((text(one, "name")?, text(one, "template")?))));
            }
            _ => {}
        }
    }
    Ok(found)
}

fn special_tokens(dir: &Path) -> Result<Map<String, Value>, ChatError> {
    let mut tokens = Map::new();
    if let Some(file) = Gguf::file_of(dir) {
        let named = tokenizer_config(&gguf(&file)?);
        tokens.extend(SPECIAL.iter().filter_map(|key| Some(((*key).to_owned(), named.get(key)?.clone()))));
    }
    for file in ["special_tokens_map.json", "tokenizer_config.json"] {
        let file = json(&dir.join(file))?;
        for key in SPECIAL {
            let token =
                file.get(key).and_then(|token| token.as_str().or_else(|| token.get("content")?.as_str()));
            tokens.extend(token.map(|token| (key.to_owned(), token.into())));
        }
    }
    Ok(tokens)
}

fn gguf(path: &Path) -> Result<Gguf, ChatError> {
    Gguf::open(path).map_err(|error| ChatError::File { path: path.into(), message: error.to_string() })
}

fn tools(file: &Path) -> Result<Vec<Value>, ChatError> {
    let wrong = |message: String| ChatError::File { path: file.into(), message };
    let text = read(file)?.ok_or_else(|| wrong("no such file".into()))?;
    match serde_json::from_str(&text) {
        Ok(Value::Array(tools)) => Ok(tools),
        Ok(_) => Err(wrong("tools must be a JSON list".into())),
        Err(error) => Err(wrong(format!("not JSON: {error}"))),
    }
}

/// A small JSON file; null where it is not there.
fn json(path: &Path) -> Result<Value, ChatError> {
    let wrong = |message: String| ChatError::File { path: path.into(), message };
    let Some(text) = read(path)? else { return Ok(Value::Null) };
    parse_python(text.as_bytes()).map_err(|error| wrong(format!("not JSON: {error}")))
}

/// A text file; none where it is not there.
fn read(path: &Path) -> Result<Option<String>, ChatError> {
    let wrong = |message: String| ChatError::File { path: path.into(), message };
    match std::fs::metadata(path) {
        Ok(file) if file.len() > LARGEST && path.extension().is_some_and(|e| e == "jinja") => {
            Err(wrong(format!("a chat template of {} bytes; at most {LARGEST} are read", file.len())))
        }
        Ok(file) if file.is_file() => {
            std::fs::read_to_string(path).map(Some).map_err(|e| wrong(e.to_string()))
        }
        _ => Ok(None),
    }
}
