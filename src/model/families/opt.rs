//! OPT (Zhang et al. 2022): learned positions from row 2, ReLU.

use super::{activation, even_head};
use crate::model::{
    Config, ModelError, Spec,
    spec::{Biases, LayerSpec, MlpNames, Names, NormSpec, Positions, QkvNames, ResidualKind},
};

const NAMES: Names = Names {
    prefixes: &["model.decoder.", "decoder."],
    embed: "embed_tokens",
    embed_norm: "",
    pos_embed: "embed_positions",
    block: "layers.",
    ln1: "self_attn_layer_norm",
    ln1_post: "",
    ln2: "final_layer_norm",
    ln2_post: "",
    qkv: QkvNames::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    qk_norm: ["", ""],
    o: "self_attn.out_proj",
    mlp: MlpNames::Plain { up: "fc1", down: "fc2" },
    final_norm: "final_layer_norm",
    head: "lm_head",
    transposed: false,
};

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let (d_model, n_heads) = (config.usize("hidden_size")?, config.usize("num_attention_heads")?);
    let n_layers = config.usize("num_hidden_layers")?;
    if !config.bool_or("do_layer_norm_before", true)? {
        return Err(config.unsupported(
            "do_layer_norm_before",
            " (OPT-350m norms after each block and has no final norm)",
        ));
    }
    if config.usize_or("word_embed_proj_dim", d_model)? != d_model {
        return Err(config.unsupported("word_embed_proj_dim", " (embeddings projected to another width)"));
    }
    if !config.bool_or("layer_norm_elementwise_affine", true)? {
        return Err(config.unsupported("layer_norm_elementwise_affine", ""));
    }
    config.refuse_if_true("_remove_final_layer_norm")?;
    let d_head = even_head(config, d_model, n_heads)?;
    let bias = config.bool_or("enable_bias", true)?;
    Ok(Spec {
        family: "opt",
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp: config.usize("ffn_dim")?,
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize("max_position_embeddings")?,
        norm: NormSpec::layer(1e-5),
        residual: ResidualKind::Sequential,
        post_norms: false,
        embed_norm: false,
        embed_scale: None,
        positions: Positions::Learned { offset: 2 },
        ropes: Vec::new(),
        layers: vec![LayerSpec { window: None, rope: 0, scale: (d_head as f64).powf(-0.5) }; n_layers],
        activation: activation(config, "activation_function")?,
        qk_norm: None,
        bias: Biases { qkv: bias, o: bias, mlp: bias, head: false },
        score_cap: None,
        logit_cap: None,
        tied: config.bool_or("tie_word_embeddings", true)?,
        names: NAMES,
    })
}
