//! What a future lens must beat: predictions of a later token that look at no state.
//!
//! - `unigram`: the commonest token.
//! - `bigram`: the commonest token after the one before it; it is fed the true token at `t + k - 1`, as the paper's
//!   bigram line is, and at horizon 1 it is the skip-gram.
//! - `skipgram`: the commonest token `k` places after this one; blind, as the lens is.
//! - `constant`: the model's mean distribution; its KL is what a lens that has learnt nothing but the marginal pays.
//!
//! Counts are cross-fitted: documents are dealt into two halves, and each is predicted from the other.

use std::collections::HashMap;

use layerscope_lenses::{Ask, Readout, Teacher};

use super::EvalError;
use crate::{
    results::run::{MetricRow, RowKind},
    results::statistics::{Estimate, Intervals, Tally},
    sources::text::Window,
};

/// How often a token followed a context, and the commonest of them (of equals the smallest id).
#[derive(Debug, Default)]
struct Counts {
    pairs: HashMap<u64, u32>,
    best: HashMap<u32, (u32, u32)>,
}

impl Counts {
    fn add(&mut self, context: u32, token: u32) {
        let count = self.pairs.entry(u64::from(context) << 32 | u64::from(token)).or_insert(0);
        *count += 1;
        let best = self.best.entry(context).or_insert((token, 0));
        if *count > best.1 || (*count == best.1 && token < best.0) {
            *best = (token, *count);
        }
    }

    fn after(&self, context: u32) -> Option<u32> {
        self.best.get(&context).map(|best| best.0)
    }
}

/// Counts of one half of the documents.
#[derive(Debug, Default)]
struct Half {
    /// Context 0 throughout.
    unigram: Counts,
    /// By horizon, from 1.
    skipgrams: Vec<Counts>,
}

/// The baselines of horizons `1..=k`.
#[derive(Debug)]
pub struct Baselines {
    halves: [Half; 2],
    horizons: usize,
    /// Summed distributions of the model per half, and how many; for the constant predictor.
    marginals: [(Vec<f64>, f64); 2],
    /// Summed entropies of the model per half.
    entropies: [f64; 2],
}

/// Which half a document's counts go to.
fn half(doc: u64) -> usize {
    (doc % 2) as usize
}

impl Baselines {
    /// Counts the tokens of `windows`.
    pub fn count<'w>(windows: impl Iterator<Item = &'w Window>, horizons: usize, vocab: usize) -> Self {
        let empty = || Half {
            unigram: Counts::default(),
            skipgrams: (0..horizons).map(|_| Counts::default()).collect(),
        };
        let mut halves = [empty(), empty()];
        for window in windows {
            for (doc, ids) in runs(window) {
                let half = &mut halves[half(doc)];
                for (place, &id) in ids.iter().enumerate() {
                    if place > 0 {
                        half.unigram.add(0, id);
                    }
                    for (k, counts) in (1..).zip(&mut half.skipgrams) {
                        if let Some(&later) = ids.get(place + k) {
                            counts.add(id, later);
                        }
                    }
                }
            }
        }
        let none = || (vec![0.0; vocab], 0.0);
        Self { halves, horizons, marginals: [none(), none()], entropies: [0.0; 2] }
    }

    /// Adds the model's predictions at rows of `docs`.
    ///
    /// # Errors
    /// When a prediction is not finite.
    pub fn add(&mut self, readout: &Readout, teacher: &Teacher, docs: &[u64]) -> Result<(), EvalError> {
        for side in 0..2 {
            let weights: Vec<f32> = docs.iter().map(|d| f32::from(u8::from(half(*d) == side))).collect();
            let rows: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            if rows == 0.0 {
                continue;
            }
            let ask = Ask { marginal: Some(&weights), ..Ask::default() };
            let read = readout.sweep(&teacher.n, ask).map_err(EvalError::Teacher)?;
            let (sum, n) = &mut self.marginals[side];
            sum.iter_mut().zip(read.marginal.iter().flatten()).for_each(|(sum, p)| *sum += p);
            *n += rows;
            let entropies = read.entropy().into_iter().zip(docs).filter(|(_, d)| half(**d) == side);
            self.entropies[side] += entropies.map(|(h, _)| h).sum::<f64>();
        }
        Ok(())
    }

    /// Accuracy of every baseline at every horizon over `windows`, and the constant predictor's KL.
    ///
    /// # Errors
    /// When the columns do not fit.
    pub fn rows<'w>(
        &self,
        windows: impl Iterator<Item = &'w Window>,
        intervals: Intervals,
    ) -> Result<Vec<MetricRow>, EvalError> {
        const NAMES: [&str; 3] = ["unigram", "bigram", "skipgram"];
        let groups = (0..self.horizons).flat_map(|k| [k; NAMES.len()]).collect();
        let mut tally = Tally::new(groups, self.horizons, intervals)?;
        for window in windows {
            for (doc, ids) in runs(window) {
                let (sums, counts) = self.hits(&self.halves[1 - half(doc)], ids);
                tally.add(doc, &sums, &counts)?;
            }
        }
        let scores = tally.scores();
        let mut rows = Vec::new();
        for k in 1..=self.horizons {
            for (i, name) in NAMES.iter().enumerate() {
                let estimate = scores.share((k - 1) * NAMES.len() + i);
                if estimate.n > 0 {
                    rows.push(row(name, k, "accuracy", "share", estimate));
                }
            }
        }
        if let Some(kl) = self.constant_kl() {
            let n = (self.marginals[0].1 + self.marginals[1].1) as u64;
            let estimate = Estimate::alone(kl, "means over halves of the text", n);
            rows.push(row("constant", 1, "kl", "nats", estimate));
        }
        Ok(rows)
    }

    /// What unigram, bigram and skip-gram say of the token `k` places after `here` in document `doc`, by the other
    /// documents' counts; `before` is the token one place earlier, which the bigram sees.
    pub(crate) fn guesses(&self, doc: u64, here: u32, before: u32, k: usize) -> [Option<u32>; 3] {
        let from = &self.halves[1 - half(doc)];
        let common = from.unigram.after(0);
        let skipgram = from.skipgrams.get(k - 1).and_then(|counts| counts.after(here));
        let bigram = from.skipgrams.first().and_then(|counts| counts.after(before));
        [common, bigram.or(common), skipgram.or(common)]
    }

    /// Right predictions per horizon and baseline, and positions per horizon.
    fn hits(&self, from: &Half, ids: &[u32]) -> (Vec<f64>, Vec<f64>) {
        let (mut sums, mut counts) = (vec![0.0; 3 * self.horizons], vec![0.0; self.horizons]);
        let common = from.unigram.after(0);
        for place in 0..ids.len() {
            for k in 1..=self.horizons {
                let Some(&truth) = ids.get(place + k) else { break };
                let bigram = from.skipgrams[0].after(ids[place + k - 1]).or(common);
                let skipgram = from.skipgrams[k - 1].after(ids[place]).or(common);
                counts[k - 1] += 1.0;
                for (i, guess) in [common, bigram, skipgram].into_iter().enumerate() {
                    sums[3 * (k - 1) + i] += f64::from(u8::from(guess == Some(truth)));
                }
            }
        }
        (sums, counts)
    }

    /// `E KL(p ‖ m) = -E H(p) - Σ_v E[p_v] ln m_v`, `m` the mean distribution of the other half.
    fn constant_kl(&self) -> Option<f64> {
        let mut total = 0.0;
        for side in 0..2 {
            let ((own, n), (other, m)) = (&self.marginals[side], &self.marginals[1 - side]);
            if *n == 0.0 || *m == 0.0 {
                return None;
            }
            let cross: f64 =
                own.iter().zip(other).map(|(p, q)| -p * (q / m).max(f64::MIN_POSITIVE).ln()).sum();
            total += cross - self.entropies[side];
        }
        Some(total / (self.marginals[0].1 + self.marginals[1].1))
    }
}

