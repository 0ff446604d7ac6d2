//! From sums to rows of `metrics.parquet`.

use super::{Evaluation, LensCell, columns, layer_of};
use crate::{
    lens::subject_of,
    results::run::{MetricRow, RowKind},
    results::statistics::{Estimate, NoInterval, Scores},
};

impl Evaluation<'_> {
    /// Every number with its interval; where the text was added ([`Self::add_text`]), losses of horizon 1 in bits per
    /// byte too.
    pub fn finish(&mut self) -> Vec<MetricRow> {
        let marginals = self.marginal_kl();
        let scores = self.tally.scores().clone();
        let mut out = Vec::new();
        for place in 0..self.cells.len() {
            self.metrics(place, &scores, &mut out);
            let of_lens = self.cells[place].lens.is_some() && self.cells[place].horizon == 1;
            if let (Some(all), true) = (&marginals, of_lens) {
                let entropy = scores.estimate(columns(place)[0].index);
                let why = "a distribution over the whole text";
                let none =
                    Estimate { estimate: all[place], interval: Err(NoInterval::NotSampled(why)), ..entropy };
                out.push(self.row(&self.cells[place], "marginal_kl", "nats", none));
            }
        }
        self.exits(&scores, &mut out);
        self.differences(&scores, &mut out);
        out
    }

    /// The metrics of the cell at `place`.
    fn metrics(&self, place: usize, scores: &Scores, out: &mut Vec<MetricRow>) {
        let bytes = self.bytes_column();
        let cell = &self.cells[place];
        let shown = columns(place).into_iter().filter(|c| cell.lens.is_some() || c.metric.of_model());
        for column in shown {
            let unit = column.metric.unit();
            let estimate = scores.in_unit(column.index, unit);
            if estimate.n == 0 {
                continue;
            }
            out.push(self.row(cell, column.metric.name(), unit, estimate));
            if column.metric.in_bits() && cell.horizon == 1 && scores.mean(bytes) > 0.0 {
                // A ratio of ratios: how many bytes a token stands for is as much a matter of the documents as the
                // loss.
                let scaled =
                    scores.contrast(|mean| mean(column.index) / (std::f64::consts::LN_2 * mean(bytes)));
                out.push(self.row(cell, column.metric.name(), "bits/byte", scaled));
            }
        }
    }

    /// Prediction depth and early exit of every lens that has them.
    fn exits(&self, scores: &Scores, out: &mut Vec<MetricRow>) {
        for exits in &self.exits {
            let Some(cell) = self.cells.iter().find(|c| c.lens == Some(exits.lens)) else { continue };
            for (metric, unit, layer, column) in exits.names(self.n_layers) {
                let row = self.row(cell, &metric, unit, scores.in_unit(column, unit));
                out.push(MetricRow { layer: layer as i32, ..row });
            }
        }
    }

    pub(super) fn row(&self, cell: &LensCell, metric: &str, unit: &str, estimate: Estimate) -> MetricRow {
        let (subject, kind, hook, layer) = match cell.lens {
            None => ("model".into(), RowKind::Model, "resid_pre", self.n_layers),
            Some(lens) => {
                let point = self.points[cell.layer];
                (
                    subject_of(self.lenses[lens].as_ref()),
                    self.kinds[lens],
                    point.short_name(),
                    layer_of(point).0,
                )
            }
        };
        MetricRow {
            subject,
            kind,
            hook: hook.into(),
            layer: layer as i32,
            horizon: cell.horizon as i32,
            ..MetricRow::of(metric, unit, estimate)
        }
    }

    /// `KL(mean p ‖ mean q)` per cell, in nats.
    fn marginal_kl(&self) -> Option<Vec<f64>> {
        let all = self.marginals.as_ref()?;
        let model = all.last()?;
        let own = *self.positions.last()?;
        let kl = |q: &Vec<f64>, n: f64| -> f64 {
            let term = |(p, q): (&f64, &f64)| {
                let (p, q) = (p / own, q / n);
                if p > 0.0 { p * (p / q.max(f64::MIN_POSITIVE)).ln() } else { 0.0 }
            };
            model.iter().zip(q).map(term).sum()
        };
        Some(all.iter().zip(&self.positions).map(|(q, n)| kl(q, *n)).collect())
    }
}
