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
    /// Decides from the tokenizer (post-processor in place, padding and truncation off) and the files beside it.
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
        if let Some(bos) = self.post_processor_bos()? {
            return Ok(bos);
        }
        match self.add_bos_token()? {
            Some(true) => self.named_bos(&self.files.tokenizer).transpose().unwrap_or_else(|| {
                let asked = "add_bos_token in tokenizer_config.json";
                self.other_bos()?.ok_or_else(|| self.missing(asked))
            }),
            Some(false) => Ok(none("tokenizer_config.json says add_bos_token false")),
            None => Ok(self.model_config_bos()?.unwrap_or_else(|| {
                none("neither the tokenizer's post-processor nor config.json names a BOS token")
            })),
        }
    }

    fn always(&self) -> Result<Bos, TextError> {
        let found = match self.post_processor_bos()? {
            Some(bos) => Some(bos),
            None => match self.model_config_bos()? {
                Some(bos) => Some(bos),
                None => match self.named_bos(&self.files.tokenizer)? {
                    Some(bos) => Some(bos),
                    None => self.named_bos(&self.files.special)?,
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

    fn post_processor_bos(&self) -> Result<Option<Bos>, TextError> {
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

    fn model_config_bos(&self) -> Result<Option<Bos>, TextError> {
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

    fn named_bos(&self, file: &ConfigFile) -> Result<Option<Bos>, TextError> {
        let Some(token) = file.token("bos_token")? else { return Ok(None) };
        let id = self
            .tokenizer
            .token_to_id(token)
            .ok_or_else(|| TextError::UnknownBos { path: file.path.clone(), token: token.into() })?;
        Ok(Some(self.some(id, format!("{} names bos_token {token:?} (id {id})", file.name()))))
    }

    /// The sources left when `tokenizer_config.json` wants a BOS token without naming it.
    fn other_bos(&self) -> Result<Option<Bos>, TextError> {
        let named = self.named_bos(&self.files.special)?;
        if named.is_some() { Ok(named) } else { self.model_config_bos() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::{Path, PathBuf};

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/text").join(name)
    }

    fn resolve(dir: &Path, policy: BosPolicy) -> Result<(Option<u32>, String), String> {
        let mut tokenizer = Tokenizer::from_file(dir.join("tokenizer.json")).unwrap();
        tokenizer.with_padding(None);
        let bos = ConfigFiles::load(dir).and_then(|files| Bos::resolve(policy, &tokenizer, &files));
        bos.map(|bos| (bos.id, bos.reason))
            .map_err(|error| error.to_string().replace(&*dir.to_string_lossy(), "DIR"))
    }

    /// A copy of a fixture's tokenizer with other files beside it.
    fn with_files(name: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(fixture(name).join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
        for (file, content) in files {
            fs::write(dir.path().join(file), content).unwrap();
        }
        dir
    }

    #[test]
    fn auto_asks_tokenizer_then_its_config_then_the_model() {
        let auto = |name| resolve(&fixture(name), BosPolicy::Auto).unwrap();
        let some = |id, reason: &str| (Some(id), reason.to_owned());
        assert_eq!(
            auto("byte_level"),
            some(0, "config.json names bos_token_id 0 and the tokenizer adds none")
        );
        let prepends = "the tokenizer's post-processor prepends \"<s>\"";
        assert_eq!(auto("byte_level_bos"), some(0, &format!("{prepends} (id 0)")));
        assert_eq!(auto("llama"), some(1, &format!("{prepends} (id 1)")));
        let nobody = "neither the tokenizer's post-processor nor config.json names a BOS token";
        let suffix = "\"</s>\" (id 2), which the post-processor appends, is not added";
        assert_eq!(auto("unigram"), (None, format!("{nobody}; {suffix}")));
        assert_eq!(auto("wordpiece").0, Some(1));
        assert!(
            auto("wordpiece")
                .1
                .ends_with("; \"[SEP]\" (id 2), which the post-processor appends, is not added")
        );
    }

    #[test]
    fn add_bos_token_decides_before_the_model_config() {
        let config = ("config.json", r#"{"bos_token_id": 0}"#);
        let auto = |tokenizer_config: &str| {
            let dir = with_files("byte_level", &[config, ("tokenizer_config.json", tokenizer_config)]);
            resolve(dir.path(), BosPolicy::Auto)
        };
        assert_eq!(auto(r#"{"add_bos_token": false, "bos_token": "<s>"}"#).unwrap().0, None);
        assert_eq!(auto(r#"{"add_bos_token": true, "bos_token": {"content": "</s>"}}"#).unwrap().0, Some(1));
        assert_eq!(auto(r#"{"add_bos_token": true}"#).unwrap().0, Some(0));
        assert_eq!(auto(r#"{"bos_token": "</s>"}"#).unwrap().0, Some(0));
        let error = auto(r#"{"add_bos_token": true, "bos_token": "<bos>"}"#).unwrap_err();
        assert_eq!(
            error,
            "DIR/tokenizer_config.json: bos_token \"<bos>\" is not in the tokenizer's vocabulary"
        );
        let error = auto(r#"{"add_bos_token": 1}"#).unwrap_err();
        assert_eq!(error, "DIR/tokenizer_config.json: add_bos_token must be true or false, got 1");
        assert!(auto("[").unwrap_err().starts_with("DIR/tokenizer_config.json: not JSON: "));
        assert!(
            auto(r#"{"add_bos_token": true, "bos_token": 3}"#).unwrap_err().contains("bos_token must be")
        );
    }

    #[test]
    fn the_post_processor_outweighs_add_bos_token() {
        let dir = with_files("llama", &[("tokenizer_config.json", r#"{"add_bos_token": false}"#)]);
        let (id, reason) = resolve(dir.path(), BosPolicy::Auto).unwrap();
        assert_eq!(id, Some(1));
        assert!(
            reason.ends_with(", which outweighs add_bos_token false in tokenizer_config.json"),
            "{reason}"
        );
    }

    #[test]
    fn the_model_config_is_checked() {
        let auto =
            |config| resolve(with_files("byte_level", &[("config.json", config)]).path(), BosPolicy::Auto);
        assert_eq!(auto(r#"{"bos_token_id": null}"#).unwrap().0, None);
        assert_eq!(auto(r#"{"text_config": {"bos_token_id": 1}}"#).unwrap().0, Some(1));
        let error = auto(r#"{"bos_token_id": 512, "vocab_size": 512}"#).unwrap_err();
        assert_eq!(error, "DIR/config.json: bos_token_id 512 is outside the vocabulary of 512");
        let error = auto(r#"{"bos_token_id": "<s>"}"#).unwrap_err();
        assert_eq!(error, "DIR/config.json: bos_token_id must be a token id or null, got \"<s>\"");
    }

    #[test]
    fn always_finds_one_or_says_that_there_is_none() {
        let always =
            |files: &[(&str, &str)]| resolve(with_files("byte_level", files).path(), BosPolicy::Always);
        let named = |file| (file, r#"{"bos_token": "</s>", "add_bos_token": false}"#);
        assert_eq!(always(&[named("tokenizer_config.json")]).unwrap().0, Some(1));
        assert_eq!(always(&[named("special_tokens_map.json")]).unwrap().0, Some(1));
        assert_eq!(
            always(&[named("special_tokens_map.json"), ("config.json", r#"{"bos_token_id": 0}"#)]).unwrap().0,
            Some(0)
        );
        let error = always(&[]).unwrap_err();
        assert!(error.starts_with("--bos always asks for a BOS token, but neither "), "{error}");
        assert!(error.ends_with(" in DIR names one"), "{error}");
    }

    #[test]
    fn never_is_never() {
        for name in ["byte_level", "byte_level_bos", "llama", "unigram", "wordpiece"] {
            assert_eq!(resolve(&fixture(name), BosPolicy::Never).unwrap().0, None);
        }
        let reason = resolve(&fixture("llama"), BosPolicy::Never).unwrap().1;
        assert_eq!(reason, "--bos never, although the tokenizer prepends \"<s>\" (id 1)");
    }
}
