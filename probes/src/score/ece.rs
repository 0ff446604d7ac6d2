use super::{Classified, Lanes, Metric, add, each};

/// Equal-width bins of the top probability, (0, 1/15], … (14/15, 1].
const BINS: usize = 15;

/// Expected calibration error: Σ over bins of |rows right - rows expected right| / rows, the rows binned by the probability
/// of their predicted class (Guo, Pleiss, Sun & Weinberger 2017, "On calibration of modern neural networks").
#[derive(Debug, Clone)]
pub struct Ece {
    /// The bin of each row.
    bins: Vec<usize>,
    /// 1 or 0 for right or wrong, less the probability.
    gaps: Vec<f64>,
}

impl Ece {
    pub(super) fn new(of: &Classified) -> Self {
        let rows = of.log_probs.outer_iter().zip(&of.predicted);
        let top: Vec<f64> = rows.map(|(row, &class)| row[class as usize].exp()).collect();
        let bin = |p: &f64| ((p * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        let gaps = of.correct().iter().zip(&top).map(|(right, p)| right - p).collect();
        Self { bins: top.iter().map(bin).collect(), gaps }
    }
}

impl Metric for Ece {
    fn rows(&self) -> usize {
        self.gaps.len()
    }

    fn values(&self, weights: &[Lanes]) -> Lanes {
        let (mut bins, mut all) = ([Lanes::default(); BINS], Lanes::default());
        for ((&bin, &gap), weight) in self.bins.iter().zip(&self.gaps).zip(weights) {
            add(&mut bins[bin], weight, gap);
            add(&mut all, weight, 1.0);
        }
        each(|lane| bins.iter().map(|gap| gap[lane].abs()).sum::<f64>() / all[lane])
    }
}
