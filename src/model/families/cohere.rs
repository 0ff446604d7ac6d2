//! Command R (Cohere 2024) and Command A (2025): layer norms without bias, one for both branches, scaled logits.

use layerscope_lenses::NormKind;

use super::llama::frame;
use crate::model::{
    Config, ModelError, Spec,
    config::RopeKeys,
    spec::{Biases, NormSpec, QkNorm, QkNormOver, ResidualKind},
};

pub(super) fn cohere(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = parallel(config, "cohere", 500_000.0)?;
    if config.flag("use_qk_norm")? {
        let over = QkNormOver::HeadByItself;
        spec.qk_norm = Some(QkNorm { over, bias: false, ..QkNorm::by_head(NormKind::Layer) });
    }
    Ok(spec)
}

/// Three layers in four slide; the others know no positions.
pub(super) fn cohere2(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = parallel(config, "cohere2", 10_000.0)?;
    let pattern = match config.stored("sliding_window_pattern") {
        Some(_) if config.get("layer_types").is_none() => config.usize("sliding_window_pattern")?,
        _ => 4,
    };
    spec.slide(config, |i| !(i + 1).is_multiple_of(pattern))?;
    spec.rotate_sliding_only();
    Ok(spec)
}

fn parallel(config: &Config, family: &'static str, base: f64) -> Result<Spec, ModelError> {
    let norm = NormSpec::layer_without_bias(config.f64("layer_norm_eps")?);
    let mut spec = frame(config, family, "hidden_act", norm)?;
    spec.ropes = vec![config.rope(spec.d_head, RopeKeys::from_base(base).interleaved())?];
    spec.residual = ResidualKind::ParallelSharedNorm;
    let attention = config.flag("attention_bias")?;
    spec.bias = Biases { qkv: attention, o: attention, ..Biases::default() };
    spec.logit_scale = Some(config.f64("logit_scale")?);
    Ok(spec)
}
