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
    let bias = config.flag("attention_bias")?;
    spec.bias = Biases { qkv: bias, o: bias, ..Biases::default() };
    spec.qk_norm = Some(NormKind::Rms);
    windows(config, &mut spec)?;
    Ok(spec)
}

/// Layers from `max_window_layers` on slide, unless `layer_types` says otherwise; none without `use_sliding_window`.
fn windows(config: &Config, spec: &mut Spec) -> Result<(), ModelError> {
    let used = config.flag("use_sliding_window")?;
    let on = used && config.sliding_window()?.is_some();
    let first = config.whole("max_window_layers")?;
    let slides = |i: usize| on && i as i64 >= first;
    if !used && config.sliding_layers(spec.n_layers, slides)?.contains(&true) {
        return Err(config.error("`layer_types` has sliding layers, but `use_sliding_window` is off"));
    }
    spec.slide(config, slides)
}
