//! Moments of layers, and what follows from them alone.
//!
//! Every pair of layers has its cross moments, once over all tokens and once without first tokens, in compensated f64 sums:
//! `32 d²` bytes for a pair and as much for a layer. All pairs together would take 9 GB for 24 layers of width 1024, so they
//! are cut into [`blocks`] of at most [`BLOCK_BYTES`], and the text is run through the model once per block. That costs little
//! beside the matrix, and no number depends on how pairs are cut.

use std::collections::BTreeSet;

use layerscope_lenses::{Error, Geometry, LayerIndex, LinearFit, outlier_dims};
use tch::{Device, Tensor};

use crate::{run::MetricRow, states::States};

/// What the cross moments of one block may take, bytes; those of its layers come on top, at most two more than pairs.
pub const BLOCK_BYTES: usize = 2 << 30;

/// Dimensions that are left out as outliers, per layer.
const OUTLIERS: usize = 3;
/// Every pair of `layers` of width `d`, the earlier one first, in blocks of at most `bytes` (never less than a pair).
pub fn blocks(layers: &[LayerIndex], d: usize, bytes: usize) -> Vec<Vec<(LayerIndex, LayerIndex)>> {
    let later = |i: usize| layers[i + 1..].iter().map(move |&to| (layers[i], to));
    let pairs: Vec<_> = (0..layers.len()).flat_map(later).collect();
    pairs.chunks((bytes / (32 * d * d).max(1)).max(1)).map(<[_]>::to_vec).collect()
}

/// Moments of some pairs of layers, with and without first tokens.
#[derive(Debug)]
pub struct Layers {
    pairs: Vec<(LayerIndex, LayerIndex)>,
    fitted: Vec<LayerIndex>,
    all: LinearFit,
    /// Without the first token of each document window.
    inner: LinearFit,
}

impl Layers {
    /// Of these pairs, the earlier layer first in each, all of width `d`.
    pub fn new(pairs: &[(LayerIndex, LayerIndex)], d: usize, device: Device) -> Self {
        let layers: BTreeSet<LayerIndex> = pairs.iter().flat_map(|&(from, to)| [from, to]).collect();
        let fit = || LinearFit::of_pairs(pairs, d, device);
        Self { pairs: pairs.to_vec(), fitted: layers.into_iter().collect(), all: fit(), inner: fit() }
    }

    /// The pairs.
    pub fn pairs(&self) -> &[(LayerIndex, LayerIndex)] {
        &self.pairs
    }

    /// The layers that are part of a pair, ascending.
    pub fn layers(&self) -> &[LayerIndex] {
        &self.fitted
    }

    /// Adds states of [`Layers::layers`].
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
    /// When they are no pair here, or nothing was added.
    pub fn pair(&self, from: LayerIndex, to: LayerIndex) -> Result<Geometry, Error> {
        pair(&self.all, from, to)
    }

    /// Similarities of the pairs: over everything, without outlier dimensions, and without first tokens.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn rows(&self, hook: &str) -> Result<Vec<MetricRow>, Error> {
        let mut rows = Vec::new();
        for &(from, to) in &self.pairs {
            let all = self.pair(from, to)?;
            let mut dims = BTreeSet::new();
            for layer in [from, to] {
                dims.extend(outlier_dims(self.all.moments(layer)?, OUTLIERS)?.iter().map(|d| d.0));
            }
            let without = all.without(&dims.into_iter().collect::<Vec<_>>())?;
            let n = self.all.moments(from)?.n();
            measure(&mut rows, &all, "", (from, to), hook, n)?;
            measure(&mut rows, &without, "_without_outliers", (from, to), hook, n)?;
            let n = self.inner.moments(from)?.n();
            if n > 0 {
                measure(&mut rows, &pair(&self.inner, from, to)?, "_without_first", (from, to), hook, n)?;
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

#[cfg(test)]
mod tests {
    use layerscope_lenses::LayerIndex as L;
    use tch::Kind;

    use super::*;

    fn states(layers: &[LayerIndex]) -> States {
        tch::manual_seed(7);
        let all: Vec<Tensor> = (0..4).map(|_| Tensor::randn([9, 16], (Kind::Float, Device::Cpu))).collect();
        States {
            layers: layers.iter().map(|l| all[l.0].shallow_clone()).collect(),
            last: all[3].shallow_clone(),
            ids: vec![0; 9],
            docs: vec![0, 0, 0, 0, 1, 1, 1, 1, 1],
            pos: vec![0, 1, 2, 3, 0, 1, 2, 3, 4],
            runs: vec![4, 5],
        }
    }

    #[test]
    fn blocks_hold_every_pair_once_in_order() {
        let layers = [L(1), L(2), L(5), L(7)];
        let all = [(1, 2), (1, 5), (1, 7), (2, 5), (2, 7), (5, 7)].map(|(a, b)| (L(a), L(b)));
        // Width 8: 32 · 64 = 2048 bytes a pair.
        for (bytes, sizes) in [(usize::MAX, vec![6]), (8192, vec![4, 2]), (4095, vec![1; 6]), (0, vec![1; 6])]
        {
            let cut = blocks(&layers, 8, bytes);
            assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
            assert_eq!(cut.concat(), all);
        }
        assert!(blocks(&layers[..1], 8, 1).is_empty());
    }

    #[test]
    fn the_cut_into_blocks_does_not_show() {
        let layers: Vec<LayerIndex> = (0..4).map(L).collect();
        let rows = |bytes: usize| -> Vec<(Option<i32>, i32, String, f64, i64)> {
            let of = |pairs: &Vec<_>| {
                let mut block = Layers::new(pairs, 16, Device::Cpu);
                block.add(&states(block.layers())).unwrap();
                block.rows("resid_pre").unwrap()
            };
            let rows = blocks(&layers, 16, bytes).iter().flat_map(of).collect::<Vec<_>>();
            rows.into_iter().map(|r| (r.source_layer, r.layer, r.metric, r.estimate, r.n)).collect()
        };
        let whole = rows(usize::MAX);
        assert_eq!(whole.len(), 6 * 4 * 3);
        assert!(whole.iter().any(|r| r.2 == "cka_without_first" && r.4 == 7)); // 9 rows, two of them first
        for bytes in [0, 3 * 32 * 256] {
            assert_eq!(rows(bytes), whole);
        }
    }
}
