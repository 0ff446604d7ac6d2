//! BLOOM (Le Scao et al. 2022): alibi positions, normed embeddings, queries, keys and values by head.

use super::even_head;
use crate::model::{
    Activation, Config, ModelError, Spec,
    names::{LLAMA_NAMES, MlpNames, Names, QkvNames},
    spec::{Alibi, Biases, NormSpec, Positions, Sizes},
};

pub(super) const NAMES: Names = Names {
    prefixes: &["transformer.", ""],
    embed: "word_embeddings",
    embed_norm: "word_embeddings_layernorm",
    block: "h.",
    qkv: QkvNames::ByGroup("self_attention.query_key_value"),
    o: "self_attention.dense",
    mlp: MlpNames::Plain { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" },
    final_norm: "ln_f",
    ..LLAMA_NAMES
};

/// BLOOM was trained on 2048 tokens; alibi itself has no limit.
const N_CTX: usize = 2048;

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    config.refuse_if_true("apply_residual_connection_post_layernorm")?;
    let width = if config.get("hidden_size").is_some() { "hidden_size" } else { "n_embed" };
    let heads = if config.get("n_head").is_some() { "n_head" } else { "num_attention_heads" };
    let layers = if config.get("n_layer").is_some() { "n_layer" } else { "num_hidden_layers" };
    let (d_model, n_heads, n_layers) = (config.usize(width)?, config.usize(heads)?, config.usize(layers)?);
    let d_head = even_head(config, d_model, n_heads)?;
    let sizes = Sizes {
        n_layers,
        d_model,
        n_heads,
        d_head,
        d_mlp: 4 * d_model,
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize_or("seq_length", N_CTX)?,
    };
    let norm = NormSpec::layer(config.f64_or("layer_norm_epsilon", 1e-5)?);
    let activation = Activation::GeluTanh;
    Ok(Spec {
        embed_norm: true,
        positions: Positions::Alibi(Alibi::AfterScale),
        bias: Biases { qkv: true, o: true, mlp: true, head: false },
        tied: config.bool_or("tie_word_embeddings", true)?,
        ..Spec::plain("bloom", sizes, norm, activation, &NAMES)
    })
}
