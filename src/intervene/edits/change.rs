//! What an edit does to the values it is given.

use tch::{TchError, Tensor};

use crate::model::wide;

/// A change of a value `[.., width]`.
#[derive(Debug)]
pub enum Change {
    /// Zeros.
    Zero,
    /// The mean over rows and positions of the prompt.
    Mean,
    /// The value at the same position of another row: a derangement of the batch, so that no row keeps its own.
    Resample,
    /// Times a factor.
    Scale(f64),
    /// Shortened to this length (2-norm of the last dimension) where it is longer.
    Clip(f64),
    /// Plus this vector.
    Add(Tensor),
    /// This vector.
    Replace(Tensor),
    /// Minus the projection on the span of directions that are orthonormal rows: `[k, width]`, or `[.., 1, width]` by
    /// head.
    ProjectOut(Tensor),
    /// The coordinates on two directions exchanged: of `x = c₁ v₁ + c₂ v₂ + rest`, `x + f ((c₂ − c₁) v₁ + (c₁ − c₂) v₂)`.
    /// The factor 1 exchanges them, 2 is the "double strength" of Gurnee et al. 2026.
    Swap {
        /// `[2, width]`.
        directions: Tensor,
        /// Their pseudoinverse, as rows: `[2, width]`.
        dual: Tensor,
        /// How far to go.
        factor: f64,
    },
}

/// What the changes of a whole batch need to know beside the values.
#[derive(Debug, Default)]
pub(super) struct Context<'a> {
    /// The prompt's mean at this point, `[1, 1, ..]`.
    pub(super) mean: Option<&'a Tensor>,
    /// Per row, whose value it gets.
    pub(super) donors: Option<&'a Tensor>,
}

impl Change {
    /// Whether a row's value depends on other rows of its batch.
    pub fn mixes_rows(&self) -> bool {
        matches!(self, Self::Mean | Self::Resample)
    }

    /// The changed `value`, of the same shape and type.
    pub(super) fn apply(&self, value: &Tensor, context: &Context<'_>) -> Result<Tensor, TchError> {
        let missing = || TchError::Torch("an edit without its context".into());
        let changed = match self {
            Self::Zero => value.f_zeros_like()?,
            Self::Mean => context.mean.ok_or_else(missing)?.f_expand_as(value)?,
            Self::Resample => value.f_index_select(0, context.donors.ok_or_else(missing)?)?,
            Self::Scale(factor) => value.f_mul_scalar(*factor)?,
            Self::Clip(longest) => clip(value, *longest)?,
            Self::Add(vector) => value.f_add(&like(vector, value)?)?,
            Self::Replace(vector) => like(vector, value)?.f_expand_as(value)?,
            Self::ProjectOut(directions) => project_out(value, directions)?,
            Self::Swap { directions, dual, factor } => swap(value, directions, dual, *factor)?,
        };
        Ok(changed)
    }
}

fn like(vector: &Tensor, value: &Tensor) -> Result<Tensor, TchError> {
    vector.f_to_device(value.device())?.f_to_kind(value.kind())
}

fn clip(value: &Tensor, longest: f64) -> Result<Tensor, TchError> {
    let kind = wide(value.kind());
    let norm = value.f_to_kind(kind)?.f_square()?.f_sum_dim_intlist(-1, true, kind)?.f_sqrt()?;
    // A zero vector has factor inf, which is cut to 1.
    let factor = norm.f_reciprocal()?.f_mul_scalar(longest)?.f_clamp_max(1.0)?;
    value.f_mul(&factor.f_to_kind(value.kind())?)
}

/// `x - (x Dᵀ) D`, in f32 at least.
fn project_out(value: &Tensor, directions: &Tensor) -> Result<Tensor, TchError> {
    let kind = wide(value.kind());
    let directions = directions.f_to_device(value.device())?.f_to_kind(kind)?;
    let x = value.f_to_kind(kind)?.f_unsqueeze(-2)?; // [.., 1, width]
    let shares = x.f_matmul(&directions.f_transpose(-2, -1)?)?;
    x.f_sub(&shares.f_matmul(&directions)?)?.f_squeeze_dim(-2)?.f_to_kind(value.kind())
}

/// `x + factor · (σ(c) − c) V`, with the coordinates `c = x V⁺` and their exchange `σ(c)`; in f32 at least.
fn swap(value: &Tensor, directions: &Tensor, dual: &Tensor, factor: f64) -> Result<Tensor, TchError> {
    let kind = wide(value.kind());
    let own = |t: &Tensor| t.f_to_device(value.device())?.f_to_kind(kind);
    let x = value.f_to_kind(kind)?;
    let coordinates = x.f_matmul(&own(dual)?.f_transpose(0, 1)?)?; // [.., 2]
    let step = coordinates.f_flip([-1])?.f_sub(&coordinates)?.f_matmul(&own(directions)?)? * factor;
    x.f_add(&step)?.f_to_kind(value.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(change: &Change, value: &[f64]) -> Vec<f64> {
        let value = Tensor::from_slice(value).view([1, 1, -1]);
        Vec::try_from(change.apply(&value, &Context::default()).unwrap().view(-1)).unwrap()
    }

    #[test]
    fn by_hand() {
        let v = || Tensor::from_slice(&[0.6, 0.8]);
        assert_eq!(apply(&Change::Zero, &[f64::NAN, 1.0]), [0.0, 0.0]);
        assert_eq!(apply(&Change::Scale(-2.0), &[1.0, 3.0]), [-2.0, -6.0]);
        assert_eq!(apply(&Change::Add(v()), &[1.0, 2.0]), [1.6, 2.8]);
        assert_eq!(apply(&Change::Replace(v()), &[1.0, 2.0]), [0.6, 0.8]);
        // |(3, 4)| = 5, so a clip to 1 gives a fifth; to 10 it changes nothing.
        assert!((apply(&Change::Clip(1.0), &[3.0, 4.0])[0] - 0.6).abs() < 1e-15);
        assert_eq!(apply(&Change::Clip(10.0), &[3.0, 4.0]), [3.0, 4.0]);
        assert_eq!(apply(&Change::Clip(1.0), &[0.0, 0.0]), [0.0, 0.0]);
        // (2, 1) on (0.6, 0.8) is 2, so (2, 1) - 2 (0.6, 0.8) = (0.8, -0.6) stays.
        let rest = apply(&Change::ProjectOut(v().view([1, 2])), &[2.0, 1.0]);
        assert!((rest[0] - 0.8).abs() < 1e-15 && (rest[1] + 0.6).abs() < 1e-15, "{rest:?}");
        // (5, 3, 7) = 2 (1, 0, 0) + 3 (1, 1, 0) + rest, so 3 (1, 0, 0) + 2 (1, 1, 0) + rest; half way it is 2.5 of both.
        let directions = Tensor::from_slice(&[1.0, 0.0, 0.0, 1.0, 1.0, 0.0]).view([2, 3]);
        let dual = directions.pinverse(1e-15).transpose(0, 1);
        let swap = |factor: f64| {
            let (directions, dual) = (directions.shallow_clone(), dual.shallow_clone());
            apply(&Change::Swap { directions, dual, factor }, &[5.0, 3.0, 7.0])
        };
        for (found, expected) in [(swap(1.0), [5.0, 2.0, 7.0]), (swap(0.5), [5.0, 2.5, 7.0])] {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        }
    }
}
