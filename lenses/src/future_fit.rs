use std::collections::BTreeMap;

use tch::{Device, Tensor};

use crate::rows::layer_rows;
use crate::runs::Cuts;
use crate::sum::State;
use crate::{CrossMoments, Error, FutureLens, Horizon, LayerIndex, Moments, Regression, Ridge, Rows};

/// Streams states into future lenses of every layer and every horizon `1..=K`.
///
/// Horizon `k` pairs row `i` with the last-layer state of row `i + k - 1` of the same run, so its states are all rows
/// but the last `k - 1` of each run. `Σ x xᵀ` over all rows is computed once per layer and the few tail rows are
/// subtracted, which is exact: `tails[j]` sums the rows with exactly `j` rows after them in their run.
#[derive(Debug)]
pub struct FutureFit {
    layers: BTreeMap<LayerIndex, LayerSums>,
    d: usize,
    horizons: usize,
}

#[derive(Debug)]
struct LayerSums {
    all: Moments,
    tails: Vec<Moments>,      // [K - 1]
    pairs: Vec<CrossMoments>, // [K], by horizon - 1
}

impl LayerSums {
    fn add(&mut self, x: &Rows, targets: &[Rows], cuts: &Cuts) -> Result<(), Error> {
        self.all.add(x)?;
        for (tail, index) in self.tails.iter_mut().zip(&cuts.tails) {
            tail.add(&x.select(index)?)?;
        }
        for ((pairs, index), y) in self.pairs.iter_mut().zip(&cuts.sources).zip(targets) {
            pairs.add(&x.select(index)?, y)?;
        }
        Ok(())
    }
}

impl FutureFit {
    /// For these layers of width `d` and the horizons `1..=horizons`.
    pub fn new(layers: &[LayerIndex], d: usize, horizons: usize, device: Device) -> Self {
        let sums = || LayerSums {
            all: Moments::new(d, device),
            tails: (1..horizons).map(|_| Moments::new(d, device)).collect(),
            pairs: (0..horizons).map(|_| CrossMoments::new(d, d, device)).collect(),
        };
        Self { layers: layers.iter().map(|&layer| (layer, sums())).collect(), d, horizons }
    }

    /// Adds a batch: the states `[n, d]` of every layer and of the last one, in runs of consecutive tokens of one
    /// document window, whose lengths add up to `n`.
    ///
    /// # Errors
    /// When a layer is missing, shapes or runs do not fit, or a state is not finite; nothing is added then.
    pub fn add(
        &mut self,
        states: &[(LayerIndex, Tensor)],
        last: &Tensor,
        runs: &[usize],
    ) -> Result<(), Error> {
        let (n, last) = (runs.iter().sum(), Rows::new("last layer", last)?);
        if n != last.n() {
            return Err(Error::Runs { runs: n, rows: last.n() });
        }
        last.check(n, self.d)?;
        for &layer in self.layers.keys() {
            layer_rows(states, layer)?.check(n, self.d)?;
        }
        let cuts = Cuts::new(runs, self.horizons);
        let targets = cuts.targets.iter().map(|index| last.select(index)).collect::<Result<Vec<_>, _>>()?;
        for (&layer, sums) in &mut self.layers {
            sums.add(&layer_rows(states, layer)?, &targets, &cuts)?;
        }
        Ok(())
    }

