//! Batches without padding, and the one loop over them.

use std::borrow::Borrow;

use tch::Tensor;

use super::window::Window;
use crate::watch::{Stopped, Underway};

/// Windows of one length, which go through the model together.
#[derive(Debug, Clone)]
pub struct Batch<'w> {
    /// Where they are among all windows: results go back there.
    pub places: Vec<usize>,
    /// The windows.
    pub windows: Vec<&'w Window>,
}

impl Batch<'_> {
    /// Tokens in all windows.
    pub fn tokens(&self) -> u64 {
        self.windows.iter().map(|w| w.ids.len() as u64).sum()
    }

    /// The tokens, `[windows, seq]` on the CPU.
    pub fn ids(&self) -> Tensor {
        ids_of(&self.windows)
    }

    /// Without the windows that are not `wanted`, by their place.
    #[must_use]
    pub fn only(&self, wanted: impl Fn(usize) -> bool) -> Self {
        let kept = self.places.iter().zip(&self.windows).filter(|(place, _)| wanted(**place));
        let (places, windows) = kept.map(|(place, window)| (*place, *window)).unzip();
        Self { places, windows }
    }
}

/// The tokens of windows of one length, `[windows, seq]` on the CPU.
pub fn ids_of(windows: &[&Window]) -> Tensor {
    let ids: Vec<i64> = windows.iter().flat_map(|w| &w.ids).map(|id| i64::from(*id)).collect();
    Tensor::from_slice(&ids).view([windows.len() as i64, -1])
}

/// Groups windows of equal length into batches of at most `max_tokens` tokens (at least one window each).
///
/// Longest windows first, so that the largest batch comes first and memory runs out early or never; windows of one
/// length stay in order.
pub fn batches<W: Borrow<Window>>(windows: &[W], max_tokens: usize) -> Vec<Batch<'_>> {
    let length = |place: &usize| windows[*place].borrow().ids.len();
    let mut order: Vec<usize> = (0..windows.len()).collect();
    order.sort_by_key(|place| std::cmp::Reverse(length(place)));
    let batch = |places: &[usize]| Batch {
        places: places.to_vec(),
        windows: places.iter().map(|place| windows[*place].borrow()).collect(),
    };
    order
        .chunk_by(|a, b| length(a) == length(b))
        .flat_map(|same| {
            let rows = max_tokens.checked_div(length(&same[0])).unwrap_or(1).max(1);
            same.chunks(rows).map(batch)
        })
        .collect()
}

/// The one loop over a text: hands `add` the [`batches`] in turn, counts their tokens on `stage`, and asks before each
/// whether to stop.
///
/// # Errors
/// [`Stopped`], and those of `add`.
pub fn each_batch<'w, W: Borrow<Window>, E: From<Stopped>>(
    windows: &'w [W],
    max_tokens: usize,
    stage: &Underway<'_>,
    mut add: impl FnMut(Batch<'w>) -> Result<(), E>,
) -> Result<(), E> {
    for batch in batches(windows, max_tokens) {
        stage.go_on()?;
        let tokens = batch.tokens();
        add(batch)?;
        stage.inc(tokens);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testing::Counter;

    fn windows(lengths: &[usize]) -> Vec<Window> {
        lengths.iter().map(|&n| Window { ids: vec![7; n], segments: vec![] }).collect()
    }

    #[test]
    fn equal_lengths_share_a_batch_longest_first() {
        let windows = windows(&[3, 5, 3, 1, 5, 3]);
        let places: Vec<Vec<usize>> = batches(&windows, 6).into_iter().map(|b| b.places).collect();
        assert_eq!(places, [vec![1], vec![4], vec![0, 2], vec![5], vec![3]]);
        assert_eq!(batches(&windows, 0).len(), 6);
        assert!(batches::<Window>(&[], 8).is_empty());
    }

    #[test]
    fn every_window_is_in_one_batch_and_none_is_too_large() {
        let lengths: Vec<usize> = (0..500).map(|i| 1 + (i * i * 7919) % 97).collect();
        let windows = windows(&lengths);
        for max_tokens in [1, 64, 97, 1000] {
            let batches = batches(&windows, max_tokens);
            let mut seen: Vec<usize> = batches.iter().flat_map(|b| b.places.clone()).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..500));
            for batch in batches.into_iter().map(|b| b.places) {
                assert!(batch.iter().all(|&i| lengths[i] == lengths[batch[0]]));
                assert!(batch.len() == 1 || batch.len() * lengths[batch[0]] <= max_tokens);
            }
        }
    }

    /// Two batches are counted when the third is not begun.
    #[test]
    fn a_pass_counts_and_stops() {
        let windows = windows(&[2, 3, 4, 1]);
        let (counter, mut seen) = (Counter::until(7), Vec::new());
        let ended = each_batch(&windows, 4, &counter.begin(), |batch| {
            seen.push((batch.places.clone(), batch.ids().size()));
            Ok::<_, Stopped>(())
        });
        assert_eq!(ended, Err(Stopped));
        assert_eq!(seen, [(vec![2], vec![1, 4]), (vec![1], vec![1, 3])]);
        assert_eq!(counter.counted(), 7);
        assert_eq!(batches(&windows, 100)[3].only(|place| place != 3).windows.len(), 0);
    }
}
