//! Phi-3 and Phi-4 (Abdin et al. 2024): Llama with joined projections and a sliding window.

use super::llama::frame;
use crate::model::{
    Config, ModelError, Spec,
    config::{RopeKeys, RopeKinds},
    names::{LLAMA_NAMES, MlpNames, Names, QkvNames},
    spec::NormSpec,
};

const NAMES: Names = Names {
    qkv: QkvNames::Joined("self_attn.qkv_proj"),
    mlp: MlpNames::GatedJoined { gate_up: "mlp.gate_up_proj", down: "mlp.down_proj" },
    ..LLAMA_NAMES
};

/// In transformers Phi-3 knows no other kind of rotation than its own "longrope".
const ROPE: RopeKeys = RopeKeys { kinds: RopeKinds::LongRope, ..RopeKeys::USUAL.partly(1.0) };

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let norm = NormSpec::rms(config.f64("rms_norm_eps")?);
    let mut spec = frame(config, "phi3", "hidden_act", norm)?;
    spec.ropes = vec![config.rope(spec.d_head, ROPE)?];
    spec.names = NAMES;
    spec.slide_everywhere(config.sliding_window()?);
    Ok(spec)
}
