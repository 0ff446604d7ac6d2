use tch::Tensor;

use crate::{Error, LayerIndex, Lens};

/// The logit lens: every residual is read as if it were the last one (nostalgebraist 2020).
///
/// At layer `L` it is the model itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogitLens;

impl Lens for LogitLens {
    fn name(&self) -> &'static str {
        "logit"
    }

    fn reads(&self, _layer: LayerIndex) -> bool {
        true
    }

    fn transform(&self, _layer: LayerIndex, resid: &Tensor) -> Result<Tensor, Error> {
        Ok(resid.shallow_clone())
    }
}
