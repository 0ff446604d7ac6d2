//! What is measured of every head. `A[q, k]` is its pattern on one window: the row of query `q`, over keys `k <= q`.

/// A statistic of a head, a mean over rows of its patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// `-Σ A ln A` of a row, nats.
    Entropy,
    /// The same over `ln(q + 1)`, its most, of rows from the second on.
    EntropyNormalised,
    /// `Σ A (q - k)`: how far back a row looks, in tokens.
    Distance,
    /// `A[q, 0]`, of rows from the second on: the first row has nothing else to look at.
    Sink,
    /// What a row lacks to 1, of heads with a learned sink of their own.
    LearnedSink,
    /// `A[q, q - 1]`, of rows from the second on.
    PreviousToken,
    /// What falls on earlier keys that hold the query's own token, of rows that have such a key.
    DuplicateToken,
    /// What falls on keys that follow an earlier one which holds the query's token (the query's own place included, when
    /// the token before it is the same), of rows that have such a key.
    Induction,
    /// [`Statistic::PreviousToken`] as `TransformerLens` has it: the sum over all rows, over the sum of the pattern.
    PreviousTokenMul,
    /// [`Statistic::DuplicateToken`] likewise.
    DuplicateTokenMul,
    /// [`Statistic::Induction`] likewise.
    InductionMul,
}

/// Which rows a sum is over; a count group of the tally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// Every row.
    All,
    /// From the second on.
    Later,
    /// Those with an earlier key of the same token.
    Repeating,
}

impl Rows {
    /// How many groups there are.
    pub(super) const COUNT: usize = 3;
}

impl Statistic {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Entropy,
        Self::EntropyNormalised,
        Self::Distance,
        Self::Sink,
        Self::LearnedSink,
        Self::PreviousToken,
        Self::DuplicateToken,
        Self::Induction,
        Self::PreviousTokenMul,
        Self::DuplicateTokenMul,
        Self::InductionMul,
    ];

    /// Name in `metrics.parquet`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entropy => "attention_entropy",
            Self::EntropyNormalised => "attention_entropy_normalised",
            Self::Distance => "distance",
            Self::Sink => "sink",
            Self::LearnedSink => "learned_sink",
            Self::PreviousToken => "previous_token",
            Self::DuplicateToken => "duplicate_token",
            Self::Induction => "induction",
            Self::PreviousTokenMul => "previous_token_mul",
            Self::DuplicateTokenMul => "duplicate_token_mul",
            Self::InductionMul => "induction_mul",
        }
    }

    /// Unit in `metrics.parquet`.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Entropy => "nats",
            Self::Distance => "tokens",
            _ => "share",
        }
    }
}
