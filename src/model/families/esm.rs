//! ESM-1b and ESM-2 (Rives et al. 2021; Lin et al. 2023), of proteins: BERT's maps with norms before the branches.

use super::{bert, encoder};
use crate::model::{
    Activation, Config, ModelError, Positions, RopeScaling, RopeSpec, Spec,
    names::Names,
    spec::{EncoderSpec, HeadSpec, NormPlacement, NormSpec},
};

const NAMES: Names = Names {
    prefixes: &["esm.", ""],
    embed_norm: "embeddings.layer_norm",
    token_types: "",
    ln1: "attention.LayerNorm",
    ln1_post: "",
    ln2: "LayerNorm",
    ln2_post: "",
    final_norm: "encoder.emb_layer_norm_after",
    heads: &["lm_head.decoder", "lm_head"],
    ..bert::NAMES
};

const FREQUENCIES: &str = "rotary_embeddings.inv_freq";

/// Positions are rotations (ESM-2) or rows behind the padding token's (ESM-1b). The activation is always the same.
pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    if config.flag("is_folding_model")? {
        return Err(config.unsupported("is_folding_model", " (only the language model of ESMFold is)"));
    }
    let names = ["lm_head.dense", "lm_head.layer_norm"];
    let head = HeadSpec { names, activation: Activation::Gelu, bias: true };
    let token_dropout =
        if config.flag("token_dropout")? { Some(config.token("mask_token_id")?) } else { None };
    let own = EncoderSpec {
        token_dropout,
        frequencies: Some(FREQUENCIES),
        head: Some(head),
        ..EncoderSpec::default()
    };
    let norm = NormSpec::layer(config.f64("layer_norm_eps")?);
    let sizes = super::sizes(config, encoder::KEYS)?;
    let plain = Spec::plain("esm", sizes, norm, Activation::Gelu, &NAMES);
    let mut spec = Spec {
        norms: NormPlacement::Before,
        embed_norm: config.flag("emb_layer_norm_before")?,
        ..encoder::encoding(config, plain, own)?
    };
    match config.str("position_embedding_type")? {
        "rotary" => {
            spec.positions = Positions::Rotary;
            let theta = config.f64("rope_theta")?;
            let (rotary_dim, scaling) = (spec.d_head, RopeScaling::None);
            spec.ropes = vec![RopeSpec { theta, rotary_dim, interleaved: false, backwards: false, scaling }];
        }
        "absolute" => encoder::count_from_padding(config, &mut spec)?,
        _ => return Err(config.unsupported("position_embedding_type", "; supported: rotary, absolute")),
    }
    Ok(spec)
}
