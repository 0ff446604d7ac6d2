//! Fitting translators: batches in, one step per batch, the best held-out translators out.
//!
//! ```text
//! for every step: Fitter::add (a few times), Fitter::step     now and then: Fitter::validate
//! ```
//!
//! The default is a natural gradient: per layer, K-FAC factors of `[A | b]`, a trust region in nats, a step size
//! falling linearly to zero. The same code fits every [`Rung`] of the ladder; the reference's
//! optimisers are there for comparison. Gradients come from the readout's identity, without autograd.

mod first_order;
mod gradient;
mod kfac;
mod natural;
mod state;

pub use first_order::{FirstOrder, Optimizer};
pub use gradient::{Gradient, Loss, Rows, gradient, loss, norm_backward};
pub use natural::StepSize;
use tch::{Kind, Tensor};

use self::{first_order::Memory, kfac::Factors};
use crate::{Affine, Error, Readout, Rung, Translators};

/// How to fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// What the lens shall say.
    pub loss: Loss,
    /// What moves it.
    pub optimizer: Optimizer,
    /// Step size at the first step.
    pub rate: f64,
    /// Trust region in nats (K-FAC).
    pub trust: f64,
    /// Steps in all.
    pub steps: usize,
    /// Validations in a row without gain after which a layer is left alone (tuned lenses).
    pub patience: usize,
}

/// Translators being fitted, and the best so far.
#[derive(Debug)]
pub struct Fitter {
    recipe: Recipe,
    translators: Translators,
    factors: Vec<Factors>,
    memory: Vec<Memory>,
    sums: Vec<Option<Gradient>>,
    /// `Σ ŷ ŷᵀ` and rows, at steps that renew the factors.
    inputs: Vec<Option<(Tensor, f64)>>,
    /// Steps done.
    step: usize,
    /// Per layer: held-out loss of the best translator, nats; and the translator, from residual to last layer.
    best: Vec<(f64, Affine)>,
    /// Validations since the best.
    stale: Vec<usize>,
}

impl Fitter {
    /// Starts from `translators`.
    ///
    /// # Errors
    /// When a first-order optimiser is asked to fit a rung that shares something.
    pub fn new(recipe: Recipe, translators: Translators) -> Result<Self, Error> {
        if let Optimizer::FirstOrder(optimizer) = recipe.optimizer
            && translators.rung != Rung::Tuned
        {
            return Err(Error::Optimizer { optimizer, rung: translators.rung });
        }
        let (layers, d) = (translators.layers(), translators.shared.d_model());
        let device = translators.shared.bias.device();
        let natural = recipe.optimizer == Optimizer::Kfac;
        let whole = |layer| Ok::<_, Error>((f64::INFINITY, translators.whole(layer)?));
        Ok(Self {
            recipe,
            factors: (0..if natural { layers } else { 0 }).map(|_| Factors::new(d, device)).collect(),
            memory: (0..if natural { 0 } else { layers }).map(|_| Memory::new(d, device)).collect(),
            sums: (0..layers).map(|_| None).collect(),
            inputs: (0..layers).map(|_| None).collect(),
            step: 0,
            best: (0..layers).map(whole).collect::<Result<_, _>>()?,
            stale: vec![0; layers],
            translators,
        })
    }

    /// Steps done.
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The translators as they are now.
    pub fn translators(&self) -> &Translators {
        &self.translators
    }

    /// Whether every step is done, or every layer has stopped gaining.
    pub fn is_done(&self) -> bool {
        self.step >= self.recipe.steps || (0..self.stale.len()).all(|layer| self.is_frozen(layer))
    }

    /// Whether a layer has stopped gaining and is left alone.
    pub fn is_frozen(&self, layer: usize) -> bool {
        self.translators.rung == Rung::Tuned && self.stale[layer] >= self.recipe.patience
    }

    /// Takes in part of a step's batch: rows of one layer.
    ///
    /// # Errors
    /// When shapes do not fit or a prediction is not finite.
    pub fn add(&mut self, readout: &Readout, layer: usize, rows: &Rows<'_>) -> Result<(), Error> {
        if self.is_frozen(layer) {
            return Ok(());
        }
        let features = self.translators.features_of(layer, rows.states)?;
        let rows = Rows { states: &features, ..*rows };
        let map = self.translators.on_features(layer)?;
        let part = gradient(readout, &map, &rows, self.recipe.loss)?;
        let refreshes = self.refreshes_now();
        if refreshes {
            let (sum, n) = (kfac::second_moment(&features)?, features.size()[0] as f64);
            self.inputs[layer] = Some(match self.inputs[layer].take() {
                Some((before, rows)) => (before.f_add(&sum)?, rows + n),
                None => (sum, n),
            });
        }
        match &mut self.sums[layer] {
            Some(sums) => {
                sums.rows += part.rows;
                sums.loss += part.loss;
                sums.weight += part.weight;
                sums.bias += part.bias;
            }
            none => {
                if refreshes {
                    self.factors[layer].refresh(readout, &map, &rows)?;
                }
                *none = Some(part);
            }
        }
        Ok(())
    }

