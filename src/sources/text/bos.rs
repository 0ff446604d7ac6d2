//! Whether a BOS token goes in front of every document, and why.
//!
//! Models trained with a BOS token read garbage statistics at position 0 without it, and the files of a model
//! disagree about it often. So the choice is made once, explicitly, and carries its reason.

use super::config_files::{ConfigFile, ConfigFiles, NamedId};
use super::error::TextError;
use super::guarded::Around;
use tokenizers::Tokenizer;

/// What the user asks for with `--bos`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum BosPolicy {
    /// What the tokenizer and the model's configuration say.
    #[default]
    Auto,
    /// A BOS token; an error when no file names one.
    Always,
    /// No BOS token, even when the tokenizer adds one.
    Never,
}

impl std::fmt::Display for BosPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bos {
    /// The id put in front of every document, or none; of several (GLM's `[gMASK]<sop>`) the first.
    pub id: Option<u32>,
    /// Every id put in front of every document: none, one or several.
    pub prefix: Vec<u32>,
    /// The tokens of these ids, joined, when the tokenizer has them.
    pub token: Option<String>,
    /// One sentence that says why, to print and to record.
    pub reason: String,
}

impl Bos {
    /// Decides from what the post-processor puts around a text and the files beside the tokenizer; `ends` says whether
    /// what it appends is added, as it is for encoders.
    pub(super) fn resolve(
        policy: BosPolicy,
        tokenizer: &Tokenizer,
        around: Around,
        files: &ConfigFiles,
        ends: bool,
    ) -> Result<Self, TextError> {
        let sources = Sources { tokenizer, files, around, ends };
        let bos = match policy {
            BosPolicy::Auto => sources.auto()?,
            BosPolicy::Always => sources.always()?,
            BosPolicy::Never => sources.never(),
        };
        Ok(Self { reason: bos.reason + &sources.suffix_note(), ..bos })
    }
}

