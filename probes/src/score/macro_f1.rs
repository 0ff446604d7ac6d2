use super::{Classified, Lanes, Metric, add, each};

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

    fn is_share(&self) -> bool {
        true
    }

    fn values(&self, weights: &[Lanes]) -> Lanes {
        // [both, true or predicted]: the latter is 2 tp + fp + fn.
        let mut counts = vec![[Lanes::default(); 2]; self.of.n_classes()];
        for ((&y, &predicted), weight) in self.of.y.iter().zip(&self.of.predicted).zip(weights) {
            if y == predicted {
                add(&mut counts[y as usize][0], weight, 1.0);
            }
            add(&mut counts[y as usize][1], weight, 1.0);
            add(&mut counts[predicted as usize][1], weight, 1.0);
        }
        each(|lane| {
            let present =
                counts.iter().map(|[both, either]| (both[lane], either[lane])).filter(|c| c.1 > 0.0);
            let (sum, n) =
                present.fold((0.0, 0.0), |(sum, n), (both, either)| (sum + 2.0 * both / either, n + 1.0));
            sum / n
        })
    }
}
