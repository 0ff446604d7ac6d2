//! Hunyuan (Tencent 2025) and nanochat (Karpathy 2025): queries and keys are normed after rotation.

use layerscope_lenses::NormKind;

use super::llama::{frame, rotated_llama};
use crate::model::{
    Config, ModelError, RopeSpec, Spec,
    config::{RopeKeys, RopeKinds},
    names::{LLAMA_NAMES, MlpNames, Names},
    spec::{Biases, NormSpec, QkNorm, QkNormOver},
};

const NAMES: Names =
    Names { qk_norm: ["self_attn.query_layernorm", "self_attn.key_layernorm"], ..LLAMA_NAMES };

const NANOCHAT_NAMES: Names =
    Names { mlp: MlpNames::Plain { up: "mlp.fc1", down: "mlp.fc2" }, ..LLAMA_NAMES };

const AFTER: QkNorm =
    QkNorm { kind: NormKind::Rms, over: QkNormOver::Head, bias: false, after_rotation: true };

pub(super) fn hunyuan_v1_dense(config: &Config) -> Result<Spec, ModelError> {
    let rope = RopeKeys { kinds: RopeKinds::WithAlpha, ..RopeKeys::USUAL };
    let mut spec = rotated_llama(config, "hunyuan_v1_dense", rope)?;
    biases(config, &mut spec)?;
    spec.qk_norm = Some(AFTER);
    spec.names = NAMES;
    Ok(spec)
}

/// Norms without weights, one of the embeddings too; rotation the other way round, a squared ReLU, capped logits.
pub(super) fn nanochat(config: &Config) -> Result<Spec, ModelError> {
    let norm = NormSpec::bare(NormKind::Rms, config.f64("rms_norm_eps")?);
    let mut spec = frame(config, "nanochat", "hidden_act", norm)?;
    let rope = config.rope(spec.d_head, RopeKeys::USUAL)?;
    spec.ropes = vec![RopeSpec { backwards: true, ..rope }];
    biases(config, &mut spec)?;
    spec.qk_norm = Some(AFTER);
    spec.embed_norm = true;
    spec.logit_cap = config.optional_f64("final_logit_softcapping")?;
    spec.names = NANOCHAT_NAMES;
    Ok(spec)
}

fn biases(config: &Config, spec: &mut Spec) -> Result<(), ModelError> {
    let attention = config.flag("attention_bias")?;
    spec.bias = Biases { qkv: attention, o: attention, ..Biases::default() };
    Ok(())
}
