use std::fmt;

/// A place in the residual stream, `0..=L`.
///
/// Layer `i` is the residual stream *entering* block `i`: 0 is the embedding, and `L`, the number of
/// blocks, is what leaves the last block, before the final norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerIndex(pub usize);

impl fmt::Display for LayerIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many tokens after the state's own token a lens predicts; 1 is the ordinary next token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Horizon(pub usize);

impl Horizon {
    /// The ordinary next token.
    pub const NEXT: Self = Self(1);
}
