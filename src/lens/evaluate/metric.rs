//! What is measured of every lens at every layer, and over which positions.

use super::LensCell;

/// Over which positions a mean is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Every position that has a model prediction at the horizon.
    All,
    /// Those whose true token lies in the same document window.
    Known,
}

/// A mean over positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Entropy of the lens's prediction, nats.
    Entropy,
    /// KL(model ‖ lens), nats.
    Kl,
    /// How often the lens's first token is the model's.
    Agreement,
    /// How often the model's first token is among the lens's first five.
    AgreementAt5,
    /// Among the first ten.
    AgreementAt10,
    /// Cross-entropy of the true token, nats.
    Ce,
    /// How often the lens's first token is the true one.
    Accuracy,
    /// Rank of the true token; 0 is first.
    Rank,
    /// How often the true token is first.
    PrecisionAt1,
    /// Among the first five.
    PrecisionAt5,
    /// Among the first ten.
    PrecisionAt10,
    /// `-log p_model` of the lens's first token, nats.
    Surprisal,
}

impl Metric {
    /// All of them, in the order of a cell's columns.
    pub const ALL: [Self; 12] = [
        Self::Entropy,
        Self::Kl,
        Self::Agreement,
        Self::AgreementAt5,
        Self::AgreementAt10,
        Self::Ce,
        Self::Accuracy,
        Self::Rank,
        Self::PrecisionAt1,
        Self::PrecisionAt5,
        Self::PrecisionAt10,
        Self::Surprisal,
    ];

    /// Name in `metrics.parquet`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entropy => "entropy",
            Self::Kl => "kl",
            Self::Agreement => "agreement",
            Self::AgreementAt5 => "agreement_at_5",
            Self::AgreementAt10 => "agreement_at_10",
            Self::Ce => "ce",
            Self::Accuracy => "accuracy",
            Self::Rank => "rank",
            Self::PrecisionAt1 => "precision_at_1",
            Self::PrecisionAt5 => "precision_at_5",
            Self::PrecisionAt10 => "precision_at_10",
            Self::Surprisal => "surprisal",
        }
    }

    /// Unit in `metrics.parquet`.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Entropy | Self::Kl | Self::Ce | Self::Surprisal => "nats",
            Self::Rank => "tokens",
            _ => "share",
        }
    }

    /// Over which positions.
    pub fn group(self) -> Group {
        match self {
            Self::Entropy | Self::Kl | Self::Agreement | Self::AgreementAt5 | Self::AgreementAt10 => {
                Group::All
            }
            _ => Group::Known,
        }
    }

    /// Whether bits per byte make sense too.
    pub fn in_bits(self) -> bool {
        matches!(self, Self::Entropy | Self::Kl | Self::Ce)
    }

    /// Whether it says something of the model itself (which always agrees with itself).
    pub fn of_model(self) -> bool {
        !matches!(self, Self::Kl | Self::Agreement | Self::AgreementAt5 | Self::AgreementAt10)
    }
}

/// Where a metric of a cell is in the tally.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// What it is.
    pub metric: Metric,
    /// Its place.
    pub index: usize,
}

/// The columns of the cell at `place`.
pub fn columns(place: usize) -> [Column; 12] {
    let mut index = place * Metric::ALL.len();
    Metric::ALL.map(|metric| {
        index += 1;
        Column { metric, index: index - 1 }
    })
}

/// The count group of every column, and how many groups there are: two for every horizon that occurs.
pub(super) fn groups(cells: &[LensCell]) -> (Vec<usize>, usize) {
    let last = cells.iter().map(|c| c.horizon).max().unwrap_or(1);
    let of = |cell: &LensCell, metric: Metric| group(cell.horizon, metric.group());
    let all = cells.iter().flat_map(|cell| Metric::ALL.map(|metric| of(cell, metric))).collect();
    (all, 2 * last)
}

/// The count group of a horizon's positions.
pub(super) fn group(horizon: usize, group: Group) -> usize {
    2 * (horizon - 1) + usize::from(group == Group::Known)
}
