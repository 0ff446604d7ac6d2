//! Sets of orthonormal directions.

use tch::{Device, Kind, TchError, Tensor};

use crate::results::draw::normal;

/// Directions that are compared at one layer.
#[derive(Debug)]
pub struct Set {
    /// That of [`basis_name`](crate::results::run::basis_name), `pca` or `random`.
    pub name: String,
    /// Place of the lens whose causal basis it is; none: a control.
    pub lens: Option<usize>,
    /// Orthonormal rows `[k, d]`, f64, on the CPU.
    pub vectors: Tensor,
    /// Energies on the text that the directions were found on; empty for controls.
    pub energies: Vec<f64>,
}

impl Set {
    /// Directions there are.
    pub fn len(&self) -> usize {
        self.vectors.size()[0] as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The `k` principal axes of states of this `covariance [d, d]`, that of largest variance first: `[k, d]`, f64.
///
/// # Errors
/// When libtorch fails, as it does on NaN.
pub fn principal(covariance: &Tensor, k: usize) -> Result<Tensor, TchError> {
    let (d, k) = (covariance.size()[0], k as i64);
    let (_, vectors) = covariance.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?.f_linalg_eigh("L")?;
    vectors.f_narrow(1, d - k, k)?.f_flip([1_i64])?.f_tr()?.f_contiguous()
}

/// `k` orthonormal directions drawn evenly, `[k, d]`, f64; others at every layer, the same for the same seed.
///
/// # Errors
/// When `k` is more than `d`.
pub fn random(k: usize, d: usize, layer: usize, seed: u64) -> Result<Tensor, TchError> {
    let entry = |i: usize| normal(seed, (layer as u64) << 32 | (i / d) as u64, (i % d) as u64);
    let normals: Vec<f64> = (0..k * d).map(entry).collect();
    let rows = Tensor::from_slice(&normals).f_view([k as i64, d as i64])?;
    let (q, _) = Tensor::f_linalg_qr(&rows.f_tr()?, "reduced")?;
    q.f_tr()?.f_contiguous()
}
