use tch::{Kind, Tensor};

use super::{Ask, Read, Readout};
use crate::Error;

/// What the model itself says at some positions, in `d_model + 1` numbers each.
#[derive(Debug)]
pub struct Teacher {
    /// Normalised final states `[rows, d_model]`, f32.
    pub n: Tensor,
    /// `logsumexp` of the logits, relative as [`Read::lse`] is.
    pub lse: Vec<f64>,
    /// `softmax · W` `[rows, d_model]`, f32, as [`Read::expectation`] is.
    pub e: Tensor,
}

impl Teacher {
    /// From a sweep over `n` that asked for the expectation.
    ///
    /// # Errors
    /// When it did not.
    pub fn new(n: Tensor, read: &mut Read) -> Result<Self, Error> {
        let missing = || Error::Shape { what: "teacher", expected: "an expectation".into(), got: vec![] };
        let e = read.expectation.take().ok_or_else(missing)?;
        Ok(Self { n, lse: std::mem::take(&mut read.lse), e })
    }

    /// The model's final states `x [rows, d_model]`, before the final norm, read out: in f32 whatever the precision of
    /// the readout, for an error in `e` is in every divergence from it, times the distance of the states.
    ///
    /// # Errors
    /// As [`Readout::sweep`].
    pub fn of(readout: &Readout, x: &Tensor) -> Result<Self, Error> {
        let n = readout.normalize(x)?;
        let mut read = readout.sweep_exactly(&n, Ask { expectation: true, ..Ask::default() })?;
        Self::new(n, &mut read)
    }

    /// Positions.
    pub fn rows(&self) -> usize {
        self.lse.len()
    }

    /// The rows at `index` (of type i64).
    ///
    /// # Errors
    /// When an index is out of range.
    pub fn select(&self, index: &[i64]) -> Result<Self, Error> {
        let rows = Tensor::from_slice(index).to_device(self.n.device());
        let lse = index.iter().map(|i| self.lse.get(*i as usize).copied());
        let expected = format!("an index below {}", self.rows());
        let lse = lse.collect::<Option<Vec<f64>>>().ok_or(Error::Shape {
            what: "rows of the teacher",
            expected,
            got: vec![index.len() as i64],
        })?;
        Ok(Self { n: self.n.f_index_select(0, &rows)?, lse, e: self.e.f_index_select(0, &rows)? })
    }

    /// `KL(model ‖ q)` in nats per row, for `q` with normalised states `n_q [rows, d_model]` and sums `lse_q`.
    ///
    /// Without a soft cap by `lse_q - lse_p - e_p · (n_q - n_p)`, with one by a pass over both distributions.
    /// Differences of large numbers: what they leave below zero is their rounding, and zero is nearer to the truth.
    ///
    /// # Errors
    /// When shapes do not agree.
    pub fn kl(&self, readout: &Readout, n_q: &Tensor, lse_q: &[f64]) -> Result<Vec<f64>, Error> {
        if readout.soft_cap().is_some() {
            return Ok(readout.capped_kl(self, n_q, lse_q, false)?.0);
        }
        let wide = |t: &Tensor| t.f_to_kind(Kind::Double);
        let moved = wide(n_q)?.f_sub(&self.n)?;
        let dots = wide(&self.e)?.f_mul(&moved)?.f_sum_dim_intlist(-1, false, Kind::Double)?;
        let dots = Vec::<f64>::try_from(dots.to_device(tch::Device::Cpu))?;
        Ok(dots.iter().zip(lse_q.iter().zip(&self.lse)).map(|(dot, (q, p))| floor(q - p - dot)).collect())
    }

    /// `KL(model ‖ q)` and its gradient `[rows, d_model]` in `n_q`.
    ///
    /// # Errors
    /// As [`Readout::sweep`].
    pub fn kl_gradient(&self, readout: &Readout, n_q: &Tensor) -> Result<(Vec<f64>, Tensor), Error> {
        let mut read = readout.sweep(n_q, Ask { expectation: true, ..Ask::default() })?;
        if readout.soft_cap().is_some() {
            let (kl, pull) = readout.capped_kl(self, n_q, &read.lse, true)?;
            let q = Self::new(n_q.shallow_clone(), &mut read)?;
            return Ok((kl, q.e.f_sub(&pull)?));
        }
        let kl = self.kl(readout, n_q, &read.lse)?;
        let q = Self::new(n_q.shallow_clone(), &mut read)?;
        Ok((kl, q.e.f_sub(&self.e)?))
    }
}

/// A divergence is not negative; a NaN stays one.
pub(super) fn floor(kl: f64) -> f64 {
    if kl < 0.0 { 0.0 } else { kl }
}
