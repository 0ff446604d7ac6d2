//! GPT-NeoX and Pythia (Black et al. 2022, Biderman et al. 2023): parallel residual, partial rotation.

use super::{activation, even_head};
use crate::model::{
    Config, ModelError, Spec,
    names::{LLAMA_NAMES, MlpNames, Names, QkvNames},
    spec::{Biases, NormSpec, ResidualKind, Sizes},
};

const NAMES: Names = Names {
    prefixes: &["gpt_neox."],
    embed: "embed_in",
    qkv: QkvNames::ByGroup("attention.query_key_value"),
    o: "attention.dense",
    mlp: MlpNames::Plain { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" },
    final_norm: "final_layer_norm",
    head: "embed_out",
    ..LLAMA_NAMES
};

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let (d_model, n_heads) = (config.usize("hidden_size")?, config.usize("num_attention_heads")?);
    let n_layers = config.usize("num_hidden_layers")?;
    let d_head = even_head(config, d_model, n_heads)?;
    let theta = config.f64_or("rotary_emb_base", 10_000.0)?;
    let rope = config.rope(None, d_head, theta, ("rotary_pct", 0.25))?;
    let parallel = config.bool_or("use_parallel_residual", true)?;
    let bias = config.bool_or("attention_bias", true)?;
    let sizes = Sizes {
        n_layers,
        d_model,
        n_heads,
        d_head,
        d_mlp: config.usize("intermediate_size")?,
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize("max_position_embeddings")?,
    };
    let norm = NormSpec::layer(config.f64_or("layer_norm_eps", 1e-5)?);
    let activation = activation(config, "hidden_act")?;
    Ok(Spec {
        residual: if parallel { ResidualKind::Parallel } else { ResidualKind::Sequential },
        ropes: vec![rope],
        bias: Biases { qkv: bias, o: bias, mlp: true, head: false },
        tied: config.bool_or("tie_word_embeddings", false)?,
        ..Spec::plain("gpt_neox", sizes, norm, activation, &NAMES)
    })
}
