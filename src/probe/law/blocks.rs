//! Which documents are summed together, so that each block can be left out.

use crate::{
    lens::fit::Split,
    results::statistics::{Blocks, MOST_APART},
    sources::text::Window,
};

/// What the sums of all blocks may take, bytes. Two blocks (the documents of the fit, and those held out) are always
/// kept, whatever they take.
const BYTES: usize = 4 << 30;

/// Blocks of a side that an interval needs.
const NEEDED: usize = 5;

/// Blocks of the documents that are fitted to, and of those that are held out.
#[derive(Debug, Clone)]
pub struct Sides {
    /// Of the fit.
    pub fit: Blocks,
    /// Held out.
    pub held_out: Blocks,
}

/// Blocks of the documents of a split, for a model of `n_layers` of width `d`: as many as `BYTES` hold, at most 32, a
/// quarter of them held out (no less than five, where there are ten).
pub fn blocks(split: &Split, windows: &[Window], n_layers: usize, d: usize) -> Sides {
    // Of each block and layer, for each set of rows: the products of states, and up to 256 rows that are not summed
    // yet.
    let bytes = (n_layers + 1) * super::SETS.len() * 8 * d * (d + 256);
    let all = (BYTES / bytes.max(1)).clamp(2, MOST_APART);
    let held = if all >= 2 * NEEDED { (all / 4).max(NEEDED) } else { 1 };
    let side = |some: &[usize], most: usize| {
        let segments = some.iter().flat_map(|i| &windows[*i].segments);
        Blocks::new(segments.map(|s| (s.doc_id, s.len as usize)), most)
    };
    Sides { fit: side(&split.train, all - held), held_out: side(&split.held_out, held) }
}

/// How many documents are fitted to, and how many held out.
pub fn documents(sides: &Sides) -> [usize; 2] {
    [sides.fit.documents(), sides.held_out.documents()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lens::fit::split, sources::text::Segment};

    #[test]
    fn memory_bounds_the_blocks() {
        let window = |doc: u64| Window {
            ids: vec![doc as u32; 10],
            segments: vec![Segment { doc_id: doc, doc_len: 10, len: 10, ..Segment::default() }],
        };
        let windows: Vec<Window> = (0..200).map(window).collect();
        let split = split(&windows, 0);
        let of = |n_layers, d| {
            let sides = blocks(&split, &windows, n_layers, d);
            (sides.fit.len(), sides.held_out.len())
        };
        assert_eq!(of(8, 64), (24, 8));
        // 31 layers · 3 · 8 · 576 · 832 = 357 MB a block: twelve in 4 GiB.
        assert_eq!(of(30, 576), (7, 5));
        // 25 · 3 · 8 · 2048 · 2304 = 2.8 GB: the two that there have to be.
        assert_eq!(of(24, 2048), (1, 1));
        assert_eq!(documents(&blocks(&split, &windows, 8, 64)), [180, 20]);
    }
}
