//! `SmolLM` 3 (Hugging Face 2025): Llama with some layers that know no positions.

use super::{llama::rotated_llama, qwen::slide_where_used};
use crate::model::{Config, ModelError, Spec, config::RopeKeys, spec::Biases};

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = rotated_llama(config, "smollm3", RopeKeys::from_base(2_000_000.0))?;
    let (attention, mlp) = (config.flag("attention_bias")?, config.flag("mlp_bias")?);
    spec.bias = Biases { qkv: attention, o: attention, mlp, head: false };
    let rotates = rotating(config, spec.n_layers)?;
    for (layer, rotates) in spec.layers.iter_mut().zip(&rotates) {
        layer.rope = rotates.then_some(0);
    }
    let on = config.flag("use_sliding_window")? && config.sliding_window()?.is_some();
    slide_where_used(config, &mut spec, |i| on && !rotates[i])?;
    Ok(spec)
}

/// Which layers rotate: as `no_rope_layers` says, where 1 means that they do, else all but every so many-th.
fn rotating(config: &Config, n_layers: usize) -> Result<Vec<bool>, ModelError> {
    let Some(value) = config.get("no_rope_layers") else {
        let interval = config.usize("no_rope_layer_interval")?;
        return Ok((0..n_layers).map(|i| !(i + 1).is_multiple_of(interval)).collect());
    };
    let flags = value.as_array().and_then(|list| list.iter().map(serde_json::Value::as_i64).collect());
    let flags: Vec<i64> = flags.filter(|flags: &Vec<i64>| flags.len() == n_layers).ok_or_else(|| {
        config.error(format!("`no_rope_layers` must be a list of {n_layers} whole numbers, got {value}"))
    })?;
    Ok(flags.into_iter().map(|flag| flag != 0).collect())
}
