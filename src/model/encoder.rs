//! What only encoders do with their tokens.

use tch::{Kind, Tensor};

use super::{ModelError, nn::wide};

/// Share of tokens that ESM was trained without: 15 % were chosen, 80 % of these masked.
const MASKED_IN_TRAINING: f64 = 0.15 * 0.8;

/// Embeddings `x [batch, seq, d]` of `ids` with zeros for the mask token, the others scaled as if as many were missing
/// as were in training (ESM's `token_dropout`).
pub(super) fn without_masked(x: &Tensor, ids: &Tensor, mask: usize) -> Result<Tensor, ModelError> {
    let masked = ids.f_eq(mask as i64)?;
    let wide = wide(x.kind());
    let share = masked.f_sum_dim_intlist([1].as_slice(), true, wide)?.f_div_scalar(ids.size()[1])?;
    let kept = share.f_neg()?.f_add_scalar(1.0)?.f_unsqueeze(-1)?;
    let x = x.f_masked_fill(&masked.f_unsqueeze(-1)?, 0.0)?.f_mul_scalar(1.0 - MASKED_IN_TRAINING)?;
    // A text of nothing but masks is zero over zero in transformers; zeros stay zeros here.
    Ok(x.f_to_kind(wide)?.f_div(&kept.f_clamp_min(f64::MIN_POSITIVE)?)?.f_to_kind(x.kind())?)
}

/// Places of `ids [batch, seq]` among the tokens of their row that are not `padding`, from 1 on; 0 for padding.
pub(super) fn places(ids: &Tensor, padding: usize) -> Result<Tensor, ModelError> {
    let counted = ids.f_ne(padding as i64)?.f_to_kind(Kind::Int64)?;
    Ok(counted.f_cumsum(1, Kind::Int64)?.f_mul(&counted)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_takes_no_place() {
        let ids = Tensor::from_slice(&[5i64, 1, 6, 1, 1, 7]).view([2, 3]);
        let places = Vec::<i64>::try_from(places(&ids, 1).unwrap().view(-1)).unwrap();
        assert_eq!(places, [1, 0, 2, 0, 0, 1]);
    }

    #[test]
    fn the_rest_of_a_masked_text_grows() {
        let x = Tensor::ones([1, 4, 2], (Kind::Double, tch::Device::Cpu));
        let ids = Tensor::from_slice(&[3i64, 9, 4, 4]).view([1, 4]);
        let row = |t: &Tensor, i| t.get(0).get(i).double_value(&[0]);
        let out = without_masked(&x, &ids, 9).unwrap();
        // One of four is missing: 0.88 / 0.75.
        assert!((row(&out, 0) - 0.88 / 0.75).abs() < 1e-12 && row(&out, 1) == 0.0);
        let none = without_masked(&x, &Tensor::full([1, 4], 9, (Kind::Int64, tch::Device::Cpu)), 9).unwrap();
        assert_eq!(none.abs().max().double_value(&[]), 0.0);
    }
}
