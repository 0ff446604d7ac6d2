//! Means over a corpus, with intervals over documents.

use super::{Attribution, AttributionError, Component};
use crate::results::statistics::{Estimate, Intervals, Tally};

/// What a mean is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// A component.
    Component(Component),
    /// All of a block's attention.
    Attention(usize),
    /// The sum of what was written before a layer, with the divisor of the end.
    SoFar(usize),
    /// What would be said if the model stopped at a layer.
    Stopped(usize),
    /// The model's own logit, or difference of logits.
    Logit,
}

/// A mean over tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// What it is of.
    pub of: Of,
    /// Of its absolute value.
    pub absolute: bool,
    /// The number with its interval.
    pub number: Estimate,
}

/// Sums of attributions by document. Memory does not grow with the corpus.
pub struct Means {
    components: Vec<Component>,
    n_layers: usize,
    tally: Tally,
}

impl Means {
    /// Means of these components, MLPs whole, in a model of so many blocks.
    ///
    /// # Errors
    /// None that a caller can bring about.
    pub fn new(
        components: Vec<Component>,
        n_layers: usize,
        intervals: Intervals,
    ) -> Result<Self, AttributionError> {
        let width = 2 * (components.len() + n_layers) + 2 * (n_layers + 1) + 1;
        Ok(Self { components, n_layers, tally: Tally::new(vec![0; width], 1, intervals)? })
    }

    /// Adds rows, each counted as one of its cluster (most often its document).
    ///
    /// # Errors
    /// A number that is not finite.
    pub fn add(&mut self, rows: &Attribution, clusters: &[u64]) -> Result<(), AttributionError> {
        let same = clusters.chunk_by(|a, b| a == b);
        let mut start = 0;
        for run in same {
            let mut sums: Vec<f64> = Vec::new();
            for row in start..start + run.len() {
                let values = self.columns(rows, row);
                sums.resize(values.len(), 0.0);
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            self.tally.add(run[0], &sums, &[run.len() as f64])?;
            start += run.len();
        }
        Ok(())
    }

    /// A row's numbers: values, absolute values, and what has none of interest.
    fn columns(&self, rows: &Attribution, row: usize) -> Vec<f64> {
        let own = rows.row(row);
        let mut attention = vec![0.0; self.n_layers];
        for (component, value) in self.components.iter().zip(own) {
            if let (Some(block), true) = (component.block(), component.is_attention()) {
                attention[block] += value;
            }
        }
        let signed = own.iter().copied().chain(attention);
        let mut all: Vec<f64> = signed.collect();
        all.extend(all.clone().iter().map(|value| value.abs()));
        all.extend(rows.so_far(row));
        all.extend(rows.stopped(row));
        all.push(rows.logits[row]);
        all
    }

    /// What the columns are of.
    fn names(&self) -> Vec<(Of, bool)> {
        let parts: Vec<Of> = self
            .components
            .iter()
            .map(|component| Of::Component(*component))
            .chain((0..self.n_layers).map(Of::Attention))
            .collect();
        let signed = parts.iter().map(|of| (*of, false));
        let absolute = parts.iter().map(|of| (*of, true));
        let layers = || 0..=self.n_layers;
        signed
            .chain(absolute)
            .chain(layers().map(|layer| (Of::SoFar(layer), false)))
            .chain(layers().map(|layer| (Of::Stopped(layer), false)))
            .chain([(Of::Logit, false)])
            .collect()
    }

    /// Every mean with its interval; none where nothing was added.
    pub fn finish(&mut self) -> Vec<Mean> {
        let names = self.names();
        let scores = self.tally.scores();
        let mean = |(column, (of, absolute)): (usize, (Of, bool))| Mean {
            of,
            absolute,
            number: scores.estimate(column),
        };
        let means = names.into_iter().enumerate().map(mean);
        means.filter(|mean| mean.number.n > 0).collect()
    }
}
