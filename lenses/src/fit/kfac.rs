//! K-FAC for an affine translator (Martens & Grosse 2015): the Fisher matrix of `[A | b]` as a Kronecker product
//! `F ⊗ H` of the Fisher matrix of the output and the second moments of the input.

use tch::{Kind, Tensor};

use super::gradient::Rows;
use crate::{Affine, Ask, Error, Norm, NormKind, Readout};

/// Rows that the output factor is estimated from.
const FISHER_ROWS: i64 = 1024;
/// Damping, relative to the mean diagonal: of the output factor and of the input factor.
const DAMPING: (f64, f64) = (1e-2, 1e-3);
/// How often the damping is multiplied by ten before a factor is given up.
const RETRIES: usize = 8;

/// Both factors of one layer, as running means.
#[derive(Debug)]
pub(super) struct Factors {
    /// `E[g gᵀ] [d, d]` over the lens's own predictions, f64.
    fisher: Tensor,
    /// `E[ŷ ŷᵀ] [d + 1, d + 1]` with `ŷ = [y; 1]`, f64.
    input: Tensor,
    refreshes: usize,
}

impl Factors {
    /// Nothing seen yet.
    pub(super) fn new(d: usize, device: tch::Device) -> Self {
        let d = d as i64;
        let zeros = |n: i64| Tensor::zeros([n, n], (Kind::Double, device));
        Self { fisher: zeros(d), input: zeros(d + 1), refreshes: 0 }
    }

    /// Takes in the output side of a batch: a running mean with weight `max(0.1, 1 / refreshes)`.
    ///
    /// # Errors
    /// When shapes do not fit or a prediction is not finite.
    pub(super) fn refresh(
        &mut self,
        readout: &Readout,
        translator: &Affine,
        rows: &Rows<'_>,
    ) -> Result<(), Error> {
        let fisher = output_fisher(readout, translator, rows)?;
        self.fisher = mix(&self.fisher, &fisher, self.refreshes)?;
        self.refreshes += 1;
        Ok(())
    }

    /// Takes in the input side of the same step: the mean of `ŷ ŷᵀ` over all its rows.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub(super) fn refresh_input(&mut self, second_moment: &Tensor) -> Result<(), Error> {
        self.input = mix(&self.input, second_moment, self.refreshes.saturating_sub(1))?;
        Ok(())
    }

    /// Weighted mean of several layers' factors.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub(super) fn pooled(all: &[&Self]) -> Result<Self, Error> {
        let mean = |part: fn(&Self) -> &Tensor| {
            let all: Vec<Tensor> = all.iter().map(|f| part(f).shallow_clone()).collect();
            Tensor::f_stack(&all, 0)?.f_mean_dim(0, false, Kind::Double)
        };
        Ok(Self { fisher: mean(|f| &f.fisher)?, input: mean(|f| &f.input)?, refreshes: 1 })
    }

    /// The damped inverses applied to a gradient `[d, d + 1]` (f64): `(F + λ)⁻¹ G (H + μ)⁻¹`.
    ///
    /// # Errors
    /// [`Error::NoCholesky`] when a factor has no Cholesky factorisation at any damping.
    pub(super) fn natural(&self, gradient: &Tensor) -> Result<Tensor, Error> {
        let left = solve(&self.fisher, gradient, DAMPING.0)?;
        Ok(solve(&self.input, &left.tr(), DAMPING.1)?.tr())
    }

    /// `⟨F D, D H⟩`: twice the KL divergence, to second order, that a step `D [d, d + 1]` makes.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub(super) fn quadratic(&self, step: &Tensor) -> Result<f64, Error> {
        Ok(self.fisher.f_mm(step)?.f_mul(&step.f_mm(&self.input)?)?.sum(Kind::Double).double_value(&[]))
    }

    /// Mean input `[d]`, f32.
    ///
    /// # Errors
    /// When libtorch fails.
    pub(super) fn mean(&self) -> Result<Tensor, Error> {
        let d = self.fisher.size()[0];
        Ok(self.input.f_select(1, d)?.f_narrow(0, 0, d)?.f_to_kind(Kind::Float)?)
    }

    /// The matrix of rank `rank` nearest to `matrix [d, d]` in the metric `⟨F M, M C⟩`, `C` the covariance of the input
    /// (Eckart & Young, whitened), so that what is cut off is what the predictions depend on least.
    ///
    /// # Errors
    /// [`Error::NoCholesky`].
    pub(super) fn cut(&self, matrix: &Tensor, rank: usize) -> Result<Tensor, Error> {
        let d = matrix.size()[0];
        let rank = (rank as i64).min(d);
        let left = cholesky(&self.fisher, DAMPING.0)?.tr();
        let mean = self.mean()?.f_to_kind(Kind::Double)?;
        let second = self.input.f_narrow(0, 0, d)?.f_narrow(1, 0, d)?;
        let right = cholesky(&second.f_sub(&mean.f_outer(&mean)?)?, DAMPING.1)?;
        let white = left.f_mm(&matrix.f_to_kind(Kind::Double)?)?.f_mm(&right)?;
        let (u, s, v) = white.f_svd(true, true)?;
        let (u, s, v) = (u.f_narrow(1, 0, rank)?, s.f_narrow(0, 0, rank)?, v.f_narrow(1, 0, rank)?);
        let white = u.f_mul(&s)?.f_mm(&v.tr())?;
        let half = left.f_linalg_solve_triangular(&white, true, true, false)?;
        let cut = right.f_linalg_solve_triangular(&half, false, false, false)?;
        // Column by column out of the solver; a checkpoint gives it back row by row, where products round otherwise.
        Ok(cut.f_to_kind(Kind::Float)?.f_contiguous()?)
    }

    /// The numbers that a checkpoint keeps.
    pub(super) fn state(&self) -> (&Tensor, &Tensor, usize) {
        (&self.fisher, &self.input, self.refreshes)
    }

    /// From what [`Factors::state`] gave.
    pub(super) fn from_state(fisher: Tensor, input: Tensor, refreshes: usize) -> Self {
        Self { fisher, input, refreshes }
    }
}

