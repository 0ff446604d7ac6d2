use tch::{Kind, Tensor};

use crate::{Affine, CrossMoments, Error, Horizon, Moments};

/// What a large ridge pulls the map towards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shrink {
    /// The identity, so the logit lens: right for the same position, where a residual stream mostly carries over.
    #[default]
    Identity,
    /// Zero, so the mean of the target: right for a later position, where this token's state is no guess at all.
    Zero,
}

/// How to solve a [`Regression`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ridge {
    /// The ridge in units of the mean variance of a dimension: `λ = lambda · tr(C) / d`.
    pub lambda: f64,
    /// What the map shrinks towards.
    pub shrink: Shrink,
    /// Whether the map has an intercept. Without one, moments are not centred (Din et al. 2023).
    pub bias: bool,
}

impl Default for Ridge {
    fn default() -> Self {
        Self { lambda: 1e-2, shrink: Shrink::Identity, bias: true }
    }
}

impl Ridge {
    /// The default for a horizon: shrinks to the identity at the same position, to zero further ahead.
    pub fn for_horizon(horizon: Horizon) -> Self {
        let shrink = if horizon == Horizon::NEXT { Shrink::Identity } else { Shrink::Zero };
        Self { shrink, ..Self::default() }
    }
}

/// The linear regression of targets `y` on states `x`, of one width, known by its moments only.
///
/// Building it centres the moments; each solution after that is one Cholesky factorisation, so a sweep over ridges is
/// cheap. On the moments of other rows, [`Regression::r2`] is the held-out score.
#[derive(Debug)]
pub struct Regression {
    what: String, // in errors
    n: usize,
    gram: Tensor,     // C [d, d]
    cross: Tensor,    // R [d, d], rows are dimensions of y
    mean_x: Tensor,   // [d]
    mean_y: Tensor,   // [d]
    variance: Tensor, // of y, [d]
    power_x: Tensor,  // E[x²], [d]
    power_y: Tensor,  // E[y²], [d]
}

impl Regression {
    /// From the moments of `x` and of the pairs of the same rows; `what` names it in errors.
    ///
    /// # Errors
    /// When there are no rows, the two count different rows, or the widths of `x` and `y` differ.
    pub fn new(what: impl Into<String>, x: &Moments, pairs: &CrossMoments) -> Result<Self, Error> {
        let d = x.d() as i64;
        if pairs.shape() != [d, d] {
            let (expected, got) = (format!("[{d}, {d}]"), pairs.shape().to_vec());
            return Err(Error::Shape { what: "cross moments", expected, got });
        }
        let cross = pairs.covariance(x)?;
        let what = what.into();
        if x.n() == 0 {
            return Err(Error::NoRows { what });
        }
        let (mean_x, mean_y) = (x.mean()?, pairs.mean_y()?);
        let (power_x, power_y) = (x.mean_square()?, pairs.mean_square_y()?);
        let variance = power_y.f_sub(&mean_y.f_square()?)?;
        Ok(Self { what, n: x.n(), gram: x.covariance()?, cross, mean_x, mean_y, variance, power_x, power_y })
    }

    /// How many pairs it rests on.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The residual affine map `y = x + A x + b` that minimises `E|y - x - A x - b|² + λ |M|²`, f32, with `M = A` or
    /// `M = A + I` as [`Shrink`] says. The normal equations `M (C + λI) = R` are solved by Cholesky in f64.
    ///
    /// # Errors
    /// When the ridge is negative, or the Gram matrix is singular at it.
    pub fn solve(&self, ridge: &Ridge) -> Result<Affine, Error> {
        let (weight, bias) = self.coefficients(ridge)?;
        Affine::new(weight.to_kind(Kind::Float), bias.to_kind(Kind::Float))
    }

    /// `A` and `b` in f64.
    fn coefficients(&self, ridge: &Ridge) -> Result<(Tensor, Tensor), Error> {
        if !(ridge.lambda >= 0.0 && ridge.lambda.is_finite()) {
            return Err(Error::Ridge(ridge.lambda));
        }
        let (gram, cross) = if ridge.bias {
            (self.gram.shallow_clone(), self.cross.shallow_clone())
        } else {
            let power = self.mean_x.f_outer(&self.mean_x)?;
            (self.gram.f_add(&power)?, self.cross.f_add(&self.mean_y.f_outer(&self.mean_x)?)?)
        };
        let d = gram.size()[0];
        let lambda = ridge.lambda * gram.f_trace()?.double_value(&[]) / d as f64;
        let eye = Tensor::f_eye(d, (Kind::Double, gram.device()))?;
        let factor = self.factor(&gram.f_add(&eye.f_mul_scalar(lambda)?)?, lambda)?;
        let target = match ridge.shrink {
            Shrink::Identity => cross.f_sub(&gram)?,
            Shrink::Zero => cross,
        };
        let solved = target.f_tr()?.f_cholesky_solve(&factor, false)?.f_tr()?;
        let weight = match ridge.shrink {
            Shrink::Identity => solved,
            Shrink::Zero => solved.f_sub(&eye)?,
        };
        let bias = if ridge.bias {
            self.mean_y.f_sub(&self.mean_x)?.f_sub(&weight.f_mv(&self.mean_x)?)?
        } else {
            self.mean_y.f_zeros_like()?
        };
        Ok((weight.f_contiguous()?, bias))
    }

