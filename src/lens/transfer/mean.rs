//! The constant predictor: what a lens that reads nothing could do.

use layerscope_lenses::{Ask, Error, Readout};
use layerscope_probes::{
    NoInterval,
    interval::{Spread, jackknife},
};
use tch::Tensor;

use crate::results::statistics::Blocks;

/// The model's mean distribution, the best constant predictor, and the same without each block of documents:
/// `16 · vocab` bytes for each of at most 32.
#[derive(Debug)]
pub struct Mean {
    blocks: Blocks,
    /// By block, the sum of the model's distributions and how many.
    sums: Vec<(Vec<f64>, f64)>,
}

impl Mean {
    /// Nothing seen yet, of documents in `blocks`.
    pub fn new(vocab: usize, blocks: Blocks) -> Self {
        let sums = vec![(vec![0.0; vocab], 0.0); blocks.len().max(1)];
        Self { blocks, sums }
    }

    /// Adds the predictions of normalised states `n [rows, d_model]` of these documents, one a row.
    ///
    /// # Errors
    /// When a prediction is not finite.
    pub fn add(&mut self, readout: &Readout, n: &Tensor, docs: &[u64]) -> Result<(), Error> {
        for (_, first, rows) in self.blocks.runs(docs) {
            let n = n.f_narrow(0, first as i64, rows as i64)?;
            let read = readout.sweep(&n, Ask { marginal: Some(&vec![1.0; rows]), ..Ask::default() })?;
            self.put(docs[first], read.marginal.as_deref().unwrap_or_default(), rows as f64);
        }
        Ok(())
    }

    /// Adds distributions of a document that are summed already, and how many they are.
    pub(crate) fn put(&mut self, doc: u64, sums: &[f64], rows: f64) {
        let (all, count) = &mut self.sums[self.blocks.of(doc)];
        all.iter_mut().zip(sums).for_each(|(sum, p)| *sum += p);
        *count += rows;
    }

    /// What predicts the same whatever it reads.
    pub fn constants(&self) -> Constants {
        let n: f64 = self.sums.iter().map(|(_, n)| n).sum();
        let all: Vec<f64> =
            (0..self.sums[0].0.len()).map(|v| self.sums.iter().map(|(s, _)| s[v]).sum()).collect();
        let ln = |sum: f64, n: f64| (sum / n).max(f64::MIN_POSITIVE).ln();
        let mut logs = vec![all.iter().map(|sum| ln(*sum, n)).collect::<Vec<f64>>()];
        if self.sums.len() > 1 {
            let without =
                |(own, m): &(Vec<f64>, f64)| all.iter().zip(own).map(|(a, b)| ln(a - b, n - m)).collect();
            logs.extend(self.sums.iter().map(without));
        }
        let shares = self.sums.iter().map(|(_, m)| m / n).collect();
        Constants { logs, shares, n_eff: self.blocks.n_eff(), documents: self.blocks.documents() as u64 }
    }
}

/// The constant predictor of all documents of its half, then those without each block (none of a single one).
#[derive(Debug, Clone)]
pub struct Constants {
    logs: Vec<Vec<f64>>,
    /// The part of the rows that each block has.
    shares: Vec<f64>,
    n_eff: f64,
    documents: u64,
}

impl Constants {
    /// How many predictors.
    pub(crate) fn len(&self) -> usize {
        self.logs.len()
    }

    /// Documents behind them.
    pub(super) fn documents(&self) -> u64 {
        self.documents
    }

    /// `Σ_t KL(p_t ‖ q)` of each predictor `q`, over rows whose distributions sum to `marginal` and whose entropies sum
    /// to `entropy`.
    pub(crate) fn kl(&self, marginal: &[f64], entropy: f64) -> Vec<f64> {
        let of = |logs: &Vec<f64>| marginal.iter().zip(logs).map(|(p, ln)| -p * ln).sum::<f64>() - entropy;
        self.logs.iter().map(of).collect()
    }

