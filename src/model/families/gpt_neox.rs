//! GPT-NeoX and Pythia (Black et al. 2022, Biderman et al. 2023): parallel residual, partial rotation.

use super::{activation, even_head};
use crate::model::{
    Config, ModelError, Spec,
    config::RopeKeys,
    names::{LLAMA_NAMES, MlpNames, Names, QkvNames},
    spec::{Biases, NormSpec, ResidualKind, Sizes},
};

const NAMES: Names = Names {
    prefixes: &["gpt_neox.", ""],
    embed: "embed_in",
    qkv: QkvNames::ByGroup("attention.query_key_value"),
    o: "attention.dense",
    mlp: MlpNames::Plain { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" },
    final_norm: "final_layer_norm",
    heads: &["embed_out", "lm_head"],
    ..LLAMA_NAMES
};

const ROPE: RopeKeys = RopeKeys {
    theta: ("rotary_emb_base", 10_000.0),
    fraction: Some(("rotary_pct", 0.25)),
    ..RopeKeys::USUAL
};

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let (d_model, n_heads) = (config.usize("hidden_size")?, config.usize("num_attention_heads")?);
    let n_layers = config.layers("num_hidden_layers")?;
    let d_head = even_head(config, d_model, n_heads)?;
    if config.optional_usize("head_dim")?.is_some_and(|head_dim| head_dim != d_head) {
        let hint = format!(" (heads are {d_head} wide; transformers would rotate them at other frequencies)");
        return Err(config.unsupported("head_dim", &hint));
    }
    let rope = config.rope(d_head, ROPE)?;
    let parallel = config.flag("use_parallel_residual")?;
    let bias = config.flag("attention_bias")?;
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
        residual: if parallel { ResidualKind::Parallel } else { ResidualKind::Sequential },
        ropes: vec![rope],
        bias: Biases { qkv: bias, o: bias, mlp: true, head: false },
        tied: config.flag("tie_word_embeddings")?,
        ..Spec::plain("gpt_neox", sizes, norm, activation, &NAMES)
    })
}
