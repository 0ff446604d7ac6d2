//! MPT (`MosaicML` 2023): alibi, layer norms without bias, no biases at all.

use super::even_head;
use crate::model::{
    Activation, Config, ModelError, Spec,
    names::{LLAMA_NAMES, MlpNames, Names, QkvNames},
    spec::{Alibi, NormSpec, Positions, Sizes},
};

const NAMES: Names = Names {
    prefixes: &["transformer.", ""],
    embed: "wte",
    block: "blocks.",
    ln1: "norm_1",
    ln2: "norm_2",
    qkv: QkvNames::Joined("attn.Wqkv"),
    o: "attn.out_proj",
    mlp: MlpNames::Plain { up: "ffn.up_proj", down: "ffn.down_proj" },
    final_norm: "norm_f",
    ..LLAMA_NAMES
};

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    refuse(config)?;
    let (d_model, n_heads) = (config.usize("d_model")?, config.usize("n_heads")?);
    let sizes = Sizes {
        n_layers: config.layers("n_layers")?,
        d_model,
        n_heads,
        d_head: even_head(config, d_model, n_heads)?,
        d_mlp: 4 * d_model,
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize("max_seq_len")?,
    };
    let norm = NormSpec::layer_without_bias(config.f64("layer_norm_epsilon")?);
    let mut spec = Spec {
        positions: Positions::Alibi(Alibi::AfterScale),
        tied: config.flag("tie_word_embeddings")?,
        ..Spec::plain("mpt", sizes, norm, Activation::Gelu, &NAMES)
    };
    if let Some(attention) = config.part("attn_config")? {
        spec.qkv_clip = attention.optional_f64("clip_qkv")?;
        if let Some(scale) = attention.optional_f64("softmax_scale")? {
            spec.scale_scores(scale);
        }
    }
    Ok(spec)
}

/// Settings of the original code that transformers passes by.
fn refuse(config: &Config) -> Result<(), ModelError> {
    if config.usize("expansion_ratio")? != 4 {
        return Err(config.unsupported("expansion_ratio", "; supported: 4"));
    }
    if !config.flag("no_bias")? {
        return Err(config.unsupported("no_bias", ""));
    }
    if config.get("logit_scale").is_some() {
        return Err(config.unsupported("logit_scale", ""));
    }
    let Some(attention) = config.part("attn_config")? else { return Ok(()) };
    attention.refuse_if_true("prefix_lm")?;
    attention.refuse_if_true("qk_ln")?;
    if attention.get("alibi").is_some_and(|alibi| *alibi == false) {
        return Err(config.unsupported("attn_config", ", whose alibi is off"));
    }
    Ok(())
}
