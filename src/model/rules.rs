//! How a recorded pass is differentiated: as it is, or by the rules of relevance propagation. What the pass computes is
//! the same, to the bit.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Activation, ModelError, Spec, activation::Nonlinearity};
use layerscope_lenses::{Norm, NormKind};

/// The rules of the way back through a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[allow(clippy::doc_markdown)] // the help of an option
pub enum Rules {
    /// The derivatives themselves
    #[default]
    Exact,
    /// RelP: norms as if their denominators were constants, activations as their factors, half to either side of a gate
    Relp,
}

impl Rules {
    /// Why a network of this architecture cannot be differentiated so, if it cannot: the rules are of RMS norms and
    /// gated MLPs.
    pub fn refusal(self, spec: &Spec) -> Option<&'static str> {
        let known = matches!(spec.activation, Activation::Silu | Activation::Gelu | Activation::GeluTanh);
        let hindrances = [
            (spec.norm.kind != NormKind::Rms, "its norms are not RMS norms"),
            (spec.layers.iter().any(|layer| layer.sparse), "it has experts"),
            (!spec.names.mlp.gated(), "its MLPs have no gate"),
            (!known, "its activation is neither SiLU nor GELU"),
        ];
        let found = hindrances.into_iter().find(|(hinders, _)| *hinders && self == Self::Relp);
        found.map(|(_, why)| why)
    }

    /// A norm of the residual stream, or of what a branch adds to it.
    pub(super) fn norm(self, norm: &Norm, x: &Tensor) -> Result<Tensor, ModelError> {
        let value = norm.forward(x)?;
        match self {
            Self::Exact => Ok(value),
            // d norm / dx is the factor alone: the denominator is taken as a constant.
            Self::Relp => detour(&value, &norm.with_scale(x, &norm.scale(x)?.detach())?),
        }
    }

    /// A gated MLP's inner state, `activation(gate) · up`.
    pub(super) fn gated(
        self,
        activation: &Nonlinearity,
        gate: &Tensor,
        up: &Tensor,
    ) -> Result<Tensor, ModelError> {
        match self {
            Self::Exact => Ok(activation.apply(gate)?.f_mul_(up)?),
            Self::Relp => {
                let (own, fixed) = (gate.detach(), up.detach());
                let activated = activation.apply(&own)?;
                let value = activated.f_mul(&fixed)?;
                let factor = activation.factor(&own)?;
                let by_gate = gate.f_mul(&factor)?.f_mul(&fixed)?;
                let by_up = activated.f_mul(up)?;
                detour(&value, &(by_gate.f_add(&by_up)? * 0.5))
            }
        }
    }
}

/// The numbers of `value` with the derivatives of `way`: `value + (way − way)`, where the second `way` is a constant.
fn detour(value: &Tensor, way: &Tensor) -> Result<Tensor, ModelError> {
    Ok(value.detach().f_add(&way.f_sub(&way.detach())?.to_kind(value.kind()))?)
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn leaf(numbers: &[f64]) -> Tensor {
        Tensor::from_slice(numbers).set_requires_grad(true)
    }

    fn gradient(y: &Tensor, x: &Tensor) -> Vec<f64> {
        Vec::try_from(&Tensor::run_backward(&[y], &[x], true, false)[0]).unwrap()
    }

    #[test]
    fn a_norm_passes_its_factor_on() {
        let weight = Tensor::from_slice(&[2f64, 1.]);
        let norm = Norm::new(NormKind::Rms, Some(weight), None, 0.0);
        let x = leaf(&[3., 1.]);
        // The mean square is (9 + 1) / 2 = 5; the first output is 2 · 3 / √5.
        let y = Rules::Relp.norm(&norm, &x).unwrap();
        assert!(y.equal(&Rules::Exact.norm(&norm, &x).unwrap()));
        let [first, second] = gradient(&y.get(0), &x)[..] else { panic!("two numbers") };
        assert!((first - 2. / 5f64.sqrt()).abs() < 1e-12 && second == 0.0, "{first} {second}");
        // The derivative itself loses what the denominator grows by: 2/√5 · (1 − 9/10), −2/√5 · 3/10.
        let exact = gradient(&Rules::Exact.norm(&norm, &x).unwrap().get(0), &x);
        assert!((exact[0] - 0.2 / 5f64.sqrt()).abs() < 1e-12 && (exact[1] + 0.6 / 5f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_gate_shares_between_its_sides() {
        for activation in [Nonlinearity::Silu, Nonlinearity::Gelu, Nonlinearity::GeluTanh] {
            let (gate, up) = (leaf(&[0.7, 0., -2.]), leaf(&[5., 3., 4.]));
            let y = Rules::Relp.gated(&activation, &gate, &up).unwrap();
            let plain = Rules::Exact.gated(&activation, &gate.detach(), &up.detach()).unwrap();
            assert!(y.equal(&plain), "{activation:?}: the numbers are the same to the bit");
            let sum = y.sum(Kind::Double);
            let activated = Vec::<f64>::try_from(activation.apply(&gate.detach()).unwrap()).unwrap();
            let (by_gate, by_up) = (gradient(&sum, &gate), gradient(&sum, &up));
            for i in 0..3 {
                let (g, u) = (gate.double_value(&[i as i64]), up.double_value(&[i as i64]));
                assert!((by_up[i] - 0.5 * activated[i]).abs() < 1e-15);
                // The factor is activation(g) / g, and ½ at zero for all three.
                let factor = if g == 0.0 { 0.5 } else { activated[i] / g };
                assert!((by_gate[i] - 0.5 * factor * u).abs() < 1e-9, "{activation:?} {g}");
            }
        }
        let none = Nonlinearity::Relu.factor(&Tensor::zeros([1], (Kind::Float, Device::Cpu)));
        assert!(none.is_err());
    }
}
