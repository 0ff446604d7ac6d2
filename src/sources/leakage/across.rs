//! The two sides of a split, held against each other.

use super::{Basis, FittedOn, Leakage};
use crate::sources::text::Window;

/// Whether the measured side of a split holds documents that the fitted side has, nearly or in part: equal ones a split
/// keeps together. Windows by their place in `windows`.
pub fn across(
    windows: &[Window],
    fitted: &[usize],
    measured: &[usize],
    (lead, names): (&[u32], (&str, &str)),
) -> Leakage {
    let side = |places: &[usize]| {
        let mut places = places.to_vec();
        places.sort_unstable();
        places.into_iter().map(|place| &windows[place])
    };
    let sketch = FittedOn::of_windows(side(fitted), lead, None);
    let overlap = sketch.overlap_of_windows(side(measured), lead);
    Leakage::found(names.0, names.1, Basis::Tokens, overlap)
}