/// `(S + damping · mean diagonal · I)⁻¹ B`.
fn solve(matrix: &Tensor, right: &Tensor, damping: f64) -> Result<Tensor, Error> {
    Ok(right.f_cholesky_solve(&cholesky(matrix, damping)?, false)?)
}

/// The lower Cholesky factor of `S + damping · mean diagonal · I`, in f64; where there is none, with more damping.
fn cholesky(matrix: &Tensor, damping: f64) -> Result<Tensor, Error> {
    let d = matrix.size()[0];
    let mean = matrix.f_trace()?.double_value(&[]) / d as f64;
    let eye = Tensor::f_eye(d, (Kind::Double, matrix.device()))?;
    let mut lambda = damping * mean.max(f64::MIN_POSITIVE);
    for _ in 0..RETRIES {
        let damped = matrix.f_add(&(&eye * lambda))?;
        let (factor, info) = damped.f_linalg_cholesky_ex(false, false)?;
        if info.int64_value(&[]) == 0 {
            return Ok(factor);
        }
        lambda *= 10.0;
    }
    Err(Error::NoCholesky { what: "a K-FAC factor", n: d as usize, lambda })
}

/// The running mean `old` of `refreshes` values with one more.
fn mix(old: &Tensor, new: &Tensor, refreshes: usize) -> Result<Tensor, Error> {
    let weight = (1.0 / (refreshes + 1) as f64).max(0.1);
    Ok(old.f_add(&(new.f_sub(old)? * weight))?)
}

/// `Σ ŷ ŷᵀ` with `ŷ = [y; 1]`, f64.
pub(super) fn second_moment(states: &Tensor) -> Result<Tensor, Error> {
    let ones = Tensor::f_ones([states.size()[0], 1], (states.kind(), states.device()))?;
    let y = Tensor::f_cat(&[states, &ones], -1)?;
    Ok(y.tr().f_mm(&y)?.f_to_kind(Kind::Double)?)
}

