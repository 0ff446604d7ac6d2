use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::Error;

/// Named tensors of a running fit, for checkpoints.
pub type State = BTreeMap<String, Tensor>;

/// Entries added at once on a CPU: 256 kB per tensor, so that the steps of a two-sum meet in cache.
const CHUNK: usize = 1 << 15;

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
        Self { high: self.high.copy(), low: self.low.copy() }
    }

    /// Adds a tensor of the same shape; torch would stretch a smaller one silently.
    pub(crate) fn add(&mut self, term: &Tensor) -> Result<(), Error> {
        if term.size() != self.size() {
            let expected = format!("{:?}", self.size());
            return Err(Error::Shape { what: "moments", expected, got: term.size() });
        }
        let term = term.f_reshape(-1)?;
        let (high, low) = (self.high.f_view(-1)?, self.low.f_view(-1)?);
        let step = if self.device().is_cuda() { term.numel() } else { CHUNK }.max(1);
        for start in (0..term.numel()).step_by(step) {
            let len = step.min(term.numel() - start);
            let part = |whole: &Tensor| whole.f_narrow(0, start as i64, len as i64);
            two_sum(part(&high)?, part(&low)?, &part(&term)?)?;
        }
        Ok(())
    }

    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), Error> {
        self.add(&other.high)?;
        let _ = self.low.f_add_(&other.low)?;
        Ok(())
    }

    /// The sum of the terms here that are not in `part`.
    pub(crate) fn minus(&self, part: &Self) -> Result<Self, Error> {
        let mut rest = Self { high: self.high.copy(), low: self.low.f_sub(&part.low)? };
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

    /// Puts copies of both parts into `state`.
    pub(crate) fn state(&self, name: &str, state: &mut State) {
        state.insert(format!("{name}.high"), self.high.copy());
        state.insert(format!("{name}.low"), self.low.copy());
    }

    /// What [`Sum::state`] put there, of the shape and on the device of `self`.
    pub(crate) fn restored(&self, name: &str, state: &State) -> Result<Self, Error> {
        let part = |part: &str| -> Result<Tensor, Error> {
            let saved = saved(state, &format!("{name}.{part}"), &self.size(), Kind::Double)?;
            Ok(saved.to_device(self.device()).contiguous().copy())
        };
        Ok(Self { high: part("high")?, low: part("low")? })
    }
}

/// Adds `term` to `high + low` in place: what the sum of `high` and `term` loses goes to `low`.
fn two_sum(mut high: Tensor, mut low: Tensor, term: &Tensor) -> Result<(), Error> {
    let sum = high.f_add(term)?;
    let taken = sum.f_sub(&high)?; // what of the term arrived
    let of_high = high.f_sub_(&sum.f_sub(&taken)?)?;
    let _ = low.f_add_(&taken.f_neg()?.f_add_(term)?.f_add_(&of_high)?)?;
    high.f_copy_(&sum)?;
    Ok(())
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
    fn every_entry_of_a_large_sum_is_compensated() {
        let n = CHUNK as i64 * 2 + 5;
        let ramp = Tensor::arange(n, (Kind::Double, Device::Cpu)).view([1, n]);
        let mut sum = Sum::zeros(&[1, n], Device::Cpu);
        for term in [&ramp, &ramp.full_like(1e20), &ramp, &ramp.full_like(-1e20)] {
            sum.add(term).unwrap();
        }
        assert!(sum.value().unwrap().equal(&(ramp * 2.0)));
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
