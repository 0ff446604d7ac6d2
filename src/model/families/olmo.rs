//! OLMo 1, 2 and 3 (Groeneveld et al. 2024; Walsh et al. 2025): norms without weights first, then norms of what comes
//! out.

use layerscope_lenses::NormKind;

use super::llama::{frame, like_llama};
use crate::model::{
    Config, ModelError, Spec,
    config::RopeKeys,
    names::{LLAMA_NAMES, Names},
    spec::{Biases, NormPlacement, NormSpec, QkNorm, QkNormOver},
};

/// Names of a model that norms what attention and MLP put out, and not what they read.
pub(super) const NORMED_AFTER: Names =
    Names { ln1_post: "post_attention_layernorm", ln2_post: "post_feedforward_layernorm", ..LLAMA_NAMES };

/// Layer norms without weights; queries, keys and values held within limits.
pub(super) fn olmo(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = frame(config, "olmo", "hidden_act", NormSpec::bare(NormKind::Layer, 1e-5))?;
    spec.ropes = vec![config.rope(spec.d_head, RopeKeys::USUAL)?];
    biases(config, &mut spec)?;
    spec.qkv_clip = config.optional_f64("clip_qkv")?;
    Ok(spec)
}

/// RMS norms of what comes out, and of all query or key heads at once.
pub(super) fn olmo2(config: &Config) -> Result<Spec, ModelError> {
    let spec = like_llama(config, "olmo2")?;
    normed_after(config, spec)
}

/// The same with windows on three layers in four; sliding layers rotate unscaled.
pub(super) fn olmo3(config: &Config) -> Result<Spec, ModelError> {
    let norm = NormSpec::rms(config.f64("rms_norm_eps")?);
    let mut spec = frame(config, "olmo3", "hidden_act", norm)?;
    let full = RopeKeys::from_base(500_000.0);
    // Transformers gives a base at the file's top to the full layers alone.
    let sliding = RopeKeys { theta: ("", 500_000.0), ..full };
    spec.slide_by_rope(config, [full, sliding], |i| !(i + 1).is_multiple_of(4))?;
    normed_after(config, spec)
}

pub(super) fn normed_after(config: &Config, mut spec: Spec) -> Result<Spec, ModelError> {
    biases(config, &mut spec)?;
    spec.norms = NormPlacement::After;
    spec.qk_norm = Some(QkNorm { over: QkNormOver::All, ..QkNorm::by_head(NormKind::Rms) });
    spec.names = NORMED_AFTER;
    Ok(spec)
}

/// One key for the biases of all four maps of attention.
pub(super) fn biases(config: &Config, spec: &mut Spec) -> Result<(), ModelError> {
    let attention = config.flag("attention_bias")?;
    spec.bias = Biases { qkv: attention, o: attention, ..Biases::default() };
    Ok(())
}
