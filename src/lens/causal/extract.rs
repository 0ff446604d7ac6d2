//! Causal basis extraction: the orthonormal directions that a lens goes by most, one after the other.

use layerscope_lenses::Error;
use tch::{Kind, Tensor};

use super::{CausalError, Energy};
use crate::probes::{Memory, Objective, Stop, minimise};
use crate::watch::Underway;

/// A direction is found when the energy is within this share of its estimated maximum.
pub const TOLERANCE: f64 = 1e-4;
/// And given up after so many evaluations.
pub const EVALUATIONS: usize = 100;
/// Eigenvectors of either kind that are tried as a start.
const STARTS: usize = 4;

/// The directions of one lens at one layer, those of larger energy first.
#[derive(Debug)]
pub struct Basis {
    /// Orthonormal rows `[k, d]`, f64.
    pub vectors: Tensor,
    /// The energy of each on the text that it was found on, nats.
    pub energies: Vec<f64>,
    /// Evaluations of the energy with its gradient.
    pub evaluations: usize,
    /// Directions whose search ended at [`EVALUATIONS`] rather than at [`TOLERANCE`].
    pub unfinished: usize,
}

/// The energy as L-BFGS sees it: of the direction of the part of `x` that is orthogonal to what was found before.
struct Search<'a> {
    energy: &'a Energy<'a>,
    found: &'a [Vec<f64>],
    /// Energies are divided by it, so that the tolerance is relative.
    scale: f64,
    failed: Option<Error>,
}

impl Objective for Search<'_> {
    fn evaluate(&mut self, x: &[f64], gradient: &mut [f64]) -> f64 {
        let Some((v, length)) = unit(x, self.found) else { return f64::NAN };
        match self.energy.gradient(&v) {
            Ok((energy, mut g)) => {
                // d v / d x is the projection off `v` and what was found, over the length.
                complement(&mut g, self.found);
                let along = dot(&g, &v);
                let slopes = g.iter().zip(&v).map(|(g, v)| -(g - along * v) / (length * self.scale));
                gradient.iter_mut().zip(slopes).for_each(|(to, slope)| *to = slope);
                -energy / self.scale
            }
            Err(error) => {
                self.failed.get_or_insert(error);
                f64::NAN
            }
        }
    }

    fn precondition(&self, _: &mut [f64]) {}
}

/// The `k` directions of largest energy. `covariance [d, d]` is that of the states, whose principal axes are among the
/// starts; `stage` counts directions.
///
/// # Errors
/// [`CausalError::Directions`], [`CausalError::Interrupted`], what the lens says, or [`CausalError::Flat`].
pub fn extract(
    energy: &Energy<'_>,
    covariance: &Tensor,
    k: usize,
    stage: &Underway<'_>,
) -> Result<Basis, CausalError> {
    let d = covariance.size()[0] as usize;
    if k > d {
        return Err(CausalError::Directions { k, d });
    }
    let pull = energy.pull().map_err(|e| energy.failed(e))?;
    let mut directions: Vec<Vec<f64>> = Vec::with_capacity(k);
    let (mut energies, mut evaluations, mut unfinished) = (Vec::with_capacity(k), 0, 0);
    for place in 0..k {
        let (start, value) = start(energy, &[&pull, covariance], &directions)?;
        if value.is_nan() {
            return Err(energy.flat(place + 1));
        }
        // Energies that rounding takes below zero must not turn the objective around.
        let scale = value.abs().max(1e-12);
        let mut search = Search { energy, found: &directions, scale, failed: None };
        let (mut x, stop) =
            (start, Stop { gap: TOLERANCE, iterations: EVALUATIONS, evaluations: EVALUATIONS });
        let end = minimise(&mut search, &mut x, &mut Memory::default(), stop);
        if let Some(error) = search.failed {
            return Err(energy.failed(error));
        }
        let (v, _) = unit(&x, &directions).ok_or_else(|| energy.flat(place + 1))?;
        evaluations += end.evaluations;
        unfinished += usize::from(end.evaluations >= EVALUATIONS && !end.converged);
        energies.push(-end.objective * scale);
        directions.push(v);
        stage.done(1)?;
    }
    let mut order: Vec<usize> = (0..k).collect();
    order.sort_by(|a, b| energies[*b].total_cmp(&energies[*a]));
    let rows: Vec<f64> = order.iter().flat_map(|i| directions[*i].iter().copied()).collect();
    Ok(Basis {
        vectors: Tensor::from_slice(&rows).f_view([k as i64, d as i64])?,
        energies: order.iter().map(|i| energies[*i]).collect(),
        evaluations,
        unfinished,
    })
}

/// Where the next search begins: of the leading eigenvectors of each matrix on the complement of what was found, and
/// one axis that is surely in it, the one of largest energy.
fn start(
    energy: &Energy<'_>,
    matrices: &[&Tensor],
    found: &[Vec<f64>],
) -> Result<(Vec<f64>, f64), CausalError> {
    let d = matrices[0].size()[0];
    let identity = Tensor::eye(d, (Kind::Double, tch::Device::Cpu));
    let free = match found.len() {
        0 => identity,
        k => {
            let rows = Tensor::from_slice(&found.concat()).f_view([k as i64, d])?;
            identity.f_sub(&rows.f_tr()?.f_matmul(&rows)?)?
        }
    };
    let mut candidates: Vec<Vec<f64>> = Vec::new();
    for matrix in matrices {
        let inner = free.f_matmul(&matrix.f_to_device(tch::Device::Cpu)?)?.f_matmul(&free)?;
        let (_, vectors) = inner.f_linalg_eigh("L")?; // ascending
        let n = (d - found.len() as i64).min(STARTS as i64);
        let leading = vectors.f_narrow(1, d - n, n)?.f_tr()?.f_contiguous()?;
        let rows = Vec::<f64>::try_from(leading.f_view([-1])?)?;
        candidates.extend(rows.chunks_exact(d as usize).map(<[f64]>::to_vec));
    }
    let axis = free.f_diagonal(0, 0, 1)?.f_argmax(0, false)?.int64_value(&[]);
    candidates.push(Vec::try_from(free.f_get(axis)?)?);
    let mut best = (Vec::new(), f64::NAN);
    for candidate in candidates {
        let Some((v, length)) = unit(&candidate, found) else { continue };
        // An eigenvector of an eigenvalue of zero may lie in what was found; what is left of it is rounding.
        if length < 1e-6 {
            continue;
        }
        let value = energy.mean(&v).map_err(|e| energy.failed(e))?;
        if best.1.is_nan() || value > best.1 {
            best = (v, value);
        }
    }
    Ok(best)
}

/// The direction of the part of `x` that is orthogonal to `found`, and the length of that part; none when it is zero.
fn unit(x: &[f64], found: &[Vec<f64>]) -> Option<(Vec<f64>, f64)> {
    let mut v = x.to_vec();
    complement(&mut v, found);
    let length = dot(&v, &v).sqrt();
    if !(length.is_finite() && length > 0.0) {
        return None;
    }
    for v in &mut v {
        *v /= length;
    }
    Some((v, length))
}

/// Takes out the part in the span of `found`; twice, because once leaves rounding of the size of what was taken.
fn complement(v: &mut [f64], found: &[Vec<f64>]) {
    for of in found.iter().chain(found) {
        let along = dot(v, of);
        v.iter_mut().zip(of).for_each(|(v, of)| *v -= along * of);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
