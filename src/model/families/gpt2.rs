//! GPT-2 (Radford et al. 2019): learned positions, weights stored `[in, out]`.

use super::{activation, even_head};
use crate::model::{
    Config, ModelError, Spec,
    names::{MlpNames, Names, QkvNames},
    spec::{Biases, LayerSpec, NormSpec, Positions, Sizes},
};

pub(super) const NAMES: Names = Names {
    prefixes: &["transformer.", ""],
    embed: "wte",
    embed_norm: "",
    pos_embed: "wpe",
    token_types: "",
    block: "h.",
    ln1: "ln_1",
    ln1_post: "",
    ln2: "ln_2",
    ln2_post: "",
    qkv: QkvNames::Joined("attn.c_attn"),
    qk_norm: ["", ""],
    o: "attn.c_proj",
    mlp: MlpNames::Plain { up: "mlp.c_fc", down: "mlp.c_proj" },
    final_norm: "ln_f",
    heads: &["lm_head"],
    transposed: true,
};

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = like_gpt2(config, "gpt2", &NAMES)?;
    if config.flag("scale_attn_by_inverse_layer_idx")? {
        for (i, layer) in spec.layers.iter_mut().enumerate() {
            layer.scale /= (i + 1) as f64;
        }
    }
    Ok(spec)
}

/// GPT-2's sizes and habits under other names.
pub(super) fn like_gpt2(config: &Config, family: &'static str, names: &Names) -> Result<Spec, ModelError> {
    config.refuse_if_true("add_cross_attention")?;
    let (d_model, n_heads, n_layers) =
        (config.usize("n_embd")?, config.usize("n_head")?, config.layers("n_layer")?);
    let d_head = even_head(config, d_model, n_heads)?;
    let scale = if config.flag("scale_attn_weights")? { (d_head as f64).powf(-0.5) } else { 1.0 };
    let sizes = Sizes {
        n_layers,
        d_model,
        n_heads,
        d_head,
        d_mlp: config.optional_usize("n_inner")?.unwrap_or(4 * d_model),
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize("n_positions")?,
    };
    let norm = NormSpec::layer(config.f64("layer_norm_epsilon")?);
    let activation = activation(config, "activation_function")?;
    Ok(Spec {
        positions: Positions::Learned { offset: 0 },
        layers: vec![LayerSpec { scale, ..LayerSpec::default() }; n_layers],
        bias: Biases { qkv: true, o: true, mlp: true, head: false },
        tied: config.flag("tie_word_embeddings")?,
        ..Spec::plain(family, sizes, norm, activation, names)
    })
}
