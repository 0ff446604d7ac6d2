use super::ece::{BINS, bin};
use super::{Classified, Lanes, Metric, add, each};

/// The classes whose probabilities the Brier score reads: of two, the second says it all (scikit-learn's
/// `scale_by_half="auto"`); of more, all.
pub(super) fn classes(of: &Classified) -> std::ops::Range<usize> {
    usize::from(of.n_classes() == 2)..of.n_classes()
}

/// Σ (p - y)² over these classes, y 1 for the true one, `(n,)`.
pub(super) fn losses(of: &Classified) -> Vec<f64> {
    let rows = of.log_probs.outer_iter().zip(&of.y);
    let loss = |(row, &y): (ndarray::ArrayView1<'_, f64>, &u32)| -> f64 {
        let one = |class: usize| (row[class].exp() - f64::from(u8::from(class == y as usize))).powi(2);
        classes(of).map(one).sum()
    };
    rows.map(loss).collect()
}

/// How far probabilities are from how often they come true: Σ over classes and bins of n (p̄ - ȳ)² / Σ n, the
/// reliability of Murphy (1973, "A new vector partition of the probability score"), less its bias
/// Σ n ȳ (1 - ȳ) / (n - 1) / Σ n (Bröcker 2012; Ferro & Fricker 2012), so that it is 0 on average
/// where probabilities are right. A bin of one row has p (1 - p) taken off.
///
/// Brier score = reliability - resolution + uncertainty; the spread of probabilities within bins is part of the
/// resolution (Stephenson, Coelho & Jolliffe 2008, "Two extra components in the Brier score decomposition").
#[derive(Debug, Clone)]
pub struct Reliability {
    /// Of each class, of each row: bin, probability, 1 where the row is of the class.
    classes: Vec<Vec<(usize, f64, f64)>>,
    rows: usize,
}

impl Reliability {
    pub(super) fn new(of: &Classified) -> Self {
        let class = |class: usize| {
            let rows = of.log_probs.column(class).into_iter().zip(&of.y);
            let row = |(log_p, &y): (&f64, &u32)| {
                let p = log_p.exp();
                (bin(p), p, f64::from(u8::from(y as usize == class)))
            };
            rows.map(row).collect()
        };
        Self { classes: classes(of).map(class).collect(), rows: of.y.len() }
    }
}

impl Metric for Reliability {
    fn rows(&self) -> usize {
        self.rows
    }

    fn values(&self, weights: &[Lanes]) -> Lanes {
        let (mut sum, mut all) = (Lanes::default(), Lanes::default());
        for weight in weights {
            add(&mut all, weight, 1.0);
        }
        for class in &self.classes {
            // Rows, Σ p, Σ y, Σ p (1 - p)
            let mut bins = [[Lanes::default(); 4]; BINS];
            for (&(bin, p, y), weight) in class.iter().zip(weights) {
                let [n, expected, yes, alone] = &mut bins[bin];
                add(n, weight, 1.0);
                add(expected, weight, p);
                add(yes, weight, y);
                add(alone, weight, p * (1.0 - p));
            }
            let class: Lanes = each(|lane| bins.iter().map(|sums| of_bin(sums.map(|sum| sum[lane]))).sum());
            sum.iter_mut().zip(class).for_each(|(sum, class)| *sum += class);
        }
        each(|lane| sum[lane] / all[lane])
    }
}

/// n (p̄ - ȳ)² less its bias.
fn of_bin([n, expected, yes, alone]: [f64; 4]) -> f64 {
    if n <= 0.0 {
        return 0.0;
    }
    let bias = if n > 1.0 { yes * (n - yes) / n / (n - 1.0) } else { alone };
    (expected - yes).powi(2) / n - bias
}

/// What the Brier score of a forecast of how often each class occurs would be: Σ over classes of ȳ (1 - ȳ) n / (n - 1),
/// without bias. NaN of one row.
#[derive(Debug, Clone, Copy)]
pub struct Uncertainty<'a>(pub(super) &'a Classified);

impl Metric for Uncertainty<'_> {
    fn rows(&self) -> usize {
        self.0.y.len()
    }

    fn values(&self, weights: &[Lanes]) -> Lanes {
        let (mut counts, mut all) = (vec![Lanes::default(); self.0.n_classes()], Lanes::default());
        for (&y, weight) in self.0.y.iter().zip(weights) {
            add(&mut counts[y as usize], weight, 1.0);
            add(&mut all, weight, 1.0);
        }
        let counts = &counts[classes(self.0)];
        each(|lane| {
            let n = all[lane];
            let sum: f64 = counts.iter().map(|count| count[lane] * (n - count[lane])).sum();
            if n > 1.0 { sum / n / (n - 1.0) } else { f64::NAN }
        })
    }
}
