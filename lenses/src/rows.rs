use std::fmt;

use tch::{Kind, Tensor};

use crate::{Error, LayerIndex};

/// A batch of states `[n, d]`, checked once and widened to f64, ready for any number of sums.
#[derive(Debug)]
pub struct Rows {
    pub(crate) values: Tensor,
    pub(crate) sum: Tensor, // over the rows, [d]
}

impl Rows {
    /// From `rows [n, d]` of any float kind; `what` names them in errors, such as `layer 3`.
    ///
    /// # Errors
    /// When `rows` is not a matrix, or a number in it is NaN or infinite.
    pub fn new(what: impl fmt::Display, rows: &Tensor) -> Result<Self, Error> {
        if rows.dim() != 2 {
            return Err(Error::Shape { what: "rows", expected: "[n, d_model]".into(), got: rows.size() });
        }
        let values = rows.f_to_kind(Kind::Double)?;
        let sum = values.f_sum_dim_intlist(0, false, Kind::Double)?;
        if sum.f_isfinite()?.f_all()?.int64_value(&[]) == 0 {
            let whole = values.f_isfinite()?.f_all_dim(1, false)?;
            let row = whole.f_to_kind(Kind::Int64)?.f_argmin(0, false)?.int64_value(&[]) as usize;
            return Err(Error::NonFinite { what: what.to_string(), row });
        }
        Ok(Self { values, sum })
    }

    /// The rows at `index` (i64).
    pub(crate) fn select(&self, index: &Tensor) -> Result<Self, Error> {
        let values = self.values.f_index_select(0, &index.to_device(self.values.device()))?;
        let sum = values.f_sum_dim_intlist(0, false, Kind::Double)?;
        Ok(Self { values, sum })
    }

    /// How many rows.
    pub fn n(&self) -> usize {
        self.values.size()[0] as usize
    }

    /// An error unless these are `[n, d]`.
    pub(crate) fn check(&self, n: usize, d: usize) -> Result<(), Error> {
        if self.values.size() == [n as i64, d as i64] {
            return Ok(());
        }
        Err(Error::Shape { what: "rows", expected: format!("[{n}, {d}]"), got: self.values.size() })
    }
}

/// The rows of one layer of a batch.
pub(crate) fn layer_rows(states: &[(LayerIndex, Tensor)], layer: LayerIndex) -> Result<Rows, Error> {
    let (_, rows) = states.iter().find(|(l, _)| *l == layer).ok_or(Error::NoStates { layer })?;
    Rows::new(format_args!("layer {layer}"), rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bad_row_is_named() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let rows = Tensor::zeros([5, 3], (Kind::Float, tch::Device::Cpu));
            let _ = rows.get(3).get(1).fill_(bad);
            let _ = rows.get(4).get(0).fill_(-bad);
            let failed = Rows::new("layer 7", &rows).unwrap_err();
            assert_eq!(failed.to_string(), "layer 7: row 3 of the batch is not finite");
        }
        assert!(matches!(Rows::new("x", &Tensor::from_slice(&[1f32])), Err(Error::Shape { .. })));
    }

    #[test]
    fn the_largest_numbers_are_finite() {
        let rows = Tensor::full([4, 2], f64::from(f32::MAX), (Kind::Float, tch::Device::Cpu));
        assert_eq!(Rows::new("x", &rows).unwrap().n(), 4);
        let rows = Tensor::full([4, 2], 65504.0, (Kind::Half, tch::Device::Cpu));
        assert_eq!(Rows::new("x", &rows).unwrap().sum.double_value(&[0]), 4.0 * 65504.0);
    }
}
