use std::collections::BTreeMap;

use tch::Tensor;

use crate::{Error, LayerIndex, Lens};

/// Reads `softmax(U(J h))`: the mean Jacobian `J` of a later layer in this one carries the state there, and the model's
/// own final norm and unembedding read it (Gurnee et al. 2026, the Jacobian lens).
///
/// Where a tuned lens is trained to say what the model will say, `J` is measured: it says what the state would add to
/// later words, whether or not they come next. The map is linear, without a bias.
#[derive(Debug)]
pub struct JacobianLens {
    name: String,
    target: LayerIndex,
    jacobians: BTreeMap<LayerIndex, Tensor>,
}

impl JacobianLens {
    /// A lens reported as `name`, from `J [d_model, d_model]` (rows are dimensions of layer `target`, columns those of
    /// the layer read) of each layer it can read.
    ///
    /// # Errors
    /// When one of them is not square.
    pub fn new(
        name: impl Into<String>,
        target: LayerIndex,
        jacobians: BTreeMap<LayerIndex, Tensor>,
    ) -> Result<Self, Error> {
        let square = |t: &Tensor| matches!(t.size()[..], [rows, columns] if rows == columns);
        match jacobians.values().find(|jacobian| !square(jacobian)) {
            Some(odd) => {
                Err(Error::Shape { what: "Jacobian", expected: "[d_model, d_model]".into(), got: odd.size() })
            }
            None => Ok(Self { name: name.into(), target, jacobians }),
        }
    }

    /// The layer it carries states to.
    pub fn target(&self) -> LayerIndex {
        self.target
    }

    /// The Jacobians by layer.
    pub fn jacobians(&self) -> &BTreeMap<LayerIndex, Tensor> {
        &self.jacobians
    }

    fn jacobian(&self, layer: LayerIndex) -> Result<&Tensor, Error> {
        self.jacobians.get(&layer).ok_or_else(|| Error::NoTranslator { lens: self.name.clone(), layer })
    }
}

impl Lens for JacobianLens {
    fn name(&self) -> &str {
        &self.name
    }

    fn reads(&self, layer: LayerIndex) -> bool {
        self.jacobians.contains_key(&layer)
    }

    fn transform(&self, layer: LayerIndex, resid: &Tensor) -> Result<Tensor, Error> {
        let jacobian = self.jacobian(layer)?;
        Ok(resid.to_kind(jacobian.kind()).f_linear(jacobian, None::<&Tensor>)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens() -> JacobianLens {
        // J = [[1, 2], [0, 3]]
        let jacobian = Tensor::from_slice(&[1f32, 2., 0., 3.]).view([2, 2]);
        JacobianLens::new("j", LayerIndex(4), BTreeMap::from([(LayerIndex(1), jacobian)])).unwrap()
    }

    fn numbers(t: &Tensor) -> Vec<f32> {
        Vec::try_from(t.contiguous().view(-1)).unwrap()
    }

    #[test]
    fn by_hand() {
        let (lens, layer) = (lens(), LayerIndex(1));
        // J (5, 7) = (5 + 14, 21)
        let state = Tensor::from_slice(&[5f32, 7.]).view([1, 2]);
        assert_eq!(numbers(&lens.transform(layer, &state).unwrap()), [19., 21.]);
        assert_eq!(
            (lens.target(), lens.reads(layer), lens.reads(LayerIndex(0))),
            (LayerIndex(4), true, false)
        );
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let state = Tensor::from_slice(&[5f32, 7.]).view([1, 2]);
        let says = lens().transform(LayerIndex(2), &state).unwrap_err().to_string();
        assert_eq!(says, "lens \"j\" has no translator for layer 2");
        let odd = Tensor::zeros([2, 3], (tch::Kind::Float, tch::Device::Cpu));
        let odd = JacobianLens::new("j", LayerIndex(4), BTreeMap::from([(LayerIndex(1), odd)]));
        assert!(matches!(odd, Err(Error::Shape { .. })));
    }
}
