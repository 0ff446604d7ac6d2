//! Corrections of a state of one layer before the lens of another reads it.

use std::collections::BTreeMap;

use layerscope_lenses::{Affine, Error, LayerIndex};

use super::Layers;
use crate::lens::evaluate::EvalError;

/// Relative eigenvalue floor of the moment-matching correction.
const FLOOR: f64 = 1e-8;

/// What may be done to a state of one layer before the lens of another reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Correction {
    /// The mean of the lens's layer in place of the state's.
    Shift,
    /// Its mean and covariance.
    Moments,
    /// Its mean, and the rotation that fits best (Procrustes).
    Rotation,
}

impl Correction {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Shift, Self::Moments, Self::Rotation];

    /// Name in `metrics.parquet`, behind the lens's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shift => "shift",
            Self::Moments => "moments",
            Self::Rotation => "rotation",
        }
    }
}

/// The maps from the states of every layer to states that look like those of every other, of each [`Correction`].
///
/// They stay in memory together: `4 d²` bytes for each correction and ordered pair of layers, which is 7 GB for 24
/// layers of width 1024. `--no-corrections` goes without.
#[derive(Debug, Default)]
pub struct Corrections(BTreeMap<(Correction, LayerIndex, LayerIndex), Affine>); // (which, from, to)

impl Corrections {
    /// Takes in those between the pairs of a block of layers, both ways.
    ///
    /// # Errors
    /// When a geometry is degenerate: [`EvalError::Lens`] names the correction and the state's layer.
    pub fn add(&mut self, block: &Layers) -> Result<(), EvalError> {
        for &(a, b) in block.pairs() {
            for (from, to) in [(a, b), (b, a)] {
                for kind in Correction::ALL {
                    let failed = |source| EvalError::Lens { lens: kind.name().into(), layer: from, source };
                    self.0.insert((kind, from, to), map(block, kind, from, to).map_err(failed)?);
                }
            }
        }
        Ok(())
    }

    /// The map of states of layer `from` to states like those of layer `to`.
    ///
    /// # Errors
    /// When no block had that pair.
    pub fn take(&mut self, kind: Correction, from: LayerIndex, to: LayerIndex) -> Result<Affine, EvalError> {
        let missing =
            || EvalError::Lens { lens: kind.name().into(), layer: from, source: Error::NoPair { from, to } };
        self.0.remove(&(kind, from, to)).ok_or_else(missing)
    }
}

fn map(block: &Layers, kind: Correction, from: LayerIndex, to: LayerIndex) -> Result<Affine, Error> {
    let pair = block.pair(from, to)?;
    match kind {
        Correction::Shift => pair.shift(),
        Correction::Moments => pair.match_moments(FLOOR),
        Correction::Rotation => pair.rotate(),
    }
}
