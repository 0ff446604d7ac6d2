use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::Error;

/// Named tensors of a running fit, for checkpoints.
pub type State = BTreeMap<String, Tensor>;

/// A running sum of f64 tensors that keeps what each addition rounds off.
///
/// `high + low` carries about 106 bits (Knuth's two-sum, TAOCP 4.2.2), so the order in which terms come does not
/// show in the f64 value. The price is 16 bytes per entry instead of 8.
#[derive(Debug)]
pub(crate) struct Sum {
    high: Tensor,
    low: Tensor,
}

impl Sum {
    pub(crate) fn zeros(shape: &[i64], device: Device) -> Self {
        let zeros = || Tensor::zeros(shape, (Kind::Double, device));
        Self { high: zeros(), low: zeros() }
    }

    pub(crate) fn copy(&self) -> Self {
        Self { high: self.high.shallow_clone(), low: self.low.shallow_clone() }
    }

    /// Adds a tensor of the same shape; torch would stretch a smaller one silently.
    pub(crate) fn add(&mut self, term: &Tensor) -> Result<(), Error> {
        if term.size() != self.size() {
            let expected = format!("{:?}", self.size());
            return Err(Error::Shape { what: "moments", expected, got: term.size() });
        }
        let sum = self.high.f_add(term)?;
        let taken = sum.f_sub(&self.high)?; // what of the term arrived
        let lost = sum.f_sub(&taken)?.f_neg_()?.f_add_(&self.high)?;
        let lost = taken.f_neg()?.f_add_(term)?.f_add_(&lost)?;
        self.low = self.low.f_add(&lost)?;
        self.high = sum;
        Ok(())
    }

    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), Error> {
        self.add(&other.high)?;
        self.low = self.low.f_add(&other.low)?;
        Ok(())
    }

    /// The sum of the terms here that are not in `part`.
    pub(crate) fn minus(&self, part: &Self) -> Result<Self, Error> {
        let mut rest = Self { high: self.high.shallow_clone(), low: self.low.f_sub(&part.low)? };
        rest.add(&part.high.f_neg()?)?;
        Ok(rest)
    }

    /// The sum, rounded once to f64.
    pub(crate) fn value(&self) -> Result<Tensor, Error> {
        Ok(self.high.f_add(&self.low)?)
    }

    pub(crate) fn size(&self) -> Vec<i64> {
        self.high.size()
    }

    pub(crate) fn device(&self) -> Device {
        self.high.device()
    }

    /// Puts both parts into `state`; later additions do not change what was put there.
    pub(crate) fn state(&self, name: &str, state: &mut State) {
        state.insert(format!("{name}.high"), self.high.shallow_clone());
        state.insert(format!("{name}.low"), self.low.shallow_clone());
    }

    /// What [`Sum::state`] put there, of the shape and on the device of `self`.
    pub(crate) fn restored(&self, name: &str, state: &State) -> Result<Self, Error> {
        let part = |part: &str| saved(state, &format!("{name}.{part}"), &self.size(), Kind::Double);
        let device = self.device();
        Ok(Self { high: part("high")?.to_device(device), low: part("low")?.to_device(device) })
    }
}

/// The tensor saved as `name`, when it has this shape and kind.
pub(crate) fn saved(state: &State, name: &str, shape: &[i64], kind: Kind) -> Result<Tensor, Error> {
    let tensor = state.get(name).ok_or_else(|| Error::NotSaved { name: name.to_owned() })?;
    if tensor.size() != shape || tensor.kind() != kind {
        return Err(Error::Saved {
            name: name.to_owned(),
            expected: format!("{kind:?} {shape:?}"),
            got: format!("{:?} {:?}", tensor.kind(), tensor.size()),
        });
    }
    Ok(tensor.shallow_clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(x: f64) -> Tensor {
        Tensor::from_slice(&[x])
    }

    #[test]
    fn what_f64_rounds_off_is_kept() {
        // 1e16 + 1 + 1 - 1e16 is 0 in f64, whose spacing at 1e16 is 2.
        let mut sum = Sum::zeros(&[1], Device::Cpu);
        for term in [1e16, 1., 1., -1e16] {
            sum.add(&scalar(term)).unwrap();
        }
        assert_eq!(sum.value().unwrap().double_value(&[0]), 2.);
    }

    #[test]
    fn a_part_is_taken_out_exactly() {
        let (mut all, mut part) = (Sum::zeros(&[1], Device::Cpu), Sum::zeros(&[1], Device::Cpu));
        all.add(&scalar(0.25)).unwrap();
        for term in [1e16, 3.] {
            part.add(&scalar(term)).unwrap();
        }
        all.merge(&part).unwrap();
        assert_eq!(all.minus(&part).unwrap().value().unwrap().double_value(&[0]), 0.25);
    }
}
