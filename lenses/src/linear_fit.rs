use std::collections::BTreeMap;

use tch::{Device, Tensor};

use crate::rows::layer_rows;
use crate::sum::State;
use crate::{Affine, CrossMoments, Error, LayerIndex, LinearLens, Moments, Regression, Ridge, Rows};

/// Streams states of all layers into the moments of pairs of them.
///
/// One target, the last layer, makes the usual lens; every layer as a target makes the R² map of all pairs, and the
/// geometry of all pairs ([`crate::Geometry`]).
#[derive(Debug)]
pub struct LinearFit {
    moments: BTreeMap<LayerIndex, Moments>,
    pairs: BTreeMap<(LayerIndex, LayerIndex), CrossMoments>, // (from, to), from < to
}

impl LinearFit {
    /// For the pairs from each of `layers` to each later one of `targets`, all of width `d`.
    pub fn new(layers: &[LayerIndex], targets: &[LayerIndex], d: usize, device: Device) -> Self {
        let pairs = layers.iter().flat_map(|&from| targets.iter().map(move |&to| (from, to)));
        let pairs: Vec<_> = pairs.filter(|(from, to)| from < to).collect();
        let mut fit = Self::of_pairs(&pairs, d, device);
        for &layer in layers.iter().chain(targets) {
            fit.moments.entry(layer).or_insert_with(|| Moments::new(d, device));
        }
        fit
    }

    /// For these pairs alone, `from < to` in each, of layers of width `d`.
    pub fn of_pairs(pairs: &[(LayerIndex, LayerIndex)], d: usize, device: Device) -> Self {
        let layers = pairs.iter().flat_map(|&(from, to)| [from, to]);
        Self {
            moments: layers.map(|layer| (layer, Moments::new(d, device))).collect(),
            pairs: pairs.iter().map(|&pair| (pair, CrossMoments::new(d, d, device))).collect(),
        }
    }

    /// Adds a batch: the states `[n, d]` of every layer and target at the same rows.
    ///
    /// # Errors
    /// When a layer is missing, a shape does not fit, or a state is not finite; nothing is added then.
    pub fn add(&mut self, states: &[(LayerIndex, Tensor)]) -> Result<(), Error> {
        let rows = |&layer: &LayerIndex| Ok((layer, layer_rows(states, layer)?));
        let rows = self.moments.keys().map(rows).collect::<Result<BTreeMap<_, _>, Error>>()?;
        let n = rows.values().next().map_or(0, Rows::n);
        for (layer, moments) in &self.moments {
            rows[layer].check(n, moments.d())?;
        }
        for (layer, moments) in &mut self.moments {
            moments.add(&rows[layer])?;
        }
        for ((from, to), pairs) in &mut self.pairs {
            pairs.add(&rows[from], &rows[to])?;
        }
        Ok(())
    }

