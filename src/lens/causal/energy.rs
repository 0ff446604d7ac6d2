//! What a lens goes by: how far its prediction moves when a direction is removed.

use layerscope_lenses::{Ask, Error, LayerIndex, Lens, Readout, Teacher};
use tch::{Device, Kind, Tensor};

use super::{CausalError, remove};

/// `KL(lens(h) ‖ lens(r(h, B)))` of some states of one layer, for any directions `B`.
pub struct Energy<'a> {
    readout: &'a Readout,
    lens: &'a dyn Lens,
    layer: LayerIndex,
    /// `[n, d]`, f32.
    states: &'a Tensor,
    /// `[d]` or `[n, d]`.
    stand_in: Tensor,
    /// What the lens says of the states as they are.
    control: Teacher,
}

impl<'a> Energy<'a> {
    /// Of `states [n, d]`, f32, with `stand_in` (`[d]` or `[n, d]`) on the directions that are removed.
    ///
    /// # Errors
    /// When the lens cannot read the states.
    pub fn new(
        readout: &'a Readout,
        (lens, layer): (&'a dyn Lens, LayerIndex),
        states: &'a Tensor,
        stand_in: &Tensor,
    ) -> Result<Self, Error> {
        let control = Teacher::of(readout, &lens.transform(layer, states)?)?;
        let stand_in = stand_in.f_to_device(states.device())?.f_to_kind(states.kind())?;
        Ok(Self { readout, lens, layer, states, stand_in, control })
    }

    /// Normalised states `[n, d]` of what the lens says of the states as they are.
    pub(super) fn control(&self) -> &Tensor {
        &self.control.n
    }

    /// An error with the names of lens and layer.
    pub(super) fn failed(&self, source: Error) -> CausalError {
        CausalError::Lens { lens: self.lens.name().to_owned(), layer: self.layer, source }
    }

    /// No direction changes anything.
    pub(super) fn flat(&self, place: usize) -> CausalError {
        CausalError::Flat { lens: self.lens.name().to_owned(), layer: self.layer, place }
    }

    /// Of every row, without `basis [k, d]`.
    ///
    /// # Errors
    /// When shapes do not fit or a prediction is not finite.
    pub fn rows(&self, basis: &Tensor) -> Result<Vec<f64>, Error> {
        let _no_grad = tch::no_grad_guard();
        let n = self.read(&remove(self.states, basis, &self.stand_in)?)?;
        let read = self.readout.sweep(&n, Ask::default())?;
        self.control.kl(self.readout, &n, &read.lse)
    }

    /// The mean over the rows without one direction, of length 1.
    ///
    /// # Errors
    /// As [`Energy::rows`].
    pub fn mean(&self, direction: &[f64]) -> Result<f64, Error> {
        let rows = self.rows(&self.row(direction))?;
        Ok(rows.iter().sum::<f64>() / rows.len() as f64)
    }

    /// The mean over the rows, and its gradient in the direction (not only along the sphere).
    ///
    /// # Errors
    /// As [`Energy::rows`].
    pub fn gradient(&self, direction: &[f64]) -> Result<(f64, Vec<f64>), Error> {
        let v = self.row(direction).set_requires_grad(true);
        let (kl, gradient) = tch::with_grad(|| -> Result<_, Error> {
            let n = self.read(&remove(self.states, &v, &self.stand_in)?)?;
            self.backward(&n, &v)
        })?;
        let gradient = gradient.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?.f_view([-1])?;
        Ok((kl, Vec::try_from(gradient)?))
    }

    /// `Σ sym(g δᵀ) / n` with `δ = t - h` and `g` the gradient of the divergence half way from the states to what
    /// stands in for them, `[d, d]`, f64: to first order `vᵀ M v` is what moving along `v` does there.
    ///
    /// # Errors
    /// As [`Energy::rows`].
    pub fn pull(&self) -> Result<Tensor, Error> {
        let gap = self.stand_in.f_sub(self.states)?;
        let half = self.states.f_add(&gap.f_mul_scalar(0.5)?)?.detach().set_requires_grad(true);
        let gradient = tch::with_grad(|| self.backward(&self.read(&half)?, &half))?.1;
        let m = gradient.f_tr()?.f_matmul(&gap)?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        Ok(m.f_add(&m.f_tr()?)?)
    }

    /// Normalised states of what the lens says of `states [n, d]`.
    pub(super) fn read(&self, states: &Tensor) -> Result<Tensor, Error> {
        self.readout.normalize(&self.lens.transform(self.layer, states)?)
    }

    /// The mean divergence at `n`, a function of `leaf`, and its gradient there. The vocabulary stays out of the graph:
    /// the readout gives the gradient in `n`.
    fn backward(&self, n: &Tensor, leaf: &Tensor) -> Result<(f64, Tensor), Error> {
        let (kl, pull) = self.control.kl_gradient(self.readout, &n.detach())?;
        let rows = kl.len() as f64;
        let sum = n.f_mul(&pull)?.f_sum(Kind::Float)?.f_div_scalar(rows)?;
        let mut gradient = Tensor::f_run_backward(&[&sum], &[leaf], false, false)?;
        let missing = || Error::Shape { what: "gradient", expected: "one".into(), got: vec![] };
        Ok((kl.iter().sum::<f64>() / rows, gradient.pop().ok_or_else(missing)?))
    }

    fn row(&self, direction: &[f64]) -> Tensor {
        let row = Tensor::from_slice(direction).view([1, -1]);
        row.to_kind(self.states.kind()).to_device(self.states.device())
    }
}
