//! Whether a BOS token goes in front of every document, and why.
//!
//! Models trained with a BOS token read garbage statistics at position 0 without it, and the files of a model
//! disagree about it often. So the choice is made once, explicitly, and carries its reason.

use super::config_files::{ConfigFile, ConfigFiles};
use super::error::TextError;
use tokenizers::Tokenizer;

/// What the user asks for with `--bos`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum BosPolicy {
    /// What the tokenizer and the model's configuration say.
    #[default]
    Auto,
    /// A BOS token; an error when no file names one.
    Always,
    /// No BOS token, even when the tokenizer adds one.
    Never,
}

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bos {
    /// The id put in front of every document, or none.
    pub id: Option<u32>,
    /// The token of that id, when the tokenizer has one.
    pub token: Option<String>,
    /// One sentence that says why, to print and to record.
    pub reason: String,
}

impl Bos {
    /// Decides from the tokenizer (with its post-processor still in place) and the files beside it.
    pub(super) fn resolve(
        policy: BosPolicy,
        tokenizer: &Tokenizer,
        files: &ConfigFiles,
    ) -> Result<Self, TextError> {
        let around = Around::probe(tokenizer)?;
        let sources = Sources { tokenizer, files, around };
        let bos = match policy {
            BosPolicy::Auto => sources.auto()?,
            BosPolicy::Always => sources.always()?,
            BosPolicy::Never => sources.never(),
        };
        Ok(Self { reason: bos.reason + &sources.suffix_note(), ..bos })
    }
}

/// What the post-processor puts around a text.
struct Around {
    prefix: Vec<u32>,
    suffix: Vec<u32>,
}

impl Around {
    fn probe(tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let encode = |special| {
            let encoding = tokenizer.encode("the", special).map_err(|e| TextError::Encode(e.to_string()))?;
            Ok(encoding.get_ids().to_vec())
        };
        let (plain, full) = (encode(false)?, encode(true)?);
        let at = full.windows(plain.len().max(1)).position(|window| window == plain).unwrap_or(0);
        let suffix = full.get(at + plain.len()..).unwrap_or_default().to_vec();
        Ok(Self { prefix: full[..at].to_vec(), suffix })
    }
}

struct Sources<'a> {
    tokenizer: &'a Tokenizer,
    files: &'a ConfigFiles,
    around: Around,
}

impl Sources<'_> {
    fn auto(&self) -> Result<Bos, TextError> {
        if let Some(bos) = self.from_post_processor()? {
            return Ok(bos);
        }
        match self.add_bos_token()? {
            Some(true) => self.from_token(&self.files.tokenizer).transpose().unwrap_or_else(|| {
                let asked = "add_bos_token in tokenizer_config.json";
                self.from_elsewhere()?.ok_or_else(|| self.missing(asked))
            }),
            Some(false) => Ok(none("tokenizer_config.json says add_bos_token false")),
            None => Ok(self.from_model_config()?.unwrap_or_else(|| {
                none("neither the tokenizer's post-processor nor config.json names a BOS token")
            })),
        }
    }

    fn always(&self) -> Result<Bos, TextError> {
        let found = match self.from_post_processor()? {
            Some(bos) => Some(bos),
            None => match self.from_model_config()? {
                Some(bos) => Some(bos),
                None => match self.from_token(&self.files.tokenizer)? {
                    Some(bos) => Some(bos),
                    None => self.from_token(&self.files.special)?,
                },
            },
        };
        let bos = found.ok_or_else(|| self.missing("--bos always"))?;
        Ok(Bos { reason: format!("--bos always: {}", bos.reason), ..bos })
    }

    fn never(&self) -> Bos {
        if self.around.prefix.is_empty() {
            return none("--bos never");
        }
        none(&format!("--bos never, although the tokenizer prepends {}", self.names(&self.around.prefix)))
    }

    fn from_post_processor(&self) -> Result<Option<Bos>, TextError> {
        match self.around.prefix[..] {
            [] => Ok(None),
            [id] => {
                let against = match self.add_bos_token()? {
                    Some(false) => ", which outweighs add_bos_token false in tokenizer_config.json",
                    _ => "",
                };
                let name = self.names(&[id]);
                Ok(Some(self.some(id, format!("the tokenizer's post-processor prepends {name}{against}"))))
            }
            _ => Err(TextError::LongBos { tokens: self.names(&self.around.prefix) }),
        }
    }

    fn from_model_config(&self) -> Result<Option<Bos>, TextError> {
        let file = &self.files.model;
        let Some(id) = file.token_id("bos_token_id")? else { return Ok(None) };
        let own = file.token_id("vocab_size")?.map(|size| size as usize);
        let vocab = own.unwrap_or_else(|| self.tokenizer.get_vocab_size(true));
        if id >= vocab as u64 {
            return Err(TextError::BosOutOfRange { path: file.path.clone(), id, vocab });
        }
        let reason = format!("config.json names bos_token_id {id} and the tokenizer adds none");
        Ok(Some(self.some(id as u32, reason)))
    }

    fn from_token(&self, file: &ConfigFile) -> Result<Option<Bos>, TextError> {
        let Some(token) = file.token("bos_token")? else { return Ok(None) };
        let id = self
            .tokenizer
            .token_to_id(token)
            .ok_or_else(|| TextError::UnknownBos { path: file.path.clone(), token: token.into() })?;
        Ok(Some(self.some(id, format!("{} names bos_token {token:?} (id {id})", file.name()))))
    }

    /// The sources left when `tokenizer_config.json` wants a BOS token without naming it.
    fn from_elsewhere(&self) -> Result<Option<Bos>, TextError> {
        let named = self.from_token(&self.files.special)?;
        if named.is_some() { Ok(named) } else { self.from_model_config() }
    }

    fn add_bos_token(&self) -> Result<Option<bool>, TextError> {
        let file = &self.files.tokenizer;
        match &file.value["add_bos_token"] {
            serde_json::Value::Null => Ok(None),
            serde_json::Value::Bool(add) => Ok(Some(*add)),
            other => Err(TextError::BadConfig {
                path: file.path.clone(),
                message: format!("add_bos_token must be true or false, got {other}"),
            }),
        }
    }

    /// An EOS or SEP that the post-processor appends is no BOS and is left out: say so.
    fn suffix_note(&self) -> String {
        if self.around.suffix.is_empty() {
            return String::new();
        }
        format!("; {}, which the post-processor appends, is not added", self.names(&self.around.suffix))
    }

    fn some(&self, id: u32, reason: String) -> Bos {
        Bos { id: Some(id), token: self.tokenizer.id_to_token(id), reason }
    }

    fn missing(&self, asked: &'static str) -> TextError {
        TextError::NoBos { asked, dir: self.files.dir.clone() }
    }

    fn names(&self, ids: &[u32]) -> String {
        let name = |id: &u32| format!("{:?} (id {id})", self.tokenizer.id_to_token(*id).unwrap_or_default());
        ids.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

fn none(reason: &str) -> Bos {
    Bos { id: None, token: None, reason: reason.into() }
}
