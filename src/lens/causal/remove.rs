//! Directions taken out of states.

use std::{fmt, str::FromStr};

use tch::{TchError, Tensor};

/// What stands on a direction once a state's own part is removed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The part of the mean state.
    Mean,
    /// Nothing.
    Zero,
    /// The part of another token's state.
    Resample,
}

impl Removal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mean, Self::Zero, Self::Resample];
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mean => "mean",
            Self::Zero => "zero",
            Self::Resample => "resample",
        })
    }
}

impl FromStr for Removal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let own = Self::ALL.into_iter().find(|removal| removal.to_string() == text);
        own.ok_or_else(|| format!("`{text}` is none of mean, zero and resample"))
    }
}

crate::by_text::serde_by_text!(Removal);

/// `h + (t - h) Bᵀ B`: on the span of the orthonormal rows of `basis [k, d]`, states `[n, d]` become `stand_in`, one
/// `[d]` for all or one each, `[n, d]`. Off the span nothing changes.
///
/// # Errors
/// When shapes do not fit.
pub fn remove(states: &Tensor, basis: &Tensor, stand_in: &Tensor) -> Result<Tensor, TchError> {
    let like = |t: &Tensor| t.f_to_device(states.device())?.f_to_kind(states.kind());
    let (basis, stand_in) = (like(basis)?, like(stand_in)?);
    let shares = stand_in.f_sub(states)?.f_matmul(&basis.f_tr()?)?;
    states.f_add(&shares.f_matmul(&basis)?)
}
