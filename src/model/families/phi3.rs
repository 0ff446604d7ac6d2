//! Phi-3 and Phi-4 (Abdin et al. 2024): Llama with joined projections and a sliding window.

use super::llama::like_llama;
use crate::model::{
    Config, ModelError, Spec,
    names::{LLAMA_NAMES, MlpNames, Names, QkvNames},
};

const NAMES: Names = Names {
    qkv: QkvNames::Joined("self_attn.qkv_proj"),
    mlp: MlpNames::GatedJoined { gate_up: "mlp.gate_up_proj", down: "mlp.down_proj" },
    ..LLAMA_NAMES
};

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = like_llama(config, "phi3")?;
    spec.norm.eps = config.f64_or("rms_norm_eps", 1e-5)?;
    spec.names = NAMES;
    let sliding = config.get("sliding_window").is_some();
    spec.slide(config, |_| sliding)?;
    Ok(spec)
}