    /// Adds the rows of another shard of the same fit.
    ///
    /// # Errors
    /// When the other lacks a layer or a pair, or has another width.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        for (&layer, moments) in &mut self.moments {
            moments.merge(other.moments(layer)?)?;
        }
        for (&(from, to), pairs) in &mut self.pairs {
            pairs.merge(other.pair(from, to)?)?;
        }
        Ok(())
    }

    /// The moments of a layer.
    ///
    /// # Errors
    /// When the layer is not part of the fit.
    pub fn moments(&self, layer: LayerIndex) -> Result<&Moments, Error> {
        self.moments.get(&layer).ok_or(Error::NoStates { layer })
    }

    /// The cross moments of a pair of layers, `from < to`.
    ///
    /// # Errors
    /// When the pair is not part of the fit.
    pub fn pair(&self, from: LayerIndex, to: LayerIndex) -> Result<&CrossMoments, Error> {
        self.pairs.get(&(from, to)).ok_or(Error::NoPair { from, to })
    }

    /// The regression of layer `to` on layer `from`: other ridges, or R² of a map on these rows.
    ///
    /// # Errors
    /// When the pair is not part of the fit, or no row was added.
    pub fn regression(&self, from: LayerIndex, to: LayerIndex) -> Result<Regression, Error> {
        let what = format!("layer {from} to layer {to}");
        Regression::new(what, self.moments(from)?, self.pair(from, to)?)
    }

    /// The lens that maps to layer `target`, whose own map is the identity.
    ///
    /// # Errors
    /// When nothing was fitted to that target, no row was added, or a Gram matrix is singular at the ridge.
    pub fn finish(
        &self,
        name: impl Into<String>,
        target: LayerIndex,
        ridge: &Ridge,
    ) -> Result<LinearLens, Error> {
        let own = self.moments(target)?;
        let mut translators = BTreeMap::from([(target, Affine::identity(own.d(), own.device()))]);
        for &(from, to) in self.pairs.keys().filter(|(_, to)| *to == target) {
            translators.insert(from, self.regression(from, to)?.solve(ridge)?);
        }
        Ok(LinearLens::new(name, target, translators))
    }

    /// All sums, for a checkpoint.
    pub fn state(&self) -> State {
        let mut state = State::new();
        for (layer, moments) in &self.moments {
            moments.state(&format!("layer.{layer}"), &mut state);
        }
        for ((from, to), pairs) in &self.pairs {
            pairs.state(&format!("pair.{from}.{to}"), &mut state);
        }
        state
    }

    /// Replaces all sums by those of a checkpoint of the same layers, targets and width.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape; the fit is of no use then.
    pub fn restore(&mut self, state: &State) -> Result<(), Error> {
        for (layer, moments) in &mut self.moments {
            moments.restore(&format!("layer.{layer}"), state)?;
        }
        for ((from, to), pairs) in &mut self.pairs {
            pairs.restore(&format!("pair.{from}.{to}"), state)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{Golden, error};
    use crate::{Lens, Shrink};
    use tch::Kind;

    const TO: LayerIndex = LayerIndex(2);

    fn layers(n: i64) -> Vec<(LayerIndex, Tensor)> {
        let h = Tensor::randn([n, 4], (Kind::Float, Device::Cpu));
        let more = h.cumsum(1, Kind::Float) + 1.0;
        vec![(LayerIndex(0), h.shallow_clone()), (LayerIndex(1), &more * 0.5), (TO, more * 3.0 - h)]
    }

    fn fit() -> LinearFit {
        LinearFit::new(&[LayerIndex(0), LayerIndex(1)], &[LayerIndex(1), TO], 4, Device::Cpu)
    }

    #[test]
    fn as_scikit_learn_fits_it() {
        let golden = Golden::load();
        let mut fit = LinearFit::new(&[LayerIndex(0)], &[LayerIndex(3)], 8, Device::Cpu);
        let states = |from, n| {
            let rows = |name: &str| golden.get(name).narrow(0, from, n);
            [(LayerIndex(0), rows("x")), (LayerIndex(3), rows("y"))]
        };
        for (from, n) in [(0, 50), (50, 1), (51, 69)] {
            fit.add(&states(from, n)).unwrap();
        }
        let ridge = Ridge { shrink: Shrink::Zero, ..Ridge::default() };
        let lens = fit.finish("linear", LayerIndex(3), &ridge).unwrap();
        let x = golden.get("x");
        let weight = golden.get("zero.weight").to_kind(Kind::Float);
        let want = x.linear(&weight, Some(&golden.get("zero.bias").to_kind(Kind::Float)));
        assert!(error(&lens.transform(LayerIndex(0), &x).unwrap(), &want) < 1e-5);
    }

    #[test]
    fn each_layer_is_mapped_to_the_target() {
        let states = layers(60);
        let mut fit = fit();
        fit.add(&states).unwrap();
        let lens = fit.finish("linear", TO, &Ridge { lambda: 0.0, ..Ridge::default() }).unwrap();
        assert_eq!((lens.name(), lens.target(), lens.translators().len()), ("linear", TO, 3));
        for (layer, rows) in &states {
            let got = lens.transform(*layer, rows).unwrap();
            assert!(error(&got, &states[2].1) < 1e-5, "layer {layer}");
        }
        let middle = fit.finish("linear", LayerIndex(1), &Ridge::default()).unwrap();
        assert_eq!(middle.translators().keys().collect::<Vec<_>>(), [&LayerIndex(0), &LayerIndex(1)]);
        let failed = middle.transform(TO, &states[2].1).unwrap_err();
        assert_eq!(failed.to_string(), "lens \"linear\" has no translator for layer 2");
        assert!(matches!(fit.pair(TO, LayerIndex(0)), Err(Error::NoPair { from: TO, to: LayerIndex(0) })));
        assert!(matches!(fit.moments(LayerIndex(9)), Err(Error::NoStates { layer: LayerIndex(9) })));
    }

    #[test]
    fn shards_and_a_checkpoint_give_the_same_lens() {
        let shards: Vec<LinearFit> = (0..6)
            .map(|i| {
                let mut shard = fit();
                shard.add(&layers(20 + i)).unwrap();
                shard
            })
            .collect();
        let lens = |order: &[usize]| {
            let mut whole = fit();
            for &i in order {
                whole.merge(&shards[i]).unwrap();
                let state = whole.state();
                whole = fit();
                whole.restore(&state).unwrap();
            }
            whole.finish("linear", TO, &Ridge::default()).unwrap()
        };
        let (one, other) = (lens(&[0, 1, 2, 3, 4, 5]), lens(&[4, 1, 5, 0, 3, 2]));
        for (a, b) in one.translators().values().zip(other.translators().values()) {
            assert!(a.weight.equal(&b.weight) && a.bias.equal(&b.bias));
        }
    }

    #[test]
    fn a_bad_batch_adds_nothing() {
        let mut fit = fit();
        assert!(matches!(fit.finish("linear", TO, &Ridge::default()), Err(Error::NoRows { .. })));
        fit.add(&layers(2)).unwrap();
        let failed = fit.finish("linear", TO, &Ridge { lambda: 0.0, ..Ridge::default() }).unwrap_err();
        assert!(
            failed.to_string().starts_with("layer 0 to layer 2: singular Gram matrix: 2 rows"),
            "{failed}"
        );
        let good = layers(30);
        fit.add(&good).unwrap();
        let before = fit.state();
        let mut bad = layers(30);
        let _ = bad[2].1.get(11).fill_(f64::NAN);
        let failed = fit.add(&bad).unwrap_err();
        assert_eq!(failed.to_string(), "layer 2: row 11 of the batch is not finite");
        assert!(matches!(fit.add(&good[..2]), Err(Error::NoStates { layer: TO })));
        bad[2].1 = good[2].1.narrow(0, 0, 29);
        assert!(matches!(fit.add(&bad), Err(Error::Shape { .. })));
        assert!(fit.state().iter().all(|(name, tensor)| tensor.equal(&before[name])));
    }
}
