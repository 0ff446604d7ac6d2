use tch::{Device, Kind, Tensor};

use crate::sum::{State, Sum, saved};
use crate::{Error, Moments, Rows};

/// Moments of pairs `(x, y)`: `n`, `Σ y`, `Σ y²` per dimension, `Σ y xᵀ`.
///
/// The moments of `x` are kept apart, so that `Σ x xᵀ` is computed once for all targets `y`.
#[derive(Debug)]
pub struct CrossMoments {
    n: i64,
    sum: Sum,
    square: Sum,
    outer: Sum,
}

impl CrossMoments {
    /// Of no pairs yet; `x` has width `d_x`, `y` has width `d_y`.
    pub fn new(d_x: usize, d_y: usize, device: Device) -> Self {
        let (d_x, d_y) = (d_x as i64, d_y as i64);
        let zeros = |shape: &[i64]| Sum::zeros(shape, device);
        Self { n: 0, sum: zeros(&[d_y]), square: zeros(&[d_y]), outer: zeros(&[d_y, d_x]) }
    }

    /// How many pairs were added.
    pub fn n(&self) -> usize {
        self.n as usize
    }

    /// Adds a batch of pairs: row `i` of `x` with row `i` of `y`.
    ///
    /// # Errors
    /// When the widths are others, or the numbers of rows differ.
    pub fn add(&mut self, x: &Rows, y: &Rows) -> Result<(), Error> {
        let [d_y, d_x] = self.shape();
        x.check(x.n(), d_x as usize)?;
        y.check(y.n(), d_y as usize)?;
        if x.n() != y.n() {
            return Err(Error::Pairs { x: x.n(), y: y.n() });
        }
        self.sum.add(&y.sum)?;
        self.square.add(&y.values.f_square()?.f_sum_dim_intlist(0, false, Kind::Double)?)?;
        self.outer.add(&y.values.f_tr()?.f_matmul(&x.values)?)?;
        self.n += x.n() as i64;
        Ok(())
    }

    /// Adds the pairs of another shard.
    ///
    /// # Errors
    /// When the widths differ.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        self.sum.merge(&other.sum)?;
        self.square.merge(&other.square)?;
        self.outer.merge(&other.outer)?;
        self.n += other.n;
        Ok(())
    }

    /// The moments of the pairs that are not in `part`.
    ///
    /// # Errors
    /// When the widths differ.
    pub fn minus(&self, part: &Self) -> Result<Self, Error> {
        Ok(Self {
            n: self.n - part.n,
            sum: self.sum.minus(&part.sum)?,
            square: self.square.minus(&part.square)?,
            outer: self.outer.minus(&part.outer)?,
        })
    }

    /// `[d_y, d_x]`.
    pub(crate) fn shape(&self) -> [i64; 2] {
        let size = self.outer.size();
        [size[0], size[1]]
    }

    /// `μ_y [d_y]`, f64.
    pub(crate) fn mean_y(&self) -> Result<Tensor, Error> {
        Ok(self.sum.value()?.f_div_scalar(self.n)?)
    }

    /// Mean square of each dimension of `y`, `[d_y]`, f64, not centred.
    pub(crate) fn mean_square_y(&self) -> Result<Tensor, Error> {
        Ok(self.square.value()?.f_div_scalar(self.n)?)
    }

    /// `R = Σ (y-μ_y)(x-μ_x)ᵀ / n`, `[d_y, d_x]`, f64, with the mean of the same `x`.
    ///
    /// # Errors
    /// When `x` counts another number of rows.
    pub fn covariance(&self, x: &Moments) -> Result<Tensor, Error> {
        if x.n() != self.n() {
            return Err(Error::Pairs { x: x.n(), y: self.n() });
        }
        Ok(self.outer.value()?.f_div_scalar(self.n)?.f_sub(&self.mean_y()?.f_outer(&x.mean()?)?)?)
    }

    /// Puts everything into `state` under names that begin with `name`.
    pub fn state(&self, name: &str, state: &mut State) {
        state.insert(format!("{name}.n"), Tensor::from_slice(&[self.n]));
        self.sum.state(&format!("{name}.sum"), state);
        self.square.state(&format!("{name}.square"), state);
        self.outer.state(&format!("{name}.outer"), state);
    }

    /// Replaces everything by what [`CrossMoments::state`] put there, of the same widths.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape or kind; nothing is replaced then.
    pub fn restore(&mut self, name: &str, state: &State) -> Result<(), Error> {
        *self = Self {
            n: saved(state, &format!("{name}.n"), &[1], Kind::Int64)?.int64_value(&[0]),
            sum: self.sum.restored(&format!("{name}.sum"), state)?,
            square: self.square.restored(&format!("{name}.square"), state)?,
            outer: self.outer.restored(&format!("{name}.outer"), state)?,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[f32], d: i64) -> Rows {
        Rows::new("rows", &Tensor::from_slice(values).view([-1, d])).unwrap()
    }

    #[test]
    fn by_hand() {
        let (x, y) = (rows(&[1., 2., 3., 8.], 2), rows(&[5., 9.], 1));
        let (mut moments, mut cross) = (Moments::new(2, Device::Cpu), CrossMoments::new(2, 1, Device::Cpu));
        moments.add(&x).unwrap();
        cross.add(&x, &y).unwrap();
        // x deviates by -(1, 3) and (1, 3), y by -2 and 2
        let got = Vec::<f64>::try_from(cross.covariance(&moments).unwrap().view(-1)).unwrap();
        assert_eq!(got, [2., 6.]);
        assert_eq!(cross.mean_square_y().unwrap().double_value(&[0]), 53.);
    }

    #[test]
    fn a_restored_half_and_the_other_are_the_whole() {
        let (x, y) = (rows(&[1., 2., 3., 8.], 2), rows(&[5., 9.], 1));
        let mut half = CrossMoments::new(2, 1, Device::Cpu);
        half.add(&x, &y).unwrap();
        let mut state = State::new();
        half.state("a", &mut state);
        let mut whole = CrossMoments::new(2, 1, Device::Cpu);
        whole.restore("a", &state).unwrap();
        whole.merge(&half).unwrap();
        assert_eq!((whole.n(), whole.sum.value().unwrap().double_value(&[0])), (4, 28.));
    }

    #[test]
    fn unpaired_rows_are_refused() {
        let mut cross = CrossMoments::new(2, 1, Device::Cpu);
        let failed = cross.add(&rows(&[1., 2.], 2), &rows(&[5., 9.], 1)).unwrap_err();
        assert_eq!(failed.to_string(), "1 rows of states, but 2 of their targets");
        let mut more = Moments::new(2, Device::Cpu);
        more.add(&rows(&[1., 2.], 2)).unwrap();
        assert!(matches!(cross.covariance(&more), Err(Error::Pairs { x: 1, y: 0 })));
        let narrow = cross.add(&rows(&[1.], 1), &rows(&[5.], 1)).unwrap_err();
        assert!(matches!(narrow, Error::Shape { .. }), "{narrow}");
    }
}
