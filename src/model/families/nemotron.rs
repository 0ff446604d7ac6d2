//! Plain MLPs with a squared ReLU: Nemotron (Parmar et al. 2024), Arcee (AFM), Jais 2.

use super::llama::frame;
use crate::model::{
    Config, ModelError, Spec,
    config::RopeKeys,
    names::{LLAMA_NAMES, MlpNames, Names},
    spec::{Biases, NormSpec},
};

const NAMES: Names =
    Names { mlp: MlpNames::Plain { up: "mlp.up_proj", down: "mlp.down_proj" }, ..LLAMA_NAMES };

/// Layer norms whose weights are stored minus one; half of each head is rotated.
pub(super) fn nemotron(config: &Config) -> Result<Spec, ModelError> {
    let norm = NormSpec { plus_one: true, ..NormSpec::layer(config.f64("norm_eps")?) };
    plain(config, "nemotron", norm, RopeKeys::USUAL.partly(0.5))
}

pub(super) fn arcee(config: &Config) -> Result<Spec, ModelError> {
    plain(config, "arcee", NormSpec::rms(config.f64("rms_norm_eps")?), RopeKeys::USUAL)
}

pub(super) fn jais2(config: &Config) -> Result<Spec, ModelError> {
    plain(config, "jais2", NormSpec::layer(config.f64("layer_norm_eps")?), RopeKeys::USUAL)
}

/// Llama's frame with a plain MLP and both keys of biases.
pub(super) fn plain(
    config: &Config,
    family: &'static str,
    norm: NormSpec,
    rope: RopeKeys,
) -> Result<Spec, ModelError> {
    let mut spec = frame(config, family, "hidden_act", norm)?;
    spec.ropes = vec![config.rope(spec.d_head, rope)?];
    let (attention, mlp) = (config.flag("attention_bias")?, config.flag("mlp_bias")?);
    spec.bias = Biases { qkv: attention, o: attention, mlp, head: false };
    spec.names = NAMES;
    Ok(spec)
}
