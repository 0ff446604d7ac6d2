//! Moments of layers, and what follows from them alone.
//!
//! Every pair of layers has its cross moments, once over all tokens and once without first tokens, in compensated f64
//! sums: `32 d²` bytes for a pair and as much for a layer. All pairs together would take 9 GB for 24 layers of width
//! 1024, so they are cut into [`blocks`] of at most [`BLOCK_BYTES`], and the text is run through the model once per
//! block. That costs little beside the matrix, and no number depends on how pairs are cut.
//!
//! Similarities have a delete-block jackknife over blocks of documents, whose moments are kept apart where those of all
//! blocks of a pass fit into another [`BLOCK_BYTES`] ([`blocks_apart`]).

use std::collections::BTreeSet;

use layerscope_lenses::{Error, Geometry, LayerIndex, LinearFit, outlier_dims};
use layerscope_probes::interval::FEWEST;
use tch::{Device, Tensor};

use crate::{
    results::run::{MetricRow, RowKind},
    results::statistics::{Blocks, Estimate, Intervals, MOST_APART, NoInterval},
    states::States,
};

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

/// Blocks of documents whose moments may be kept apart within `bytes` in a pass over the largest of `cut`, at most 32;
/// none where there would be fewer than the five that an interval needs.
pub fn blocks_apart(cut: &[Vec<(LayerIndex, LayerIndex)>], d: usize, bytes: usize) -> usize {
    let terms = |pairs: &Vec<_>| pairs.len() + ends(pairs).len();
    let largest = cut.iter().map(terms).max().unwrap_or(1) * 32 * d * d;
    let blocks = (bytes / largest.max(1)).min(MOST_APART);
    if (blocks as f64) < FEWEST { 0 } else { blocks }
}

/// The layers of some pairs, ascending.
fn ends(pairs: &[(LayerIndex, LayerIndex)]) -> BTreeSet<LayerIndex> {
    pairs.iter().flat_map(|&(from, to)| [from, to]).collect()
}

/// Moments of some pairs of layers, with and without first tokens.
#[derive(Debug)]
pub struct Layers {
    pairs: Vec<(LayerIndex, LayerIndex)>,
    fitted: Vec<LayerIndex>,
    all: Sums,
    /// The same of each block of documents; none where memory does not allow it.
    parts: Vec<Sums>,
    blocks: Blocks,
    documents: usize,
}

/// Moments of some rows.
#[derive(Debug)]
struct Sums {
    every: LinearFit,
    /// Without the first token of each document window.
    inner: LinearFit,
}

impl Sums {
    fn new(pairs: &[(LayerIndex, LayerIndex)], d: usize, device: Device) -> Self {
        let fit = || LinearFit::of_pairs(pairs, d, device);
        Self { every: fit(), inner: fit() }
    }

    /// Adds some rows of the states of some layers; those of `inner` are the rows that are not first.
    fn add(&mut self, layers: &[LayerIndex], states: &[Tensor], inner: &[i64]) -> Result<(), Error> {
        let every: Vec<_> = layers.iter().zip(states).map(|(l, t)| (*l, t.shallow_clone())).collect();
        self.every.add(&every)?;
        if inner.is_empty() {
            return Ok(());
        }
        let keep = Tensor::from_slice(inner).to_device(states[0].device());
        let kept = |(l, t): &(LayerIndex, Tensor)| Ok((*l, t.f_index_select(0, &keep)?));
        self.inner.add(&every.iter().map(kept).collect::<Result<Vec<_>, Error>>()?)
    }
}

impl Layers {
    /// Of these pairs, the earlier layer first in each, all of width `d`; without intervals.
    pub fn new(pairs: &[(LayerIndex, LayerIndex)], d: usize, device: Device) -> Self {
        Self::with_blocks(pairs, d, device, Blocks::default(), 0)
    }

    /// The same, with the moments of each block of documents apart. Of no blocks there are no intervals; `documents`
    /// are behind them.
    pub fn with_blocks(
        pairs: &[(LayerIndex, LayerIndex)],
        d: usize,
        device: Device,
        blocks: Blocks,
        documents: usize,
    ) -> Self {
        let sums = || Sums::new(pairs, d, device);
        let parts = (0..blocks.len()).map(|_| sums()).collect();
        let fitted = ends(pairs).into_iter().collect();
        Self { pairs: pairs.to_vec(), fitted, all: sums(), parts, blocks, documents }
    }

    /// The pairs.
    pub fn pairs(&self) -> &[(LayerIndex, LayerIndex)] {
        &self.pairs
    }

    /// The layers that are part of a pair, ascending.
    pub fn layers(&self) -> &[LayerIndex] {
        &self.fitted
    }

