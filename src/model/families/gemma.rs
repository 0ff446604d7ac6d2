//! Gemma 1, 2 and 3 (Google 2024, 2025): scaled embeddings, norm weights stored minus one.

use layerscope_lenses::NormKind;

use super::llama::frame;
use crate::model::{
    Activation, Config, ModelError, Spec,
    config::RopeKeys,
    names::{LLAMA_NAMES, Names},
    spec::{Biases, NormPlacement, NormSpec, QkNorm},
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
    let mut spec = like_gemma2(config, "gemma2")?;
    spec.norms = NormPlacement::Both;
    spec.names = POST_NORM_NAMES;
    Ok(spec)
}

/// Gemma 2 trained with differential privacy, without the norms of what comes out.
pub(super) fn vaultgemma(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = like_gemma2(config, "vaultgemma")?;
    spec.names = Names { ln2: "pre_feedforward_layernorm", ..LLAMA_NAMES };
    Ok(spec)
}

fn like_gemma2(config: &Config, family: &'static str) -> Result<Spec, ModelError> {
    let mut spec = with_query_scale(config, family)?;
    spec.ropes = vec![config.rope(spec.d_head, RopeKeys::USUAL)?];
    spec.score_cap = config.optional_f64("attn_logit_softcapping")?;
    spec.logit_cap = config.optional_f64("final_logit_softcapping")?;
    spec.slide(config, |i| i % 2 == 0)?;
    Ok(spec)
}

/// Normed query and key heads; sliding layers rotate at their own base frequency, unscaled.
pub(super) fn gemma3(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = with_query_scale(config, "gemma3_text")?;
    spec.norms = NormPlacement::Both;
    spec.names = POST_NORM_NAMES;
    spec.qk_norm = Some(QkNorm::by_head(NormKind::Rms));
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
    let full = RopeKeys::from_base(1_000_000.0);
    let sliding = RopeKeys { theta: ("rope_local_base_freq", 10_000.0), ..full };
    spec.slide_by_rope(config, [full, sliding], |i| !(i + 1).is_multiple_of(pattern))?;
    Ok(spec)
}

fn with_query_scale(config: &Config, family: &'static str) -> Result<Spec, ModelError> {
    let mut spec = like_gemma(config, family, "hidden_activation")?;
    spec.scale_scores((config.usize("query_pre_attn_scalar")? as f64).powf(-0.5));
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
