//! Llama (Touvron et al. 2023) and those that are Llama by another name: `InternLM` 3, IQuest-Coder, Seed-OSS.

use super::{activation, even_head};
use crate::model::{
    Activation, Config, ModelError, Spec,
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

/// The keys of its biases have names of their own, and transformers runs it only where they agree.
pub(super) fn internlm3(config: &Config) -> Result<Spec, ModelError> {
    let (attention, mlp) = (config.flag("attention_bias")?, config.flag("mlp_bias")?);
    if attention != mlp {
        return Err(config.error(format!(
            "`attention_bias` (`qkv_bias`) is {attention} and `mlp_bias` (`bias`) is {mlp}; they must agree"
        )));
    }
    Ok(Spec { family: "internlm3", ..llama(config)? })
}

pub(super) fn iquestcoder(config: &Config) -> Result<Spec, ModelError> {
    config.refuse_if_true("use_sliding_window")?;
    if config.get("clip_qkv").is_some() {
        return Err(config.unsupported("clip_qkv", ""));
    }
    Ok(Spec { family: "iquestcoder", ..llama(config)? })
}

/// Queries, keys and values have biases by default, the output has none.
pub(super) fn seed_oss(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = like_llama(config, "seed_oss")?;
    let (qkv, o) = (config.flag("attention_bias")?, config.flag("attention_out_bias")?);
    spec.bias = Biases { qkv, o, mlp: config.flag("mlp_bias")?, head: false };
    Ok(spec)
}

/// Llama without biases and windows: RMS norms, rotation of whole heads, grouped heads, gated MLP.
pub(super) fn like_llama(config: &Config, family: &'static str) -> Result<Spec, ModelError> {
    rotated_llama(config, family, RopeKeys::USUAL)
}

/// The same with rotary settings of its own.
pub(super) fn rotated_llama(
    config: &Config,
    family: &'static str,
    rope: RopeKeys,
) -> Result<Spec, ModelError> {
    let norm = NormSpec::rms(config.f64("rms_norm_eps")?);
    let mut spec = frame(config, family, "hidden_act", norm)?;
    spec.ropes = vec![config.rope(spec.d_head, rope)?];
    Ok(spec)
}

/// Llama's sizes, names and heads; the activation is under `act`, and the caller says how heads are rotated.
pub(super) fn frame(
    config: &Config,
    family: &'static str,
    act: &str,
    norm: NormSpec,
) -> Result<Spec, ModelError> {
    frame_with(config, family, activation(config, act)?, norm)
}

/// The same with an activation that is known.
pub(super) fn frame_with(
    config: &Config,
    family: &'static str,
    activation: Activation,
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
    Ok(Spec {
        n_kv_heads: config.optional_usize("num_key_value_heads")?.unwrap_or(n_heads),
        tied: config.flag("tie_word_embeddings")?,
        ..Spec::plain(family, sizes, norm, activation, &LLAMA_NAMES)
    })
}
