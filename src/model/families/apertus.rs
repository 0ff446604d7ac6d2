//! Apertus (Swiss AI 2025): an activation with weights of its own, normed heads, a plain MLP.

use layerscope_lenses::NormKind;

use super::llama::frame_with;
use crate::model::{
    Activation, Config, ModelError, Spec,
    config::RopeKeys,
    names::{LLAMA_NAMES, MlpNames, Names},
    spec::{Biases, NormSpec, QkNorm},
};

const NAMES: Names = Names {
    ln1: "attention_layernorm",
    ln2: "feedforward_layernorm",
    mlp: MlpNames::Plain { up: "mlp.up_proj", down: "mlp.down_proj" },
    ..LLAMA_NAMES
};

const ROPE: RopeKeys = RopeKeys {
    missing: Some(
        r#"{"rope_type": "llama3", "rope_theta": 12000000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}"#,
    ),
    ..RopeKeys::from_base(12_000_000.0)
};

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let norm = NormSpec::rms(config.f64("rms_norm_eps")?);
    let activation = match config.str("hidden_act")? {
        "xielu" => Activation::Xielu,
        _ => super::activation(config, "hidden_act")?,
    };
    let mut spec = frame_with(config, "apertus", activation, norm)?;
    spec.ropes = vec![config.rope(spec.d_head, ROPE)?];
    let attention = config.flag("attention_bias")?;
    spec.bias = Biases { qkv: attention, o: attention, ..Biases::default() };
    spec.qk_norm = Some(QkNorm::by_head(NormKind::Rms));
    spec.names = NAMES;
    Ok(spec)
}
