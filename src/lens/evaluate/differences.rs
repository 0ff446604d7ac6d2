//! Lens minus lens and layer minus layer: both sides are read at the same positions, so that the interval of a
//! difference is of the difference itself, which two overlapping intervals of the sides do not tell.

use super::{Evaluation, LensCell, columns, metric::Metric};
use crate::{
    results::run::{MetricRow, Parts, RowKind, Subject},
    results::statistics::Scores,
};

/// What is compared.
const COMPARED: [Metric; 3] = [Metric::Kl, Metric::Ce, Metric::Agreement];

impl Evaluation<'_> {
    /// Of every lens at every layer, kind `difference`:
    ///
    /// - `kl_step`, `ce_step`, `agreement_step`: less the same at the layer read before, which `source_layer` names;
    /// - `kl_difference` …, subject `a less b`: less the same of every lens named before it, at the same layer.
    pub(super) fn differences(&self, scores: &Scores, out: &mut Vec<MetricRow>) {
        for place in 0..self.cells.len() {
            let cell = &self.cells[place];
            let before = place.checked_sub(1).filter(|before| self.cells[*before].lens == cell.lens);
            if let (Some(before), Some(_)) = (before, cell.lens) {
                let source_layer = self.layer_number(&self.cells[before]);
                let rows = self.compared(scores, place, before, "step");
                out.extend(rows.map(|row| MetricRow { source_layer, ..row }));
            }
            for (other, versus) in self.cells[..place].iter().enumerate() {
                let same = (versus.layer, versus.horizon) == (cell.layer, cell.horizon);
                if let (Some(lens), Some(less), true) = (cell.lens, versus.lens, same) {
                    let [of, less] = [lens, less].map(|place| self.lenses[place].name().to_owned());
                    let subject = Subject::from(Parts::Less { of, less });
                    let rows = self.compared(scores, place, other, "difference");
                    out.extend(rows.map(|row| MetricRow { subject: subject.clone(), ..row }));
                }
            }
        }
    }

    /// The cell at `place` less the one at `other`.
    fn compared<'a>(
        &'a self,
        scores: &'a Scores,
        place: usize,
        other: usize,
        what: &'static str,
    ) -> impl Iterator<Item = MetricRow> + 'a {
        let pairs = columns(place).into_iter().zip(columns(other));
        pairs.filter(|(column, _)| COMPARED.contains(&column.metric)).filter_map(move |(column, less)| {
            let number = scores.contrast(|mean| mean(column.index) - mean(less.index));
            let metric = format!("{}_{what}", column.metric.name());
            let row = self.row(&self.cells[place], &metric, column.metric.unit(), number);
            (number.n > 0).then_some(MetricRow { kind: RowKind::Difference, ..row })
        })
    }

    fn layer_number(&self, cell: &LensCell) -> Option<i32> {
        self.points.get(cell.layer).map(|point| super::layer_of(*point).0 as i32)
    }
}
