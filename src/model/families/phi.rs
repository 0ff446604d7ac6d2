//! Phi 1, 1.5 and 2 (Gunasekar et al. 2023): parallel residual through one norm, biases everywhere.

use layerscope_lenses::NormKind;

use super::{activation, even_head};
use crate::model::{
    Config, ModelError, Spec,
    spec::{Biases, LLAMA_NAMES, LayerSpec, MlpNames, Names, NormSpec, Positions, ResidualKind},
};

const NAMES: Names = Names {
    qk_norm: ["self_attn.q_layernorm", "self_attn.k_layernorm"],
    o: "self_attn.dense",
    mlp: MlpNames::Plain { up: "mlp.fc1", down: "mlp.fc2" },
    final_norm: "final_layernorm",
    ..LLAMA_NAMES
};

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let (d_model, n_heads) = (config.usize("hidden_size")?, config.usize("num_attention_heads")?);
    let n_layers = config.usize("num_hidden_layers")?;
    let d_head = even_head(config, d_model, n_heads)?;
    let mut rope = config.rope(None, d_head, 10_000.0)?;
    let nested = config.get("rope_parameters").is_some_and(|p| p.get("partial_rotary_factor").is_some());
    if !nested {
        rope.rotary_dim = (d_head as f64 * config.f64_or("partial_rotary_factor", 0.5)?) as usize;
    }
    Ok(Spec {
        family: "phi",
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: config.usize_or("num_key_value_heads", n_heads)?,
        d_head,
        d_mlp: config.usize("intermediate_size")?,
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize("max_position_embeddings")?,
        norm: NormSpec::layer(config.f64_or("layer_norm_eps", 1e-5)?),
        residual: ResidualKind::ParallelSharedNorm,
        post_norms: false,
        embed_norm: false,
        embed_scale: None,
        positions: Positions::Rotary,
        ropes: vec![rope],
        layers: vec![LayerSpec { window: None, rope: 0, scale: (d_head as f64).powf(-0.5) }; n_layers],
        activation: activation(config, "hidden_act")?,
        qk_norm: config.bool_or("qk_layernorm", false)?.then_some(NormKind::Layer),
        bias: Biases { qkv: true, o: true, mlp: true, head: true },
        score_cap: None,
        logit_cap: None,
        tied: config.bool_or("tie_word_embeddings", false)?,
        names: NAMES,
    })
}
