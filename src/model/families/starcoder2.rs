//! `StarCoder` 2 (Lozhkov et al. 2024): Llama's rotation and grouped heads, layer norms, biases, a plain MLP.

use super::llama::like_llama;
use crate::model::{
    Config, ModelError, Spec,
    names::{LLAMA_NAMES, MlpNames, Names},
    spec::{Biases, NormSpec},
};

const NAMES: Names = Names { mlp: MlpNames::Plain { up: "mlp.c_fc", down: "mlp.c_proj" }, ..LLAMA_NAMES };

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = like_llama(config, "starcoder2")?;
    let bias = config.bool_or("use_bias", true)?;
    spec.norm = NormSpec::layer(config.f64_or("norm_epsilon", 1e-5)?);
    spec.bias = Biases { qkv: bias, o: bias, mlp: bias, head: false };
    spec.tied = config.bool_or("tie_word_embeddings", true)?;
    spec.names = NAMES;
    let sliding = config.get("sliding_window").is_some();
    spec.slide(config, |_| sliding)?;
    Ok(spec)
}