/// `E_t[J_tᵀ Cov_q(W) J_t]` with `J = diag(γ) r P`, `P` the projection of a layer norm that takes the mean out:
/// `P γ (Wᵀ diag(m) W - E[r² e eᵀ]) γ P`, `m = E[r² q]`. The part of `J` along `x̂` is left out.
///
/// A difference of two large matrices, with eigenvalues down to a thousandth of the damping: a bf16 error in `e` makes
/// some of them negative, and one near minus the damping would send a step anywhere. So the sweep is in f32, and `W`
/// and `e` are taken from the mean of all `e`, which changes nothing but the size of the two (under a soft cap `e` is
/// no mean of rows of `W`, and they stay).
///
/// Behind the transform of a masked-language-model head it is the same in what the transform's norm reads, taken back
/// through the mean slopes of the transform and of the final norm: a preconditioner may be that rough.
fn output_fisher(readout: &Readout, translator: &Affine, rows: &Rows<'_>) -> Result<Tensor, Error> {
    let states = rows.states.f_narrow(0, 0, rows.states.size()[0].min(FISHER_ROWS))?;
    let x = translator.forward(&states)?;
    let unembed = readout.unembed();
    let Some(transform) = unembed.transform() else {
        let fisher = weighted_fisher(readout, &x, &inverse_squares(unembed.norm(), &x)?)?;
        return through(unembed.norm(), fisher);
    };
    let y = unembed.normed(&x)?;
    let squared = inverse_squares(Some(transform.norm()), &transform.before_norm(&y)?)?;
    let inner = through(Some(transform.norm()), weighted_fisher(readout, &x, &squared)?)?;
    let slope = transform.mean_slope(&y)?.f_to_kind(Kind::Double)?;
    let fisher = slope.tr().f_mm(&inner)?.f_mm(&slope)?;
    let size = inverse_squares(unembed.norm(), &x)?.f_sum(Kind::Double)?;
    through(unembed.norm(), fisher.f_mul(&size)?)
}

/// `r² / rows` of every row `[rows]`, which is `1 / rows` where there is no norm.
fn inverse_squares(norm: Option<&Norm>, x: &Tensor) -> Result<Tensor, Error> {
    let rows = x.size()[0];
    Ok(match norm {
        Some(norm) => norm.scale(x)?.f_square()?.f_reciprocal()?.f_view([-1])? / rows as f64,
        None => Tensor::f_ones([rows], (Kind::Float, x.device()))? / rows as f64,
    })
}

/// `Wᵀ diag(m) W - E[r² e eᵀ]` of states `x`, whose rows count `squared`; f64.
fn weighted_fisher(readout: &Readout, x: &Tensor, squared: &Tensor) -> Result<Tensor, Error> {
    let weights = Vec::<f32>::try_from(squared.to_device(tch::Device::Cpu))?;
    let ask = Ask { expectation: true, marginal: Some(&weights), ..Ask::default() };
    let read = readout.sweep_exactly(&readout.normalize(x)?, ask)?;
    let (Some(e), Some(m)) = (read.expectation, read.marginal) else {
        return Err(Error::Shape { what: "sweep", expected: "expectation and marginal".into(), got: vec![] });
    };
    let w = readout.weight();
    let m = Tensor::from_slice(&m)
        .to_kind(Kind::Float)
        .to_device(w.device())
        .f_clamp_min(0)?
        .f_sqrt()?
        .f_unsqueeze(-1)?;
    let rows = squared.f_unsqueeze(-1)?;
    let (w, e) = if readout.unembed().soft_cap().is_some() {
        (w.shallow_clone(), e)
    } else {
        let mean = rows.tr().f_mm(&e)?.f_div(&squared.f_sum(Kind::Float)?)?;
        (w.f_sub(&mean)?, e.f_sub(&mean)?)
    };
    let scaled = w.f_mul(&m)?;
    let e = e.f_mul(&rows.f_sqrt()?)?;
    Ok(scaled.tr().f_mm(&scaled)?.f_sub(&e.tr().f_mm(&e)?)?.f_to_kind(Kind::Double)?)
}

