use std::{io::ErrorKind, path::Path};

use serde_json::Value;

use super::GenerateError;
use crate::sources::text::Tokenizer;

/// The tokens that end a text: `eos_token_id` of `generation_config.json`, else of `config.json`, else the tokenizer's.
///
/// # Errors
/// [`GenerateError::Config`] when a file is not JSON or its `eos_token_id` is neither an id nor a list of ids.
pub fn stop_ids(dir: &Path, tokenizer: &Tokenizer) -> Result<Vec<u32>, GenerateError> {
    for file in ["generation_config.json", "config.json"] {
        let path = dir.join(file);
        let bad = |reason: String| GenerateError::Config { path: path.clone(), reason };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            // Nothing is beside a model that is one file.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(bad(error.to_string())),
        };
        let json: Value = serde_json::from_str(&text).map_err(|e| bad(format!("not JSON: {e}")))?;
        let value = [&json["eos_token_id"], &json["text_config"]["eos_token_id"]];
        let Some(value) = value.into_iter().find(|value| !value.is_null()) else { continue };
        let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids: Option<Vec<u32>> = list.iter().map(id).collect();
        return ids.ok_or_else(|| bad(format!("eos_token_id is {value}, not a token id or a list of them")));
    }
    Ok(tokenizer.eos_id().into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::text::BosPolicy;

    #[test]
    fn the_first_file_that_says_so() {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gpt2-alice-8l");
        let tokenizer = Tokenizer::load(&fixture, BosPolicy::Auto).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
        let stop = || stop_ids(dir.path(), &tokenizer).map_err(|e| e.to_string());
        assert_eq!(stop(), Ok(vec![0])); // the tokenizer's
        write("config.json", "{\"text_config\": {\"eos_token_id\": 7}}");
        assert_eq!(stop(), Ok(vec![7]));
        write("generation_config.json", "{\"eos_token_id\": null}");
        assert_eq!(stop(), Ok(vec![7]));
        write("generation_config.json", "{\"eos_token_id\": [3, 5]}");
        assert_eq!(stop(), Ok(vec![3, 5]));
        write("generation_config.json", "{\"eos_token_id\": \"</s>\"}");
        assert!(stop().unwrap_err().ends_with("eos_token_id is \"</s>\", not a token id or a list of them"));
    }
}
