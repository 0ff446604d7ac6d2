//! BLOOM (Le Scao et al. 2022): alibi positions, normed embeddings, queries, keys and values by head.

use super::even_head;
use crate::model::{
    Activation, Config, ModelError, Spec,
    spec::{Alibi, Biases, LayerSpec, MlpNames, Names, NormSpec, Positions, QkvNames, ResidualKind},
};

const NAMES: Names = Names {
    prefixes: &["transformer.", ""],
    embed: "word_embeddings",
    embed_norm: "word_embeddings_layernorm",
    pos_embed: "",
    block: "h.",
    ln1: "input_layernorm",
    ln1_post: "",
    ln2: "post_attention_layernorm",
    ln2_post: "",
    qkv: QkvNames::ByGroup("self_attention.query_key_value"),
    qk_norm: ["", ""],
    o: "self_attention.dense",
    mlp: MlpNames::Plain { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" },
    final_norm: "ln_f",
    head: "lm_head",
    transposed: false,
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
    Ok(Spec {
        family: "bloom",
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp: 4 * d_model,
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize_or("seq_length", N_CTX)?,
        norm: NormSpec::layer(config.f64_or("layer_norm_epsilon", 1e-5)?),
        residual: ResidualKind::Sequential,
        post_norms: false,
        embed_norm: true,
        embed_scale: None,
        positions: Positions::Alibi(Alibi::AfterScale),
        ropes: Vec::new(),
        layers: vec![LayerSpec { window: None, rope: 0, scale: (d_head as f64).powf(-0.5) }; n_layers],
        activation: Activation::GeluTanh,
        qk_norm: None,
        bias: Biases { qkv: true, o: true, mlp: true, head: false },
        score_cap: None,
        logit_cap: None,
        tied: config.bool_or("tie_word_embeddings", true)?,
        names: NAMES,
    })
}
