//! The reference's optimisers, with the reference's settings, for comparison: per layer `[A | b]`, mean gradients.

use tch::{Kind, Tensor};

use crate::{Affine, Error};

/// Which optimiser moves the translators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optimizer {
    /// Natural gradient by K-FAC with a trust region per layer.
    Kfac,
    /// One that the gradient alone moves.
    FirstOrder(FirstOrder),
}

/// The optimisers to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstOrder {
    /// Nesterov momentum .9, weight decay 1e-3, the gradients of all layers clipped together: the released recipe.
    Sgd,
    /// `AMSGrad` (.9, .999), L2 1e-3, with the warm-up that the released recipe documents.
    Adam,
    /// Muon for the matrices (Nesterov .9, five Newton-Schulz steps, decoupled decay .01), `AdamW` for the biases.
    Muon,
}

impl Optimizer {
    /// The step size at the start; for [`FirstOrder::Sgd`] with its momentum's `1 - β` in it.
    pub fn default_rate(self) -> f64 {
        match self {
            Self::Kfac | Self::FirstOrder(FirstOrder::Sgd) => 0.1,
            Self::FirstOrder(FirstOrder::Adam) => 1e-3,
            Self::FirstOrder(FirstOrder::Muon) => 0.01,
        }
    }

    /// Step size at step `k` of `steps`: linear to zero; Adam rises over the first fifth (at most 1000 steps).
    pub fn rate(self, base: f64, k: usize, steps: usize) -> f64 {
        let (k, steps) = (k as f64, steps as f64);
        let warm = if self == FirstOrder::Adam.into() { (steps / 5.0).floor().min(1000.0) } else { 0.0 };
        if k < warm { base * (k + 1.0) / warm } else { base * (steps - k) / (steps - warm).max(1.0) }
    }
}

impl From<FirstOrder> for Optimizer {
    fn from(optimizer: FirstOrder) -> Self {
        Self::FirstOrder(optimizer)
    }
}

/// Momentum and second moments of one layer, `[d, d + 1]` f32 each.
#[derive(Debug)]
pub(super) struct Memory {
    /// Of the gradient.
    pub first: Tensor,
    /// Of its square.
    pub second: Tensor,
    /// The largest of those (`AMSGrad`).
    pub largest: Tensor,
}

impl Memory {
    /// Zeros.
    pub(super) fn new(d: usize, device: tch::Device) -> Self {
        let zeros = || Tensor::zeros([d as i64, d as i64 + 1], (Kind::Float, device));
        Self { first: zeros(), second: zeros(), largest: zeros() }
    }
}

/// The factor that brings the norm over all gradients down to 1.
pub(super) fn joint_clip(gradients: &[Tensor]) -> f64 {
    let square: f64 = gradients.iter().map(|g| g.square().sum(Kind::Double).double_value(&[])).sum();
    (1.0 / (square.sqrt() + 1e-6)).min(1.0)
}

/// Moves one translator by its mean gradient `[d, d + 1]` (f32) at step `k` with step size `rate`.
///
/// # Errors
/// When libtorch fails.
pub(super) fn step(
    optimizer: FirstOrder,
    memory: &mut Memory,
    translator: &mut Affine,
    gradient: &Tensor,
    k: usize,
    rate: f64,
) -> Result<(), Error> {
    let d = gradient.size()[0];
    let joined = Tensor::f_cat(&[&translator.weight, &translator.bias.f_unsqueeze(-1)?], 1)?;
    let moved = match optimizer {
        FirstOrder::Sgd => {
            let g = gradient.f_add(&(&joined * 1e-3))?;
            memory.first = (&memory.first * 0.9).f_add(&g)?;
            joined.f_sub(&((g + &memory.first * 0.9) * rate))?
        }
        FirstOrder::Adam => {
            let g = gradient.f_add(&(&joined * 1e-3))?;
            joined.f_sub(&(adam(memory, &g, k, true)? * rate))?
        }
        FirstOrder::Muon => {
            let bias =
                (adam(memory, gradient, k, false)?.f_add(&(&joined * 0.01))? * rate).f_narrow(1, d, 1)?;
            // `first` serves Adam for the bias column and Muon's buffer for the rest: both average with .9.
            let g = gradient.f_narrow(1, 0, d)?;
            let buffer = memory.first.f_narrow(1, 0, d)?;
            let nesterov = (g * 0.1).f_add(&(buffer * 0.9))?;
            let update = orthogonal(&nesterov)? * (0.2 * (d as f64).sqrt() * rate);
            let weight = (joined.f_narrow(1, 0, d)? * (1.0 - 0.01 * rate)).f_sub(&update)?;
            Tensor::f_cat(&[weight, joined.f_narrow(1, d, 1)?.f_sub(&bias)?], 1)?
        }
    };
    translator.weight = moved.f_narrow(1, 0, d)?.contiguous();
    translator.bias = moved.f_select(1, d)?.contiguous();
    Ok(())
}

