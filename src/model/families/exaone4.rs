//! EXAONE 4 (LG AI Research 2025): norms of what comes out, normed heads, full layers without positions.

use layerscope_lenses::NormKind;

use super::{llama::like_llama, olmo::NORMED_AFTER};
use crate::model::{
    Config, ModelError, Spec,
    spec::{NormPlacement, QkNorm},
};

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = like_llama(config, "exaone4")?;
    spec.norms = NormPlacement::After;
    spec.qk_norm = Some(QkNorm::by_head(NormKind::Rms));
    spec.names = NORMED_AFTER;
    let window = config.sliding_window()?;
    // Read only where `layer_types` is missing; on the hub it may be a text such as "LLLG" beside them.
    let pattern = match config.get("layer_types") {
        Some(_) => 1,
        None => config.usize("sliding_window_pattern")?,
    };
    spec.slide(config, |i| !(i + 1).is_multiple_of(pattern))?;
    if window.is_some() {
        spec.rotate_sliding_only();
    }
    Ok(spec)
}
