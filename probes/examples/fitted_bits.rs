//! What this library makes of the golden rows on this machine, as JSON whose numbers read back to the last bit: the
//! Python package's tests compare with it. Bits differ between kinds of processors, so they are not in a file.
//!
//! ```text
//! cargo run --release -p layerscope-probes --example fitted_bits
//! ```

#![allow(clippy::print_stdout)] // its output is what it is for

use layerscope_probes::score::Classified;
use layerscope_probes::{
    Ccs, Centroid, ControlTask, Decay, Draws, Error, Fit as _, Intervals, Labelled, Labels, Lda, Linear,
    Logistic, MeanDifference, Message, Method, Moments, PairDirection, Pairs, Permutations, Probe as _,
    Resamples, Residual, Ridge, Shares, Shrinkage, Split, Whitened, best, folds, online_code, over_draws,
    shuffled_codes,
};
use ndarray::{Array2, ArrayView2, Axis, s};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/probes/golden.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let mut out = serde_json::Map::new();
    for name in ["many", "few"] {
        let x = matrix(&golden["x"][name]).ok_or("no rows")?.mapv(|v| v as f32);
        let y: Vec<u32> = serde_json::from_value(golden["classes"][name].clone())?;
        out.insert(name.to_owned(), Set { x: x.view(), y: &y }.all()?);
    }
    println!("{}", Value::from(out));
    Ok(())
}

fn matrix(of: &Value) -> Option<Array2<f64>> {
    let rows: Vec<Vec<f64>> = serde_json::from_value(of.clone()).ok()?;
    Array2::from_shape_vec((rows.len(), rows.first()?.len()), rows.concat()).ok()
}

/// Rows of the golden file with their classes; three rows a group.
struct Set<'a> {
    x: ArrayView2<'a, f32>,
    y: &'a [u32],
}

