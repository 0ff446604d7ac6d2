//! Reference numbers by numpy, scipy and scikit-learn, for tests: `fixtures/closed_form/make.py` makes them.

use std::collections::HashMap;

use tch::{Kind, Tensor};

pub(crate) struct Golden(HashMap<String, Tensor>);

impl Golden {
    pub(crate) fn load() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/closed_form/expected.safetensors");
        Self(Tensor::read_safetensors(path).unwrap().into_iter().collect())
    }

    pub(crate) fn get(&self, name: &str) -> Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no golden {name}")).shallow_clone()
    }

    pub(crate) fn values(&self, name: &str) -> Vec<f64> {
        Vec::try_from(self.get(name).view(-1)).unwrap()
    }
}

/// The largest difference, relative to the largest number wanted.
pub(crate) fn error(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.size(), want.size());
    let (got, want) = (got.to_kind(Kind::Double), want.to_kind(Kind::Double));
    (got - &want).abs().max().double_value(&[]) / want.abs().max().double_value(&[])
}
