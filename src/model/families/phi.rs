//! Phi 1, 1.5 and 2 (Gunasekar et al. 2023): parallel residual through one norm, biases everywhere.

use layerscope_lenses::NormKind;

use super::{activation, even_head};
use crate::model::{
    Config, ModelError, Spec,
    config::RopeKeys,
    names::{LLAMA_NAMES, MlpNames, Names},
    spec::{Biases, NormSpec, QkNorm, ResidualKind, Sizes},
};

const NAMES: Names = Names {
    qk_norm: ["self_attn.q_layernorm", "self_attn.k_layernorm"],
    o: "self_attn.dense",
    mlp: MlpNames::Plain { up: "mlp.fc1", down: "mlp.fc2" },
    final_norm: "final_layernorm",
    ..LLAMA_NAMES
};

const ROPE: RopeKeys = RopeKeys::USUAL.partly(0.5);

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let (d_model, n_heads) = (config.usize("hidden_size")?, config.usize("num_attention_heads")?);
    let n_layers = config.layers("num_hidden_layers")?;
    let d_head = match config.optional_usize("head_dim")? {
        Some(d_head) => d_head,
        None => even_head(config, d_model, n_heads)?,
    };
    let rope = config.rope(d_head, ROPE)?;
    let sizes = Sizes {
        n_layers,
        d_model,
        n_heads,
        d_head,
        d_mlp: config.usize("intermediate_size")?,
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize("max_position_embeddings")?,
    };
    let norm = NormSpec::layer(config.f64("layer_norm_eps")?);
    let activation = activation(config, "hidden_act")?;
    Ok(Spec {
        n_kv_heads: config.optional_usize("num_key_value_heads")?.unwrap_or(n_heads),
        residual: ResidualKind::ParallelSharedNorm,
        ropes: vec![rope],
        qk_norm: config.flag("qk_layernorm")?.then_some(QkNorm::by_head(NormKind::Layer)),
        bias: Biases { qkv: true, o: true, mlp: true, head: true },
        tied: config.flag("tie_word_embeddings")?,
        ..Spec::plain("phi", sizes, norm, activation, &NAMES)
    })
}
