//! The numbers of one item, which are then averaged over items.

use super::Ranks;
use crate::{
    results::run::{MetricRow, Parts, RowKind, Subject},
    results::statistics::Estimate,
};

/// The `k`s of `pass@k`.
pub const KS: [u64; 4] = [1, 10, 100, 1000];

/// Why one item has no interval of its own.
const ONE: &str = "one prompt";

/// Numbers of an item under several lenses, given with their names and kinds; over the first `vocab` tokens:
///
/// - `pass_at_k` at each layer, and `any_pass_at_k` of the smallest rank over layers, at the last layer read;
/// - `any_auc`: the area under pass@k over ln k, `1 − ln(rank) / ln(vocab)`;
/// - `control_…`, the same of another prompt's words, and `excess_…`, the difference;
/// - of kind `difference`, the excess of each lens less that of every lens before it.
pub fn rows(lenses: &[(Subject, RowKind)], found: &[Ranks], vocab: usize) -> Vec<MetricRow> {
    let mut rows = Vec::new();
    let mut totals: Vec<Vec<(String, f64, i32)>> = Vec::new();
    for ((subject, kind), ranks) in lenses.iter().zip(found) {
        let push = |rows: &mut Vec<MetricRow>, metric: &str, unit: &str, layer: i32, x: f64| {
            rows.push(row((subject.clone(), *kind), metric, unit, layer, x));
        };
        for (place, layer) in ranks.layers.iter().enumerate() {
            let at = |words: &[Vec<u64>]| words.iter().map(|word| word[place]).collect::<Vec<_>>();
            let (own, other) = (at(&ranks.own), at(&ranks.other));
            for k in KS {
                push(&mut rows, &format!("pass_at_{k}"), "share", *layer as i32, pass(&own, k));
                if !other.is_empty() {
                    let metric = format!("control_pass_at_{k}");
                    push(&mut rows, &metric, "share", *layer as i32, pass(&other, k));
                }
            }
        }
        let end = ranks.layers.last().map_or(0, |layer| *layer as i32);
        let mut own_totals = Vec::new();
        for (metric, unit, own, other) in totals_of(ranks, vocab) {
            push(&mut rows, &format!("any_{metric}"), unit, end, own);
            if let Some(other) = other {
                push(&mut rows, &format!("any_control_{metric}"), unit, end, other);
                push(&mut rows, &format!("any_excess_{metric}"), "share difference", end, own - other);
                own_totals.push((metric, own - other, end));
            }
        }
        for ((before, _), theirs) in lenses.iter().zip(&totals) {
            let parts = Parts::Less { of: subject.to_string(), less: before.to_string() };
            for ((metric, mine, layer), (_, others, _)) in own_totals.iter().zip(theirs) {
                let who = (Subject::from(parts.clone()), RowKind::Difference);
                let metric = format!("any_excess_{metric}_difference");
                rows.push(row(who, &metric, "share difference", *layer, mine - others));
            }
        }
        totals.push(own_totals);
    }
    rows
}

/// Of the smallest ranks over layers: metric, unit, of the own words, of the control's.
fn totals_of(ranks: &Ranks, vocab: usize) -> Vec<(String, &'static str, f64, Option<f64>)> {
    let best =
        |words: &[Vec<u64>]| words.iter().filter_map(|word| word.iter().min().copied()).collect::<Vec<_>>();
    let (own, other) = (best(&ranks.own), best(&ranks.other));
    let some = |f: &dyn Fn(&[u64]) -> f64| (f(&own), (!other.is_empty()).then(|| f(&other)));
    let passes = KS.iter().map(|k| {
        let (own, other) = some(&|ranks| pass(ranks, *k));
        (format!("pass_at_{k}"), "share", own, other)
    });
    let (own_area, other_area) = some(&|ranks| area(ranks, vocab));
    passes.chain([("auc".to_owned(), "area", own_area, other_area)]).collect()
}

/// The share of words whose rank is at most `k`.
fn pass(ranks: &[u64], k: u64) -> f64 {
    ranks.iter().filter(|rank| **rank <= k).count() as f64 / ranks.len() as f64
}

/// The area under pass@k over ln k, from 1 to the vocabulary: the mean over words of `1 − ln(rank) / ln(vocab)`.
fn area(ranks: &[u64], vocab: usize) -> f64 {
    let one = |rank: &u64| 1.0 - (*rank as f64).ln() / (vocab as f64).ln();
    ranks.iter().map(one).sum::<f64>() / ranks.len() as f64
}

fn row((subject, kind): (Subject, RowKind), metric: &str, unit: &str, layer: i32, x: f64) -> MetricRow {
    let hook = "resid_pre".to_owned();
    MetricRow { subject, kind, hook, layer, ..MetricRow::of(metric, unit, Estimate::alone(x, ONE, 1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(rows: &[MetricRow], subject: &str, metric: &str, layer: i32) -> f64 {
        let own = |row: &&MetricRow| row.subject == subject && row.metric == metric && row.layer == layer;
        rows.iter().find(own).unwrap_or_else(|| panic!("{subject} {metric} {layer}")).estimate
    }

    #[test]
    fn numbers_by_hand() {
        let lenses = [(Subject::from("logit"), RowKind::Logit), (Subject::from("j"), RowKind::Jacobian)];
        let ranks = |own: &[[u64; 2]], other: &[[u64; 2]]| Ranks {
            layers: vec![3, 8],
            own: own.iter().map(|word| word.to_vec()).collect(),
            other: other.iter().map(|word| word.to_vec()).collect(),
        };
        // Two words: smallest ranks 1 and 20 of a vocabulary of 100, the control's 100.
        let found =
            [ranks(&[[50, 50], [100, 100]], &[[100, 100]]), ranks(&[[1, 30], [20, 40]], &[[100, 100]])];
        let rows = rows(&lenses, &found, 100);
        assert_eq!(find(&rows, "j", "pass_at_10", 3), 0.5);
        assert_eq!(find(&rows, "j", "pass_at_10", 8), 0.0);
        assert_eq!(find(&rows, "j", "any_pass_at_10", 8), 0.5);
        assert_eq!(find(&rows, "logit", "any_pass_at_100", 8), 1.0);
        let area = 1.0 - 0.5 * 20f64.ln() / 100f64.ln();
        assert!((find(&rows, "j", "any_auc", 8) - area).abs() < 1e-12);
        assert_eq!(find(&rows, "j", "any_control_auc", 8), 0.0);
        assert!((find(&rows, "j", "any_excess_auc", 8) - area).abs() < 1e-12);
        // The logit lens's excess at 10 is 0.
        assert_eq!(find(&rows, "j less logit", "any_excess_pass_at_10_difference", 8), 0.5);
    }

    #[test]
    fn without_a_control_there_is_no_excess() {
        let found = [Ranks { layers: vec![0], own: vec![vec![7]], other: vec![] }];
        let rows = rows(&[(Subject::from("logit"), RowKind::Logit)], &found, 10);
        assert!(rows.iter().all(|row| !row.metric.contains("control") && !row.metric.contains("excess")));
    }
}
