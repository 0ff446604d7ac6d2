//! Which keys the rows of some windows may look at, for each statistic.

use tch::{Device, IndexOp as _, Kind, Tensor};

use super::statistic::Rows;
use crate::model::ModelError;

/// What the tokens of windows of one length say about their patterns; the same for every head.
#[derive(Debug)]
pub struct Relations {
    /// Functions of the key that a row is averaged over, `[key, 3]`: 1, its place, whether it is the first.
    pub(super) of_key: Tensor,
    /// Places of queries, `[query]`.
    pub(super) place: Tensor,
    /// `1 / ln(q + 1)`, 0 of the first row.
    pub(super) per_most: Tensor,
    /// 1 but of the first row.
    pub(super) later: Tensor,
    /// `[batch, 1, query, key]`, 1 where an earlier key holds the query's token.
    pub(super) duplicate: Tensor,
    /// The same one to the right: keys that follow such a key.
    pub(super) induction: Tensor,
    /// Per window, how many rows of each kind.
    counts: Vec<[f64; Rows::COUNT]>,
}

impl Relations {
    /// Of token ids `[batch, seq]`, for patterns on `device`.
    ///
    /// # Errors
    /// What libtorch refused.
    pub fn new(ids: &Tensor, device: Device) -> Result<Self, ModelError> {
        let (batch, seq) = ids.size2()?;
        let ids = ids.f_to_device(device)?;
        let float = (Kind::Double, device);
        let place = Tensor::f_arange(seq, float)?;
        let later = place.f_gt(0.0)?.f_to_kind(Kind::Double)?;
        let most = place.f_log1p()?;
        let per_most = most.f_reciprocal()?.f_masked_fill(&place.f_eq(0.0)?, 0.0)?;
        let of_key = Tensor::f_stack(
            &[
                Tensor::f_ones([seq], float)?,
                place.shallow_clone(),
                place.f_eq(0.0)?.f_to_kind(Kind::Double)?,
            ],
            1,
        )?;
        let equal = ids.f_unsqueeze(2)?.f_eq_tensor(&ids.f_unsqueeze(1)?)?; // [batch, query, key]
        let duplicate = equal.f_to_kind(Kind::Float)?.f_tril(-1)?;
        let induction = duplicate.f_constant_pad_nd([1, 0])?.i((.., .., ..seq));
        let repeating = duplicate.f_sum_dim_intlist(-1, false, Kind::Float)?.f_gt(0.0)?;
        let repeating = Vec::<f64>::try_from(repeating.f_sum_dim_intlist(-1, false, Kind::Double)?)?;
        let all = seq as f64;
        let counts = repeating.into_iter().map(|repeating| [all, all - 1.0, repeating]).collect();
        debug_assert_eq!(induction.size(), [batch, seq, seq]);
        Ok(Self {
            of_key,
            place,
            per_most,
            later,
            duplicate: duplicate.f_unsqueeze(1)?,
            induction: induction.f_unsqueeze(1)?,
            counts,
        })
    }

    /// How many rows of each kind window `i` has.
    pub(super) fn counts(&self, i: usize) -> [f64; Rows::COUNT] {
        self.counts[i]
    }
}
