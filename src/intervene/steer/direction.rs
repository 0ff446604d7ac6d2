//! Unit vectors of the residual stream, by layer.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::SteerError;
use crate::results::draw::normal;

/// A direction at one or several layers.
#[derive(Debug)]
pub struct Direction {
    /// What it is called in results.
    pub name: String,
    /// Whether it is a control.
    pub random: bool,
    vectors: BTreeMap<usize, Tensor>,
}

impl Direction {
    /// Vectors `[d_model]` by layer; they are brought to length 1.
    ///
    /// # Errors
    /// [`SteerError::Direction`]: another shape, no length, or not finite.
    pub fn new(
        name: impl Into<String>,
        vectors: impl IntoIterator<Item = (usize, Tensor)>,
        d_model: usize,
    ) -> Result<Self, SteerError> {
        let name = name.into();
        let unit = |(layer, vector): (usize, Tensor)| {
            let wrong = |reason: String| SteerError::Direction { name: name.clone(), layer, reason };
            if vector.size() != [d_model as i64] {
                return Err(wrong(format!("the shape is {:?}, not [{d_model}]", vector.size())));
            }
            let vector = vector.to_device(Device::Cpu).to_kind(Kind::Double);
            let length = vector.norm().double_value(&[]);
            if length.is_finite() && length > 0.0 {
                return Ok((layer, vector / length));
            }
            Err(wrong(format!("the length is {length}")))
        };
        let vectors = vectors.into_iter().map(unit).collect::<Result<_, _>>()?;
        Ok(Self { name, random: false, vectors })
    }

    /// A direction drawn evenly from all, another one at every layer of `layers`; the same for the same seed and
    /// number.
    pub fn random(number: usize, layers: &[usize], d_model: usize, seed: u64) -> Self {
        let vector = |layer: usize| {
            let normals: Vec<f64> =
                (0..d_model).map(|i| normal(seed, (number as u64) << 32 | layer as u64, i as u64)).collect();
            let vector = Tensor::from_slice(&normals);
            let length = vector.norm();
            vector / length
        };
        Self {
            name: format!("random-{}", number + 1),
            random: true,
            vectors: layers.iter().map(|layer| (*layer, vector(*layer))).collect(),
        }
    }

    /// The unit vector `[d_model]` of a layer, f64.
    pub fn at(&self, layer: usize) -> Option<&Tensor> {
        self.vectors.get(&layer)
    }

    /// Its layers, ascending.
    pub fn layers(&self) -> impl Iterator<Item = usize> + '_ {
        self.vectors.keys().copied()
    }
}
