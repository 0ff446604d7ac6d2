//! How often the 95 % intervals of a corpus hold the truth.

use rayon::prelude::*;
use serde::Serialize;

use super::{
    population::{Column, Document, Population, Sizes},
    random::Random,
};
use crate::results::statistics::{Estimate, Intervals, ScoreError, Scores, Tally};

/// A kind of number that runs report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Number {
    /// A mean loss over tokens.
    Mean,
    /// One that a few documents have nearly all of: with few of them no interval can know the others.
    HeavyMean,
    /// One loss less another, paired.
    Difference,
    /// A ratio of differences, as the sharing score is.
    Ratio,
    /// A loss over the bytes of its text.
    BitsPerByte,
    /// A share of one half.
    Share,
    /// A share near 1.
    ShareNearOne,
    /// A share near 0.
    ShareNearZero,
    /// A mean over neighbouring windows of one text, which are alike.
    Windows,
}

impl Number {
    /// Those of documents.
    pub const OF_DOCUMENTS: [Self; 8] = [
        Self::Mean,
        Self::HeavyMean,
        Self::Difference,
        Self::Ratio,
        Self::BitsPerByte,
        Self::Share,
        Self::ShareNearOne,
        Self::ShareNearZero,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean loss",
            Self::HeavyMean => "heavy-tailed loss",
            Self::Difference => "difference",
            Self::Ratio => "ratio of differences",
            Self::BitsPerByte => "bits/byte",
            Self::Share => "share of .5",
            Self::ShareNearOne => "share of .99",
            Self::ShareNearZero => "share of .01",
            Self::Windows => "windows of one text",
        }
    }

    /// The truth, and by the same function every estimate.
    fn of(self, mean: &dyn Fn(Column) -> f64) -> f64 {
        let other = || mean(Column::OtherLoss);
        match self {
            Self::Mean | Self::Windows => mean(Column::Loss),
            Self::HeavyMean => mean(Column::Heavy),
            Self::Difference => mean(Column::Loss) - other(),
            Self::Ratio => (mean(Column::Loss) - other()) / (mean(Column::Bytes) - other()),
            Self::BitsPerByte => mean(Column::LossOfBytes) / mean(Column::Bytes) / std::f64::consts::LN_2,
            Self::Share => mean(Column::Hits),
            Self::ShareNearOne => mean(Column::Often),
            Self::ShareNearZero => mean(Column::Seldom),
        }
    }

    fn estimate(self, scores: &Scores) -> Estimate {
        match self {
            Self::Share => scores.share(Column::Hits as usize),
            Self::ShareNearOne => scores.share(Column::Often as usize),
            Self::ShareNearZero => scores.share(Column::Seldom as usize),
            _ => scores.contrast(|mean| self.of(&|column| mean(column as usize))),
        }
    }
}

/// What a number's intervals did over many samples of one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Coverage {
    /// The number, in words.
    pub number: &'static str,
    /// How long documents are.
    pub sizes: Sizes,
    /// Documents (windows) in a sample.
    pub n_clusters: usize,
    /// Mean effective documents; of windows the true number.
    pub n_eff: f64,
    /// Samples that gave an interval.
    pub samples: usize,
    /// Share of samples that gave none.
    pub without: f64,
    /// Share of intervals that hold the truth.
    pub coverage: f64,
    /// Mean width over the truth.
    pub relative_width: f64,
}

/// Coverage of every kind of number over documents, for samples of each of `sizes` documents.
///
/// # Errors
/// When a sum is not finite.
pub fn documents(
    of: Sizes,
    sizes: &[usize],
    (runs, seed): (usize, u64),
    intervals: Intervals,
) -> Result<Vec<Coverage>, ScoreError> {
    let population = Population::new(of, seed);
    let truths = Number::OF_DOCUMENTS.map(|number| number.of(&|column| population.mean(column)));
    let mut rows = Vec::new();
    for &n in sizes {
        let sample = |run: usize| -> Result<Vec<Estimate>, ScoreError> {
            let mut random = Random::new(seed, 1 + (n * runs + run) as u64);
            let mut tally = tally(&population.draw(n, &mut random), intervals)?;
            Ok(Number::OF_DOCUMENTS.map(|number| number.estimate(tally.scores())).to_vec())
        };
        let estimates = (0..runs).into_par_iter().map(sample).collect::<Result<Vec<_>, _>>()?;
        for (place, (number, truth)) in Number::OF_DOCUMENTS.into_iter().zip(truths).enumerate() {
            let of_number: Vec<Estimate> = estimates.iter().map(|all| all[place]).collect();
            rows.push(coverage((number.name(), of, n), truth, &of_number));
        }
    }
    Ok(rows)
}

/// Coverage of a mean over windows of one text, whose neighbours correlate by `correlation`.
///
/// # Errors
/// When a sum is not finite.
pub fn windows(
    correlation: f64,
    sizes: &[usize],
    (runs, seed): (usize, u64),
    intervals: Intervals,
) -> Result<Vec<Coverage>, ScoreError> {
    const TOKENS: f64 = 128.0;
    let mut rows = Vec::new();
    for &n in sizes {
        let sample = |run: usize| -> Result<Estimate, ScoreError> {
            let mut random = Random::new(seed, (1 << 40) + (n * runs + run) as u64);
            let mut deviation = random.normal();
            let mut tally = Tally::new(vec![0], 1, intervals.serial())?;
            for window in 0..n as u64 {
                tally.add(window, &[TOKENS * (3.0 + 0.5 * deviation)], &[TOKENS])?;
                let fresh = (1.0 - correlation * correlation).sqrt() * random.normal();
                deviation = correlation * deviation + fresh;
            }
            Ok(tally.scores().estimate(0))
        };
        let estimates = (0..runs).into_par_iter().map(sample).collect::<Result<Vec<_>, _>>()?;
        // The windows that there are in effect are known here; each sample has to guess them.
        let n_eff = n as f64 * (1.0 - correlation) / (1.0 + correlation);
        let row = coverage((Number::Windows.name(), Sizes::Equal, n), 3.0, &estimates);
        rows.push(Coverage { n_eff, ..row });
    }
    Ok(rows)
}

fn tally(documents: &[&Document], intervals: Intervals) -> Result<Tally, ScoreError> {
    let mut tally = Tally::new(vec![0; Column::ALL.len()], 1, intervals)?;
    for (id, document) in (0..).zip(documents) {
        tally.add(id, &document.sums, &[document.tokens])?;
    }
    Ok(tally)
}

/// What the intervals of these samples did.
pub(super) fn coverage(
    (number, sizes, n_clusters): (&'static str, Sizes, usize),
    truth: f64,
    estimates: &[Estimate],
) -> Coverage {
    let intervals: Vec<_> = estimates.iter().filter_map(|e| e.interval.ok()).collect();
    let samples = intervals.len();
    let mean = |of: &mut dyn Iterator<Item = f64>, n: usize| of.sum::<f64>() / n.max(1) as f64;
    let holds = intervals.iter().filter(|i| i.lower <= truth && truth <= i.upper).count();
    Coverage {
        number,
        sizes,
        n_clusters,
        n_eff: mean(&mut estimates.iter().map(|e| e.n_eff), estimates.len()),
        samples,
        without: 1.0 - samples as f64 / estimates.len().max(1) as f64,
        coverage: holds as f64 / samples.max(1) as f64,
        relative_width: mean(&mut intervals.iter().map(|i| (i.upper - i.lower) / truth.abs()), samples),
    }
}