/// `P γ F γ P` of a norm, `F` where there is none.
fn through(norm: Option<&Norm>, mut fisher: Tensor) -> Result<Tensor, Error> {
    let Some(norm) = norm else { return Ok(fisher) };
    if let Some(gain) = norm.weight() {
        let gain = gain.to_kind(Kind::Double);
        fisher = fisher.f_mul(&gain.f_outer(&gain)?)?;
    }
    if norm.kind() == NormKind::Layer {
        let centre = |t: &Tensor| t.f_sub(&t.f_mean_dim(-1, true, Kind::Double)?);
        fisher = centre(&centre(&fisher)?.tr())?;
    }
    Ok(fisher)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::{Precision, Teacher, Unembed};

    /// Over one row with an identity norm's worth of checks: F is the Hessian of the KL at its minimum.
    #[test]
    fn the_output_factor_is_the_mean_of_gradient_covariances() {
        tch::manual_seed(5);
        let cpu = (Kind::Float, Device::Cpu);
        let (rows, d, vocab) = (6, 5, 40);
        for kind in [NormKind::Layer, NormKind::Rms] {
            let gain = Tensor::rand([d], cpu) + 0.5;
            let norm = Norm::new(kind, Some(gain.shallow_clone()), None, 1e-5);
            let unembed = Unembed::new(norm, Tensor::randn([vocab, d], cpu), None, None).unwrap();
            let readout = Readout::new(&unembed, vocab as usize, Precision::Exact, 1).unwrap();
            let h = Tensor::randn([rows, d], cpu) * 2.0;
            let teacher = Teacher::of(&readout, &h).unwrap();
            let part = Rows { states: &h, teacher: &teacher, next: &[-1; 6] };
            let got = output_fisher(&readout, &Affine::identity(d as usize, Device::Cpu), &part).unwrap();
            // Row by row: J = γ r P, Cov_q(W) = Σ q w wᵀ - e eᵀ.
            let q = unembed.logits(&h).unwrap().softmax(-1, Kind::Float);
            let mut want = Tensor::zeros([d, d], cpu);
            for t in 0..rows {
                let w = readout.weight();
                let covariance =
                    w.tr().matmul(&(w * q.get(t).unsqueeze(-1))) - teacher.e.get(t).outer(&teacher.e.get(t));
                let mut jacobian = Tensor::eye(d, cpu);
                if kind == NormKind::Layer {
                    jacobian -= Tensor::ones([d, d], cpu) / d as f64;
                }
                let r = unembed.norm().unwrap().scale(&h.get(t)).unwrap().reciprocal();
                let jacobian = gain.unsqueeze(-1) * jacobian * r;
                want += jacobian.tr().matmul(&covariance).matmul(&jacobian) / rows as f64;
            }
            let off = (got - want.to_kind(Kind::Double)).abs().max().double_value(&[]);
            assert!(off < 1e-5, "{kind:?} {off}");
        }
    }

    /// The output factor is read in f32 whatever the readout: a bf16 error in it is as large as its least eigenvalues.
    #[test]
    fn the_output_factor_of_a_fast_readout_is_that_of_an_exact_one() {
        use crate::noise::noise;
        let norm = Norm::new(NormKind::Rms, None, None, 1e-5);
        let common = noise(1, &[1, 8]) * 3.0;
        let unembed = Unembed::new(norm, noise(2, &[600, 8]) + common, None, None).unwrap();
        let h = noise(3, &[50, 8]);
        let [exact, fast] = [Precision::Exact, Precision::Fast].map(|precision| {
            let readout = Readout::new(&unembed, 600, precision, 1).unwrap();
            let teacher = Teacher::of(&readout, &h).unwrap();
            let part = Rows { states: &h, teacher: &teacher, next: &[-1; 50] };
            output_fisher(&readout, &Affine::identity(8, Device::Cpu), &part).unwrap()
        });
        assert!(exact.equal(&fast));
        let least = exact.linalg_eigh("L").0.double_value(&[0]);
        assert!(least > 0.0, "{least}");
    }

    #[test]
    fn natural_gradients_solve_the_damped_system() {
        tch::manual_seed(1);
        let wide = (Kind::Double, Device::Cpu);
        let random = |n: i64| {
            let a = Tensor::randn([n, n + 3], wide);
            a.matmul(&a.tr())
        };
        let factors = Factors::from_state(random(4), random(5), 1);
        let gradient = Tensor::randn([4, 5], wide);
        let step = factors.natural(&gradient).unwrap();
        let damped = |m: &Tensor, damping: f64, n: i64| {
            m + Tensor::eye(n, wide) * (damping * m.trace().double_value(&[]) / n as f64)
        };
        let back =
            damped(&factors.fisher, DAMPING.0, 4).matmul(&step).matmul(&damped(&factors.input, DAMPING.1, 5));
        assert!((back - &gradient).abs().max().double_value(&[]) < 1e-9);
        let want = factors.fisher.matmul(&step).matmul(&factors.input) * &step;
        assert!((factors.quadratic(&step).unwrap() - want.sum(Kind::Double).double_value(&[])).abs() < 1e-9);
        let bad = Factors::from_state(random(4) * f64::NAN, random(5), 1);
        assert!(matches!(bad.natural(&gradient), Err(Error::NoCholesky { .. })));
    }
}
