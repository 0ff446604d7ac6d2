//! Batches without padding.

use std::borrow::Borrow;

use super::window::Window;

/// Groups windows of equal length into batches of at most `max_tokens` tokens (at least one window each), as indices
/// into `windows`.
///
/// Longest windows first, so that the largest batch comes first and memory runs out early or never; windows of one
/// length stay in order. The caller writes results back by index.
pub fn batches<W: Borrow<Window>>(windows: &[W], max_tokens: usize) -> Vec<Vec<usize>> {
    let length = |index: &usize| windows[*index].borrow().ids.len();
    let mut order: Vec<usize> = (0..windows.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(length(index)));
    order
        .chunk_by(|a, b| length(a) == length(b))
        .flat_map(|same| {
            let rows = max_tokens.checked_div(length(&same[0])).unwrap_or(1).max(1);
            same.chunks(rows).map(<[usize]>::to_vec)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(lengths: &[usize]) -> Vec<Window> {
        lengths.iter().map(|&n| Window { ids: vec![7; n], segments: vec![] }).collect()
    }

    #[test]
    fn equal_lengths_share_a_batch_longest_first() {
        let windows = windows(&[3, 5, 3, 1, 5, 3]);
        assert_eq!(batches(&windows, 6), [vec![1], vec![4], vec![0, 2], vec![5], vec![3]]);
        assert_eq!(batches(&windows, 0).len(), 6);
        assert!(batches::<Window>(&[], 8).is_empty());
    }

    #[test]
    fn every_window_is_in_one_batch_and_none_is_too_large() {
        let lengths: Vec<usize> = (0..500).map(|i| 1 + (i * i * 7919) % 97).collect();
        let windows = windows(&lengths);
        for max_tokens in [1, 64, 97, 1000] {
            let batches = batches(&windows, max_tokens);
            let mut seen: Vec<_> = batches.concat();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..500));
            for batch in batches {
                assert!(batch.iter().all(|&i| lengths[i] == lengths[batch[0]]));
                assert!(batch.len() == 1 || batch.len() * lengths[batch[0]] <= max_tokens);
            }
        }
    }
}
