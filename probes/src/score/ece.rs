use super::{Classified, Metric};

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

    fn value(&self, weights: &[f64]) -> f64 {
        let (mut bins, mut all) = ([0.0; BINS], 0.0);
        for ((&bin, gap), weight) in self.bins.iter().zip(&self.gaps).zip(weights) {
            bins[bin] += weight * gap;
            all += weight;
        }
        bins.iter().map(|gap| gap.abs()).sum::<f64>() / all
    }
}
