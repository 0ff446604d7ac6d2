//! The small JSON files beside `tokenizer.json` that name special tokens.

use super::error::TextError;
use crate::model::{Gguf, ModelError, parse_python};
use serde_json::Value;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// `tokenizer_config.json`, `special_tokens_map.json` and `config.json` of a model folder.
pub(super) struct ConfigFiles {
    pub(super) dir: PathBuf,
    pub(super) tokenizer: ConfigFile,
    pub(super) special: ConfigFile,
    pub(super) model: ConfigFile,
}

/// One of them; `null` when the file is not there.
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    pub(super) value: Value,
}

/// The id of a special token, as a file names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedId {
    /// No id.
    None,
    /// An id that the model has an embedding of.
    Known(u32),
    /// A number that is none: negative, or too large.
    Outside { id: i64, vocab: usize },
}

impl ConfigFiles {
    pub(super) fn load(dir: &Path) -> Result<Self, TextError> {
        if let Some(path) = Gguf::file_of(dir) {
            return Self::of_gguf(dir, &path);
        }
        Ok(Self {
            dir: dir.into(),
            tokenizer: ConfigFile::load(dir.join("tokenizer_config.json"))?,
            special: ConfigFile::load(dir.join("special_tokens_map.json"))?,
            model: ConfigFile::load(dir.join("config.json"))?,
        })
    }
}

impl ConfigFiles {
    /// What the metadata of a GGUF file say in their place; a `tokenizer_config.json` beside it is read.
    fn of_gguf(dir: &Path, path: &Path) -> Result<Self, TextError> {
        let bad = |error: ModelError| TextError::BadConfig { path: path.into(), message: error.to_string() };
        let file = Gguf::open(path).map_err(bad)?;
        let own = |value: Value| ConfigFile { path: path.into(), value };
        let model = file.config().map_err(bad)?.into();
        let beside = ConfigFile::load(dir.join("tokenizer_config.json"))?;
        let tokenizer =
            if beside.value.is_null() { own(super::gguf::tokenizer_config(&file)) } else { beside };
        Ok(Self { dir: dir.into(), tokenizer, special: own(Value::Null), model: own(model) })
    }

    /// The BOS that `config.json` names, held against its own `vocab_size`, else the tokenizer's.
    pub(super) fn model_bos(&self, tokenizer: &tokenizers::Tokenizer) -> Result<NamedId, TextError> {
        let Some(id) = self.model.token_id("bos_token_id")? else { return Ok(NamedId::None) };
        let own = self.model.token_id("vocab_size")?.and_then(|size| usize::try_from(size).ok());
        let vocab = own.unwrap_or_else(|| tokenizer.get_vocab_size(true));
        let known = u32::try_from(id).ok().filter(|id| (*id as usize) < vocab);
        Ok(known.map_or(NamedId::Outside { id, vocab }, NamedId::Known))
    }

    /// Settings of these files that cannot be followed, a line each.
    pub(super) fn warnings(&self, tokenizer: &tokenizers::Tokenizer) -> Result<Vec<String>, TextError> {
        Ok(match self.model_bos(tokenizer)? {
            NamedId::Outside { id, vocab } => {
                let path = self.model.path.display();
                vec![format!("{path}: bos_token_id {id} is outside the vocabulary of {vocab}: taken as none")]
            }
            NamedId::None | NamedId::Known(_) => Vec::new(),
        })
    }
}

impl ConfigFile {
    fn load(path: PathBuf) -> Result<Self, TextError> {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            // Nothing is beside a model that is one file.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Self { path, value: Value::Null });
            }
            Err(source) => return Err(TextError::io(path.display().to_string(), source)),
        };
        match parse_python(&bytes) {
            Ok(value) if value.is_object() => Ok(Self { path, value }),
            Ok(_) => Err(TextError::BadConfig { path, message: "expected a JSON object".into() }),
            Err(error) => Err(TextError::BadConfig { path, message: format!("not JSON: {error}") }),
        }
    }

    /// A special token's text: a string, or an object with `content`. `None` when absent or null.
    pub(super) fn token(&self, key: &str) -> Result<Option<&str>, TextError> {
        let named = match &self.value[key] {
            Value::Null => return Ok(None),
            Value::String(token) => Some(token.as_str()),
            Value::Object(object) => object.get("content").and_then(Value::as_str),
            _ => None,
        };
        let message = || format!("{key} must be a string or an object with a string \"content\"");
        named.map(Some).ok_or_else(|| TextError::BadConfig { path: self.path.clone(), message: message() })
    }

    /// A token id, at the top level or inside `text_config` (models that also see images). Of a list, the first.
    pub(super) fn token_id(&self, key: &str) -> Result<Option<i64>, TextError> {
        let value =
            if self.value[key].is_null() { &self.value["text_config"][key] } else { &self.value[key] };
        let number = if let Value::Array(list) = value { list.first() } else { Some(value) };
        match number {
            None | Some(Value::Null) => Ok(None),
            Some(number) => number.as_i64().map(Some).ok_or_else(|| TextError::BadConfig {
                path: self.path.clone(),
                message: format!("{key} must be a token id or null, got {value}"),
            }),
        }
    }

    /// The file's name without its folder.
    pub(super) fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}
