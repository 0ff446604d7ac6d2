//! GPT-J (Wang & Komatsuzaki 2021): parallel residual through one norm, interleaved rotation, biased head.

use super::{activation, even_head};
use crate::model::{
    Config, ModelError, Spec,
    rope::{RopeScaling, RopeSpec},
    spec::{Biases, LayerSpec, MlpNames, Names, NormSpec, Positions, QkvNames, ResidualKind},
};

const NAMES: Names = Names {
    prefixes: &["transformer."],
    embed: "wte",
    embed_norm: "",
    pos_embed: "",
    block: "h.",
    ln1: "ln_1",
    ln1_post: "",
    ln2: "",
    ln2_post: "",
    qkv: QkvNames::Separate(["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
    qk_norm: ["", ""],
    o: "attn.out_proj",
    mlp: MlpNames::Plain { up: "mlp.fc_in", down: "mlp.fc_out" },
    final_norm: "ln_f",
    head: "lm_head",
    transposed: false,
};

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let (d_model, n_heads, n_layers) =
        (config.usize("n_embd")?, config.usize("n_head")?, config.usize("n_layer")?);
    let d_head = even_head(config, d_model, n_heads)?;
    let rope = RopeSpec {
        theta: 10_000.0,
        rotary_dim: config.usize_or("rotary_dim", d_head)?,
        interleaved: true,
        scaling: RopeScaling::None,
    };
    Ok(Spec {
        family: "gptj",
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp: config.usize_or("n_inner", 4 * d_model)?,
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize("n_positions")?,
        norm: NormSpec::layer(config.f64_or("layer_norm_epsilon", 1e-5)?),
        residual: ResidualKind::ParallelSharedNorm,
        post_norms: false,
        embed_norm: false,
        embed_scale: None,
        positions: Positions::Rotary,
        ropes: vec![rope],
        layers: vec![LayerSpec { window: None, rope: 0, scale: (d_head as f64).powf(-0.5) }; n_layers],
        activation: activation(config, "activation_function")?,
        qk_norm: None,
        bias: Biases { qkv: false, o: false, mlp: true, head: true },
        score_cap: None,
        logit_cap: None,
        tied: config.bool_or("tie_word_embeddings", false)?,
        names: NAMES,
    })
}
