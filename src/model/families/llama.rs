//! Llama (Touvron et al. 2023) and Mistral (Jiang et al. 2023, sliding window).

use super::{activation, even_head};
use crate::model::{
    Config, ModelError, Spec,
    names::LLAMA_NAMES,
    rope::WHOLE_HEAD,
    spec::{Biases, NormSpec, Sizes},
};

pub(super) fn llama(config: &Config) -> Result<Spec, ModelError> {
    let qkv = config.bool_or("attention_bias", false)?;
    let mlp = config.bool_or("mlp_bias", false)?;
    let mut spec = like_llama(config, "llama")?;
    spec.bias = Biases { qkv, o: qkv, mlp, head: false };
    Ok(spec)
}

pub(super) fn mistral(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = like_llama(config, "mistral")?;
    let sliding = config.get("sliding_window").is_some();
    spec.slide(config, |_| sliding)?;
    Ok(spec)
}

/// The frame of Llama, without biases and windows: RMS norms, rotation, grouped heads, gated MLP.
pub(super) fn like_llama(config: &Config, family: &'static str) -> Result<Spec, ModelError> {
    let (d_model, n_heads) = (config.usize("hidden_size")?, config.usize("num_attention_heads")?);
    let n_layers = config.usize("num_hidden_layers")?;
    let d_head = match config.get("head_dim") {
        Some(_) => config.usize("head_dim")?,
        None => even_head(config, d_model, n_heads)?,
    };
    let act = if config.get("hidden_activation").is_some() { "hidden_activation" } else { "hidden_act" };
    let sizes = Sizes {
        n_layers,
        d_model,
        n_heads,
        d_head,
        d_mlp: config.usize("intermediate_size")?,
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize("max_position_embeddings")?,
    };
    let norm = NormSpec::rms(config.f64_or("rms_norm_eps", 1e-6)?);
    let activation = activation(config, act)?;
    Ok(Spec {
        n_kv_heads: config.usize_or("num_key_value_heads", n_heads)?,
        ropes: vec![config.rope(None, d_head, 10_000.0, WHOLE_HEAD)?],
        tied: config.bool_or("tie_word_embeddings", false)?,
        ..Spec::plain(family, sizes, norm, activation, &LLAMA_NAMES)
    })
}
