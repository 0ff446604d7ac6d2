//! Qwen 2 (biased queries, keys and values) and Qwen 3 (normed query and key heads).

use layerscope_lenses::NormKind;

use super::llama::like_llama;
use crate::model::{Config, ModelError, Spec, spec::Biases};

pub(super) fn qwen2(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = like_llama(config, "qwen2")?;
    spec.bias = Biases { qkv: true, ..Biases::default() };
    windows(config, &mut spec)?;
    Ok(spec)
}

pub(super) fn qwen3(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = like_llama(config, "qwen3")?;
    let bias = config.bool_or("attention_bias", false)?;
    spec.bias = Biases { qkv: bias, o: bias, ..Biases::default() };
    if config.get("head_dim").is_none() {
        return Err(config.error("`head_dim` is missing"));
    }
    spec.qk_norm = Some(NormKind::Rms);
    windows(config, &mut spec)?;
    Ok(spec)
}

/// Layers from `max_window_layers` on slide, when `use_sliding_window` is on.
fn windows(config: &Config, spec: &mut Spec) -> Result<(), ModelError> {
    if !config.bool_or("use_sliding_window", false)? || config.get("sliding_window").is_none() {
        return Ok(());
    }
    let first = match config.get("max_window_layers") {
        Some(serde_json::Value::Number(n)) => n.as_u64().unwrap_or(28) as usize,
        _ => 28,
    };
    spec.slide(config, |i| i >= first)
}
