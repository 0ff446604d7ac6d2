//! From one batch's readings to sums per document.

use std::collections::BTreeMap;

use super::{
    metric::{Group, Metric, group},
    reading::Reading,
};

/// Sums of every column per document, for one batch.
pub(super) struct Columns<'a> {
    docs: &'a [u64],
    width: usize,
    /// Per document: sums by column, counts by group.
    sums: BTreeMap<u64, (Vec<f64>, BTreeMap<usize, f64>)>,
    /// Groups that a cell has filled already: cells of one horizon count the same positions.
    counted: Vec<usize>,
}

impl<'a> Columns<'a> {
    /// `docs` gives the document of every row, `width` how many columns there are.
    pub(super) fn new(docs: &'a [u64], width: usize) -> Self {
        Self { docs, width, sums: BTreeMap::new(), counted: Vec::new() }
    }

    /// Adds the metrics of the cell at `place`.
    pub(super) fn take(&mut self, place: usize, horizon: usize, reading: &Reading) {
        let count = !self.counted.contains(&horizon);
        if count {
            self.counted.push(horizon);
        }
        let groups = [group(horizon, Group::All), group(horizon, Group::Known)];
        for (i, row) in reading.rows.iter().enumerate() {
            self.add(*row, place * Metric::ALL.len(), &all(reading, i));
            if reading.known(i) {
                self.add(*row, place * Metric::ALL.len() + 5, &known(reading, i));
            }
            if count {
                let (_, counts) = self.document(*row);
                *counts.entry(groups[0]).or_insert(0.0) += 1.0;
                *counts.entry(groups[1]).or_insert(0.0) += f64::from(u8::from(reading.known(i)));
            }
        }
    }

    /// Adds `values` of a row to the columns from `first` on.
    pub(super) fn add(&mut self, row: usize, first: usize, values: &[f64]) {
        let (sums, _) = self.document(row);
        sums[first..].iter_mut().zip(values).for_each(|(sum, x)| *sum += x);
    }

    fn document(&mut self, row: usize) -> &mut (Vec<f64>, BTreeMap<usize, f64>) {
        let width = self.width;
        self.sums.entry(self.docs[row]).or_insert_with(|| (vec![0.0; width], BTreeMap::new()))
    }

    /// `(document, sums, counts)` of every document in the batch.
    pub(super) fn by_document(self, groups: usize) -> impl Iterator<Item = (u64, Vec<f64>, Vec<f64>)> {
        self.sums.into_iter().map(move |(doc, (sums, counts))| {
            let counts = (0..groups).map(|g| counts.get(&g).copied().unwrap_or(0.0)).collect();
            (doc, sums, counts)
        })
    }
}

/// The metrics over all positions, in the order of [`Metric::ALL`].
fn all(r: &Reading, i: usize) -> [f64; 5] {
    let of_final = r.rank_of_final[i];
    [r.entropy[i], r.kl[i], yes(r.agrees(i)), yes(of_final < 5), yes(of_final < 10)]
}

/// Those over positions whose true token is known.
fn known(r: &Reading, i: usize) -> [f64; 7] {
    let rank = r.rank[i];
    let hit = yes(r.top[i] == r.tokens[i]);
    [r.ce[i], hit, rank as f64, yes(rank < 1), yes(rank < 5), yes(rank < 10), r.surprisal[i]]
}

fn yes(condition: bool) -> f64 {
    f64::from(u8::from(condition))
}
