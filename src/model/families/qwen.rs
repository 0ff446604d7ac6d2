//! Qwen 2 (biased queries, keys and values) and Qwen 3 (normed query and key heads), and the text halves of their
//! vision models, whose rotation by time, height and width is the plain one where there is only text.

use layerscope_lenses::NormKind;

use super::llama::rotated_llama;
use crate::model::{
    Config, ModelError, Spec,
    config::{RopeKeys, RopeKinds},
    spec::{Biases, QkNorm},
};

pub(super) fn qwen2(config: &Config) -> Result<Spec, ModelError> {
    like_qwen2(config, "qwen2", RopeKeys::USUAL)
}

pub(super) fn qwen2_vl_text(config: &Config) -> Result<Spec, ModelError> {
    like_qwen2(config, "qwen2_vl_text", mrope(1_000_000.0))
}

pub(super) fn qwen2_5_vl_text(config: &Config) -> Result<Spec, ModelError> {
    like_qwen2(config, "qwen2_5_vl_text", mrope(1_000_000.0))
}

const fn mrope(base: f64) -> RopeKeys {
    RopeKeys { kinds: RopeKinds::AllAndMrope, ..RopeKeys::from_base(base) }
}

fn like_qwen2(config: &Config, family: &'static str, rope: RopeKeys) -> Result<Spec, ModelError> {
    let mut spec = rotated_llama(config, family, rope)?;
    spec.bias = Biases { qkv: true, ..Biases::default() };
    windows(config, &mut spec)?;
    Ok(spec)
}

pub(super) fn qwen3(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = like_qwen3(config, "qwen3", RopeKeys::USUAL)?;
    windows(config, &mut spec)?;
    Ok(spec)
}

pub(super) fn qwen3_vl_text(config: &Config) -> Result<Spec, ModelError> {
    like_qwen3(config, "qwen3_vl_text", mrope(500_000.0))
}

pub(super) fn like_qwen3(config: &Config, family: &'static str, rope: RopeKeys) -> Result<Spec, ModelError> {
    let mut spec = rotated_llama(config, family, rope)?;
    let bias = config.flag("attention_bias")?;
    spec.bias = Biases { qkv: bias, o: bias, ..Biases::default() };
    spec.qk_norm = Some(QkNorm::by_head(NormKind::Rms));
    Ok(spec)
}

/// Layers from `max_window_layers` on slide, unless `layer_types` says otherwise; none without `use_sliding_window`.
fn windows(config: &Config, spec: &mut Spec) -> Result<(), ModelError> {
    let on = config.flag("use_sliding_window")? && config.sliding_window()?.is_some();
    // A vision model's may be null where nothing slides.
    let first = if on { config.whole("max_window_layers")? } else { i64::MAX };
    slide_where_used(config, spec, |i| i as i64 >= first)
}

/// Windows as `layer_types` says, else where `slides(layer)`; `layer_types` must not say more than
/// `use_sliding_window`.
pub(super) fn slide_where_used(
    config: &Config,
    spec: &mut Spec,
    slides: impl Fn(usize) -> bool,
) -> Result<(), ModelError> {
    let used = config.flag("use_sliding_window")?;
    if !used && config.sliding_layers(spec.n_layers, &slides)?.contains(&true) {
        return Err(config.error("`layer_types` has sliding layers, but `use_sliding_window` is off"));
    }
    spec.slide(config, slides)
}
