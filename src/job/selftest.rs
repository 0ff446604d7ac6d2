//! `selftest statistics`: do intervals and tests keep their promises?

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{JobError, Watch};
use crate::{
    calibration::{
        Coverage, KINDS_OF_SETS, Planted, Promise, Selection, Sizes, Tested, documents, geometries, laws,
        planted, selection, sharings, tested, windows,
    },
    results::statistics::Intervals,
};

/// Simulate: how often intervals hold the truth, and how often tests find what is not there
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Statistics {
    /// Corpora drawn for each number and size
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 400, value_name = "N"))]
    pub samples: usize,
    /// Labelled sets drawn for each grouping; 0 leaves the tests out
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 100, value_name = "N"))]
    pub sets: usize,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
}

impl Default for Statistics {
    fn default() -> Self {
        Self { samples: 400, sets: 100, seed: 0 }
    }
}

/// Documents of a sample, and windows of one.
pub const DOCUMENTS: [usize; 6] = [5, 7, 10, 20, 50, 200];
/// Windows of one text.
pub const WINDOWS: [usize; 5] = [20, 50, 100, 200, 1000];
/// Documents of a text whose states are looked at, drawn less often: each text takes as long as hundreds of others.
pub const TEXTS: [usize; 5] = [5, 10, 20, 50, 200];
const SELDOM: usize = 4;
/// Test items of a choice among layers.
const ITEMS: [usize; 4] = [20, 50, 100, 400];
/// Of neighbouring windows: the middle of what texts have.
const CORRELATION: f64 = 0.35;

/// What simulations found.
#[derive(Debug)]
pub struct Simulated {
    /// Coverage of numbers over documents.
    pub documents: Vec<Coverage>,
    /// Coverage of numbers over windows of one text.
    pub windows: Vec<Coverage>,
    /// Coverage of numbers of states: the law, the geometry.
    pub states: Vec<Coverage>,
    /// Permutation tests.
    pub tests: Vec<Tested>,
    /// The choice of a layer.
    pub selection: Vec<Selection>,
    /// Leaks.
    pub leaks: Vec<Planted>,
}

impl Statistics {
    /// Simulates.
    ///
    /// # Errors
    /// When a simulation cannot be drawn.
    pub fn run(&self, watch: &dyn Watch) -> Result<Simulated, JobError> {
        let (draws, intervals) = ((self.samples, self.seed), Intervals::default());
        let progress = watch.begin("simulating", "kinds of numbers", Some(10));
        let mut of_documents = Vec::new();
        for sizes in [Sizes::Equal, Sizes::Unequal] {
            of_documents.extend(documents(sizes, &DOCUMENTS, draws, intervals)?);
            progress.inc(1);
            of_documents.extend(sharings(sizes, &DOCUMENTS, draws, intervals)?);
            progress.inc(1);
        }
        let of_windows = windows(CORRELATION, &WINDOWS, draws, intervals)?;
        progress.inc(1);
        let mut of_states = Vec::new();
        let seldom = (self.samples.div_ceil(SELDOM), self.seed);
        for sizes in [Sizes::Equal, Sizes::Unequal] {
            of_states.extend(laws(sizes, &TEXTS, seldom)?);
            progress.inc(1);
            of_states.extend(geometries(sizes, &TEXTS, seldom, intervals)?);
            progress.inc(1);
        }
        let chosen = selection(&ITEMS, self.samples, self.seed)?;
        drop(progress);
        Ok(Simulated {
            documents: of_documents,
            windows: of_windows,
            states: of_states,
            tests: self.tests(watch)?,
            selection: chosen,
            leaks: planted(self.seed),
        })
    }

    /// The permutation tests, where they are asked for.
    fn tests(&self, watch: &dyn Watch) -> Result<Vec<Tested>, JobError> {
        if self.sets == 0 {
            return Ok(Vec::new());
        }
        let progress = watch.begin("testing", "labelled sets", Some((self.sets * KINDS_OF_SETS) as u64));
        Ok(tested(self.sets, 99, self.seed, &|| progress.inc(1))?)
    }
}

impl Simulated {
    /// Coverage of every kind of number.
    fn coverage(&self) -> impl Iterator<Item = &Coverage> {
        self.documents.iter().chain(&self.windows).chain(&self.states)
    }

    /// What is promised, and what was found of it.
    pub fn promises(&self) -> Vec<Promise> {
        self.coverage()
            .filter_map(Coverage::promise)
            .chain(self.tests.iter().map(Tested::promise))
            .chain(self.selection.iter().map(Selection::promise))
            .chain(self.leaks.iter().flat_map(Planted::promises))
            .collect()
    }

    /// The first broken promise, in words; none where all were kept.
    pub fn failure(&self) -> Option<String> {
        let promises = self.promises();
        let broken: Vec<&Promise> = promises.iter().filter(|promise| !promise.kept()).collect();
        let first = broken.first()?;
        Some(format!(
            "{} of {} promises broken; {}: {:.3} of {}, promised {:.2} to {:.2}",
            broken.len(),
            promises.len(),
            first.of,
            first.found,
            first.samples,
            first.bounds.0,
            first.bounds.1
        ))
    }

    /// Everything, for programs.
    pub fn json(&self) -> Value {
        let coverage: Vec<&Coverage> = self.coverage().collect();
        json!({
            "coverage": coverage, "tests": self.tests, "selection": self.selection, "leaks": self.leaks,
        })
    }
}