    /// Adds states of [`Layers::layers`], of these documents (or windows, where they are what blocks are of), one a
    /// row.
    ///
    /// # Errors
    /// When a state is not finite.
    pub fn add(&mut self, states: &States, docs: &[u64]) -> Result<(), Error> {
        let mut first = vec![false; docs.len()];
        let mut start = 0;
        for &len in &states.runs {
            if let Some(first) = first.get_mut(start) {
                *first = true;
            }
            start += len;
        }
        let inner = |from: usize, rows: usize| -> Vec<i64> {
            (0..rows).filter(|row| !first[from + row]).map(|row| row as i64).collect()
        };
        self.all.add(&self.fitted, &states.layers, &inner(0, docs.len()))?;
        if self.parts.is_empty() {
            return Ok(());
        }
        for (block, from, rows) in self.blocks.runs(docs) {
            let narrow = |t: &Tensor| Ok(t.f_narrow(0, from as i64, rows as i64)?);
            let some = states.layers.iter().map(narrow).collect::<Result<Vec<_>, Error>>()?;
            self.parts[block].add(&self.fitted, &some, &inner(from, rows))?;
        }
        Ok(())
    }

    /// The pair of states of layer `from` with those of layer `to`.
    ///
    /// # Errors
    /// When they are no pair here, or nothing was added.
    pub fn pair(&self, from: LayerIndex, to: LayerIndex) -> Result<Geometry, Error> {
        pair(&self.all.every, from, to)
    }

    /// Similarities of the pairs: over everything, without outlier dimensions, and without first tokens.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn rows(&self, hook: &str, intervals: Intervals) -> Result<Vec<MetricRow>, Error> {
        let mut rows = Vec::new();
        for &(from, to) in &self.pairs {
            let mut dims = BTreeSet::new();
            for layer in [from, to] {
                dims.extend(outlier_dims(self.all.every.moments(layer)?, OUTLIERS)?.iter().map(|d| d.0));
            }
            let dims: Vec<usize> = dims.into_iter().collect();
            let every: Of = |sums| &sums.every;
            let inner: Of = |sums| &sums.inner;
            for (suffix, of, without) in [
                ("", every, &[][..]),
                ("_without_outliers", every, &dims),
                ("_without_first", inner, &[][..]),
            ] {
                let n = of(&self.all).moments(from)?.n();
                if n > 0 {
                    let measured = self.measured((from, to), of, without, intervals)?;
                    rows.extend(measured.into_iter().map(|(name, number)| MetricRow {
                        subject: "layers".into(),
                        kind: RowKind::Geometry,
                        hook: hook.into(),
                        layer: to.0 as i32,
                        source_layer: Some(from.0 as i32),
                        ..MetricRow::of(&format!("{name}{suffix}"), unit(name), number)
                    }));
                }
            }
        }
        Ok(rows)
    }

    /// The measures of a pair that have a value, with intervals; without some dimensions, which are those of all
    /// documents.
    fn measured(
        &self,
        (from, to): (LayerIndex, LayerIndex),
        of: Of,
        dims: &[usize],
        intervals: Intervals,
    ) -> Result<Vec<(&'static str, Estimate)>, Error> {
        let whole = of(&self.all);
        let n = whole.moments(from)?.n() as u64;
        let of_part = |part: &Sums| -> Result<[f64; 4], Error> {
            let part = of(part);
            let rest = |layer| whole.moments(layer)?.minus(part.moments(layer)?);
            let (x, y) = (rest(from)?, rest(to)?);
            if x.n() == 0 {
                return Ok([f64::NAN; 4]);
            }
            let cross = whole.pair(from, to)?.minus(part.pair(from, to)?)?;
            measures(&Geometry::new(&x, &y, &cross)?.without(dims)?)
        };
        let values = measures(&pair(whole, from, to)?.without(dims)?)?;
        // Fewer have no interval whatever they say.
        let parts = if self.blocks.n_eff() < FEWEST { &[][..] } else { &self.parts };
        let without = parts.iter().map(of_part).collect::<Result<Vec<_>, Error>>()?;
        let (n_eff, apart) = (self.blocks.n_eff(), !self.parts.is_empty());
        let n_clusters = self.documents as u64;
        let number = |(place, (name, range)): (usize, (&'static str, [f64; 2]))| {
            let estimate = values[place];
            let left_out: Vec<f64> = without.iter().map(|values| values[place]).collect();
            let interval = if apart {
                self.blocks.interval(estimate, &left_out, range, intervals)
            } else {
                Err(NoInterval::NotSampled(TOO_LARGE))
            };
            (name, Estimate { estimate, interval, n, n_clusters, n_eff })
        };
        Ok(MEASURES.into_iter().enumerate().map(number).filter(|(_, e)| e.estimate.is_finite()).collect())
    }
}

/// Some of the rows of [`Sums`].
type Of = fn(&Sums) -> &LinearFit;

