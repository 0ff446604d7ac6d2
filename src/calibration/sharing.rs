//! How often the interval of the sharing score G holds the truth, which rests on two halves of the documents.

use rayon::prelude::*;

use super::{
    coverage::{Coverage, coverage},
    population::Sizes,
    random::Random,
};
use crate::{
    lens::transfer::{Constants, Mean, sharing_score},
    results::statistics::{Blocks, Estimate, Intervals, MOST_APART, ScoreError, Tally},
};

const VOCAB: usize = 24;
/// Documents in a population.
const DOCUMENTS: usize = 3000;

/// A document: the model's mean distribution over its tokens, their entropy, and how far two lenses are from the model,
/// all per token.
struct Document {
    tokens: usize,
    p: Vec<f64>,
    entropy: f64,
    own: f64,
    shared: f64,
}

/// Coverage of G for halves of each of `sizes` documents; the truth is G of all documents of the population.
///
/// # Errors
/// When a sum is not finite.
pub fn sharings(
    of: Sizes,
    sizes: &[usize],
    (runs, seed): (usize, u64),
    intervals: Intervals,
) -> Result<Vec<Coverage>, ScoreError> {
    let mut random = Random::new(seed, 1 << 54);
    let population: Vec<Document> = (0..DOCUMENTS).map(|_| document(of, &mut random)).collect();
    let everyone: Vec<&Document> = population.iter().collect();
    // Of all documents no part is left out, so that nothing is taken off.
    let constants = mean(&everyone, 1).constants();
    let truth = score(&everyone, &constants, intervals)?.estimate;
    let mut rows = Vec::new();
    for &n in sizes {
        let one = |run: usize| -> Result<Estimate, ScoreError> {
            let mut random = Random::new(seed, (1 << 54) + (n << 24 | run) as u64);
            let mut half =
                || -> Vec<&Document> { (0..n).map(|_| &population[random.below(DOCUMENTS)]).collect() };
            let constants = mean(&half(), MOST_APART).constants();
            score(&half(), &constants, intervals)
        };
        let all = (0..runs).into_par_iter().map(one).collect::<Result<Vec<_>, _>>()?;
        rows.push(coverage(("sharing score", of, n), truth, &all));
    }
    Ok(rows)
}

fn document(of: Sizes, random: &mut Random) -> Document {
    let tokens = match of {
        Sizes::Equal => 50,
        Sizes::Unequal => (40.0 * random.normal().exp()).clamp(4.0, 3000.0).round() as usize,
    };
    // A topic, and tokens that are surer than it.
    let raw: Vec<f64> = (0..VOCAB).map(|_| (1.2 * random.normal()).exp()).collect();
    let sum: f64 = raw.iter().sum();
    let p: Vec<f64> = raw.iter().map(|x| x / sum).collect();
    let entropy = 0.6 * -p.iter().map(|p| p * p.ln()).sum::<f64>();
    let own = 0.2 * (0.4 * random.normal()).exp();
    Document { tokens, p, entropy, own, shared: own + 0.15 * (0.5 * random.normal()).exp() }
}

/// The constant predictor of some documents.
fn mean(documents: &[&Document], most: usize) -> Mean {
    let blocks = Blocks::new((0..).zip(documents).map(|(doc, d)| (doc, d.tokens)), most);
    let mut mean = Mean::new(VOCAB, blocks);
    for (doc, d) in (0..).zip(documents) {
        let sums: Vec<f64> = d.p.iter().map(|p| d.tokens as f64 * p).collect();
        mean.put(doc, &sums, d.tokens as f64);
    }
    mean
}

fn score(
    documents: &[&Document],
    constants: &Constants,
    intervals: Intervals,
) -> Result<Estimate, ScoreError> {
    let mut tally = Tally::new(vec![0; 2 + constants.len()], 1, intervals)?;
    for (doc, d) in (0..).zip(documents) {
        let tokens = d.tokens as f64;
        let marginal: Vec<f64> = d.p.iter().map(|p| tokens * p).collect();
        let mut sums = vec![tokens * d.shared, tokens * d.own];
        sums.extend(constants.kl(&marginal, tokens * d.entropy));
        tally.add(doc, &sums, &[tokens])?;
    }
    Ok(sharing_score(tally.scores(), constants, 2, &[(0, 1)]))
}
