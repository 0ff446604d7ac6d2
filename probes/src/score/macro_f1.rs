use super::{Classified, Metric};

/// F1, 2 tp / (2 tp + fp + fn), averaged over the classes that are the true or the predicted one of some row.
#[derive(Debug, Clone, Copy)]
pub struct MacroF1<'a> {
    of: &'a Classified,
}

impl<'a> MacroF1<'a> {
    pub(super) fn new(of: &'a Classified) -> Self {
        Self { of }
    }
}

impl Metric for MacroF1<'_> {
    fn rows(&self) -> usize {
        self.of.y.len()
    }

    fn value(&self, weights: &[f64]) -> f64 {
        // [both, true or predicted]: the latter is 2 tp + fp + fn.
        let mut counts = vec![[0.0; 2]; self.of.n_classes()];
        for ((&y, &predicted), &weight) in self.of.y.iter().zip(&self.of.predicted).zip(weights) {
            counts[y as usize][0] += if y == predicted { weight } else { 0.0 };
            counts[y as usize][1] += weight;
            counts[predicted as usize][1] += weight;
        }
        let present = counts.iter().filter(|[_, either]| *either > 0.0);
        let (sum, n) =
            present.fold((0.0, 0.0), |(sum, n), [both, either]| (sum + 2.0 * both / either, n + 1.0));
        sum / n
    }
}
