use super::classified::logsumexp;
use super::{Classified, Metric};

/// Area under the ROC curve: the chance that a row of the class scores higher than one of another class, ties counting half
/// (the Mann-Whitney U). More than two classes: each against the rest by its probability, and the mean over the classes
/// that occur on both sides (scikit-learn's `multi_class="ovr", average="macro"`); NaN when there is none.
///
/// Rows are sorted once; a resample is then one pass.
#[derive(Debug, Clone)]
pub struct Auroc {
    rows: usize,
    classes: Vec<Sorted>,
}

/// The rows in ascending order of one class's log-odds.
#[derive(Debug, Clone)]
struct Sorted {
    /// Row · 4, + 1 when it is of the class, + 2 when the next row scores higher.
    rows: Vec<usize>,
}

impl Auroc {
    pub(super) fn new(of: &Classified) -> Self {
        // Of two classes, the second says it all.
        let first = usize::from(of.n_classes() == 2);
        Self {
            rows: of.y.len(),
            classes: (first..of.n_classes()).map(|class| Sorted::new(of, class)).collect(),
        }
    }
}

impl Metric for Auroc {
    fn rows(&self) -> usize {
        self.rows
    }

    fn value(&self, weights: &[f64]) -> f64 {
        let areas = self.classes.iter().filter_map(|class| class.area(weights));
        let (sum, n) = areas.fold((0.0, 0.0), |(sum, n), area| (sum + area, n + 1.0));
        sum / n
    }
}

impl Sorted {
    fn new(of: &Classified, class: usize) -> Self {
        let odds = log_odds(of, class);
        let mut order: Vec<usize> = (0..odds.len()).collect();
        order.sort_unstable_by(|&a, &b| odds[a].total_cmp(&odds[b]).then(a.cmp(&b)));
        let last_of_tie = |at: usize| order.get(at + 1).is_none_or(|&next| odds[next] != odds[order[at]]);
        let flags = |(at, &row): (usize, &usize)| {
            4 * row + usize::from(of.y[row] as usize == class) + 2 * usize::from(last_of_tie(at))
        };
        Self { rows: order.iter().enumerate().map(flags).collect() }
    }

    /// None when all the weight is on one side.
    fn area(&self, weights: &[f64]) -> Option<f64> {
        let (mut below, mut positive) = (0.0, 0.0);
        let (mut tied, mut won) = ([0.0; 2], 0.0); // [others, of the class]
        for &row in &self.rows {
            tied[row & 1] += weights[row >> 2];
            if row & 2 != 0 {
                won += tied[1] * (below + 0.5 * tied[0]);
                below += tied[0];
                positive += tied[1];
                tied = [0.0; 2];
            }
        }
        (below > 0.0 && positive > 0.0).then(|| won / (below * positive))
    }
}

/// log p / (1 - p) of one class: the order of its probability, without the ties of probabilities that round to 1.
fn log_odds(of: &Classified, class: usize) -> Vec<f64> {
    let rows = of.scores.outer_iter().zip(of.log_probs.outer_iter()).zip(&of.predicted);
    rows.map(|((scores, log_probs), &top)| {
        if of.n_classes() == 2 || top as usize == class {
            let others = scores.iter().enumerate().filter(move |&(other, _)| other != class).map(|(_, &s)| s);
            scores[class] - logsumexp(others)
        } else {
            log_probs[class] - (-log_probs[class].exp()).ln_1p()
        }
    })
    .collect()
}
