//! `BioGPT` (Luo et al. 2022) and XGLM (Lin et al. 2022): fairseq's decoder, whose positions start at row 2.

use super::{activation, opt, sizes};
use crate::model::{
    Config, ModelError, Spec,
    names::Names,
    spec::{Biases, NormSpec, Positions},
};

const BIOGPT_NAMES: Names = Names {
    prefixes: &["biogpt.", ""],
    final_norm: "layer_norm",
    heads: &["output_projection"],
    ..opt::NAMES
};

const XGLM_NAMES: Names = Names { prefixes: &["model.", ""], final_norm: "layer_norm", ..opt::NAMES };

/// `layer_norm_eps` is in the file, and transformers passes it by.
pub(super) fn biogpt(config: &Config) -> Result<Spec, ModelError> {
    let keys = ["num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "hidden_act"];
    fairseq(config, "biogpt", keys, Positions::Learned { offset: 2 }, &BIOGPT_NAMES)
}

pub(super) fn xglm(config: &Config) -> Result<Spec, ModelError> {
    config.refuse_if_true("add_cross_attention")?;
    let keys = ["num_layers", "d_model", "attention_heads", "ffn_dim", "activation_function"];
    let empty = config.get("pad_token_id").and_then(serde_json::Value::as_u64).map(|row| row as usize);
    fairseq(config, "xglm", keys, Positions::Sinusoidal { offset: 2, empty }, &XGLM_NAMES)
}

/// `keys` are those of the layers, their width, their heads, the MLP's width, its activation.
fn fairseq(
    config: &Config,
    family: &'static str,
    [layers, width, heads, inner, act]: [&str; 5],
    positions: Positions,
    names: &Names,
) -> Result<Spec, ModelError> {
    let sizes = sizes(config, [layers, width, heads, inner])?;
    Ok(Spec {
        positions,
        embed_scale: config.flag("scale_embedding")?.then_some((sizes.d_model as f64).sqrt()),
        bias: Biases { qkv: true, o: true, mlp: true, head: false },
        tied: config.flag("tie_word_embeddings")?,
        ..Spec::plain(family, sizes, NormSpec::layer(1e-5), activation(config, act)?, names)
    })
}
