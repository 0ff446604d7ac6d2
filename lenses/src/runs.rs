use std::ops::Range;

use tch::Tensor;

/// The rows of a batch that make pairs, and those that end runs.
pub(crate) struct Cuts {
    pub(crate) sources: Vec<Tensor>, // by horizon - 1
    pub(crate) targets: Vec<Tensor>, // by horizon - 1
    pub(crate) tails: Vec<Tensor>,   // [j]: rows with exactly j rows after them
}

impl Cuts {
    pub(crate) fn new(runs: &[usize], horizons: usize) -> Self {
        Self {
            sources: (0..horizons).map(|k| rows_of(runs, |len| 0..len.saturating_sub(k))).collect(),
            targets: (0..horizons).map(|k| rows_of(runs, |len| k.min(len)..len)).collect(),
            tails: (1..horizons)
                .map(|k| rows_of(runs, |len| len.saturating_sub(k)..(len + 1).saturating_sub(k)))
                .collect(),
        }
    }
}

/// The rows of the batch at `places` within each run of a given length.
fn rows_of(runs: &[usize], places: impl Fn(usize) -> Range<usize>) -> Tensor {
    let mut rows: Vec<i64> = vec![];
    let mut start = 0;
    for &len in runs {
        rows.extend(places(len).map(|place| (start + place) as i64));
        start += len;
    }
    Tensor::from_slice(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_stay_inside_a_run() {
        let ids = |tensors: &[Tensor]| -> Vec<Vec<i64>> {
            tensors.iter().map(|t| Vec::try_from(t).unwrap()).collect()
        };
        let cuts = Cuts::new(&[3, 1, 0, 2], 3);
        assert_eq!(ids(&cuts.sources), [vec![0, 1, 2, 3, 4, 5], vec![0, 1, 4], vec![0]]);
        assert_eq!(ids(&cuts.targets), [vec![0, 1, 2, 3, 4, 5], vec![1, 2, 5], vec![2]]);
        assert_eq!(ids(&cuts.tails), [vec![2, 3, 5], vec![1, 4]]);
    }
}
