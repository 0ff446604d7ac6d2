//! Statistics of every head over a text.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::{
    AttentionError, COLUMNS, Relations, Statistic,
    statistic::Rows,
    sums::{MASS, ROWS},
    tap::HeadTap,
};
use crate::{
    hook::{BlockHook, HookPoint},
    model::{Model, ModelError},
    results::{
        run::{MetricRow, Parts, RowKind},
        statistics::{Estimate, Intervals, Scores, Tally},
    },
    sources::text::{Window, ids_of},
};

/// From which missing share of a row on a head is taken to have a learned sink: a hundred times what bf16 rounds away.
const LACKS: f64 = 0.01;

/// Sums of every head so far.
#[derive(Debug)]
pub struct HeadScores {
    /// Ascending.
    layers: Vec<usize>,
    n_heads: usize,
    tally: Tally,
}

impl HeadScores {
    /// For heads of `layers`, ascending.
    ///
    /// # Errors
    /// Never of columns made here; [`Tally::new`].
    pub fn new(layers: &[usize], n_heads: usize, intervals: Intervals) -> Result<Self, AttentionError> {
        let columns = (0..layers.len() * n_heads).flat_map(|_| ROWS.map(|rows| rows as usize)).collect();
        let tally = Tally::new(columns, Rows::COUNT, intervals)?;
        Ok(Self { layers: layers.to_vec(), n_heads, tally })
    }

    /// Runs windows of one length, each of one document. `clusters` gives, per window, what it counts as in place of
    /// its document.
    ///
    /// # Errors
    /// When the model cannot run, or a pattern is not finite (named by layer, head and document).
    pub fn add(
        &mut self,
        model: &Model,
        windows: &[&Window],
        clusters: Option<&[u64]>,
    ) -> Result<(), AttentionError> {
        let _no_grad = tch::no_grad_guard();
        let ids = ids_of(windows);
        let relations = Relations::new(&ids, model.device())?;
        let mut tap = HeadTap { relations: &relations, layers: &self.layers, found: BTreeMap::new() };
        model.forward(&ids, &mut tap)?;
        let mut by_layer = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let missing = || ModelError::Input(format!("{} was not computed", pattern_of(*layer)));
            let found = tap.found.remove(layer).ok_or_else(missing)?;
            by_layer.push(found.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Double)?);
        }
        let sums = Tensor::f_stack(&by_layer, 1)?; // [window, layer, head, column]
        let sums: Vec<f64> = sums.f_reshape([-1])?.try_into()?;
        let each = self.layers.len() * self.n_heads * COLUMNS;
        for (i, (window, own)) in windows.iter().zip(sums.chunks(each)).enumerate() {
            let document = window.document();
            self.check(own, document)?;
            let cluster = clusters.map_or(document, |clusters| clusters[i]);
            self.tally.add(cluster, own, &relations.counts(i))?;
        }
        Ok(())
    }

    fn check(&self, sums: &[f64], document: u64) -> Result<(), AttentionError> {
        let Some(place) = sums.iter().position(|sum| !sum.is_finite()) else { return Ok(()) };
        let place = place / COLUMNS;
        let (layer, head) = (self.layers[place / self.n_heads], place % self.n_heads);
        Err(AttentionError::NotFinite { point: pattern_of(layer).to_string(), head, document })
    }

    /// Every statistic of every head with its interval. A statistic whose rows the text does not have (nothing is said
    /// twice) has no number, and no row; so has a learned sink where rows sum to 1.
    pub fn finish(&mut self) -> Vec<MetricRow> {
        let scores = self.tally.scores();
        let heads = self.layers.iter().flat_map(|layer| (0..self.n_heads).map(move |head| (*layer, head)));
        let heads: Vec<(usize, (usize, usize))> = heads.enumerate().collect();
        let sinks = heads.iter().any(|(place, _)| 1.0 - scores.mean(place * COLUMNS + MASS) > LACKS);
        let mut rows = Vec::new();
        for (place, (layer, head)) in heads {
            for statistic in Statistic::ALL {
                if statistic == Statistic::LearnedSink && !sinks {
                    continue;
                }
                let number = number(scores, statistic, place * COLUMNS);
                if number.n > 0 && number.estimate.is_finite() {
                    rows.push(row(layer, head, statistic, number));
                }
            }
        }
        rows
    }
}

fn pattern_of(layer: usize) -> HookPoint {
    HookPoint::Block(layer, BlockHook::Pattern)
}

/// A statistic of the head whose columns begin at `first`.
fn number(scores: &Scores, statistic: Statistic, first: usize) -> Estimate {
    let own = |column: usize| scores.in_unit(first + column, statistic.unit());
    let mul = |column: usize| {
        let share = scores.contrast(|mean| mean(first + column) / mean(first + MASS));
        Estimate { interval: share.interval.map(|interval| interval.within([0.0, 1.0])), ..share }
    };
    match statistic {
        Statistic::Entropy => own(0),
        Statistic::EntropyNormalised => own(1),
        Statistic::Distance => own(2),
        Statistic::Sink => own(3),
        Statistic::LearnedSink => scores.contrast(|mean| 1.0 - mean(first + MASS)),
        Statistic::PreviousToken => own(5),
        Statistic::DuplicateToken => own(6),
        Statistic::Induction => own(7),
        Statistic::PreviousTokenMul => mul(8),
        Statistic::DuplicateTokenMul => mul(9),
        Statistic::InductionMul => mul(10),
    }
}

fn row(layer: usize, head: usize, statistic: Statistic, number: Estimate) -> MetricRow {
    MetricRow {
        subject: Parts::Head { head, without: None }.into(),
        kind: RowKind::Head,
        hook: BlockHook::Pattern.short_name().to_owned(),
        layer: layer as i32,
        ..MetricRow::of(statistic.name(), statistic.unit(), number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that sum to .75 have a learned sink of .25; nothing is repeated, so that there is no induction.
    #[test]
    fn what_rows_lack_is_a_sink_and_what_is_not_there_has_no_number() {
        let mut scores = HeadScores::new(&[3], 1, Intervals::default()).unwrap();
        let sums = [2.0, 1.0, 3.0, 0.6, 3.0, 1.5, 0.0, 0.0, 1.5, 0.0, 0.0];
        for document in 0..6 {
            scores.tally.add(document, &sums, &[4.0, 3.0, 0.0]).unwrap();
        }
        let rows = scores.finish();
        let found: Vec<(&str, f64)> = rows.iter().map(|r| (r.metric.as_str(), r.estimate)).collect();
        let expected = [
            ("attention_entropy", 0.5),
            ("attention_entropy_normalised", 1.0 / 3.0),
            ("distance", 0.75),
            ("sink", 0.2),
            ("learned_sink", 0.25),
            ("previous_token", 0.5),
            ("previous_token_mul", 0.5),
            ("duplicate_token_mul", 0.0),
            ("induction_mul", 0.0),
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((name, got), (expected_name, expected)) in found.iter().zip(expected) {
            assert!(*name == expected_name && (got - expected).abs() < 1e-12, "{name} {got}");
        }
        assert!(rows.iter().all(|r| r.layer == 3 && r.subject == "H0" && r.n_clusters == 6));
    }
}
