//! Prediction depth and early exit: at which layer a lens has the model's answer, and whether it could know so there.
//!
//! * Prediction depth (Baldock et al. 2021, read off lenses as in Belrose et al. 2023): the first layer read from which
//!   on the lens's first token is the model's; the last layer where there is none. `decided` at layer l is the share of
//!   positions whose depth is at most l.
//! * Early exit (Din et al. 2023; Schuster et al. 2022): reading stops at the first layer where a rule holds, else at
//!   the last. `exit_layer` is the mean layer of stopping, `exit_agreement` how often the token found there is the
//!   model's.

use std::fmt;

use super::{LensCell, metric::Metric, reading::Reading, rows::Columns};

/// When to stop reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// The lens's first token has at least this probability.
    Prob(f64),
    /// The entropy is at most so many nats.
    Entropy(f64),
    /// The first token is that of so many layers before.
    Stable(usize),
}

impl Rule {
    /// Those that are measured.
    pub const ALL: [Self; 8] = [
        Self::Prob(0.5),
        Self::Prob(0.8),
        Self::Prob(0.95),
        Self::Entropy(2.0),
        Self::Entropy(1.0),
        Self::Entropy(0.3),
        Self::Stable(1),
        Self::Stable(2),
    ];

    /// Whether it holds for entry `i` of the reading at `place`.
    fn holds(self, readings: &[Reading], place: usize, i: usize) -> bool {
        let here = &readings[place];
        match self {
            Self::Prob(least) => here.top_prob[i] >= least,
            Self::Entropy(most) => here.entropy[i] <= most,
            Self::Stable(layers) => {
                place >= layers && (place - layers..place).all(|p| readings[p].top[i] == here.top[i])
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prob(least) => write!(f, "prob>={least}"),
            Self::Entropy(most) => write!(f, "entropy<={most}"),
            Self::Stable(layers) => write!(f, "same>={layers}"),
        }
    }
}

/// One lens's columns: the depth, the share decided by layer, then layer and agreement per rule.
#[derive(Debug)]
pub(super) struct Exits {
    /// Place among the lenses.
    pub(super) lens: usize,
    /// The layers it reads, ascending.
    pub(super) layers: Vec<usize>,
    first: usize,
}

impl Exits {
    /// Columns after the metrics of `cells`: for every lens that reads the next token at two layers or more. `layer_of`
    /// gives the number of a cell's layer.
    pub(super) fn plan(cells: &[LensCell], layer_of: impl Fn(&LensCell) -> usize) -> Vec<Self> {
        let mut first = cells.len() * Metric::ALL.len();
        let mut exits = Vec::new();
        for group in cells.chunk_by(|a, b| a.lens == b.lens) {
            let Some(lens) = group[0].lens.filter(|_| group.len() > 1 && group[0].horizon == 1) else {
                continue;
            };
            let one = Self { lens, layers: group.iter().map(&layer_of).collect(), first };
            first += one.width();
            exits.push(one);
        }
        exits
    }

    pub(super) fn width(&self) -> usize {
        1 + self.layers.len() + 2 * Rule::ALL.len()
    }

    /// Adds one batch: a reading per layer, all of the same rows; `n_layers` is the model's own layer.
    pub(super) fn take(&self, columns: &mut Columns<'_>, readings: &[Reading], n_layers: usize) {
        let Some(rows) = readings.first().map(|r| &r.rows) else { return };
        for (i, row) in rows.iter().enumerate() {
            columns.add(*row, self.first, &self.values(readings, i, n_layers));
        }
    }

    fn values(&self, readings: &[Reading], i: usize, n_layers: usize) -> Vec<f64> {
        let wrong = readings.iter().rposition(|r| !r.agrees(i));
        let depth = wrong.map_or(0, |place| place + 1); // a place; one past the last: the model itself
        let layer = |place: usize| self.layers.get(place).copied().unwrap_or(n_layers) as f64;
        let mut values = vec![layer(depth)];
        values.extend((0..self.layers.len()).map(|place| f64::from(u8::from(depth <= place))));
        for rule in Rule::ALL {
            let left = (0..readings.len()).find(|place| rule.holds(readings, *place, i));
            let agrees = left.is_none_or(|place| readings[place].agrees(i));
            values.extend([layer(left.unwrap_or(readings.len())), f64::from(u8::from(agrees))]);
        }
        values
    }

    /// `(metric, unit, layer, column)` of every number.
    pub(super) fn names(&self, n_layers: usize) -> Vec<(String, &'static str, usize, usize)> {
        let mut names = vec![("prediction_depth".to_owned(), "layers", n_layers)];
        names.extend(self.layers.iter().map(|layer| ("decided".to_owned(), "share", *layer)));
        for rule in Rule::ALL {
            names.push((format!("exit_layer:{rule}"), "layers", n_layers));
            names.push((format!("exit_agreement:{rule}"), "share", n_layers));
        }
        let place = |(k, (name, unit, layer))| (name, unit, layer, self.first + k);
        names.into_iter().enumerate().map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row's first tokens by layer with their probabilities; the model says 7.
    fn readings(tops: &[(i64, f64)]) -> Vec<Reading> {
        let one = |(top, prob): &(i64, f64)| Reading {
            rows: vec![0],
            top: vec![*top],
            top_prob: vec![*prob],
            entropy: vec![-prob.ln()],
            finals: vec![7],
            ..Reading::default()
        };
        tops.iter().map(one).collect()
    }

    fn values(tops: &[(i64, f64)]) -> Vec<f64> {
        let exits = Exits { lens: 0, layers: (0..tops.len()).collect(), first: 0 };
        exits.values(&readings(tops), 0, tops.len())
    }

    #[test]
    fn depth_is_where_the_answer_stays() {
        // 7 at layer 0 is lost at layer 1; from layer 2 on it stays.
        let got = values(&[(7, 0.2), (3, 0.6), (7, 0.7), (7, 0.9)]);
        assert_eq!(got[..5], [2.0, 0.0, 0.0, 1.0, 1.0]);
        assert_eq!(values(&[(7, 0.2), (7, 0.2)])[0], 0.0);
        assert_eq!(values(&[(7, 0.2), (3, 0.2)])[..3], [2.0, 0.0, 0.0], "only the model itself has it");
    }

    #[test]
    fn rules_stop_at_the_first_layer_that_satisfies_them() {
        let got = values(&[(7, 0.2), (3, 0.6), (7, 0.7), (7, 0.9)]);
        let rule = |k: usize| (got[5 + 2 * k], got[6 + 2 * k]);
        assert_eq!(rule(0), (1.0, 0.0), "0.6 >= 0.5 at layer 1, where the token is 3");
        assert_eq!(rule(1), (3.0, 1.0), "0.9 >= 0.8 at layer 3");
        assert_eq!(rule(2), (4.0, 1.0), "0.95 is never reached: the model answers");
        // -ln 0.2 = 1.609 <= 2 at layer 0; -ln 0.6 = 0.51 <= 1 at layer 1; -ln 0.9 = 0.105 <= 0.3 at layer 3.
        assert_eq!((rule(3), rule(4), rule(5)), ((0.0, 1.0), (1.0, 0.0), (3.0, 1.0)));
        assert_eq!(rule(6), (3.0, 1.0), "the same token as a layer before, first at layer 3");
        assert_eq!(rule(7), (4.0, 1.0), "never the same three times");
    }
}
