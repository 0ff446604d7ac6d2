//! Llama (Touvron et al. 2023) and Mistral (Jiang et al. 2023, sliding window).

use super::{activation, even_head};
use crate::model::{
    Config, ModelError, Spec,
    config::RopeKeys,
    names::LLAMA_NAMES,
    spec::{Biases, NormSpec, Sizes},
};

pub(super) fn llama(config: &Config) -> Result<Spec, ModelError> {
    let qkv = config.flag("attention_bias")?;
    let mlp = config.flag("mlp_bias")?;
    let mut spec = like_llama(config, "llama")?;
    spec.bias = Biases { qkv, o: qkv, mlp, head: false };
    Ok(spec)
}

pub(super) fn mistral(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = like_llama(config, "mistral")?;
    spec.slide_everywhere(config.sliding_window()?);
    Ok(spec)
}

/// Llama without biases and windows: RMS norms, rotation of whole heads, grouped heads, gated MLP.
pub(super) fn like_llama(config: &Config, family: &'static str) -> Result<Spec, ModelError> {
    let norm = NormSpec::rms(config.f64("rms_norm_eps")?);
    let mut spec = frame(config, family, "hidden_act", norm)?;
    spec.ropes = vec![config.rope(spec.d_head, RopeKeys::USUAL)?];
    Ok(spec)
}

/// Llama's sizes, names and heads; the activation is under `act`, and the caller says how heads are rotated.
pub(super) fn frame(
    config: &Config,
    family: &'static str,
    act: &str,
    norm: NormSpec,
) -> Result<Spec, ModelError> {
    let (d_model, n_heads) = (config.usize("hidden_size")?, config.usize("num_attention_heads")?);
    let n_layers = config.layers("num_hidden_layers")?;
    let d_head = match config.optional_usize("head_dim")? {
        Some(d_head) => d_head,
        None => even_head(config, d_model, n_heads)?,
    };
    let sizes = Sizes {
        n_layers,
        d_model,
        n_heads,
        d_head,
        d_mlp: config.usize("intermediate_size")?,
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize("max_position_embeddings")?,
    };
    let activation = activation(config, act)?;
    Ok(Spec {
        n_kv_heads: config.optional_usize("num_key_value_heads")?.unwrap_or(n_heads),
        tied: config.flag("tie_word_embeddings")?,
        ..Spec::plain(family, sizes, norm, activation, &LLAMA_NAMES)
    })
}
