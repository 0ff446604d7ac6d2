//! GPT-NeoX and Pythia (Black et al. 2022, Biderman et al. 2023): parallel residual, partial rotation.

use serde_json::Value;

use super::{activation, even_head};
use crate::model::{
    Config, ModelError, Spec,
    spec::{Biases, LayerSpec, MlpNames, Names, NormSpec, Positions, QkvNames, ResidualKind},
};

const NAMES: Names = Names {
    prefixes: &["gpt_neox."],
    embed: "embed_in",
    embed_norm: "",
    pos_embed: "",
    block: "layers.",
    ln1: "input_layernorm",
    ln1_post: "",
    ln2: "post_attention_layernorm",
    ln2_post: "",
    qkv: QkvNames::ByGroup("attention.query_key_value"),
    qk_norm: ["", ""],
    o: "attention.dense",
    mlp: MlpNames::Plain { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" },
    final_norm: "final_layer_norm",
    head: "embed_out",
    transposed: false,
};

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let (d_model, n_heads) = (config.usize("hidden_size")?, config.usize("num_attention_heads")?);
    let n_layers = config.usize("num_hidden_layers")?;
    let d_head = even_head(config, d_model, n_heads)?;
    let mut rope = config.rope(None, d_head, config.f64_or("rotary_emb_base", 10_000.0)?)?;
    let nested =
        config.get("rope_parameters").and_then(|p| p.get("partial_rotary_factor")).and_then(Value::as_f64);
    let fraction = nested.map_or_else(|| config.f64_or("rotary_pct", 0.25), Ok)?;
    rope.rotary_dim = (d_head as f64 * fraction) as usize;
    let parallel = config.bool_or("use_parallel_residual", true)?;
    let bias = config.bool_or("attention_bias", true)?;
    Ok(Spec {
        family: "gpt_neox",
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp: config.usize("intermediate_size")?,
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize("max_position_embeddings")?,
        norm: NormSpec::layer(config.f64_or("layer_norm_eps", 1e-5)?),
        residual: if parallel { ResidualKind::Parallel } else { ResidualKind::Sequential },
        post_norms: false,
        embed_norm: false,
        embed_scale: None,
        positions: Positions::Rotary,
        ropes: vec![rope],
        layers: vec![LayerSpec { window: None, rope: 0, scale: (d_head as f64).powf(-0.5) }; n_layers],
        activation: activation(config, "hidden_act")?,
        qk_norm: None,
        bias: Biases { qkv: bias, o: bias, mlp: true, head: false },
        score_cap: None,
        logit_cap: None,
        tied: config.bool_or("tie_word_embeddings", false)?,
        names: NAMES,
    })
}
