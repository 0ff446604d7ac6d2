//! `StableLM` 2 (Bellagente et al. 2024) and Persimmon (Adept 2023): layer norms, part of each head rotated.

use layerscope_lenses::NormKind;

use super::{fills_the_width, llama::frame};
use crate::model::{
    Config, ModelError, Spec,
    config::RopeKeys,
    names::{LLAMA_NAMES, MlpNames, Names, QkvNames},
    spec::{Biases, NormSpec, QkNorm, QkNormOver, ResidualKind},
};

const NAMES: Names = Names { qk_norm: ["self_attn.q_layernorm", "self_attn.k_layernorm"], ..LLAMA_NAMES };

const PERSIMMON_NAMES: Names = Names {
    qkv: QkvNames::ByGroup("self_attn.query_key_value"),
    o: "self_attn.dense",
    mlp: MlpNames::Plain { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" },
    final_norm: "final_layernorm",
    ..NAMES
};

pub(super) fn stablelm(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = partly_rotated(config, "stablelm", 0.25)?;
    spec.bias = Biases { qkv: config.flag("use_qkv_bias")?, ..Biases::default() };
    if config.flag("qk_layernorm")? {
        let over = QkNormOver::HeadInList;
        spec.qk_norm = Some(QkNorm { over, bias: false, ..QkNorm::by_head(NormKind::Layer) });
    }
    if config.flag("use_parallel_residual")? {
        spec.residual = ResidualKind::ParallelSharedNorm;
    }
    spec.names = NAMES;
    Ok(spec)
}

/// Queries, keys and values by head, biases everywhere, a squared ReLU.
pub(super) fn persimmon(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = partly_rotated(config, "persimmon", 0.5)?;
    spec.n_kv_heads = spec.n_heads;
    spec.bias = Biases { qkv: true, o: true, mlp: true, head: false };
    spec.qk_norm = config.flag("qk_layernorm")?.then_some(QkNorm::by_head(NormKind::Layer));
    spec.names = PERSIMMON_NAMES;
    Ok(spec)
}

fn partly_rotated(config: &Config, family: &'static str, fraction: f64) -> Result<Spec, ModelError> {
    let norm = NormSpec::layer(config.f64("layer_norm_eps")?);
    let mut spec = frame(config, family, "hidden_act", norm)?;
    fills_the_width(config, &spec)?;
    spec.ropes = vec![config.rope(spec.d_head, RopeKeys::USUAL.partly(fraction))?];
    Ok(spec)
}