    /// Adds the rows of another shard of the same fit.
    ///
    /// # Errors
    /// When the other lacks a layer or a horizon, or has another width.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        if other.horizons != self.horizons {
            return Err(Error::Horizon { got: self.horizons, max: other.horizons });
        }
        for (&layer, sums) in &mut self.layers {
            let more = other.layers.get(&layer).ok_or(Error::NoStates { layer })?;
            sums.all.merge(&more.all)?;
            sums.tails.iter_mut().zip(&more.tails).try_for_each(|(a, b)| a.merge(b))?;
            sums.pairs.iter_mut().zip(&more.pairs).try_for_each(|(a, b)| a.merge(b))?;
        }
        Ok(())
    }

    /// The regression behind the map of a layer and a horizon: other ridges, or R² of a map on these rows.
    ///
    /// # Errors
    /// When the layer or the horizon is not part of the fit, or no run was long enough.
    pub fn regression(&self, layer: LayerIndex, horizon: Horizon) -> Result<Regression, Error> {
        let sums = self.layers.get(&layer).ok_or(Error::NoStates { layer })?;
        if !(1..=self.horizons).contains(&horizon.0) {
            return Err(Error::Horizon { got: horizon.0, max: self.horizons });
        }
        let what = format!("layer {layer}, horizon {}", horizon.0);
        let pairs = &sums.pairs[horizon.0 - 1];
        let tails = &sums.tails[..horizon.0 - 1];
        let x = tails.iter().try_fold(sums.all.copy(), |rest, tail| rest.minus(tail))?;
        Regression::new(what, &x, pairs)
    }

    /// The lens of one horizon.
    ///
    /// # Errors
    /// As [`FutureFit::regression`], and when a Gram matrix is singular at the ridge.
    pub fn finish(
        &self,
        name: impl Into<String>,
        horizon: Horizon,
        ridge: &Ridge,
    ) -> Result<FutureLens, Error> {
        let solve = |&layer| Ok((layer, self.regression(layer, horizon)?.solve(ridge)?));
        let translators = self.layers.keys().map(solve).collect::<Result<_, Error>>()?;
        Ok(FutureLens::new(name, horizon, translators))
    }

    /// All sums, for a checkpoint.
    pub fn state(&self) -> State {
        let mut state = State::new();
        for (layer, sums) in &self.layers {
            sums.all.state(&format!("layer.{layer}.all"), &mut state);
            for (j, tail) in sums.tails.iter().enumerate() {
                tail.state(&format!("layer.{layer}.tail.{j}"), &mut state);
            }
            for (k, pairs) in sums.pairs.iter().enumerate() {
                pairs.state(&format!("layer.{layer}.horizon.{}", k + 1), &mut state);
            }
        }
        state
    }

    /// Replaces all sums by those of a checkpoint of the same layers, width and horizons.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape; the fit is of no use then.
    pub fn restore(&mut self, state: &State) -> Result<(), Error> {
        for (layer, sums) in &mut self.layers {
            sums.all.restore(&format!("layer.{layer}.all"), state)?;
            for (j, tail) in sums.tails.iter_mut().enumerate() {
                tail.restore(&format!("layer.{layer}.tail.{j}"), state)?;
            }
            for (k, pairs) in sums.pairs.iter_mut().enumerate() {
                pairs.restore(&format!("layer.{layer}.horizon.{}", k + 1), state)?;
            }
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

    const AT: LayerIndex = LayerIndex(1);

    /// The golden rows in batches of whole runs, cut at these runs.
    fn golden_fit(golden: &Golden, cuts: &[usize]) -> FutureFit {
        let runs = golden_runs(golden);
        let mut fit = FutureFit::new(&[AT], 8, 4, Device::Cpu);
        for cut in cuts.windows(2) {
            let start = runs[..cut[0]].iter().sum::<usize>() as i64;
            let batch = &runs[cut[0]..cut[1]];
            let rows = |name: &str| golden.get(name).narrow(0, start, batch.iter().sum::<usize>() as i64);
            fit.add(&[(AT, rows("x"))], &rows("y"), batch).unwrap();
        }
        fit
    }

    fn golden_runs(golden: &Golden) -> Vec<usize> {
        golden.get("runs").iter::<i64>().unwrap().map(|run| run as usize).collect()
    }

    #[test]
    fn every_horizon_is_as_scikit_learn_fits_it() {
        let golden = Golden::load();
        let x = golden.get("x");
        for cuts in [&[0, 7][..], &[0, 2, 3, 7], &[0, 5, 6, 7]] {
            let fit = golden_fit(&golden, cuts);
            for k in 1..=4 {
                let ridge = Ridge { shrink: Shrink::Zero, ..Ridge::default() };
                let lens = fit.finish("future", Horizon(k), &ridge).unwrap();
                assert_eq!((lens.name(), lens.horizon()), ("future", Horizon(k)));
                let n = fit.layers[&AT].pairs[k - 1].n() as i64;
                assert_eq!(n, golden.get(&format!("future.{k}.n")).int64_value(&[0]));
                let weight = golden.get(&format!("future.{k}.weight"));
                let bias = golden.get(&format!("future.{k}.bias"));
                let want = x.to_kind(Kind::Double).linear(&weight, Some(&bias));
                assert!(error(&lens.transform(AT, &x).unwrap(), &want) < 1e-6, "horizon {k}");
                let map = &lens.translators()[&AT];
                let full = map.weight.to_kind(Kind::Double) + Tensor::eye(8, (Kind::Double, Device::Cpu));
                assert!(error(&full, &weight) < 1e-6 && error(&map.bias, &bias) < 1e-6, "horizon {k}");
            }
        }
    }

    #[test]
    fn subtracting_tails_is_exact() {
        let golden = Golden::load();
        let fit = golden_fit(&golden, &[0, 4, 7]);
        let sums = &fit.layers[&AT];
        for k in 1..=4usize {
            let sources = Cuts::new(&golden_runs(&golden), 4).sources.remove(k - 1);
            let mut direct = Moments::new(8, Device::Cpu);
            direct.add(&Rows::new("x", &golden.get("x").index_select(0, &sources)).unwrap()).unwrap();
            let rest = sums.tails[..k - 1].iter().fold(sums.all.copy(), |x, tail| x.minus(tail).unwrap());
            assert_eq!(rest.n(), direct.n());
            assert!(error(&rest.covariance().unwrap(), &direct.covariance().unwrap()) < 1e-13);
        }
    }

    #[test]
    fn a_planted_future_is_found() {
        // The last state repeats what layer 1 held two tokens before.
        let x = Tensor::randn([90, 3], (Kind::Float, Device::Cpu));
        let last = x.roll([2], [0]);
        let mut fit = FutureFit::new(&[AT], 3, 4, Device::Cpu);
        for start in [0, 45] {
            fit.add(&[(AT, x.narrow(0, start, 45))], &last.narrow(0, start, 45), &[45]).unwrap();
        }
        let r2 = |k| {
            let regression = fit.regression(AT, Horizon(k)).unwrap();
            regression.r2(&regression.solve(&Ridge::for_horizon(Horizon(k))).unwrap()).unwrap()
        };
        assert!(r2(3) > 0.99 && r2(1) < 0.3 && r2(2) < 0.3 && r2(4) < 0.3);
    }

    #[test]
    fn a_checkpoint_goes_on_and_shards_merge() {
        let golden = Golden::load();
        let whole = golden_fit(&golden, &[0, 3, 7]);
        let first = golden_fit(&golden, &[0, 3]);
        let mut again = FutureFit::new(&[AT], 8, 4, Device::Cpu);
        again.restore(&golden_fit(&golden, &[3, 7]).state()).unwrap();
        again.merge(&first).unwrap();
        for k in 1..=4 {
            let map =
                |fit: &FutureFit| fit.regression(AT, Horizon(k)).unwrap().solve(&Ridge::default()).unwrap();
            assert!(map(&whole).weight.equal(&map(&again).weight));
        }
        let fewer = again.merge(&FutureFit::new(&[AT], 8, 3, Device::Cpu));
        assert!(matches!(fewer, Err(Error::Horizon { got: 4, max: 3 })));
        let missing = FutureFit::new(&[AT], 8, 5, Device::Cpu).restore(&whole.state()).unwrap_err();
        assert!(matches!(missing, Error::NotSaved { .. }), "{missing}");
    }

    #[test]
    fn bad_batches_add_nothing_and_missing_pairs_are_named() {
        let mut fit = FutureFit::new(&[AT], 2, 3, Device::Cpu);
        let ones = |n: i64| Tensor::ones([n, 2], (Kind::Float, Device::Cpu));
        assert!(matches!(fit.add(&[(AT, ones(4))], &ones(4), &[3]), Err(Error::Runs { runs: 3, rows: 4 })));
        assert!(matches!(fit.add(&[(AT, ones(3))], &ones(4), &[4]), Err(Error::Shape { .. })));
        assert!(matches!(fit.add(&[], &ones(4), &[4]), Err(Error::NoStates { layer: AT })));
        for (x, y) in [(ones(4) / 0.0, ones(4)), (ones(4), ones(4) / 0.0)] {
            assert!(matches!(fit.add(&[(AT, x)], &y, &[4]), Err(Error::NonFinite { row: 0, .. })));
        }
        assert_eq!(fit.layers[&AT].all.n(), 0);
        fit.add(&[(AT, ones(4))], &ones(4), &[2, 2]).unwrap();
        let failed = fit.finish("future", Horizon(3), &Ridge::default()).unwrap_err();
        assert_eq!(failed.to_string(), "layer 1, horizon 3: no rows to fit on");
        let failed = fit.finish("future", Horizon(2), &Ridge::default()).unwrap_err();
        assert!(
            failed.to_string().starts_with("layer 1, horizon 2: singular Gram matrix: 2 rows"),
            "{failed}"
        );
        assert!(matches!(fit.regression(AT, Horizon(4)), Err(Error::Horizon { got: 4, max: 3 })));
        assert!(matches!(fit.regression(AT, Horizon(0)), Err(Error::Horizon { got: 0, max: 3 })));
    }
}
