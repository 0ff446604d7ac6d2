use tch::{Device, Kind, Tensor};

use super::Jacobian;
use crate::Error;

/// Sums over prompts of one layer's Jacobian, in f64 on the CPU. Sums of parts of a corpus add up to those of the
/// whole; every row keeps its own count, so that a prompt may bring some rows only.
#[derive(Debug)]
pub struct JacobianSums {
    /// `Σ_p J_p [d, d]`.
    sum: Tensor,
    /// `Σ_p ‖J_p[i]‖² [d]`.
    squares: Tensor,
    /// Prompts that brought row i, `[d]`.
    prompts: Tensor,
}

/// The parts of a checkpoint.
const PARTS: [&str; 3] = ["sum", "squares", "prompts"];

impl JacobianSums {
    /// Nothing yet, of states of `d_model` numbers.
    pub fn new(d_model: usize) -> Self {
        let d = d_model as i64;
        let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Double, Device::Cpu));
        Self { sum: zeros(&[d, d]), squares: zeros(&[d]), prompts: zeros(&[d]) }
    }

    /// Adds some rows of a prompt's Jacobian: row `rows[i]` is `jacobian[i]`, of `jacobian [rows, d_model]`.
    ///
    /// # Errors
    /// When shapes do not fit, or a row is beyond the width.
    pub fn add(&mut self, rows: &[usize], jacobian: &Tensor) -> Result<(), Error> {
        let d = self.prompts.size()[0];
        let expected = [rows.len() as i64, d];
        if jacobian.size() != expected {
            let got = jacobian.size();
            return Err(Error::Shape { what: "rows of a Jacobian", expected: format!("{expected:?}"), got });
        }
        if let Some(dim) = rows.iter().copied().find(|row| *row as i64 >= d) {
            return Err(Error::Dimension { dim, d: d as usize });
        }
        let places = Tensor::from_slice(&rows.iter().map(|row| *row as i64).collect::<Vec<_>>());
        let jacobian = jacobian.to_device(Device::Cpu).to_kind(Kind::Double);
        let squares = jacobian.f_square()?.f_sum_dim_intlist(1, false, Kind::Double)?;
        let ones = Tensor::f_ones([rows.len() as i64], (Kind::Double, Device::Cpu))?;
        let _same = self.sum.f_index_add_(0, &places, &jacobian)?;
        let _same = self.squares.f_index_add_(0, &places, &squares)?;
        let _same = self.prompts.f_index_add_(0, &places, &ones)?;
        Ok(())
    }

    /// Adds the sums over other prompts.
    ///
    /// # Errors
    /// When they are of another width.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        let _same = self.sum.f_add_(&other.sum)?;
        let _same = self.squares.f_add_(&other.squares)?;
        let _same = self.prompts.f_add_(&other.prompts)?;
        Ok(())
    }

    /// The mean, and its standard error from the spread between prompts: of row i,
    /// `(Σ‖J_p[i]‖² − n‖J[i]‖²) / (n (n − 1))`.
    ///
    /// # Errors
    /// [`Error::NoRows`] when a row has not come yet.
    pub fn finish(&self) -> Result<Jacobian, Error> {
        let n = &self.prompts;
        let least = n.f_min()?.double_value(&[]);
        if least < 1.0 {
            let (rows, zero) = (n.size()[0], n.f_eq(0.0)?.f_sum(Kind::Int64)?.int64_value(&[]));
            return Err(Error::NoRows { what: format!("{zero} of {rows} rows of the Jacobian") });
        }
        let mean = self.sum.f_div(&n.unsqueeze(1))?;
        let squared_error = if least < 2.0 {
            None
        } else {
            let spread = &self.squares - n * mean.f_square()?.f_sum_dim_intlist(1, false, Kind::Double)?;
            Some((spread / (n * (n - 1.0))).f_clamp_min(0.0)?.to_kind(Kind::Float))
        };
        Ok(Jacobian { mean: mean.to_kind(Kind::Float), prompts: n.to_kind(Kind::Float), squared_error })
    }

    /// The sums that a mean, its counts and its squared errors stand for.
    pub(super) fn of_means(mean: &Tensor, prompts: &Tensor, squared_error: &Tensor) -> Result<Self, Error> {
        let wide = |t: &Tensor| t.to_device(Device::Cpu).to_kind(Kind::Double);
        let (mean, n, error) = (wide(mean), wide(prompts), wide(squared_error));
        let squares = &n * mean.f_square()?.f_sum_dim_intlist(1, false, Kind::Double)?;
        let spread = error.f_mul(&n)?.f_mul(&(&n - 1.0))?;
        Ok(Self { sum: mean.f_mul(&n.unsqueeze(1))?, squares: squares.f_add(&spread)?, prompts: n })
    }

    /// What a checkpoint keeps.
    pub fn state(&self) -> [(&'static str, &Tensor); 3] {
        let [sum, squares, prompts] = PARTS;
        [(sum, &self.sum), (squares, &self.squares), (prompts, &self.prompts)]
    }

    /// What a checkpoint kept; `take` gives each part by its name.
    ///
    /// # Errors
    /// Those of `take`, and parts of another shape.
    pub fn restore<E: From<Error>>(
        d_model: usize,
        mut take: impl FnMut(&str) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let blank = Self::new(d_model);
        let mut one = |(name, blank): (&str, &Tensor)| -> Result<Tensor, E> {
            let saved = take(name)?;
            if (saved.size(), saved.kind()) == (blank.size(), Kind::Double) {
                return Ok(saved);
            }
            let says = |t: &Tensor| format!("{:?} {:?}", t.kind(), t.size());
            let (expected, got) = (says(blank), says(&saved));
            Err(Error::Saved { name: name.to_owned(), expected, got }.into())
        };
        let [sum, squares, prompts] = blank.state();
        Ok(Self { sum: one(sum)?, squares: one(squares)?, prompts: one(prompts)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(t: &Tensor) -> Vec<f64> {
        Vec::try_from(t.to_kind(Kind::Double).contiguous().view(-1)).unwrap()
    }

    fn matrix(rows: &[[f64; 2]]) -> Tensor {
        Tensor::from_slice(&rows.concat()).view([rows.len() as i64, 2])
    }

    #[test]
    fn means_and_errors_by_hand() {
        let mut sums = JacobianSums::new(2);
        sums.add(&[0, 1], &matrix(&[[1., 0.], [2., 2.]])).unwrap();
        assert!(sums.finish().unwrap().error().is_none(), "one prompt has no spread");
        sums.add(&[1, 0], &matrix(&[[2., 4.], [3., 0.]])).unwrap();
        let jacobian = sums.finish().unwrap();
        // Row 0: (1, 0) and (3, 0), mean (2, 0); row 1: (2, 2) and (2, 4), mean (2, 3).
        assert_eq!(numbers(&jacobian.mean), [2., 0., 2., 3.]);
        // Row 0: (1 + 9 − 2·4) / (2·1) = 1; row 1: (8 + 20 − 2·13) / 2 = 1.
        assert_eq!(numbers(jacobian.squared_error.as_ref().unwrap()), [1., 1.]);
        assert!((jacobian.error().unwrap() - 2f64.sqrt()).abs() < 1e-12);
        // ‖J‖² = 4 + 4 + 9 = 17, of which the error is 2.
        assert!((jacobian.refit_cosine().unwrap() - 15. / 17.).abs() < 1e-12);
    }

    #[test]
    fn rows_count_by_themselves() {
        let mut sums = JacobianSums::new(2);
        sums.add(&[1], &matrix(&[[2., 2.]])).unwrap();
        let says = sums.finish().unwrap_err().to_string();
        assert_eq!(says, "1 of 2 rows of the Jacobian: no rows to fit on");
        for row in [[1., 0.], [3., 0.]] {
            sums.add(&[0], &matrix(&[row])).unwrap();
        }
        let jacobian = sums.finish().unwrap();
        assert_eq!(numbers(&jacobian.mean), [2., 0., 2., 2.]);
        assert_eq!(numbers(&jacobian.prompts), [2., 1.]);
        assert!(jacobian.error().is_none());
    }

    #[test]
    fn parts_make_the_whole_and_a_mean_goes_back_to_its_sums() {
        tch::manual_seed(7);
        let prompts: Vec<Tensor> =
            (0..7).map(|_| Tensor::randn([3, 3], (Kind::Double, Device::Cpu))).collect();
        let of = |prompts: &[Tensor]| {
            let mut sums = JacobianSums::new(3);
            for jacobian in prompts {
                sums.add(&[0, 1, 2], jacobian).unwrap();
            }
            sums
        };
        let whole = of(&prompts).finish().unwrap();
        let (mut first, second) = (of(&prompts[..3]), of(&prompts[3..]));
        first.merge(&second).unwrap();
        let merged = first.finish().unwrap();
        assert!((&merged.mean - &whole.mean).abs().max().double_value(&[]) < 1e-6);
        // Means and errors are f32: seven digits.
        let mut back = of(&prompts[..3]).finish().unwrap().sums().unwrap();
        back.merge(&of(&prompts[3..]).finish().unwrap().sums().unwrap()).unwrap();
        let back = back.finish().unwrap();
        assert!((&back.mean - &whole.mean).abs().max().double_value(&[]) < 1e-6);
        assert!((back.error().unwrap() / whole.error().unwrap() - 1.0).abs() < 1e-5);
        let state: Vec<(String, Tensor)> =
            second.state().iter().map(|(name, t)| ((*name).to_owned(), t.copy())).collect();
        let take = |name: &str| -> Result<Tensor, Error> {
            Ok(state.iter().find(|(own, _)| own == name).unwrap().1.shallow_clone())
        };
        let restored = JacobianSums::restore(3, take).unwrap();
        assert!(restored.finish().unwrap().mean.equal(&second.finish().unwrap().mean));
        assert!(matches!(JacobianSums::restore(4, take), Err(Error::Saved { .. })));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut sums = JacobianSums::new(2);
        assert!(matches!(sums.add(&[0], &matrix(&[[1., 2.], [3., 4.]])), Err(Error::Shape { .. })));
        assert!(matches!(sums.add(&[2], &matrix(&[[1., 2.]])), Err(Error::Dimension { dim: 2, d: 2 })));
        assert!(sums.merge(&JacobianSums::new(3)).is_err());
    }
}
