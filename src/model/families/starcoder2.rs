//! `StarCoder` 2 (Lozhkov et al. 2024): Llama's rotation and grouped heads, layer norms, biases, a plain MLP.

use super::llama::frame;
use crate::model::{
    Config, ModelError, Spec,
    config::RopeKeys,
    names::{LLAMA_NAMES, MlpNames, Names},
    spec::{Biases, NormSpec},
};

const NAMES: Names = Names { mlp: MlpNames::Plain { up: "mlp.c_fc", down: "mlp.c_proj" }, ..LLAMA_NAMES };

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let norm = NormSpec::layer(config.f64("norm_epsilon")?);
    let mut spec = frame(config, "starcoder2", "hidden_act", norm)?;
    spec.ropes = vec![config.rope(spec.d_head, RopeKeys::USUAL)?];
    let bias = config.flag("use_bias")?;
    spec.bias = Biases { qkv: bias, o: bias, mlp: bias, head: false };
    spec.names = NAMES;
    spec.slide_everywhere(config.sliding_window()?);
    Ok(spec)
}