/// Adam's direction (Kingma & Ba 2015); with `largest` as `AMSGrad` (Reddi et al. 2018).
fn adam(memory: &mut Memory, g: &Tensor, k: usize, amsgrad: bool) -> Result<Tensor, Error> {
    let t = (k + 1) as f64;
    memory.first = (&memory.first * 0.9).f_add(&(g * 0.1))?;
    memory.second = (&memory.second * 0.999).f_add(&(g.f_square()? * 0.001))?;
    memory.largest = memory.largest.f_maximum(&memory.second)?;
    let second = if amsgrad { &memory.largest } else { &memory.second };
    let scale = (second / (1.0 - 0.999f64.powf(t))).f_sqrt()? + 1e-8;
    Ok((&memory.first / (1.0 - 0.9f64.powf(t))).f_div(&scale)?)
}

/// Five Newton-Schulz steps towards the orthogonal factor of `g` (Jordan et al. 2024).
fn orthogonal(g: &Tensor) -> Result<Tensor, Error> {
    let norm = g.f_norm()?.double_value(&[]) + 1e-7;
    let mut x = g / norm;
    for _ in 0..5 {
        let gram = x.f_mm(&x.tr())?;
        let poly = (&gram * -4.775).f_add(&(gram.f_mm(&gram)? * 2.0315))?;
        x = (&x * 3.4445).f_add(&poly.f_mm(&x)?)?;
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn rates_fall_to_zero_and_adam_warms_up() {
        let sgd = Optimizer::from(FirstOrder::Sgd);
        assert_eq!(sgd.rate(0.1, 0, 250), 0.1);
        assert!((sgd.rate(0.1, 249, 250) - 0.1 / 250.0).abs() < 1e-12);
        let adam: Vec<f64> = (0..10).map(|k| Optimizer::from(FirstOrder::Adam).rate(1.0, k, 10)).collect();
        assert_eq!(&adam[..3], [0.5, 1.0, 1.0]);
        assert!(adam[3..].windows(2).all(|w| w[1] < w[0]));
    }

    #[test]
    fn sgd_by_hand() {
        // p = 2, g = 1: g' = 1.002; buffer .9·0 + 1.002; p -= .1·(1.002 + .9·1.002) = .19038
        let mut map = Affine::identity(1, Device::Cpu);
        map.weight += 2.0;
        let g = Tensor::from_slice(&[1f32, 0.0]).view([1, 2]);
        step(FirstOrder::Sgd, &mut Memory::new(1, Device::Cpu), &mut map, &g, 0, 0.1).unwrap();
        assert!((map.weight.double_value(&[0, 0]) - (2.0 - 0.19038)).abs() < 1e-6);
        assert_eq!(joint_clip(&[&g * 0.5]), 1.0);
        assert!((joint_clip(&[&g * 3.0, &g * 4.0]) - 0.2).abs() < 1e-6); // norm 5
    }

    #[test]
    fn newton_schulz_makes_singular_values_near_one() {
        tch::manual_seed(2);
        let x = orthogonal(&Tensor::randn([12, 12], (Kind::Float, Device::Cpu))).unwrap();
        let (_, s, _) = x.svd(true, true);
        assert!(s.max().double_value(&[]) < 1.3 && s.median().double_value(&[]) > 0.6, "{s}");
    }
}
