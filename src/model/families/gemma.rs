//! Gemma 1, 2 and 3 (Google 2024, 2025): scaled embeddings, norm weights stored minus one.

use layerscope_lenses::NormKind;

use super::llama::like_llama;
use crate::model::{
    Activation, Config, ModelError, Spec,
    names::{LLAMA_NAMES, Names},
    rope::{RopeScaling, RopeSpec, WHOLE_HEAD},
    spec::{Biases, NormSpec},
};

/// Gemma 2 and 3 norm what attention and MLP put out as well.
const POST_NORM_NAMES: Names = Names {
    ln1_post: "post_attention_layernorm",
    ln2: "pre_feedforward_layernorm",
    ln2_post: "post_feedforward_layernorm",
    ..LLAMA_NAMES
};

pub(super) fn gemma(config: &Config) -> Result<Spec, ModelError> {
    config.refuse_if_true("use_bidirectional_attention")?;
    let mut spec = like_llama(config, "gemma")?;
    let bias = config.bool_or("attention_bias", false)?;
    spec.bias = Biases { qkv: bias, o: bias, ..Biases::default() };
    spec.norm = NormSpec::gemma(config.f64_or("rms_norm_eps", 1e-6)?);
    spec.embed_scale = Some((spec.d_model as f64).sqrt());
    spec.tied = config.bool_or("tie_word_embeddings", true)?;
    if config.get("hidden_activation").is_none() {
        // Early files say `"hidden_act": "gelu"`, but every Gemma was trained with the tanh form.
        spec.activation = Activation::GeluTanh;
    }
    Ok(spec)
}

/// Caps on scores and logits; every other layer slides.
pub(super) fn gemma2(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = with_post_norms(config, "gemma2")?;
    spec.score_cap = cap(config, "attn_logit_softcapping")?;
    spec.logit_cap = cap(config, "final_logit_softcapping")?;
    spec.slide(config, |i| i % 2 == 0)?;
    Ok(spec)
}

/// Normed query and key heads; sliding layers rotate at their own base frequency, unscaled.
pub(super) fn gemma3(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = with_post_norms(config, "gemma3_text")?;
    spec.qk_norm = Some(NormKind::Rms);
    if config.get("attn_logit_softcapping").is_some() {
        return Err(
            config.unsupported("attn_logit_softcapping", " (transformers ignores it for this family)")
        );
    }
    spec.logit_cap = cap(config, "final_logit_softcapping")?;
    let pattern = match config.get("sliding_window_pattern") {
        Some(_) => config.usize("sliding_window_pattern")?,
        None => config.usize_or("_sliding_window_pattern", 6)?,
    };
    spec.slide(config, |i| !(i + 1).is_multiple_of(pattern))?;

    let global = config.rope(Some("full_attention"), spec.d_head, 1_000_000.0, WHOLE_HEAD)?;
    let nested = config.get("rope_parameters").is_some_and(|p| p.get("sliding_attention").is_some());
    let local = if nested {
        config.rope(Some("sliding_attention"), spec.d_head, 10_000.0, WHOLE_HEAD)?
    } else {
        let theta = config.f64_or("rope_local_base_freq", 10_000.0)?;
        RopeSpec { theta, scaling: RopeScaling::None, ..global.clone() }
    };
    spec.ropes = vec![global, local];
    for layer in &mut spec.layers {
        layer.rope = usize::from(layer.window.is_some());
    }
    Ok(spec)
}

fn with_post_norms(config: &Config, family: &'static str) -> Result<Spec, ModelError> {
    let mut spec = gemma(config)?;
    let scale = config.f64_or("query_pre_attn_scalar", 256.0)?.powf(-0.5);
    for layer in &mut spec.layers {
        layer.scale = scale;
    }
    spec.family = family;
    spec.post_norms = true;
    spec.names = POST_NORM_NAMES;
    Ok(spec)
}

fn cap(config: &Config, key: &str) -> Result<Option<f64>, ModelError> {
    config.get(key).map(|_| config.f64_or(key, 0.0)).transpose()
}
