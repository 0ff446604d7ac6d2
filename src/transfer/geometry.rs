//! Moments of all layers, and what follows from them alone.

use layerscope_lenses::{Affine, Ask, Error, Geometry, LayerIndex, LinearFit, Readout, outlier_dims};
use tch::Tensor;

use super::Correction;
use crate::{run::MetricRow, states::States};

/// Dimensions that are left out as outliers, per layer.
const OUTLIERS: usize = 3;
/// Relative eigenvalue floor of the moment-matching correction.
const FLOOR: f64 = 1e-8;

/// Moments of every layer and pair of layers, with and without first tokens.
#[derive(Debug)]
pub struct Layers {
    fitted: Vec<LayerIndex>,
    all: LinearFit,
    /// Without the first token of each document window.
    inner: LinearFit,
}

impl Layers {
    /// Of `layers`, all of width `d`.
    pub fn new(layers: &[LayerIndex], d: usize, device: tch::Device) -> Self {
        let fit = || LinearFit::new(layers, layers, d, device);
        Self { fitted: layers.to_vec(), all: fit(), inner: fit() }
    }

    /// Adds states whose layers are those of this fit.
    ///
    /// # Errors
    /// When a state is not finite.
    pub fn add(&mut self, states: &States) -> Result<(), Error> {
        let rows = |of: &dyn Fn(&Tensor) -> Result<Tensor, Error>| {
            self.fitted
                .iter()
                .zip(&states.layers)
                .map(|(l, t)| Ok((*l, of(t)?)))
                .collect::<Result<Vec<_>, Error>>()
        };
        let all = rows(&|t| Ok(t.shallow_clone()))?;
        let mut start = 0;
        let mut keep = Vec::new();
        for &len in &states.runs {
            keep.extend((start + 1..start + len).map(|row| row as i64));
            start += len;
        }
        let keep = Tensor::from_slice(&keep).to_device(states.last.device());
        let inner = rows(&|t| Ok(t.f_index_select(0, &keep)?))?;
        self.all.add(&all)?;
        if keep.numel() > 0 {
            self.inner.add(&inner)?;
        }
        Ok(())
    }

    /// The pair of states of layer `from` with those of layer `to`.
    ///
    /// # Errors
    /// When nothing was added.
    pub fn pair(&self, from: LayerIndex, to: LayerIndex) -> Result<Geometry, Error> {
        pair(&self.all, from, to)
    }

    /// The map from states of layer `from` to states that look like layer `to`'s.
    ///
    /// # Errors
    /// When the geometry is degenerate.
    pub fn correction(&self, kind: Correction, from: LayerIndex, to: LayerIndex) -> Result<Affine, Error> {
        let pair = self.pair(from, to)?;
        match kind {
            Correction::Shift => pair.shift(),
            Correction::Moments => pair.match_moments(FLOOR),
            Correction::Rotation => pair.rotate(),
        }
    }

    /// Similarities of all pairs: over everything, without outlier dimensions, and without first tokens.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn rows(&self, hook: &str) -> Result<Vec<MetricRow>, Error> {
        let mut rows = Vec::new();
        for (i, &from) in self.fitted.iter().enumerate() {
            for &to in &self.fitted[i + 1..] {
                let all = self.pair(from, to)?;
                let mut dims: Vec<usize> = Vec::new();
                for layer in [from, to] {
                    dims.extend(outlier_dims(self.all.moments(layer)?, OUTLIERS)?.iter().map(|d| d.0));
                }
                dims.sort_unstable();
                dims.dedup();
                let n = self.all.moments(from)?.n();
                measure(&mut rows, &all, "", (from, to), hook, n)?;
                measure(&mut rows, &all.without(&dims)?, "_without_outliers", (from, to), hook, n)?;
                let n = self.inner.moments(from)?.n();
                if n > 0 {
                    measure(&mut rows, &pair(&self.inner, from, to)?, "_without_first", (from, to), hook, n)?;
                }
            }
        }
        Ok(rows)
    }
}

fn pair(fit: &LinearFit, from: LayerIndex, to: LayerIndex) -> Result<Geometry, Error> {
    let of = |a, b| Geometry::new(fit.moments(a)?, fit.moments(b)?, fit.pair(a, b)?);
    if from < to { of(from, to) } else { Ok(of(to, from)?.swapped()) }
}

