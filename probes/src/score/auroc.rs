use super::classified::logsumexp;
use super::{Classified, Lanes, Metric, add, each};

/// Area under the ROC curve: the chance that a row of the class scores higher than one of another class, ties counting
/// half (the Mann-Whitney U). More than two classes: each against the rest by its probability, and the mean over the
/// classes that occur on both sides (scikit-learn's `multi_class="ovr", average="macro"`); NaN when there is none.
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
    rows: Vec<usize>,
    blocks: Vec<Block>,
}

/// Where rows of the class end that score the same, then other rows tied with them, then other rows up to the next
/// block.
#[derive(Debug, Clone, Copy)]
struct Block {
    of_class: usize,
    tied: usize,
    above: usize,
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

    fn is_share(&self) -> bool {
        true
    }

    fn values(&self, weights: &[Lanes]) -> Lanes {
        let [mut sum, mut n] = [Lanes::default(); 2];
        for class in &self.classes {
            let area = class.area(weights);
            for lane in 0..area.len() {
                sum[lane] += if area[lane].is_nan() { 0.0 } else { area[lane] };
                n[lane] += if area[lane].is_nan() { 0.0 } else { 1.0 };
            }
        }
        each(|lane| sum[lane] / n[lane])
    }
}

impl Sorted {
    fn new(of: &Classified, class: usize) -> Self {
        let odds = log_odds(of, class);
        let other = |row: usize| of.y[row] as usize != class;
        let mut rows: Vec<usize> = (0..odds.len()).collect();
        rows.sort_unstable_by(|&a, &b| {
            odds[a].total_cmp(&odds[b]).then(other(a).cmp(&other(b))).then(a.cmp(&b))
        });
        let mut blocks = vec![Block { of_class: 0, tied: 0, above: 0 }];
        let mut start = 0;
        for tie in rows.chunk_by(|&a, &b| odds[a] == odds[b]) {
            let of_class = start + tie.partition_point(|&row| !other(row));
            let end = start + tie.len();
            match blocks.last_mut() {
                Some(last) if of_class == start => last.above = end,
                _ => blocks.push(Block { of_class, tied: end, above: end }),
            }
            start = end;
        }
        Self { rows, blocks }
    }

    /// NaN when all the weight is on one side.
    fn area(&self, weights: &[Lanes]) -> Lanes {
        let [mut below, mut positive, mut won] = [Lanes::default(); 3];
        let sum = |from: usize, to: usize| {
            let mut sum = Lanes::default();
            self.rows[from..to].iter().for_each(|&row| add(&mut sum, &weights[row], 1.0));
            sum
        };
        let mut start = 0;
        for block in &self.blocks {
            let (of_class, tied) = (sum(start, block.of_class), sum(block.of_class, block.tied));
            let above = sum(block.tied, block.above);
            for lane in 0..won.len() {
                won[lane] += of_class[lane] * (below[lane] + 0.5 * tied[lane]);
                positive[lane] += of_class[lane];
                below[lane] += tied[lane] + above[lane];
            }
            start = block.above;
        }
        each(|lane| won[lane] / (below[lane] * positive[lane]))
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
