//! From sums to rows of `metrics.parquet`.

use super::{Cell, Evaluation, columns, layer_of};
use crate::{
    run::MetricRow,
    score::{Estimate, Scores},
};

impl Evaluation<'_> {
    /// Every number with its interval. `bytes_per_token` adds bits per byte to losses of horizon 1.
    pub fn finish(&mut self, bytes_per_token: Option<f64>) -> Vec<MetricRow> {
        let marginals = self.marginal_kl();
        let scores = self.tally.scores().clone();
        let mut out = Vec::new();
        for place in 0..self.cells.len() {
            self.metrics(place, &scores, bytes_per_token, &mut out);
            let of_lens = self.cells[place].lens.is_some() && self.cells[place].horizon == 1;
            if let (Some(all), true) = (&marginals, of_lens) {
                let entropy = scores.estimate(columns(place)[0].index);
                let none = Estimate { estimate: all[place], lower: None, upper: None, ..entropy };
                out.push(self.row(&self.cells[place], "marginal_kl", "nats", none));
            }
        }
        self.exits(&scores, &mut out);
        out
    }

    /// The metrics of the cell at `place`.
    fn metrics(&self, place: usize, scores: &Scores, bytes_per_token: Option<f64>, out: &mut Vec<MetricRow>) {
        let cell = &self.cells[place];
        let shown = columns(place).into_iter().filter(|c| cell.lens.is_some() || c.metric.of_model());
        for column in shown {
            let estimate = scores.estimate(column.index);
            if estimate.n == 0 {
                continue;
            }
            out.push(self.row(cell, column.metric.name(), column.metric.unit(), estimate));
            let bpb = bytes_per_token.filter(|_| column.metric.in_bits() && cell.horizon == 1);
            if let Some(bytes) = bpb {
                let factor = 1.0 / (std::f64::consts::LN_2 * bytes);
                let scaled = scores.contrast(|mean| mean(column.index) * factor);
                out.push(self.row(cell, column.metric.name(), "bits/byte", scaled));
            }
        }
    }

    /// Prediction depth and early exit of every lens that has them.
    fn exits(&self, scores: &Scores, out: &mut Vec<MetricRow>) {
        for exits in &self.exits {
            let Some(cell) = self.cells.iter().find(|c| c.lens == Some(exits.lens)) else { continue };
            for (metric, unit, layer, column) in exits.names(self.n_layers) {
                let row = self.row(cell, &metric, unit, scores.estimate(column));
                out.push(MetricRow { layer: layer as i32, ..row });
            }
        }
    }

    fn row(&self, cell: &Cell, metric: &str, unit: &str, estimate: Estimate) -> MetricRow {
        let (subject, kind, hook, layer) = match cell.lens {
            None => ("model", "model", "resid_pre", self.n_layers),
            Some(lens) => {
                let point = self.points[cell.layer];
                (self.lenses[lens].name(), self.kinds[lens].as_str(), point.short_name(), layer_of(point).0)
            }
        };
        MetricRow {
            subject: subject.into(),
            kind: kind.into(),
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