fn measure(
    rows: &mut Vec<MetricRow>,
    pair: &Geometry,
    suffix: &str,
    (from, to): (LayerIndex, LayerIndex),
    hook: &str,
    n: usize,
) -> Result<(), Error> {
    let measures = [
        ("cka", pair.cka()?),
        ("covariance_cosine", pair.covariance_cosine()?),
        ("cosine", pair.cosine()?),
        ("procrustes_distance", pair.procrustes_distance()?),
    ];
    for (name, value) in measures.into_iter().filter(|(_, value)| value.is_finite()) {
        rows.push(MetricRow {
            subject: "layers".into(),
            kind: "geometry".into(),
            hook: hook.into(),
            layer: to.0 as i32,
            source_layer: Some(from.0 as i32),
            horizon: 1,
            metric: format!("{name}{suffix}"),
            unit: if name == "procrustes_distance" { "distance" } else { "share" }.into(),
            estimate: value,
            lower: None,
            upper: None,
            n: n as i64,
            n_clusters: 0,
        });
    }
    Ok(())
}

/// The model's mean distribution: the best constant predictor.
#[derive(Debug)]
pub struct Mean {
    sums: Vec<f64>,
    n: f64,
}

impl Mean {
    /// Nothing seen yet.
    pub fn new(vocab: usize) -> Self {
        Self { sums: vec![0.0; vocab], n: 0.0 }
    }

    /// Adds the predictions of normalised states `n [rows, d_model]`.
    ///
    /// # Errors
    /// When a prediction is not finite.
    pub fn add(&mut self, readout: &Readout, n: &Tensor) -> Result<(), Error> {
        let rows = n.size()[0] as usize;
        let read = readout.sweep(n, Ask { marginal: Some(&vec![1.0; rows]), ..Ask::default() })?;
        self.sums.iter_mut().zip(read.marginal.iter().flatten()).for_each(|(sum, p)| *sum += p);
        self.n += rows as f64;
        Ok(())
    }

    /// `Σ_t KL(p_t ‖ mean)` over rows whose distributions sum to `marginal` and whose entropies sum to `entropy`.
    pub fn kl(&self, marginal: &[f64], entropy: f64) -> f64 {
        let floor = f64::MIN_POSITIVE;
        marginal.iter().zip(&self.sums).map(|(p, q)| -p * (q / self.n).max(floor).ln()).sum::<f64>() - entropy
    }
}

/// Spearman's rank correlation of paired values; NaN for fewer than two pairs or constant values.
pub fn spearman(pairs: &[(f64, f64)]) -> f64 {
    let ranks = |values: Vec<f64>| -> Vec<f64> {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
        let mut ranks = vec![0.0; values.len()];
        let mut start = 0;
        while start < order.len() {
            let tied = order[start..].iter().take_while(|i| values[**i] == values[order[start]]).count();
            for i in &order[start..start + tied] {
                ranks[*i] = start as f64 + (tied - 1) as f64 / 2.0;
            }
            start += tied;
        }
        ranks
    };
    let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (x, y) = (ranks(x), ranks(y));
    let mean = (x.len() as f64 - 1.0) / 2.0;
    let sum =
        |f: &dyn Fn(f64, f64) -> f64| -> f64 { x.iter().zip(&y).map(|(a, b)| f(a - mean, b - mean)).sum() };
    sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spearman_by_hand() {
        assert!((spearman(&[(1.0, 10.0), (2.0, 20.0), (3.0, 25.0)]) - 1.0).abs() < 1e-12);
        // Ranks (0, 1, 2, 3) and (3, 2, 0, 1): 1 - 6·(9 + 1 + 4 + 4) / (4·15) = -0.8
        assert!((spearman(&[(1.0, 9.0), (2.0, 5.0), (3.0, 1.0), (4.0, 2.0)]) + 0.8).abs() < 1e-12);
        // Ties share their rank: (0, 1.5, 1.5, 3) with itself is 1.
        assert!((spearman(&[(1.0, 1.0), (2.0, 2.0), (2.0, 2.0), (3.0, 3.0)]) - 1.0).abs() < 1e-12);
        assert!(spearman(&[(1.0, 1.0)]).is_nan());
    }

    #[test]
    fn the_constant_predictor_by_hand() {
        // mean (1/2, 1/2); two predictions (1, 0) and (0, 1): KL = ln 2 each.
        let mean = Mean { sums: vec![3.0, 3.0], n: 6.0 };
        assert!((mean.kl(&[1.0, 1.0], 0.0) - 2.0 * 2f64.ln()).abs() < 1e-12);
    }
}
