//! From a pattern to sums over its rows.

use tch::{Kind, Tensor};

use super::{Relations, statistic::Rows};
use crate::model::{ModelError, wide};

/// Sums that a head's statistics are made of, per window.
pub const COLUMNS: usize = 11;

/// Over which rows each column's mean is; in the order of [`sums`].
pub(super) const ROWS: [Rows; COLUMNS] = [
    Rows::All,
    Rows::Later,
    Rows::All,
    Rows::Later,
    Rows::All,
    Rows::Later,
    Rows::Repeating,
    Rows::Repeating,
    Rows::All,
    Rows::All,
    Rows::All,
];

/// Where the sum of the pattern itself stands; then come those of the three relations over their own rows, and over
/// all.
pub(super) const MASS: usize = 4;

/// A pattern `[batch, head, query, key]` to `[batch, head, COLUMNS]`, f64: entropy, normalised entropy, distance, sink,
/// mass; then previous token, duplicate token and induction, twice, since their means are over two kinds of rows.
///
/// A row sums in the pattern's own precision (f32 at least), rows are added in f64.
///
/// # Errors
/// What libtorch refused: tokens of other windows than the pattern's.
pub fn sums(pattern: &Tensor, relations: &Relations) -> Result<Tensor, ModelError> {
    let kind = wide(pattern.kind());
    let a = pattern.f_to_kind(kind)?;
    let like = |tensor: &Tensor| tensor.f_to_kind(kind);
    let total = |rows: Tensor| rows.f_sum_dim_intlist(-1, false, Kind::Double);
    let by_key = a.f_matmul(&like(&relations.of_key)?)?; // [batch, head, query, 3]
    let [mass, mean_key, first] = [0, 1, 2].map(|i| by_key.select(-1, i));
    let entropy = a.f_special_entr()?.f_sum_dim_intlist(-1, false, kind)?;
    let normalised = entropy.f_mul(&like(&relations.per_most)?)?;
    let distance = mass.f_mul(&like(&relations.place)?)?.f_sub(&mean_key)?;
    let sink = first.f_mul(&like(&relations.later)?)?;
    let previous = total(a.f_diagonal(-1, 2, 3)?)?;
    let within = |mask: &Tensor| -> Result<Tensor, ModelError> {
        Ok(total(a.f_mul(&like(mask)?)?.f_sum_dim_intlist(-1, false, kind)?)?)
    };
    let (duplicate, induction) = (within(&relations.duplicate)?, within(&relations.induction)?);
    let [entropy, normalised, distance, sink, mass] = [entropy, normalised, distance, sink, mass].map(total);
    let columns = [&entropy?, &normalised?, &distance?, &sink?, &mass?];
    let related = [&previous, &duplicate, &induction];
    let all: Vec<&Tensor> = columns.into_iter().chain(related).chain(related).collect();
    Ok(Tensor::f_stack(&all, -1)?)
}

#[cfg(test)]
mod tests {
    use tch::{Device, IndexOp as _};

    use super::*;

    /// Ids a b a b; rows by hand:
    /// ```text
    /// q=0: 1
    /// q=1: .5  .5
    /// q=2: .25 .5  .25          duplicate k=0, induction k=1
    /// q=3: .1  .2  .3  .4       duplicate k=1, induction k=2
    /// ```
    fn by_hand() -> (Tensor, Relations) {
        let rows: [f64; 16] = [1., 0., 0., 0., 0.5, 0.5, 0., 0., 0.25, 0.5, 0.25, 0., 0.1, 0.2, 0.3, 0.4];
        let ids = Tensor::from_slice(&[7_i64, 8, 7, 8]).view([1, 4]);
        (Tensor::from_slice(&rows).view([1, 1, 4, 4]), Relations::new(&ids, Device::Cpu).unwrap())
    }

    fn columns(pattern: &Tensor, relations: &Relations) -> Vec<f64> {
        Vec::try_from(sums(pattern, relations).unwrap().flatten(0, -1)).unwrap()
    }

    #[test]
    fn rows_by_hand() {
        let (pattern, relations) = by_hand();
        let h = |row: &[f64]| -> f64 { row.iter().map(|a| -a * a.ln()).sum() };
        let (one, two, three) = (h(&[0.5, 0.5]), h(&[0.25, 0.5, 0.25]), h(&[0.1, 0.2, 0.3, 0.4]));
        let expected = [
            one + two + three,
            one / 2_f64.ln() + two / 3_f64.ln() + three / 4_f64.ln(),
            // q - E[k]: 0, 1 - .5, 2 - 1, 3 - (.2 + .6 + 1.2)
            0.5 + 1.0 + 1.0,
            0.5 + 0.25 + 0.1,
            4.0,
            0.5 + 0.5 + 0.3,
            0.25 + 0.2,
            0.5 + 0.3,
            0.5 + 0.5 + 0.3,
            0.25 + 0.2,
            0.5 + 0.3,
        ];
        for (got, expected) in columns(&pattern, &relations).into_iter().zip(expected) {
            assert!((got - expected).abs() < 1e-14, "{got} {expected}"); // f64, of numbers below 10
        }
        assert_eq!(relations.counts(0), [4.0, 3.0, 2.0]);
    }

    /// In "a a" the second row may look at itself, which follows an equal token.
    #[test]
    fn a_token_said_twice_in_a_row_looks_at_itself() {
        let ids = Tensor::from_slice(&[3_i64, 3]).view([1, 2]);
        let relations = Relations::new(&ids, Device::Cpu).unwrap();
        let pattern = Tensor::from_slice(&[1.0, 0.0, 0.25, 0.75]).view([1, 1, 2, 2]);
        let got = columns(&pattern, &relations);
        assert_eq!(got[6..8], [0.25, 0.75]);
    }

    #[test]
    fn one_token_has_no_later_row() {
        let relations =
            Relations::new(&Tensor::zeros([1, 1], (Kind::Int64, Device::Cpu)), Device::Cpu).unwrap();
        let pattern = Tensor::ones([1, 2, 1, 1], (Kind::Float, Device::Cpu));
        let got = columns(&pattern, &relations);
        assert_eq!(got[..COLUMNS], [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(relations.counts(0), [1.0, 0.0, 0.0]);
    }

    /// A window's sums do not depend on what else is in its batch.
    #[test]
    fn windows_of_a_batch_are_apart() {
        let ids = Tensor::from_slice(&[1_i64, 2, 1, 2, 5, 5, 5, 6]).view([2, 4]);
        let scores = Tensor::arange(2 * 3 * 16, (Kind::Float, Device::Cpu)).sin().view([2, 3, 4, 4]);
        let hidden = Tensor::ones([4, 4], (Kind::Bool, Device::Cpu)).triu(1);
        let pattern = scores.masked_fill(&hidden, f64::NEG_INFINITY).softmax(-1, Kind::Float);
        let both = sums(&pattern, &Relations::new(&ids, Device::Cpu).unwrap()).unwrap();
        for i in 0..2 {
            let alone = Relations::new(&ids.narrow(0, i, 1), Device::Cpu).unwrap();
            let alone = sums(&pattern.narrow(0, i, 1), &alone).unwrap();
            let error = (both.i(i) - alone.i(0)).abs().max().double_value(&[]);
            assert!(error < 1e-6, "{error}"); // sums of at most 4 rows in f32
        }
    }
}
