//! Mistral (Jiang et al. 2023) and Ministral, whose layers slide; CWM (Meta 2025), of whose layers three in four do.

use super::llama::{like_llama, rotated_llama};
use crate::model::{
    Config, ModelError, Spec,
    config::RopeKeys,
    spec::{Biases, QueryGrowth},
};

pub(super) fn mistral(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = like_llama(config, "mistral")?;
    spec.slide_everywhere(config.sliding_window()?);
    Ok(spec)
}

/// Layers slide one by one, all of them unless `layer_types` says otherwise.
pub(super) fn ministral(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = like_llama(config, "ministral")?;
    let slides = config.sliding_window()?.is_some();
    spec.slide(config, |_| slides)?;
    Ok(spec)
}

const MINISTRAL3_ROPE: RopeKeys = RopeKeys {
    missing: Some(
        r#"{"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "original_max_position_embeddings": 16384,
            "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}"#,
    ),
    ..RopeKeys::USUAL
};

/// Queries grow with their position, as in Llama 4.
pub(super) fn ministral3(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = rotated_llama(config, "ministral3", MINISTRAL3_ROPE)?;
    spec.slide_everywhere(config.sliding_window()?);
    let extras = config.rope_extras(MINISTRAL3_ROPE)?;
    spec.query_growth = extras.beta.map(|beta| QueryGrowth { beta, length: extras.original_context });
    Ok(spec)
}

const CWM_ROPE: RopeKeys = RopeKeys {
    missing: Some(
        r#"{"rope_type": "llama3", "rope_theta": 1000000.0, "factor": 16.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}"#,
    ),
    ..RopeKeys::from_base(1_000_000.0)
};

pub(super) fn cwm(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = rotated_llama(config, "cwm", CWM_ROPE)?;
    spec.bias = Biases { mlp: config.flag("mlp_bias")?, ..Biases::default() };
    spec.slide(config, |i| i % 4 != 0)?;
    Ok(spec)
}
