//! The lenses of a transfer, by their part in it.

use super::super::{Lenses, fit::ROTATED};
use crate::{
    lens::subject_of,
    lens::transfer::{Sharing, Transfer as Matrix},
    lenses::{Lens, LogitLens},
    results::run::{MetricRow, RowKind},
};

/// The readers of a run, by their part in it.
pub(super) struct Readers {
    pub(super) lens: Box<dyn Lens>,
    pub(super) others: Vec<Box<dyn Lens>>,
    /// Places among the others.
    shared: Vec<usize>,
    /// Controls, by the folder they come from.
    rotated: Vec<(String, usize)>,
    twin: Option<usize>,
}

impl Readers {
    /// Sorts the lenses into their parts; the logit lens always reads along.
    pub(super) fn new(lenses: Lenses) -> Self {
        let mut all = lenses.all.into_iter().zip(lenses.kinds);
        let mut readers = Self {
            lens: Box::new(LogitLens),
            others: Vec::new(),
            shared: Vec::new(),
            rotated: Vec::new(),
            twin: None,
        };
        let mut transferred = RowKind::Tuned;
        if let Some((lens, kind)) = all.next() {
            (readers.lens, transferred) = (lens, kind);
        }
        readers.others.push(Box::new(LogitLens));
        for (lens, kind) in all {
            let place = readers.others.len();
            match (kind, lens.rung()) {
                (RowKind::Shared, Some((folder, ROTATED))) => {
                    readers.rotated.push((folder.to_owned(), place));
                }
                (RowKind::Shared, _) => readers.shared.push(place),
                (kind, _) if kind == transferred => readers.twin = Some(place),
                _ => {}
            }
            readers.others.push(lens);
        }
        readers
    }

    /// How well each shared lens does, with its control.
    pub(super) fn sharing(&self, matrix: &mut Matrix<'_>) -> Vec<Sharing> {
        let one = |&place: &usize| {
            let (layers, score) = matrix.sharing(place);
            let lens = self.others[place].as_ref();
            let same = |(folder, _): &&(String, usize)| lens.rung().is_some_and(|(own, _)| own == folder);
            let rotated = self.rotated.iter().find(same).map(|(_, rotated)| *rotated);
            let control = rotated.map(|rotated| (matrix.sharing(rotated).1, matrix.index(place, rotated)));
            Sharing { subject: subject_of(lens), score, layers, control }
        };
        self.shared.iter().map(one).collect()
    }

    /// How far the CE of the lens and its twin are apart, on average over layers.
    pub(super) fn twin(&self, rows: &[MetricRow]) -> Option<f64> {
        let name = self.others[self.twin?].name();
        let own = |layer: i32| {
            let diagonal = |r: &&MetricRow| {
                r.kind == RowKind::Transfer
                    && r.metric == "ce"
                    && r.layer == layer
                    && r.source_layer == Some(layer)
            };
            rows.iter().find(diagonal)
        };
        let twin = rows.iter().filter(|r| r.subject == name && r.kind == RowKind::Reader && r.metric == "ce");
        let apart: Vec<f64> =
            twin.filter_map(|r| Some((r.estimate - own(r.layer)?.estimate).abs())).collect();
        Some(apart.iter().sum::<f64>() / apart.len().max(1) as f64)
    }
}
