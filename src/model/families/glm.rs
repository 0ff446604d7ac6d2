//! GLM 4 (Zeng et al. 2024) and its later form, Ernie 4.5 (Baidu 2025), Helium (Kyutai 2025): pairs of neighbours
//! rotate.

use super::{
    fills_the_width,
    llama::{frame, rotated_llama},
};
use crate::model::{
    Config, ModelError, Spec,
    config::RopeKeys,
    names::{LLAMA_NAMES, MlpNames, Names},
    spec::{Biases, NormPlacement, NormSpec},
};

const NAMES: Names = Names {
    mlp: MlpNames::GatedJoined { gate_up: "mlp.gate_up_proj", down: "mlp.down_proj" },
    ..LLAMA_NAMES
};

const GLM4_NAMES: Names =
    Names { ln1_post: "post_self_attn_layernorm", ln2_post: "post_mlp_layernorm", ..NAMES };

pub(super) fn glm(config: &Config) -> Result<Spec, ModelError> {
    half_rotated(config, "glm", &NAMES)
}

/// Norms of what comes out as well.
pub(super) fn glm4(config: &Config) -> Result<Spec, ModelError> {
    Ok(Spec { norms: NormPlacement::Both, ..half_rotated(config, "glm4", &GLM4_NAMES)? })
}

/// The text half of GLM 4.1V and 4.6V: GLM 4 with biases, and all of each head rotated unless the file says otherwise.
pub(super) fn glm4v_text(config: &Config) -> Result<Spec, ModelError> {
    let norm = NormSpec::rms(config.f64("rms_norm_eps")?);
    let mut spec = frame(config, "glm4v_text", "hidden_act", norm)?;
    fills_the_width(config, &spec)?;
    spec.ropes = vec![config.rope(spec.d_head, RopeKeys::USUAL.partly(1.0).interleaved())?];
    spec.bias = Biases { qkv: true, ..Biases::default() };
    spec.norms = NormPlacement::Both;
    spec.names = GLM4_NAMES;
    Ok(spec)
}

fn half_rotated(config: &Config, family: &'static str, names: &Names) -> Result<Spec, ModelError> {
    let norm = NormSpec::rms(config.f64("rms_norm_eps")?);
    let mut spec = frame(config, family, "hidden_act", norm)?;
    spec.ropes = vec![config.rope(spec.d_head, RopeKeys::USUAL.partly(0.5).interleaved())?];
    spec.bias = Biases { qkv: config.flag("attention_bias")?, ..Biases::default() };
    spec.names = *names;
    Ok(spec)
}

pub(super) fn ernie4_5(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = rotated_llama(config, "ernie4_5", RopeKeys::from_base(500_000.0).interleaved())?;
    let bias = config.flag("use_bias")?;
    spec.bias = Biases { qkv: bias, o: bias, mlp: bias, head: false };
    Ok(spec)
}

pub(super) fn helium(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = rotated_llama(config, "helium", RopeKeys::from_base(100_000.0).interleaved())?;
    let (qkv, mlp) = (config.flag("attention_bias")?, config.flag("mlp_bias")?);
    spec.bias = Biases { qkv, o: false, mlp, head: false };
    Ok(spec)
}
