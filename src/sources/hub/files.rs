//! Which files make a model, and which of them a folder lacks.

use std::path::Path;

use super::{HubError, has_file};
use crate::model::{ModelError, WEIGHTS, weight_files};

pub(super) const CONFIG: &str = "config.json";
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// Read when they are there.
pub(super) const OPTIONAL: [&str; 3] =
    ["generation_config.json", "tokenizer_config.json", "special_tokens_map.json"];

/// The first file that a whole model needs and `dir` lacks: configuration, tokenizer or weights.
///
/// # Errors
/// [`HubError::Weights`] when there is an index that cannot be used.
pub fn missing_file(dir: &Path) -> Result<Option<String>, HubError> {
    if let Some(name) = [CONFIG, TOKENIZER].into_iter().find(|name| !has_file(dir, name)) {
        return Ok(Some(name.to_owned()));
    }
    let files = match weight_files(dir) {
        Err(ModelError::NoWeights { .. }) => return Ok(Some(WEIGHTS.to_owned())),
        files => files?,
    };
    let missing = files.into_iter().find(|path| !path.is_file());
    Ok(missing.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::INDEX;

    #[test]
    fn missing_goes_from_config_to_weights() {
        let dir = tempfile::tempdir().unwrap();
        for name in [CONFIG, TOKENIZER, WEIGHTS] {
            assert_eq!(missing_file(dir.path()).unwrap().as_deref(), Some(name));
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(missing_file(dir.path()).unwrap(), None);
        std::fs::remove_file(dir.path().join(WEIGHTS)).unwrap();
        std::fs::write(dir.path().join(INDEX), r#"{"weight_map":{"x":"a.safetensors"}}"#).unwrap();
        assert_eq!(missing_file(dir.path()).unwrap().as_deref(), Some("a.safetensors"));
    }
}
