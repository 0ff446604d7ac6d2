//! What is promised, and whether a simulation broke it.

use serde::Serialize;

use super::{Coverage, Number, Planted, Selection, Tested};

/// A share that was counted over simulations, and what it should be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Promise {
    /// Of what.
    pub of: String,
    /// The share found.
    pub found: f64,
    /// The least and the most that is promised.
    pub bounds: (f64, f64),
    /// Simulations.
    pub samples: usize,
}

impl Promise {
    /// Whether the share found is within the bounds, or no further outside than chance takes it where the truth is at
    /// the bound: in one of 741 cases, as three standard deviations to one side are of a normal number.
    pub fn kept(&self) -> bool {
        let ((least, most), n) = (self.bounds, self.samples);
        let count = (self.found * n as f64).round() as usize;
        (self.found >= least || at_most(count, n, least) > CHANCE)
            && (self.found <= most || at_most(n.saturating_sub(count), n, 1.0 - most) > CHANCE)
    }
}

/// What chance is believed.
const CHANCE: f64 = 0.00135;

/// P(X ≤ k) of n draws, each a hit with probability p.
fn at_most(k: usize, n: usize, p: f64) -> f64 {
    if p <= 0.0 || k >= n {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    let odds = (p / (1.0 - p)).ln();
    let mut term = n as f64 * (1.0 - p).ln(); // ln P(X = 0), and on from there
    let mut sum = term.exp();
    for hits in 0..k {
        term += ((n - hits) as f64 / (hits + 1) as f64).ln() + odds;
        sum += term.exp();
    }
    sum
}

impl Coverage {
    /// What is promised of it: between .93 and .98 from ten effective documents on, between .90 and .99 from five, and
    /// nothing of a heavy tail or where fewer than a tenth of the samples have an interval, which are the luckiest
    /// ones.
    pub fn promise(&self) -> Option<Promise> {
        if self.number == Number::HeavyMean.name() || self.without > 0.9 {
            return None;
        }
        let bounds = if self.n_eff >= 10.0 { (0.93, 0.98) } else { (0.90, 0.99) };
        let of = format!("{}, {} {:?} documents", self.number, self.n_clusters, self.sizes);
        Some(Promise { of: of.to_lowercase(), found: self.coverage, bounds, samples: self.samples })
    }
}

impl Selection {
    /// What is promised of the layer that other rows chose: coverage as of any number. (Of the best one less its
    /// optimism nothing is: half of the excess may be left.)
    pub fn promise(&self) -> Promise {
        let of = format!("layer chosen on validation rows, {} test items", self.items);
        Promise { of, found: self.nested_coverage, bounds: (0.93, 0.98), samples: self.samples }
    }
}

impl Planted {
    /// All that was planted is caught, and nothing else.
    pub fn promises(&self) -> Vec<Promise> {
        let share = |caught: u64, of: u64| caught as f64 / of.max(1) as f64;
        let caught = (self.planted > 0).then(|| Promise {
            of: format!("leaks caught, {}", self.plant.name()),
            found: share(self.caught, self.planted),
            bounds: (1.0, 1.0),
            samples: self.planted as usize,
        });
        let false_alarms = Promise {
            of: format!("false alarms, {}", self.plant.name()),
            found: self.false_alarms as f64,
            bounds: (0.0, 0.0),
            samples: 1,
        };
        caught.into_iter().chain([false_alarms]).collect()
    }
}

impl Tested {
    /// P(p ≤ .05) between .03 and .06 where there is nothing to find.
    pub fn promise(&self) -> Promise {
        let of = format!("{}{}, {}", self.estimator.name(), self.kind.name(), self.grouping.name());
        Promise { of, found: self.false_alarms, bounds: (0.03, 0.06), samples: self.draws }
    }
}