struct Sources<'a> {
    tokenizer: &'a Tokenizer,
    files: &'a ConfigFiles,
    around: Around,
    /// What the post-processor appends is added.
    ends: bool,
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
            Some(false) => Ok(none(&format!("{} says add_bos_token false", self.files.tokenizer.name()))),
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
        let prefix = &self.around.prefix;
        if prefix.is_empty() {
            return Ok(None);
        }
        let against = match self.add_bos_token()? {
            Some(false) => ", which outweighs add_bos_token false in tokenizer_config.json",
            _ => "",
        };
        let names = self.names(prefix);
        Ok(Some(self.some(prefix, format!("the tokenizer's post-processor prepends {names}{against}"))))
    }

    /// The id that `config.json` names; one that no embedding has a row for is none, as transformers takes it.
    fn model_config_bos(&self) -> Result<Option<Bos>, TextError> {
        match self.files.model_bos(self.tokenizer)? {
            NamedId::Known(id) => {
                let reason = format!("config.json names bos_token_id {id} and the tokenizer adds none");
                Ok(Some(self.some(&[id], reason)))
            }
            NamedId::None | NamedId::Outside { .. } => Ok(None),
        }
    }

    fn named_bos(&self, file: &ConfigFile) -> Result<Option<Bos>, TextError> {
        let Some(token) = file.token("bos_token")? else { return Ok(None) };
        let id = self
            .tokenizer
            .token_to_id(token)
            .ok_or_else(|| TextError::UnknownBos { path: file.path.clone(), token: token.into() })?;
        Ok(Some(self.some(&[id], format!("{} names bos_token {token:?} (id {id})", file.name()))))
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

    /// An EOS or SEP that the post-processor appends is no BOS; decoders go without: say so.
    fn suffix_note(&self) -> String {
        if self.around.suffix.is_empty() {
            return String::new();
        }
        let added = if self.ends { "added too" } else { "not added" };
        format!("; {}, which the post-processor appends, is {added}", self.names(&self.around.suffix))
    }

    fn some(&self, prefix: &[u32], reason: String) -> Bos {
        let token = prefix.iter().map(|id| self.tokenizer.id_to_token(*id)).collect();
        Bos { id: prefix.first().copied(), prefix: prefix.to_vec(), token, reason }
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
    Bos { id: None, prefix: Vec::new(), token: None, reason: reason.into() }
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
        let bos = crate::sources::text::Tokenizer::load(dir, policy).map(|tokenizer| tokenizer.bos().clone());
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
        for outside in ["512", "-1", "[900]"] {
            let config = format!("{{\"bos_token_id\": {outside}, \"vocab_size\": 512}}");
            let dir = with_files("byte_level", &[("config.json", &config)]);
            assert_eq!(resolve(dir.path(), BosPolicy::Auto).unwrap().0, None, "{outside}");
            let tokenizer = crate::sources::text::Tokenizer::load(dir.path(), BosPolicy::Auto).unwrap();
            let says = format!("bos_token_id {outside} is outside the vocabulary of 512: taken as none");
            assert!(
                tokenizer.warnings()[0].ends_with(&says.replace(['[', ']'], "")),
                "{:?}",
                tokenizer.warnings()
            );
            let error = resolve(dir.path(), BosPolicy::Always).unwrap_err();
            assert!(error.starts_with("--bos always asks for a BOS token, but neither "), "{error}");
        }
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
    fn always_says_that_it_was_asked_and_where_it_found_one() {
        let reason = resolve(&fixture("llama"), BosPolicy::Always).unwrap().1;
        assert_eq!(reason, "--bos always: the tokenizer's post-processor prepends \"<s>\" (id 1)");
    }

    #[test]
    fn never_is_never() {
        for name in ["byte_level", "byte_level_bos", "llama", "unigram", "wordpiece"] {
            assert_eq!(resolve(&fixture(name), BosPolicy::Never).unwrap().0, None);
        }
        let reason = resolve(&fixture("llama"), BosPolicy::Never).unwrap().1;
        assert_eq!(reason, "--bos never, although the tokenizer prepends \"<s>\" (id 1)");
    }

    /// What `fixtures/text/prefixes/make.py` got from Python's `tokenizers`: alphabets without a word of English, every
    /// kind of post-processor, unknown tokens that are the BOS or that there are none of.
    #[test]
    fn ids_are_those_of_the_post_processor() {
        let cases = fs::read(fixture("prefixes/cases.json")).unwrap();
        let cases: Vec<serde_json::Value> = serde_json::from_slice(&cases).unwrap();
        assert_eq!(cases.len(), 16);
        for case in cases {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("tokenizer.json"), case["tokenizer"].to_string()).unwrap();
            let tokenizer = crate::sources::text::Tokenizer::load(dir.path(), BosPolicy::Auto).unwrap();
            let never = crate::sources::text::Tokenizer::load(dir.path(), BosPolicy::Never).unwrap();
            let token = tokenizer.bos().token.clone().unwrap_or_default();
            for row in case["rows"].as_array().unwrap() {
                let (name, text) = (&case["name"], row["text"].as_str().unwrap());
                let ids = |key: &str| serde_json::from_value::<Vec<u32>>(row[key].clone()).unwrap();
                assert_eq!(never.encode(text).unwrap(), ids("ids"), "{name}: {text:?}");
                let written_out = !token.is_empty() && text.trim_start().starts_with(&token);
                let mut expected = if written_out { ids("ids") } else { ids("ids_special") };
                let suffix = if written_out { 0 } else { case["suffix"].as_u64().unwrap() };
                expected.truncate(expected.len() - suffix as usize);
                assert_eq!(tokenizer.encode(text).unwrap(), expected, "{name}: {text:?}");
            }
        }
    }

    #[test]
    fn two_tokens_in_front() {
        let cases = fs::read(fixture("prefixes/cases.json")).unwrap();
        let cases: Vec<serde_json::Value> = serde_json::from_slice(&cases).unwrap();
        let glm = cases.iter().find(|case| case["name"] == "glm").unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tokenizer.json"), glm["tokenizer"].to_string()).unwrap();
        let bos = crate::sources::text::Tokenizer::load(dir.path(), BosPolicy::Auto).unwrap().bos().clone();
        assert_eq!(
            (bos.id, &bos.prefix[..], bos.token.as_deref()),
            (Some(1), &[1, 2][..], Some("[gMASK]<sop>"))
        );
        let says = "the tokenizer's post-processor prepends \"[gMASK]\" (id 1), \"<sop>\" (id 2)";
        assert_eq!(bos.reason, says);
    }
}
