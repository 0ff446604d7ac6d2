//! From the sums of a transfer to numbers with intervals.

use layerscope_lenses::LayerIndex;

use super::{Constants, Correction, Transfer, places::CE};
use crate::{
    lens::subject_of,
    results::run::{MetricRow, Parts, RowKind, Subject},
    results::statistics::{Estimate, Scores},
};

/// What stands in a cell, in the order of its columns.
const PLAIN: [(&str, &str); 4] =
    [("kl", "nats"), ("agreement", "share"), ("kl_native", "nats"), ("ce", "nats")];

/// The rows so far.
struct Table<'a> {
    hook: &'a str,
    layers: &'a [LayerIndex],
    scores: &'a Scores,
    rows: Vec<MetricRow>,
}

/// Of whom a number is.
#[derive(Clone, Copy)]
struct Of<'a> {
    subject: &'a Subject,
    kind: RowKind,
    /// Places of the state's layer and the lens's.
    layer: usize,
    source: Option<usize>,
}

impl Table<'_> {
    fn push(&mut self, of: Of<'_>, (metric, unit): (&str, &str), e: Estimate) {
        self.rows.push(MetricRow {
            subject: of.subject.clone(),
            kind: of.kind,
            hook: self.hook.into(),
            layer: self.layers[of.layer].0 as i32,
            source_layer: of.source.map(|i| self.layers[i].0 as i32),
            ..MetricRow::of(metric, unit, e)
        });
    }

    /// The means of the cell that begins at column `first`.
    fn cell(&mut self, of: Of<'_>, first: usize) {
        for (offset, name) in PLAIN.into_iter().enumerate() {
            let column = first + offset;
            self.push(of, name, self.scores.in_unit(column, name.1));
        }
    }
}

impl Transfer<'_> {
    /// Every number with its interval.
    pub fn rows(&mut self, hook: &str) -> Vec<MetricRow> {
        let (at, name) = (self.places, self.subjects.lens.name());
        let scores = self.tally.scores();
        let mut table = Table { hook, layers: &self.layers, scores, rows: Vec::new() };
        for m in 0..at.matrices {
            let (subject, kind) = match m.checked_sub(1) {
                None => (subject_of(self.subjects.lens), RowKind::Transfer),
                Some(c) => {
                    let correction = Correction::ALL[c].name().to_owned();
                    (Parts::Corrected { of: name.to_owned(), correction }.into(), RowKind::TransferCorrected)
                }
            };
            for (i, j) in (0..at.layers).flat_map(|i| (0..at.layers).map(move |j| (i, j))) {
                let of = Of { subject: &subject, kind, layer: j, source: Some(i) };
                let first = at.cell(m, i, j);
                table.cell(of, first);
                let against =
                    |k: usize| scores.contrast(|mean| mean(first + CE) - mean(at.cell(m, k, k) + CE));
                table.push(of, ("penalty_state", "nats"), against(j));
                table.push(of, ("penalty_lens", "nats"), against(i));
            }
        }
        for (o, other) in self.subjects.others.iter().enumerate() {
            let subject = subject_of(other.as_ref());
            for j in 0..at.layers {
                table.cell(
                    Of { subject: &subject, kind: RowKind::Reader, layer: j, source: None },
                    at.reader(o, j),
                );
            }
        }
        let constant = "constant".into();
        let of = Of { subject: &constant, kind: RowKind::Baseline, layer: at.layers - 1, source: None };
        let spread = self.constants.spread(|which| scores.mean(at.constant() + which));
        let documents = self.constants.documents();
        table.push(of, ("kl", "nats"), scores.contrast_over_two(|m| m(at.constant()), spread, documents));
        table.rows
    }

    /// How much of the gap to the constant predictor a lens that reads all layers leaves open: per layer
    /// `G = (KL_S - KL_T) / (KL_const - KL_T)`, and over all layers the ratio of means. `S` is the reader `other`.
    ///
    /// `KL_const` is that of a predictor made of very many documents (a jackknife takes the bias of few off), and
    /// intervals are over the documents of both halves: those that were measured on, and those that made the predictor.
    pub fn sharing(&mut self, other: usize) -> (Vec<Estimate>, Estimate) {
        let (at, constants) = (self.places, &self.constants);
        let pairs: Vec<(usize, usize)> =
            (0..at.layers).map(|j| (at.reader(other, j), at.cell(0, j, j))).collect();
        let scores = self.tally.scores();
        let score = |pairs: &[(usize, usize)]| sharing_score(scores, constants, at.constant(), pairs);
        (pairs.iter().map(|pair| score(std::slice::from_ref(pair))).collect(), score(&pairs))
    }

    /// Paired means over all layers: `Σ (KL_a - KL_T)` of two readers, for the sharing index `1 - gap_a / gap_b`.
    pub fn index(&mut self, shared: usize, rotated: usize) -> Estimate {
        let at = self.places;
        let gap = |m: &dyn Fn(usize) -> f64, reader: usize| -> f64 {
            (0..at.layers).map(|j| m(at.reader(reader, j)) - m(at.cell(0, j, j))).sum()
        };
        self.tally.scores().contrast(|m| 1.0 - gap(m, shared) / gap(m, rotated))
    }
}

/// G of some layers from the means of pairs of columns, the KL of the lens that reads all layers and of each layer's
/// own, and of the columns from `first` on, which are the KL of the constant predictors.
pub(crate) fn sharing_score(
    scores: &Scores,
    constants: &Constants,
    first: usize,
    pairs: &[(usize, usize)],
) -> Estimate {
    let gap = |m: &dyn Fn(usize) -> f64| pairs.iter().map(|(s, t)| m(*s) - m(*t)).sum::<f64>();
    let room =
        |m: &dyn Fn(usize) -> f64, constant: f64| pairs.iter().map(|(_, t)| constant - m(*t)).sum::<f64>();
    let spread = constants.spread(|which| room(&|c| scores.mean(c), scores.mean(first + which)));
    let corrected = |m: &dyn Fn(usize) -> f64| room(m, constants.corrected(|which| m(first + which)));
    scores.ratio_over_two(gap, corrected, spread, constants.documents())
}
