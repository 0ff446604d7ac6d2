//! Gemma 1, 2 and 3 (Google 2024, 2025): scaled embeddings, norm weights stored minus one.

use layerscope_lenses::NormKind;

use super::llama::frame;
use crate::model::{
    Activation, Config, ModelError, Spec,
    config::RopeKeys,
    names::{LLAMA_NAMES, Names},
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
    let mut spec = like_gemma(config, "gemma", "hidden_act")?;
    spec.ropes = vec![config.rope(spec.d_head, RopeKeys::USUAL)?];
    if config.str("hidden_act")? == "gelu" {
        // The first files say so, but every Gemma was trained with the tanh form.
        spec.activation = Activation::GeluTanh;
    }
    Ok(spec)
}

/// Caps on scores and logits; every other layer slides.
pub(super) fn gemma2(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = with_post_norms(config, "gemma2")?;
    spec.ropes = vec![config.rope(spec.d_head, RopeKeys::USUAL)?];
    spec.score_cap = config.optional_f64("attn_logit_softcapping")?;
    spec.logit_cap = config.optional_f64("final_logit_softcapping")?;
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
    spec.logit_cap = config.optional_f64("final_logit_softcapping")?;
    let pattern = match config.stored("sliding_window_pattern") {
        // Needed only without `layer_types`, where a null makes no sense.
        Some(value) if !value.is_null() || config.get("layer_types").is_none() => {
            config.usize("sliding_window_pattern")?
        }
        _ => 6,
    };
    let slides = config.sliding_layers(spec.n_layers, |i| !(i + 1).is_multiple_of(pattern))?;
    spec.slide(config, |i| slides[i])?;
    spec.ropes = config.ropes_by_type(spec.d_head)?.to_vec();
    for (layer, slides) in spec.layers.iter_mut().zip(slides) {
        layer.rope = usize::from(slides);
    }
    Ok(spec)
}

fn with_post_norms(config: &Config, family: &'static str) -> Result<Spec, ModelError> {
    let mut spec = like_gemma(config, family, "hidden_activation")?;
    let scale = (config.usize("query_pre_attn_scalar")? as f64).powf(-0.5);
    for layer in &mut spec.layers {
        layer.scale = scale;
    }
    spec.post_norms = true;
    spec.names = POST_NORM_NAMES;
    Ok(spec)
}

/// What all three have in common; the activation is under `act`.
fn like_gemma(config: &Config, family: &'static str, act: &str) -> Result<Spec, ModelError> {
    config.refuse_if_true("use_bidirectional_attention")?;
    let norm = NormSpec::gemma(config.f64("rms_norm_eps")?);
    let mut spec = frame(config, family, act, norm)?;
    let bias = config.flag("attention_bias")?;
    spec.bias = Biases { qkv: bias, o: bias, ..Biases::default() };
    spec.embed_scale = Some((spec.d_model as f64).sqrt());
    Ok(spec)
}
