//! The text half of models that also see: config.json has it under `text_config`, and what only sees is passed by.

use super::FAMILIES;
use crate::model::{Config, ModelError, Spec};

/// Every multimodal `model_type`, and its text half's where `text_config` does not say.
pub(super) const WRAPPERS: [(&str, &str); 26] = [
    ("aya_vision", "cohere2"),
    ("cohere2_vision", "cohere2"),
    ("deepseek_vl", "llama"),
    ("exaone4_5", "exaone4"),
    ("fuyu", "persimmon"),
    ("gemma3", "gemma3_text"),
    ("glm46v", "glm4v_text"),
    ("glm4v", "glm4v_text"),
    ("got_ocr2", "qwen2"),
    ("idefics2", "mistral"),
    ("idefics3", "llama"),
    ("internvl", "qwen2"),
    ("lighton_ocr", "qwen3"),
    ("llava", "llama"),
    ("llava_next", "llama"),
    ("llava_next_video", "llama"),
    ("llava_onevision", "qwen2"),
    ("mistral3", "mistral"),
    ("ovis2", "qwen2"),
    ("qwen2_5_vl", "qwen2_5_vl_text"),
    ("qwen2_vl", "qwen2_vl_text"),
    ("qwen3_vl", "qwen3_vl_text"),
    ("smolvlm", "llama"),
    ("video_llama_3", "qwen2"),
    ("video_llava", "llama"),
    ("vipllava", "llama"),
];

/// Where the text half's tensors are, in checkpoints new and old.
const PREFIXES: &[&str] =
    &["model.language_model.", "language_model.model.", "language_model.", "model.text_model.", "model.", ""];
const HEADS: &[&str] = &["lm_head", "language_model.lm_head"];

/// Those that tie unless the file says otherwise.
const TIED_BY_DEFAULT: [&str; 9] = [
    "aya_vision",
    "cohere2_vision",
    "deepseek_vl",
    "gemma3",
    "got_ocr2",
    "internvl",
    "lighton_ocr",
    "mistral3",
    "ovis2",
];

/// The text half of the wrapper `family`.
pub(super) fn spec(config: &Config, family: &'static str, default: &'static str) -> Result<Spec, ModelError> {
    let text = config.text_half(default)?;
    let kind = text.family()?;
    let Some((_, read)) = FAMILIES.iter().find(|(name, _)| *name == kind) else {
        return Err(config.error(format!(
            "`text_config.model_type` is \"{}\", which is not supported",
            kind.escape_default()
        )));
    };
    let mut spec = super::checked(&text, *read)?;
    let own = match config.stored("tie_word_embeddings") {
        Some(_) => config.flag("tie_word_embeddings")?,
        None => TIED_BY_DEFAULT.contains(&family),
    };
    spec.tied |= own;
    spec.family = family;
    (spec.names.prefixes, spec.names.heads) = (PREFIXES, HEADS);
    Ok(spec)
}
