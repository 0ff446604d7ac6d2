//! One natural-gradient step of every rung of the ladder.

use tch::{Kind, Tensor};

use super::kfac::Factors;
use crate::{Error, Rung, Translators};

/// Step size, and how far a step may go: KL, to second order, at most `trust` nats.
#[derive(Debug, Clone, Copy)]
pub struct StepSize {
    /// `a` in `P <- P - a D`.
    pub rate: f64,
    /// `δ`.
    pub trust: f64,
}

/// Moves `translators` by the mean gradients `[d, d + 1]` (f64) of the layers that are not frozen.
///
/// # Errors
/// [`Error::NoCholesky`].
pub(super) fn step(
    translators: &mut Translators,
    gradients: &[Tensor],
    factors: &[Factors],
    frozen: &[bool],
    size: StepSize,
) -> Result<(), Error> {
    if translators.rung == Rung::Tuned {
        for layer in (0..translators.layers()).filter(|l| !frozen[*l]) {
            let step = bounded(&factors[layer], &gradients[layer], size)?;
            let (weight, bias) = split(&step)?;
            translators.own[layer].weight -= weight;
            translators.own[layer].bias -= bias;
        }
        return Ok(());
    }
    let pool = Pool::new(translators, gradients, factors)?;
    let step = bounded(&pool.factors, &pool.gradient, size)?;
    let before = translators.shared.weight.copy();
    let biases: Vec<Tensor> = translators.own.iter().map(|own| own.bias.copy()).collect();
    pool.apply(translators, &step)?;
    match translators.rung {
        Rung::Gain => gains(translators, gradients, factors, size),
        Rung::LowRank(rank) => residues(translators, gradients, factors, rank, size, &before, &biases),
        _ => Ok(()),
    }
}

/// `a D` with `D` the natural gradient and `a = min(rate, sqrt(2 δ / ⟨F D, D H⟩))`.
///
/// `⟨F D, D H⟩` is at most `⟨G, D⟩`, which has the damping in it. Where roundings left it below zero, that bounds the
/// step: nothing would otherwise.
fn bounded(factors: &Factors, gradient: &Tensor, size: StepSize) -> Result<Tensor, Error> {
    let direction = factors.natural(gradient)?;
    let undamped = factors.quadratic(&direction)?;
    let quadratic = if undamped > 0.0 {
        undamped
    } else {
        gradient.f_mul(&direction)?.sum(Kind::Double).double_value(&[])
    };
    let quadratic = quadratic.max(1e-20);
    Ok(direction * size.rate.min((2.0 * size.trust / quadratic).sqrt()))
}

/// `[d, d + 1]` as weight and bias, f32.
fn split(step: &Tensor) -> Result<(Tensor, Tensor), Error> {
    let d = step.size()[0];
    let step = step.f_to_kind(Kind::Float)?;
    Ok((step.f_narrow(1, 0, d)?.contiguous(), step.f_select(1, d)?.contiguous()))
}

/// The shared part as one problem: input features are `y` (times the gain) and either a one, or a one at the place of
/// the layer where every layer has its own bias.
struct Pool {
    gradient: Tensor,
    factors: Factors,
    has_matrix: bool,
}

impl Pool {
    fn new(t: &Translators, gradients: &[Tensor], factors: &[Factors]) -> Result<Self, Error> {
        let (layers, d) = (t.layers() as i64, gradients[0].size()[0]);
        let has_matrix = t.rung.has_shared_matrix();
        let width = if has_matrix { d } else { 0 };
        let columns = if t.rung.has_layer_bias() { layers } else { 1 };
        let options = (Kind::Double, gradients[0].device());
        let gradient = Tensor::f_zeros([d, width + columns], options)?;
        let input = Tensor::f_zeros([width + columns, width + columns], options)?;
        let share = 1.0 / layers as f64;
        for (layer, (g, f)) in gradients.iter().zip(factors).enumerate() {
            let (gain, column) = (t.gains[layer], width + if columns == 1 { 0 } else { layer as i64 });
            let (_, h, _) = f.state();
            let add = |mut to: Tensor, part: Tensor| to.f_add_(&(part * share)).map(drop);
            add(gradient.f_narrow(1, column, 1)?, g.f_narrow(1, d, 1)?)?;
            add(
                input.f_narrow(0, column, 1)?.f_narrow(1, column, 1)?,
                h.f_narrow(0, d, 1)?.f_narrow(1, d, 1)?,
            )?;
            if has_matrix {
                add(gradient.f_narrow(1, 0, d)?, g.f_narrow(1, 0, d)? * gain)?;
                let mean = h.f_narrow(0, 0, d)?.f_narrow(1, d, 1)? * gain;
                add(
                    input.f_narrow(0, 0, d)?.f_narrow(1, 0, d)?,
                    h.f_narrow(0, 0, d)?.f_narrow(1, 0, d)? * (gain * gain),
                )?;
                add(input.f_narrow(0, 0, d)?.f_narrow(1, column, 1)?, mean.copy())?;
                add(input.f_narrow(0, column, 1)?.f_narrow(1, 0, d)?, mean.tr())?;
            }
        }
        let pooled = Factors::pooled(&factors.iter().collect::<Vec<_>>())?;
        let (fisher, _, refreshes) = pooled.state();
        Ok(Self {
            gradient,
            factors: Factors::from_state(fisher.shallow_clone(), input, refreshes),
            has_matrix,
        })
    }

