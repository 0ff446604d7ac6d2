//! OPT (Zhang et al. 2022): learned positions from row 2, ReLU.

use super::{activation, even_head};
use crate::model::{
    Config, ModelError, Spec,
    names::{LLAMA_NAMES, MlpNames, Names},
    spec::{Biases, NormSpec, Positions, Sizes},
};

pub(super) const NAMES: Names = Names {
    prefixes: &["model.decoder.", "decoder."],
    pos_embed: "embed_positions",
    token_types: "",
    ln1: "self_attn_layer_norm",
    ln2: "final_layer_norm",
    o: "self_attn.out_proj",
    mlp: MlpNames::Plain { up: "fc1", down: "fc2" },
    final_norm: "final_layer_norm",
    ..LLAMA_NAMES
};

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let (d_model, n_heads) = (config.usize("hidden_size")?, config.usize("num_attention_heads")?);
    let n_layers = config.layers("num_hidden_layers")?;
    if !config.flag("do_layer_norm_before")? {
        return Err(config.unsupported(
            "do_layer_norm_before",
            " (OPT-350m norms after each block and has no final norm)",
        ));
    }
    if config.optional_usize("word_embed_proj_dim")?.is_some_and(|width| width != d_model) {
        return Err(config.unsupported("word_embed_proj_dim", " (embeddings projected to another width)"));
    }
    if !config.flag("layer_norm_elementwise_affine")? {
        return Err(config.unsupported("layer_norm_elementwise_affine", ""));
    }
    config.refuse_if_true("_remove_final_layer_norm")?;
    let d_head = even_head(config, d_model, n_heads)?;
    let bias = config.flag("enable_bias")?;
    let sizes = Sizes {
        n_layers,
        d_model,
        n_heads,
        d_head,
        d_mlp: config.usize("ffn_dim")?,
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize("max_position_embeddings")?,
    };
    let norm = NormSpec::layer(1e-5);
    let activation = activation(config, "activation_function")?;
    Ok(Spec {
        positions: Positions::Learned { offset: 2 },
        bias: Biases { qkv: bias, o: bias, mlp: bias, head: false },
        tied: config.flag("tie_word_embeddings")?,
        ..Spec::plain("opt", sizes, norm, activation, &NAMES)
    })
}