    /// The Cholesky factor of `C + λI`. Pivot `j` is what dimension `j` has of its own beside those before it; where
    /// only rounding is left of it, the factor exists by luck and is refused too.
    fn factor(&self, damped: &Tensor, lambda: f64) -> Result<Tensor, Error> {
        let d = damped.size()[0];
        let (factor, info) = damped.f_linalg_cholesky_ex(false, false)?;
        let pivots = factor.f_diagonal(0, 0, 1)?.f_square()?;
        let rounding = self.power_x.f_add_scalar(lambda)?.f_mul_scalar(4.0 * d as f64 * f64::EPSILON)?;
        let sound = pivots.f_greater_tensor(&rounding)?.f_all()?.int64_value(&[]) == 1;
        if info.int64_value(&[]) == 0 && sound {
            Ok(factor)
        } else {
            Err(Error::Singular { what: self.what.clone(), n: self.n, d: d as usize, lambda })
        }
    }

    /// R² of `map` on these rows, averaged over the dimensions of `y` with equal weight, by
    /// `E|y - W x - b|² = Var y - 2 W·R + W C·W + (μ_y - W μ_x - b)²`, without a pass over the data.
    ///
    /// Dimensions in which `y` is constant have nothing to explain and are left out; NaN when all are.
    ///
    /// # Errors
    /// When the map has another width.
    pub fn r2(&self, map: &Affine) -> Result<f64, Error> {
        let d = self.gram.size()[0];
        let eye = Tensor::f_eye(d, (Kind::Double, self.gram.device()))?;
        let weight = map.weight.to_device(self.gram.device()).to_kind(Kind::Double).f_add(&eye)?;
        let bias = map.bias.to_device(self.gram.device()).to_kind(Kind::Double);
        // Row by row (W C - 2 R)·W
        let fit = weight.f_matmul(&self.gram)?.f_sub(&self.cross.f_mul_scalar(2.0)?)?.f_mul(&weight)?;
        let miss = self.mean_y.f_sub(&weight.f_mv(&self.mean_x)?)?.f_sub(&bias)?.f_square()?;
        let error = fit.f_sum_dim_intlist(1, false, Kind::Double)?.f_add(&self.variance)?.f_add(&miss)?;
        let share = error.f_clamp_min(0.0)?.f_div(&self.variance)?;
        let varies = self.variance.f_greater_tensor(&self.power_y.f_mul_scalar(1e-14)?)?;
        let share = share.f_masked_select(&varies)?.f_mean(Kind::Double)?;
        Ok(1.0 - share.double_value(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rows;
    use crate::golden::{Golden, error};
    use tch::Device;

    fn regression(x: &Tensor, y: &Tensor) -> Regression {
        let d = x.size()[1] as usize;
        let (x, y) = (Rows::new("x", x).unwrap(), Rows::new("y", y).unwrap());
        let (mut moments, mut cross) = (Moments::new(d, Device::Cpu), CrossMoments::new(d, d, Device::Cpu));
        moments.add(&x).unwrap();
        cross.add(&x, &y).unwrap();
        Regression::new("test", &moments, &cross).unwrap()
    }

    fn normal(n: i64, d: i64) -> Tensor {
        Tensor::randn([n, d], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn as_scikit_learn_solves_it() {
        let golden = Golden::load();
        let regression = regression(&golden.get("x"), &golden.get("y"));
        let eye = Tensor::eye(8, (Kind::Double, Device::Cpu));
        let zero = Ridge { shrink: Shrink::Zero, ..Ridge::default() };
        let cases = [
            ("zero", zero),
            ("identity", Ridge::default()),
            ("no_bias", Ridge { bias: false, ..zero }),
            ("least_squares", Ridge { lambda: 0.0, ..Ridge::default() }),
        ];
        for (name, ridge) in cases {
            let (weight, bias) = regression.coefficients(&ridge).unwrap();
            assert!(error(&(weight + &eye), &golden.get(&format!("{name}.weight"))) < 1e-9, "{name}");
            if ridge.bias {
                assert!(error(&bias, &golden.get(&format!("{name}.bias"))) < 1e-9, "{name}");
            }
            let map = regression.solve(&ridge).unwrap();
            assert!(error(&(map.weight + &eye), &golden.get(&format!("{name}.weight"))) < 1e-6, "{name}");
        }
        let maps = cases[..3].iter().map(|(_, ridge)| regression.solve(ridge).unwrap());
        let maps = maps.chain([Affine::identity(8, Device::Cpu)]);
        for (map, want) in maps.zip(golden.values("r2")) {
            assert!((regression.r2(&map).unwrap() - want).abs() < 1e-6 * want.abs().max(1.0));
        }
    }

    #[test]
    fn one_dimension_by_hand() {
        // x = (1, 3), y = (2, 8): C = 1, R = 3, means 2 and 5.
        let column = |v: [f32; 2]| Tensor::from_slice(&v).view([2, 1]);
        let regression = regression(&column([1., 3.]), &column([2., 8.]));
        let solve = |lambda, shrink, bias| {
            let map = regression.solve(&Ridge { lambda, shrink, bias }).unwrap();
            (map.weight.double_value(&[0, 0]), map.bias.double_value(&[0]))
        };
        assert_eq!(solve(0.0, Shrink::Zero, true), (2., -1.)); // y = 3x - 1
        assert_eq!(solve(0.0, Shrink::Identity, true), (2., -1.));
        assert_eq!(solve(1.0, Shrink::Zero, true), (0.5, 2.)); // W = 3 / 2
        assert_eq!(solve(1.0, Shrink::Identity, true), (1., 1.)); // A = 2 / 2
        // Uncentred C = 5, R = 13, lambda 5: W = 13 / 10
        assert!((solve(1.0, Shrink::Zero, false).0 - 0.3).abs() < 1e-7);
        // The identity misses by 1 and 5: 1 - 13 / 9
        let identity = regression.r2(&Affine::identity(1, Device::Cpu)).unwrap();
        assert!((identity - (1. - 13. / 9.)).abs() < 1e-12);
    }

    #[test]
    fn a_planted_map_is_recovered() {
        let (x, planted) = (normal(300, 16), Affine::new(normal(16, 16), normal(1, 16).view(-1)).unwrap());
        let y = planted.forward(&x).unwrap();
        let regression = regression(&x, &y);
        let map = regression.solve(&Ridge { lambda: 0.0, ..Ridge::default() }).unwrap();
        assert!(error(&map.weight, &planted.weight) < 1e-5 && error(&map.bias, &planted.bias) < 1e-5);
        assert!((regression.r2(&map).unwrap() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_large_ridge_leaves_the_prior() {
        let regression = regression(&normal(50, 4), &normal(50, 4));
        let at = |shrink| regression.solve(&Ridge { lambda: 1e9, shrink, bias: true }).unwrap().weight;
        let eye = Tensor::eye(4, (Kind::Float, Device::Cpu));
        assert!(at(Shrink::Identity).abs().max().double_value(&[]) < 1e-6);
        assert!((at(Shrink::Zero) + eye).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn a_singular_gram_is_an_error_that_a_ridge_cures() {
        let wide = normal(200, 6) * 100.0 + 1000.0;
        let copied = Tensor::cat(&[&wide, &wide.narrow(1, 0, 2)], 1);
        let few = normal(5, 8);
        for (x, n) in [(copied, 200), (few, 5), (Tensor::ones([9, 8], (Kind::Float, Device::Cpu)), 9)] {
            let regression = regression(&x, &x);
            let failed = regression.solve(&Ridge { lambda: 0.0, ..Ridge::default() }).unwrap_err();
            assert!(
                matches!(failed, Error::Singular { n: got, d: 8, lambda: 0.0, .. } if got == n),
                "{failed}"
            );
            let message = failed.to_string();
            assert!(message.starts_with("test: singular") && message.contains("--ridge"), "{message}");
            assert_eq!(regression.solve(&Ridge::default()).is_ok(), n != 9, "n = {n}"); // no variance, no ridge
        }
    }

    #[test]
    fn constant_targets_and_bad_input_are_named() {
        let x = normal(40, 2);
        let y = Tensor::stack(&[x.select(1, 0), Tensor::full([40], 7.0, (Kind::Float, Device::Cpu))], 1);
        let regression = regression(&x, &y);
        assert!((regression.r2(&Affine::identity(2, Device::Cpu)).unwrap() - 1.0).abs() < 1e-12);
        for lambda in [-1.0, f64::NAN, f64::INFINITY] {
            let ridge = Ridge { lambda, ..Ridge::default() };
            assert!(matches!(regression.solve(&ridge), Err(Error::Ridge(_))));
        }
        let empty = (Moments::new(2, Device::Cpu), CrossMoments::new(2, 2, Device::Cpu));
        let failed = Regression::new("layer 3", &empty.0, &empty.1).unwrap_err();
        assert_eq!(failed.to_string(), "layer 3: no rows to fit on");
    }
}