/// The runs of tokens of one document in a window.
fn runs(window: &Window) -> impl Iterator<Item = (u64, &[u32])> {
    window.segments.iter().map(|s| (s.doc_id, &window.ids[s.offset as usize..(s.offset + s.len) as usize]))
}

fn row(subject: &str, horizon: usize, metric: &str, unit: &str, estimate: Estimate) -> MetricRow {
    MetricRow {
        subject: subject.into(),
        kind: RowKind::Baseline,
        hook: "tokens".into(),
        layer: 0,
        horizon: horizon as i32,
        ..MetricRow::of(metric, unit, estimate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::text::Segment;

    fn window(doc: u64, ids: &[u32]) -> Window {
        let len = ids.len() as u32;
        Window {
            ids: ids.to_vec(),
            segments: vec![Segment {
                doc_id: doc,
                doc_pos: 0,
                doc_len: len,
                offset: 0,
                len,
                ..Segment::default()
            }],
        }
    }

    #[test]
    fn each_half_is_predicted_from_the_other_by_hand() {
        // Document 0 teaches: after 1 comes 2, after 2 comes 3; the commonest token is 2 (twice, and first of equals).
        let windows = [window(0, &[1, 2, 3, 1, 2]), window(1, &[1, 2, 9])];
        let baselines = Baselines::count(windows.iter(), 2, 10);
        // Document 1 from document 0, horizon 1: truths 2, 9. Unigram says 2: one hit. Bigram says 2, 3: one hit.
        // Horizon 2: truth 9 only; nothing says 9.
        let (sums, counts) = baselines.hits(&baselines.halves[0], &[1, 2, 9]);
        assert_eq!(counts, [2.0, 1.0]);
        assert_eq!(sums, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        let rows = baselines.rows(windows.iter(), Intervals::bootstrap(0, 10)).unwrap();
        assert_eq!(rows.len(), 6);
        // Document 0 from document 1 (1 -> 2 -> 9, commonest 2): truths 2, 3, 1, 2; unigram hits 2, bigram 2 of the
        // four.
        let unigram = rows.iter().find(|r| r.subject == "unigram" && r.horizon == 1).unwrap();
        assert_eq!((unigram.estimate, unigram.n), (3.0 / 6.0, 6));
    }

    #[test]
    fn a_constant_over_equal_halves_pays_the_mutual_information() {
        let mut baselines = Baselines::count(std::iter::empty(), 1, 2);
        // Each half: two predictions, (1, 0) and (0, 1): mean (1/2, 1/2), entropy 0. KL = ln 2.
        baselines.marginals = [(vec![1.0, 1.0], 2.0), (vec![1.0, 1.0], 2.0)];
        assert!((baselines.constant_kl().unwrap() - 2f64.ln()).abs() < 1e-12);
    }
}
