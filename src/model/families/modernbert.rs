//! `ModernBERT` (Warner et al. 2024): norms before the branches, rotation, two-sided windows in most layers, a gated
//! MLP.

use super::{activation, bert, encoder};
use crate::model::{
    Config, ModelError, Spec,
    config::RopeKeys,
    names::{MlpNames, Names, QkvNames},
    spec::{Biases, EncoderSpec, HeadSpec, NormSpec},
};

const NAMES: Names = Names {
    prefixes: &["model.", ""],
    embed: "embeddings.tok_embeddings",
    embed_norm: "embeddings.norm",
    pos_embed: "",
    token_types: "",
    block: "layers.",
    ln1: "attn_norm",
    ln1_post: "",
    ln2: "mlp_norm",
    ln2_post: "",
    qkv: QkvNames::Joined("attn.Wqkv"),
    o: "attn.Wo",
    mlp: MlpNames::GatedJoined { gate_up: "mlp.Wi", down: "mlp.Wo" },
    final_norm: "final_norm",
    heads: &["decoder"],
    ..bert::NAMES
};

const FULL: RopeKeys = RopeKeys { theta: ("global_rope_theta", 160_000.0), ..RopeKeys::USUAL };
const SLIDING: RopeKeys = RopeKeys { theta: ("local_rope_theta", 10_000.0), ..RopeKeys::USUAL };

/// `local_attention` is the width of the whole window, half of it on each side; every third layer sees everything.
pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    if config.stored("rope_scaling").is_some_and(|value| !value.is_null()) {
        return Err(config.unsupported("rope_scaling", "; `rope_parameters` is read"));
    }
    let norm = NormSpec { bias: config.flag("norm_bias")?, ..NormSpec::layer(config.f64("norm_eps")?) };
    let act = activation(config, "hidden_activation")?;
    let head = HeadSpec {
        names: ["head.dense", "head.norm"],
        activation: activation(config, "classifier_activation")?,
        bias: config.flag("classifier_bias")?,
    };
    let own = EncoderSpec { head: Some(head), ..EncoderSpec::default() };
    let (attention, mlp) = (config.flag("attention_bias")?, config.flag("mlp_bias")?);
    let mut spec = Spec {
        embed_norm: true,
        bias: Biases { qkv: attention, o: attention, mlp, head: config.flag("decoder_bias")? },
        tied: config.flag("tie_word_embeddings")?,
        encoder: Some(own),
        ..Spec::plain("modernbert", super::sizes(config, encoder::KEYS)?, norm, act, &NAMES)
    };
    let every = if config.stored("global_attn_every_n_layers").is_some() {
        config.usize("global_attn_every_n_layers")?
    } else {
        3
    };
    // The half as such, under its name in transformers, comes before the whole.
    let half = match config.optional_usize("sliding_window")? {
        Some(half) => half,
        None => config.usize("local_attention")? / 2,
    };
    let slides = config.sliding_layers(spec.n_layers, |i| i % every != 0)?;
    spec.ropes = config.ropes_by_type(spec.d_head, [FULL, SLIDING])?.to_vec();
    for (layer, slides) in spec.layers.iter_mut().zip(slides) {
        layer.window = slides.then_some(half + 1);
        layer.rope = Some(usize::from(slides));
    }
    // The embeddings are normed just before.
    spec.layers[0].bare = true;
    Ok(spec)
}
