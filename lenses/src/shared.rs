use std::{fmt, str::FromStr};

use tch::{Device, Kind, Tensor};

use crate::{Affine, Error};

/// How much the translators of different layers share: the ladder from the logit lens to the tuned lens.
///
/// Every rung is a residual affine map `x = y + A_l y + b_l` of `y = φ_l(h)`, `φ_l` the identity but for
/// [`Rung::Standardised`]. A rung says which `(A_l, b_l)` there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// `b_l = b`, `A_l = 0`.
    Bias,
    /// `A_l = A`, `b_l = b`: one affine map for every layer.
    Affine,
    /// `A_l = A`, a bias per layer.
    LayerBias,
    /// `A_l = s_l A`, a gain and a bias per layer.
    Gain,
    /// Every layer's states are first given the mean and the spread of the last layer's; then as [`Rung::Affine`].
    Standardised,
    /// `A_l = A + M_l` with `M_l` of this rank, and a bias per layer.
    LowRank(usize),
    /// `A_l`, `b_l` free: the tuned lens.
    Tuned,
}

impl Rung {
    /// The rungs that share something, in order, with the ranks of the ladder.
    pub const SHARED: [Self; 9] = [
        Self::Bias,
        Self::Affine,
        Self::LayerBias,
        Self::Gain,
        Self::Standardised,
        Self::LowRank(1),
        Self::LowRank(4),
        Self::LowRank(16),
        Self::LowRank(64),
    ];

    /// Whether every layer has a bias of its own.
    pub fn has_layer_bias(self) -> bool {
        matches!(self, Self::LayerBias | Self::Gain | Self::LowRank(_) | Self::Tuned)
    }

    /// Whether there is a shared matrix.
    pub fn has_shared_matrix(self) -> bool {
        !matches!(self, Self::Bias | Self::Tuned)
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bias => f.write_str("bias"),
            Self::Affine => f.write_str("affine"),
            Self::LayerBias => f.write_str("layer-bias"),
            Self::Gain => f.write_str("gain"),
            Self::Standardised => f.write_str("standardised"),
            Self::LowRank(r) => write!(f, "rank-{r}"),
            Self::Tuned => f.write_str("tuned"),
        }
    }
}

impl FromStr for Rung {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rank =
            text.strip_prefix("rank-").and_then(|r| r.parse().ok()).filter(|r| *r > 0).map(Self::LowRank);
        let named = [Self::Bias, Self::Affine, Self::LayerBias, Self::Gain, Self::Standardised, Self::Tuned];
        rank.or_else(|| named.into_iter().find(|rung| rung.to_string() == text)).ok_or_else(|| {
            format!("no rung {text:?}; there are bias, affine, layer-bias, gain, standardised and rank-R")
        })
    }
}

/// The translators of one rung, over `layers` layers.
#[derive(Debug)]
pub struct Translators {
    /// What is shared.
    pub rung: Rung,
    /// `φ_l`; none: the identity.
    pub features: Vec<Option<Affine>>,
    /// `A [d, d]` and `b [d]`, f32.
    pub shared: Affine,
    /// `s_l`.
    pub gains: Vec<f64>,
    /// `M_l [d, d]` and `b_l [d]`, f32; zero where the rung has none.
    pub own: Vec<Affine>,
}

impl Translators {
    /// Translators that change nothing, over the features `φ_l` (none: the identity).
    pub fn identity(rung: Rung, features: Vec<Option<Affine>>, d: usize, device: Device) -> Self {
        let own = features.iter().map(|_| Affine::identity(d, device)).collect();
        let gains = vec![1.0; features.len()];
        Self { rung, features, shared: Affine::identity(d, device), gains, own }
    }

    /// How many layers.
    pub fn layers(&self) -> usize {
        self.own.len()
    }

    /// `φ_l(h)`.
    ///
    /// # Errors
    /// When `h` does not end in `d_model`.
    pub fn features_of(&self, layer: usize, h: &Tensor) -> Result<Tensor, Error> {
        match &self.features[layer] {
            Some(map) => map.forward(h),
            None => Ok(h.to_kind(Kind::Float)),
        }
    }

    /// `(A_l, b_l)`, the map from features to the last layer.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn on_features(&self, layer: usize) -> Result<Affine, Error> {
        let own = &self.own[layer];
        if self.rung == Rung::Tuned {
            return Ok(Affine { weight: own.weight.shallow_clone(), bias: own.bias.shallow_clone() });
        }
        let weight = (&self.shared.weight * self.gains[layer]).f_add(&own.weight)?;
        Affine::new(weight, self.shared.bias.f_add(&own.bias)?)
    }

    /// The whole translator of a layer, from residual to last layer.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn whole(&self, layer: usize) -> Result<Affine, Error> {
        let map = self.on_features(layer)?;
        match &self.features[layer] {
            Some(features) => features.then(&map),
            None => Ok(map.copy()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn random(d: i64) -> Affine {
        Affine::new(Tensor::randn([d, d], CPU) * 0.2, Tensor::randn([d], CPU)).unwrap()
    }

    #[test]
    fn a_rung_reads_as_its_parts_say() {
        let h = Tensor::randn([4, 5], CPU);
        let mut t = Translators::identity(Rung::Gain, vec![None, Some(random(5))], 5, Device::Cpu);
        assert!(t.whole(0).unwrap().forward(&h).unwrap().equal(&h));
        (t.shared, t.gains[1], t.own[1].bias) = (random(5), 0.5, Tensor::ones([5], CPU));
        let y = t.features_of(1, &h).unwrap();
        let want = &y + y.matmul(&t.shared.weight.tr()) * 0.5 + &t.shared.bias + 1.0;
        let got = t.whole(1).unwrap().forward(&h).unwrap();
        assert!((got - want).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn rungs_have_names() {
        for rung in Rung::SHARED.into_iter().chain([Rung::Tuned]) {
            assert_eq!(rung.to_string().parse(), Ok(rung));
        }
        assert!(
            "rank-0".parse::<Rung>().is_err() && "other".parse::<Rung>().unwrap_err().contains("layer-bias")
        );
    }
}
