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
    let (d_model, n_heads, n_layers) = (width(config)?, config.usize("n_head")?, config.layers("n_layer")?);
    let d_head = even_head(config, d_model, n_heads)?;
    let sizes = Sizes {
        n_layers,
        d_model,
        n_heads,
        d_head,
        d_mlp: 4 * d_model,
        vocab: config.usize("vocab_size")?,
        n_ctx: config.optional_usize("seq_length")?.unwrap_or(N_CTX),
    };
    let norm = NormSpec::layer(config.f64("layer_norm_epsilon")?);
    let activation = Activation::GeluTanh;
    Ok(Spec {
        embed_norm: true,
        positions: Positions::Alibi(Alibi::AfterScale),
        bias: Biases { qkv: true, o: true, mlp: true, head: false },
        tied: config.flag("tie_word_embeddings")?,
        ..Spec::plain("bloom", sizes, norm, activation, &NAMES)
    })
}

/// `n_embed`, an old name, goes before `hidden_size`.
pub(super) fn width(config: &Config) -> Result<usize, ModelError> {
    match config.optional_usize("n_embed")? {
        Some(width) => Ok(width),
        None => config.usize("hidden_size"),
    }
}