impl Set<'_> {
    fn all(&self) -> Result<Value, Error> {
        Ok(json!({
            "fits": self.fits()?, "pairs": self.pairs()?, "draws": self.draws()?, "code": self.code()?,
            "statistics": self.statistics()?, "law": self.law()?,
        }))
    }

    fn n_classes(&self) -> usize {
        self.y.iter().max().map_or(0, |most| *most as usize + 1)
    }

    fn labels(&self) -> Labels<'_> {
        Labels::Classes { y: self.y, n_classes: self.n_classes() }
    }

    fn groups(&self) -> Vec<u64> {
        (0..self.y.len() as u64).map(|row| row / 3).collect()
    }

    /// Rows as numbers to regress.
    fn numbers(&self) -> Array2<f64> {
        self.x.slice(s![.., ..2]).mapv(|v| f64::from(v).powi(2))
    }

    fn fits(&self) -> Result<Value, Error> {
        let two: Vec<u32> = self.y.iter().map(|class| (*class).min(1)).collect();
        let numbers = self.numbers();
        let many = Labelled { x: self.x.view(), y: self.labels() };
        let binary = Labelled { x: self.x.view(), y: Labels::Classes { y: &two, n_classes: 2 } };
        let regression = Labelled { x: self.x.view(), y: Labels::Numbers(numbers.view()) };
        let logistic = Logistic::default();
        let rows = Whitened::new(self.x, true)?;
        let path = logistic.path(&rows, &many.y, &[0.1, 10.0])?;
        Ok(json!({
            "logistic": fitted(&logistic.fit(&many)?.linear, self.x)?,
            "logistic two": fitted(&Logistic { balanced: true, ..logistic }.fit(&binary)?.linear, self.x)?,
            "logistic path": [fitted(&path[0].linear, self.x)?, fitted(&path[1].linear, self.x)?],
            "ridge": fitted(&Ridge::default().fit(&regression)?, self.x)?,
            "ridge classes": fitted(&Ridge { l2: 10.0, standardise: false }.fit(&many)?, self.x)?,
            "lda": fitted(&Lda::default().fit(&many)?, self.x)?,
            "lda fixed": fitted(&Lda { shrinkage: Shrinkage::Fixed(0.1), standardise: false }.fit(&many)?, self.x)?,
            "mean difference": fitted(&MeanDifference::default().fit(&binary)?, self.x)?,
            "centroid": fitted(&Centroid { standardise: true }.fit(&many)?, self.x)?,
        }))
    }

    fn pairs(&self) -> Result<Value, Error> {
        let (positive, negative) = self.x.split_at(Axis(1), self.x.ncols() / 2);
        let pairs = Pairs { positive, negative };
        let truth: Vec<bool> = self.y.iter().map(|class| *class > 0).collect();
        let mut all = Vec::new();
        for how in
            [PairDirection::Consistency(Ccs { restarts: 3, steps: 50, seed: 1 }), PairDirection::TopComponent]
        {
            let mut probe = how.fit(pairs)?;
            let loss = probe.loss;
            let accuracy = probe.orient(pairs, &truth)?;
            let scores = probe.scores(pairs)?.to_vec();
            all.push(json!({"loss": loss, "accuracy": accuracy, "scores": scores, "weights": table(&probe.positive.weights)}));
        }
        Ok(Value::from(all))
    }

    fn draws(&self) -> Result<Value, Error> {
        let (groups, labels) = (self.groups(), self.labels());
        let split = Split::new(&groups, &labels, Shares { train: 0.6, validation: 0.2, test: 0.2 }, 3)?;
        let folds: Vec<_> = folds(&groups, &labels, 4, 5)?.into_iter().map(|fold| fold.test.rows).collect();
        let permutations = Permutations::new(&labels, &groups, 7)?;
        let control = ControlTask::new(self.y, self.n_classes(), 2, 1)?.labels(&groups);
        Ok(json!({
            "split": [split.train.rows, split.validation.rows, split.test.rows], "folds": folds,
            "permuted": permutations.rows(2), "exchange": permutations.exchange().to_string(), "control": control,
            "shuffled": layerscope_probes::shuffled_labels(self.y, &groups, 4, 1)?,
            "resamples": Resamples::new(6, 9).weights(11),
        }))
    }

    fn code(&self) -> Result<Value, Error> {
        let groups = self.groups();
        let message = Message { y: self.y, n_classes: self.n_classes(), groups: &groups, seed: 8 };
        let mut fit = |y: &[u32], before: &[usize], block: &[usize]| -> Result<Vec<Array2<f64>>, Error> {
            let own: Vec<u32> = before.iter().map(|row| y[*row]).collect();
            let rows = Whitened::new(self.x.select(Axis(0), before).view(), true)?;
            let labels = Labels::Classes { y: &own, n_classes: self.n_classes() };
            let path =
                Logistic { tolerance: 1e-6, ..Logistic::default() }.path(&rows, &labels, &[100.0, 1.0])?;
            path.iter().map(|probe| probe.scores(self.x.select(Axis(0), block).view())).collect()
        };
        let code = online_code(&message, 1, &mut fit)?;
        let shuffled: Vec<_> =
            shuffled_codes(&message, 2, &mut fit)?.into_iter().map(|code| code.bits).collect();
        Ok(json!({"bits": code.bits, "uniform_rows": code.uniform_rows, "shuffled": shuffled}))
    }

    fn statistics(&self) -> Result<Value, Error> {
        let data = Labelled { x: self.x.view(), y: self.labels() };
        let scores = Lda::default().fit(&data)?.scores(self.x)?;
        let classified = Classified::new(scores.view(), self.y)?;
        let mut all = serde_json::Map::new();
        for (name, method) in [("jackknife", Method::Jackknife), ("bootstrap", Method::Bootstrap)] {
            let intervals = Intervals::new(method, Resamples::new(9, 200));
            let weightings = layerscope_probes::Weightings::new(&self.groups(), intervals)?;
            let draws = classified.metrics(&weightings)?;
            let found: serde_json::Map<_, _> =
                draws.iter().map(|(name, of)| ((*name).to_owned(), ends(of))).collect();
            let [accuracy, nll] = [&draws[0].1, &draws[3].1];
            let best = best(&[accuracy.clone(), nll.negated()])?;
            let over = over_draws(&[accuracy.clone(), nll.clone()])?;
            let over = json!([over.estimate, over.lower(), over.upper()]);
            let corrected = [Some(best.corrected.estimate), best.corrected.lower(), best.corrected.upper()];
            let difference = ends(&accuracy.minus(nll)?);
            let found = json!({"metrics": found, "difference": difference, "over": over, "best": [best.place], "corrected": corrected});
            all.insert(name.to_owned(), found);
        }
        Ok(Value::from(all))
    }

    fn law(&self) -> Result<Value, Error> {
        let (y, half) = (self.numbers(), self.x.nrows() / 2);
        let of = |rows: std::ops::Range<usize>| {
            let y = y.slice(s![rows.clone(), ..]);
            Moments::of(&Labelled { x: self.x.slice(s![rows, ..]), y: Labels::Numbers(y) })
        };
        let found = Residual::of(&of(0..half)?, &of(half..self.x.nrows())?)?;
        let decay = Decay::fit(&[1.0, 2.0, 4.0], &[0.9, 0.5, 0.2])?;
        let line = [decay.slope, decay.intercept, decay.r2, decay.pearson, decay.ratio, decay.rho];
        Ok(json!({
            "in_sample": found.in_sample.to_vec(), "held_out": found.held_out.to_vec(), "rank": found.rank, "decay": line,
        }))
    }
}

fn fitted(linear: &Linear, x: ArrayView2<'_, f32>) -> Result<Value, Error> {
    let scores = linear.scores(x)?;
    Ok(json!({"coef": table(&linear.weights), "intercept": linear.bias.to_vec(), "scores": table(&scores)}))
}

fn table(of: &Array2<f64>) -> Vec<Vec<f64>> {
    of.outer_iter().map(|row| row.to_vec()).collect()
}

fn ends(of: &Draws) -> Value {
    let found = of.estimate();
    json!([found.estimate, found.lower(), found.upper(), found.n_eff])
}
