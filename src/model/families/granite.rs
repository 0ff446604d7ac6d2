//! Granite 3 (IBM 2024) and `HyperCLOVA` X: Llama with multipliers at every seam (Yang et al. 2022).

use super::llama::like_llama;
use crate::model::{
    Config, ModelError, Spec,
    names::{LLAMA_NAMES, Names},
    spec::{Biases, NormPlacement},
};

pub(super) fn granite(config: &Config) -> Result<Spec, ModelError> {
    divided(config, "granite")
}

/// Granite, or Granite MoE without its experts.
pub(super) fn divided(config: &Config, family: &'static str) -> Result<Spec, ModelError> {
    let mut spec = multiplied(config, family)?;
    spec.scale_scores(config.f64("attention_multiplier")?);
    spec.logit_scale = Some(1.0 / config.f64("logits_scaling")?);
    Ok(spec)
}

/// Norms of what comes out as well; `logits_scaling` is a factor, not a divisor.
pub(super) fn hyperclovax(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = multiplied(config, "hyperclovax")?;
    if let Some(scale) = config.optional_f64("attention_multiplier")? {
        spec.scale_scores(scale);
    }
    spec.logit_scale = Some(config.f64("logits_scaling")?);
    if config.flag("use_post_norm")? {
        spec.norms = NormPlacement::Both;
        spec.names = Names { ln1_post: "post_norm1", ln2_post: "post_norm2", ..LLAMA_NAMES };
    }
    Ok(spec)
}

fn multiplied(config: &Config, family: &'static str) -> Result<Spec, ModelError> {
    let mut spec = like_llama(config, family)?;
    let (attention, mlp) = (config.flag("attention_bias")?, config.flag("mlp_bias")?);
    spec.bias = Biases { qkv: attention, o: attention, mlp, head: false };
    spec.embed_scale = Some(config.f64("embedding_multiplier")?);
    spec.residual_scale = Some(config.f64("residual_multiplier")?);
    Ok(spec)
}
