//! Means over prompts: the same numbers of several prompts (or sentences), with intervals over these.

use std::collections::BTreeMap;

use super::{MetricRow, RowKind};
use crate::statistics::{Intervals, ScoreError, Tally};

/// What makes two rows the same number of different prompts.
type Key<'a> = (&'a str, RowKind, &'a str, i32, Option<i32>, i32, &'a str, &'a str);

fn key(row: &MetricRow) -> Key<'_> {
    (&row.subject, row.kind, &row.hook, row.layer, row.source_layer, row.horizon, &row.metric, &row.unit)
}

/// The mean of every number over the prompts that have it, each prompt counted once, with an interval over prompts; in
/// the order in which numbers first come.
///
/// # Errors
/// A number that is not finite.
pub fn over(prompts: &[Vec<MetricRow>], intervals: Intervals) -> Result<Vec<MetricRow>, ScoreError> {
    let mut places: BTreeMap<Key<'_>, usize> = BTreeMap::new();
    let mut firsts: Vec<&MetricRow> = Vec::new();
    for row in prompts.iter().flatten() {
        places.entry(key(row)).or_insert_with(|| {
            firsts.push(row);
            firsts.len() - 1
        });
    }
    // A group of its own for every column: not every prompt has every number.
    let width = firsts.len();
    let mut tally = Tally::new((0..width).collect(), width, intervals)?;
    for (prompt, rows) in prompts.iter().enumerate() {
        let (mut sums, mut counts) = (vec![0.0; width], vec![0.0; width]);
        for row in rows {
            if let Some(place) = places.get(&key(row)) {
                sums[*place] = row.estimate;
                counts[*place] = 1.0;
            }
        }
        tally.add(prompt as u64, &sums, &counts)?;
    }
    let scores = tally.scores();
    let mean = |(column, row): (usize, &&MetricRow)| {
        let number = MetricRow::of(&row.metric, &row.unit, scores.in_unit(column, &row.unit));
        MetricRow {
            estimate: number.estimate,
            lower: number.lower,
            upper: number.upper,
            n: number.n,
            n_clusters: number.n_clusters,
            n_eff: number.n_eff,
            reason: number.reason,
            ..(*row).clone()
        }
    };
    Ok(firsts.iter().enumerate().map(mean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Estimate;

    fn row(subject: &str, metric: &str, unit: &str, estimate: f64) -> MetricRow {
        let number = Estimate::alone(estimate, "one prompt", 3);
        MetricRow { subject: subject.into(), ..MetricRow::of(metric, unit, number) }
    }

    /// Of 1, 2, 3, 4, 10 the mean is 4 and its standard error √2.5; t(4) = 2.776445. The share's estimate is 3 of 5.
    #[test]
    fn means_and_intervals_by_hand() {
        let prompts: Vec<Vec<MetricRow>> = [1.0, 2.0, 3.0, 4.0, 10.0]
            .into_iter()
            .enumerate()
            .map(|(i, x)| {
                let mut rows =
                    vec![row("a", "kl", "nats", x), row("a", "hit", "share", f64::from(u8::from(i < 3)))];
                if i > 0 {
                    rows.push(row("b", "kl", "nats", x)); // the first prompt has none
                }
                rows
            })
            .collect();
        let found = over(&prompts, Intervals::default()).unwrap();
        assert_eq!(found.iter().map(|r| r.subject.as_str()).collect::<Vec<_>>(), ["a", "a", "b"]);
        let half = 2.776_445_105_2 * 2.5_f64.sqrt();
        assert!(
            (found[0].estimate - 4.0).abs() < 1e-12 && (found[0].upper.unwrap() - 4.0 - half).abs() < 1e-8
        );
        assert_eq!((found[0].n, found[0].n_clusters, found[0].n_eff), (5, 5, 5.0));
        assert!(
            (found[1].estimate - 0.6).abs() < 1e-12
                && found[1].lower.unwrap() > 0.0
                && found[1].upper.unwrap() < 1.0
        );
        assert_eq!((found[2].n_clusters, found[2].lower), (4, None));
        assert_eq!(found[2].reason.as_deref(), Some("4.0 effective clusters, fewer than 5"));
        assert!(over(&[], Intervals::default()).unwrap().is_empty());
    }
}