    /// What the first of some values, one of each predictor, would be of a predictor made of very many documents. A
    /// mean of few is further from the documents it has not seen than the mean of all would be, by about 1/n; the
    /// jackknife of unequal blocks takes that off: `B θ - Σ (1 - m_b / n) θ₋b` (Busing, Meijer & van der Leeden 1999,
    /// Stat. Comput. 9).
    pub(super) fn corrected(&self, value: impl Fn(usize) -> f64) -> f64 {
        if self.logs.len() == 1 {
            return value(0);
        }
        let without: f64 =
            self.shares.iter().enumerate().map(|(b, share)| (1.0 - share) * value(b + 1)).sum();
        self.shares.len() as f64 * value(0) - without
    }

    /// The spread over the documents that made the predictor of a number that uses it.
    pub(super) fn spread(&self, value: impl Fn(usize) -> f64) -> Result<Spread, NoInterval> {
        let without: Vec<f64> = (1..self.logs.len()).map(value).collect();
        jackknife(&without, self.n_eff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(sums: Vec<(Vec<f64>, f64)>) -> Mean {
        let blocks = Blocks::new(sums.iter().enumerate().map(|(doc, (_, n))| (doc as u64, *n as usize)), 32);
        Mean { blocks, sums }
    }

    #[test]
    fn the_constant_predictor_by_hand() {
        // mean (1/2, 1/2); two predictions (1, 0) and (0, 1): KL = ln 2 each.
        let constants = mean(vec![(vec![3.0, 3.0], 6.0)]).constants();
        let kl = constants.kl(&[1.0, 1.0], 0.0);
        assert!(kl.len() == 1 && (kl[0] - 2.0 * 2f64.ln()).abs() < 1e-12);
        assert!((constants.corrected(|_| 5.0) - 5.0).abs() < 1e-12 && constants.spread(|_| 5.0).is_err());
    }

    /// Blocks of 1 and 3 rows: (1, 0) and (1, 2). All: (1/2, 1/2), without the first (1/3, 2/3), without the second (1,
    /// 0).
    #[test]
    fn without_each_block_by_hand() {
        let constants = mean(vec![(vec![1.0, 0.0], 1.0), (vec![1.0, 2.0], 3.0)]).constants();
        let kl = constants.kl(&[0.25, 0.75], 0.1);
        let want = [2f64.ln() - 0.1, 0.25 * 3f64.ln() + 0.75 * 1.5f64.ln() - 0.1];
        assert!((kl[0] - want[0]).abs() < 1e-12 && (kl[1] - want[1]).abs() < 1e-12 && kl[2] > 500.0);
        // 2 θ - (1 - 1/4) θ₋1 - (1 - 3/4) θ₋2 of 10, 11, 14.
        assert!((constants.corrected(|i| [10.0, 11.0, 14.0][i]) - (20.0 - 8.25 - 3.5)).abs() < 1e-12);
    }

    /// Documents of 40 tokens each from one of many topics: the cross entropy of a mean of ten of them is far above
    /// that of the mean of all, and most of it goes. Over 200 draws the error of the mean is below .01.
    #[test]
    fn most_of_the_bias_of_few_documents_goes() {
        let vocab = 50;
        let noise = |a: u64, b: u64| (crate::results::draw::draw(7, a, b) >> 11) as f64 / (1u64 << 53) as f64;
        let topic = |doc: u64| -> Vec<f64> {
            let raw: Vec<f64> = (0..vocab).map(|v| (3.0 * noise(doc, v)).exp()).collect();
            let sum: f64 = raw.iter().sum();
            raw.iter().map(|x| 40.0 * x / sum).collect()
        };
        let of = |docs: std::ops::Range<u64>| mean(docs.map(|doc| (topic(doc), 40.0)).collect()).constants();
        let target: Vec<f64> = (0..vocab as usize)
            .map(|v| (100_000..100_400).map(|doc| topic(doc)[v]).sum::<f64>() / (400.0 * 40.0))
            .collect();
        let truth = target.iter().map(|p| -p * p.ln()).sum::<f64>();
        let (mut plain, mut corrected) = (0.0, 0.0);
        for draw in 0..200 {
            let constants = of(10 * draw..10 * draw + 10);
            let kl = constants.kl(&target, truth);
            plain += kl[0] / 200.0;
            corrected += constants.corrected(|i| kl[i]) / 200.0;
        }
        assert!(plain > 0.015 && corrected.abs() < plain / 4.0, "{plain} {corrected}");
    }
}
