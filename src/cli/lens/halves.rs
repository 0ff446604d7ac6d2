//! One half of a text to learn from, the other to measure on.

use anyhow::anyhow;
use layerscope::text::Window;

use super::{super::exit::Failure, eval::Cluster};

/// Places of the windows that moments are taken from, and of those that are measured on.
pub(super) struct Halves {
    pub(super) moments: Vec<usize>,
    pub(super) measured: Vec<usize>,
}

impl Halves {
    /// Every other document (of one document: every other window).
    pub(super) fn of(windows: &[Window], cluster: Cluster) -> Result<Self, Failure> {
        let doc = |i: usize| windows[i].segments.first().map_or(0, |s| s.doc_id);
        let several = (1..windows.len()).any(|i| doc(i) != doc(0));
        let by = |i: &usize| if several && cluster == Cluster::Document { doc(*i) } else { *i as u64 };
        let (moments, measured): (Vec<usize>, Vec<usize>) = (0..windows.len()).partition(|i| by(i) % 2 == 1);
        if moments.is_empty() || measured.is_empty() {
            return Err(Failure::usage(anyhow!(
                "the text has one window: nothing is left to take moments from; give more text"
            )));
        }
        Ok(Self { moments, measured })
    }
}