    /// Factors are renewed at the first steps and then at every fifth.
    fn refreshes_now(&self) -> bool {
        self.recipe.optimizer == Optimizer::Kfac
            && (matches!(self.step, 1 | 2 | 4) || self.step.is_multiple_of(5))
    }

    /// Moves the translators by what was added; returns the mean loss per layer before the step (none: frozen).
    ///
    /// # Errors
    /// [`Error::NoCholesky`], or [`Error::Gradient`].
    pub fn step(&mut self) -> Result<Vec<Option<f64>>, Error> {
        let layers = self.translators.layers();
        let sums: Vec<Option<Gradient>> = self.sums.iter_mut().map(Option::take).collect();
        let losses = sums.iter().map(|s| s.as_ref().map(|s| s.loss / s.rows.max(1.0))).collect();
        let kind = if self.recipe.optimizer == Optimizer::Kfac { Kind::Double } else { Kind::Float };
        let (d, device) = (self.translators.shared.d_model() as i64, self.translators.shared.bias.device());
        let mut gradients = Vec::with_capacity(layers);
        for (layer, sums) in sums.iter().enumerate() {
            let Some(s) = sums else {
                gradients.push(Tensor::f_zeros([d, d + 1], (kind, device))?);
                continue;
            };
            let joined = Tensor::f_cat(&[&s.weight, &s.bias.f_unsqueeze(-1)?], 1)?;
            let mean = joined.f_to_kind(kind)? / s.rows.max(1.0);
            if !mean.f_sum(kind)?.double_value(&[]).is_finite() {
                return Err(Error::Gradient(layer));
            }
            gradients.push(mean);
        }
        for (factors, input) in self.factors.iter_mut().zip(&mut self.inputs) {
            if let Some((sum, n)) = input.take() {
                factors.refresh_input(&(sum / n))?;
            }
        }
        let frozen: Vec<bool> = sums.iter().map(Option::is_none).collect();
        let rate = self.recipe.optimizer.rate(self.recipe.rate, self.step, self.recipe.steps);
        match self.recipe.optimizer {
            Optimizer::Kfac => {
                let size = StepSize { rate, trust: self.recipe.trust };
                natural::step(&mut self.translators, &gradients, &self.factors, &frozen, size)?;
            }
            Optimizer::FirstOrder(optimizer) => self.first_order(optimizer, &gradients, &frozen, rate)?,
        }
        self.step += 1;
        Ok(losses)
    }

    fn first_order(
        &mut self,
        optimizer: FirstOrder,
        gradients: &[Tensor],
        frozen: &[bool],
        rate: f64,
    ) -> Result<(), Error> {
        let clip = if optimizer == FirstOrder::Sgd { first_order::joint_clip(gradients) } else { 1.0 };
        for layer in (0..gradients.len()).filter(|l| !frozen[*l]) {
            let (memory, own) = (&mut self.memory[layer], &mut self.translators.own[layer]);
            let gradient = &gradients[layer] * clip;
            first_order::step(optimizer, memory, own, &gradient, self.step, rate)?;
        }
        Ok(())
    }

    /// Takes in the held-out losses of the translators as they are now, and keeps the best: of each layer by itself
    /// where layers are independent, of all together where they share something.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn validate(&mut self, losses: &[f64]) -> Result<(), Error> {
        let mean = |all: &mut dyn Iterator<Item = f64>| all.sum::<f64>() / losses.len() as f64;
        let together = mean(&mut losses.iter().copied()) < mean(&mut self.best.iter().map(|b| b.0));
        for (layer, &loss) in losses.iter().enumerate() {
            let better =
                if self.translators.rung == Rung::Tuned { loss < self.best[layer].0 } else { together };
            if better {
                self.best[layer] = (loss, self.translators.whole(layer)?);
                self.stale[layer] = 0;
            } else {
                self.stale[layer] += 1;
            }
        }
        Ok(())
    }

    /// Held-out loss of `translators()` over `rows`, to be summed over batches: `(sum, rows)`.
    ///
    /// # Errors
    /// When shapes do not fit or a prediction is not finite.
    pub fn held_out(&self, readout: &Readout, layer: usize, rows: &Rows<'_>) -> Result<(f64, f64), Error> {
        loss(readout, &self.translators.whole(layer)?, rows, self.recipe.loss)
    }

    /// Per layer, the best held-out loss and its translator.
    pub fn best(&self) -> &[(f64, Affine)] {
        &self.best
    }

    /// Puts other translators in the place of those of independent layers.
    pub fn start_from(&mut self, translators: Vec<Affine>) {
        self.translators.own = translators;
    }

    /// Puts another shared map in the place of a rung's; the one before comes back.
    pub fn start_shared(&mut self, shared: Affine) -> Affine {
        std::mem::replace(&mut self.translators.shared, shared)
    }

    /// Mean over layers of the best held-out losses so far.
    pub fn best_mean(&self) -> f64 {
        self.best.iter().map(|best| best.0).sum::<f64>() / self.best.len() as f64
    }

    /// Begins from the best translators validated so far, where layers are independent.
    pub fn start_from_best(&mut self) {
        self.translators.own = self.best.iter().map(|(_, best)| best.copy()).collect();
        self.stale.fill(0);
    }
}

#[cfg(test)]
mod tests;