/// Why large models have no intervals here.
const TOO_LARGE: &str = "moments of five blocks of documents would take more than 2 GB";

/// What is measured of a pair, with the least and the most that it can be.
const MEASURES: [(&str, [f64; 2]); 4] = [
    ("cka", [0.0, 1.0]),
    ("covariance_cosine", [0.0, 1.0]),
    ("cosine", [-1.0, 1.0]),
    ("procrustes_distance", [0.0, 2.0]),
];

fn measures(pair: &Geometry) -> Result<[f64; 4], Error> {
    Ok([pair.cka()?, pair.covariance_cosine()?, pair.cosine()?, pair.procrustes_distance()?])
}

fn unit(measure: &str) -> &'static str {
    if measure == "procrustes_distance" { "distance" } else { "share" }
}

fn pair(fit: &LinearFit, from: LayerIndex, to: LayerIndex) -> Result<Geometry, Error> {
    let of = |a, b| Geometry::new(fit.moments(a)?, fit.moments(b)?, fit.pair(a, b)?);
    if from < to { of(from, to) } else { Ok(of(to, from)?.swapped()) }
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
            masked: false,
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
                let some = states(block.layers());
                block.add(&some, &some.docs).unwrap();
                block.rows("resid_pre", Intervals::default()).unwrap()
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

    /// Without a document: the moments of the others alone, and a jackknife by its formula.
    #[test]
    fn a_document_is_left_out_as_if_it_were_not_there() {
        tch::manual_seed(3);
        let (n, docs) = (12, 6);
        let layers = || [0, 1].map(|_| Tensor::randn([docs * n, 4], (Kind::Float, Device::Cpu)));
        let [x, noise] = layers();
        let y = &x * 2.0 + noise + 3.0;
        let of = |kept: &[i64], blocks: Blocks| {
            let rows: Vec<i64> = kept.iter().flat_map(|doc| doc * n..(doc + 1) * n).collect();
            let rows = Tensor::from_slice(&rows);
            let ids: Vec<u64> = kept.iter().flat_map(|doc| vec![*doc as u64; n as usize]).collect();
            let states = States {
                layers: vec![x.index_select(0, &rows), y.index_select(0, &rows)],
                last: y.index_select(0, &rows),
                ids: vec![0; ids.len()],
                docs: ids.clone(),
                pos: vec![0; ids.len()],
                runs: vec![n as usize; kept.len()],
                masked: false,
            };
            let documents = blocks.documents();
            let mut sums = Layers::with_blocks(&[(L(0), L(1))], 4, Device::Cpu, blocks, documents);
            sums.add(&states, &ids).unwrap();
            sums.rows("resid_pre", Intervals::default()).unwrap()
        };
        let all: Vec<i64> = (0..docs).collect();
        let rows = of(&all, Blocks::new(all.iter().map(|doc| (*doc as u64, n as usize)), 32));
        let without: Vec<Vec<MetricRow>> = (0..docs)
            .map(|doc| of(&all.iter().copied().filter(|d| *d != doc).collect::<Vec<_>>(), Blocks::default()))
            .collect();
        // Which dimensions are outliers is a matter of all documents.
        let shown: Vec<&MetricRow> = rows.iter().filter(|row| !row.metric.ends_with("outliers")).collect();
        assert_eq!(shown.len(), 8);
        for row in shown {
            let same = |rows: &Vec<MetricRow>| rows.iter().find(|r| r.metric == row.metric).unwrap().clone();
            let values: Vec<f64> = without.iter().map(|rows| same(rows).estimate).collect();
            let mean = values.iter().sum::<f64>() / 6.0;
            let variance = 5.0 / 6.0 * values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
            let half = 2.570_581_835_636 * variance.sqrt(); // t(5)
            let cut = |end: f64| if row.metric.starts_with("cosine") { end } else { end.clamp(0.0, 2.0) };
            let upper = cut(row.estimate + half).min(if row.unit == "distance" { 2.0 } else { 1.0 });
            assert!((row.lower.unwrap() - cut(row.estimate - half)).abs() < 1e-9, "{row:?}");
            assert!((row.upper.unwrap() - upper).abs() < 1e-9 && row.n_eff == 6.0 && row.n_clusters == 6);
            assert_eq!(same(&without[0]).reason.as_deref(), Some(TOO_LARGE));
        }
    }

    #[test]
    fn memory_bounds_the_blocks_that_are_kept_apart() {
        let pairs = vec![(L(0), L(1)), (L(1), L(2))];
        // Two pairs and three layers: 5 · 32 · 64 = 10,240 bytes a block.
        for (bytes, blocks) in [(usize::MAX, 32), (102_400, 10), (51_200, 5), (51_199, 0)] {
            assert_eq!(blocks_apart(std::slice::from_ref(&pairs), 8, bytes), blocks);
        }
    }
}