    fn apply(&self, t: &mut Translators, step: &Tensor) -> Result<(), Error> {
        let step = step.f_to_kind(Kind::Float)?;
        let width = if self.has_matrix { step.size()[0] } else { 0 };
        if self.has_matrix {
            t.shared.weight = t.shared.weight.f_sub(&step.f_narrow(1, 0, width)?)?;
        }
        if t.rung.has_layer_bias() {
            for (layer, own) in t.own.iter_mut().enumerate() {
                own.bias = own.bias.f_sub(&step.f_select(1, width + layer as i64)?)?;
            }
        } else {
            t.shared.bias = t.shared.bias.f_sub(&step.f_select(1, width)?)?;
        }
        Ok(())
    }
}

/// A damped Newton step of every gain: slope `⟨G, A⟩`, curvature `⟨F A, A H⟩`.
fn gains(
    t: &mut Translators,
    gradients: &[Tensor],
    factors: &[Factors],
    size: StepSize,
) -> Result<(), Error> {
    let matrix = t.shared.weight.f_to_kind(Kind::Double)?;
    let direction = Tensor::f_cat(&[&matrix, &matrix.f_narrow(1, 0, 1)?.f_zeros_like()?], 1)?;
    for (layer, gain) in t.gains.iter_mut().enumerate() {
        let slope = gradients[layer].f_mul(&direction)?.sum(Kind::Double).double_value(&[]);
        let curvature = factors[layer].quadratic(&direction)?;
        if curvature > 1e-12 {
            let newton = slope / curvature;
            *gain -= newton.signum() * (size.rate * newton.abs()).min((2.0 * size.trust / curvature).sqrt());
        }
    }
    Ok(())
}

/// What every layer's own natural gradient wants beyond the shared step, cut to `rank`.
fn residues(
    t: &mut Translators,
    gradients: &[Tensor],
    factors: &[Factors],
    rank: usize,
    size: StepSize,
    before: &Tensor,
    biases: &[Tensor],
) -> Result<(), Error> {
    let moved = t.shared.weight.f_sub(before)?;
    for (layer, own) in t.own.iter_mut().enumerate() {
        let (weight, bias) = split(&bounded(&factors[layer], &gradients[layer], size)?)?;
        let wanted = own.weight.f_sub(&weight)?.f_sub(&moved)?;
        own.weight = factors[layer].cut(&wanted, rank)?;
        // What was cut off still has its mean effect, by the bias.
        let lost = wanted.f_sub(&own.weight)?.f_mv(&factors[layer].mean()?)?;
        own.bias = biases[layer].f_sub(&bias)?.f_add(&lost)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// A factor with an eigenvalue just above minus the damping sends the natural gradient far along it, and its
    /// quadratic form is negative: the step must stay within the trust region of the damped form.
    #[test]
    fn an_indefinite_factor_does_not_unbind_the_step() {
        let wide = (Kind::Double, Device::Cpu);
        let diagonal = Tensor::from_slice(&[1.0, 1.0, 1.0, -0.0074]); // damping: .01 · .748
        let factors = Factors::from_state(Tensor::diag_embed(&diagonal, 0, -2, -1), Tensor::eye(5, wide), 1);
        let gradient = Tensor::zeros([4, 5], wide);
        let _ = gradient.narrow(0, 3, 1).fill_(1.0);
        let size = StepSize { rate: 1e9, trust: 0.2 };
        let direction = factors.natural(&gradient).unwrap();
        assert!(factors.quadratic(&direction).unwrap() < 0.0);
        let step = bounded(&factors, &gradient, size).unwrap();
        let scale = step.double_value(&[3, 0]) / direction.double_value(&[3, 0]);
        let damped = gradient.f_mul(&direction).unwrap().sum(Kind::Double).double_value(&[]);
        assert!((scale * scale * damped / 2.0 - size.trust).abs() < 1e-9, "{scale} {damped}");
    }
}
