//! How far two activations are apart, in relation to what rounding can do.

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::{
    hook::{BlockHook, HookPoint},
    model::ModelError,
};

/// Largest error that passes, relative to the scale of the reference.
pub const TOLERANCE: f64 = 5e-5;

/// How many times the model's own rounding a reference in the same precision may be away from the exact values.
const ROUNDING: f64 = 8.0;

/// Programs hide a score by -inf, by the lowest number of a type (-3.4e38, -65504), or by -1e5 or -1e4 (old ones), to
/// which some add the score itself. Where this model has -inf, all that is below this is hidden too.
const HIDDEN: f64 = -9e3;

/// How far the model is from the reference at one hook point.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The hook point.
    pub point: HookPoint,
    /// Largest absolute difference; NaN when either side holds one.
    pub max_abs: f64,
    /// Absolute difference where it is largest in relation to its scale.
    pub abs: f64,
    /// What `abs` is measured against. A difference may be large where values are: the root mean square of the token's
    /// (or, where larger, the median token's) values, plus the value itself, all of the reference.
    pub scale: f64,
    /// Where `abs` is, an index into the reference's shape.
    pub at: Vec<i64>,
    /// How many values were compared.
    pub n: usize,
    /// The same error when each token's mean difference is taken away.
    pub centred: f64,
    /// Whether the likeliest token is the same at every position, but for ties; only for logits.
    pub same_argmax: Option<bool>,
    /// Distance of the reference from the exact values, where a [second look](super::second_look) was taken.
    pub exact: Option<Exact>,
}

/// Largest distances from the model's values in f64, relative to their scale.
#[derive(Debug, Clone, Copy)]
pub struct Exact {
    /// Of the reference.
    pub reference: f64,
    /// Of this model in its own precision: what rounding alone does.
    pub rounding: f64,
}

impl Difference {
    /// Everything, for programs; whether it passes depends on the tolerance.
    pub fn json(&self, tolerance: f64) -> Value {
        json!({
            "hook": self.point.to_string(),
            "max_abs": self.max_abs,
            "abs": self.abs,
            "scale": self.scale,
            "relative": self.relative(),
            "at": self.at,
            "same_argmax": self.same_argmax,
            "reference_from_exact": self.exact.map(|e| e.reference),
            "rounding": self.exact.map(|e| e.rounding),
            "constant_per_token": self.is_constant_per_token(tolerance),
            "pass": self.passes(tolerance),
        })
    }

    /// Compares one activation of the model with the reference's, beside the model's in f64 where there is one.
    pub(super) fn of(
        point: HookPoint,
        ours: &Tensor,
        theirs: &Tensor,
        exact: Option<&Tensor>,
    ) -> Result<Self, ModelError> {
        let wide = |t: &Tensor| t.to_device(Device::Cpu).to_kind(Kind::Double);
        let (ours, theirs) = (wide(ours), hide(point, &wide(ours), wide(theirs))?);
        let scale = scale(&theirs)?;
        let apart = distance(&ours, &theirs)?;
        let largest = |distance: &Tensor| -> Result<f64, ModelError> {
            Ok(distance.f_div(&scale)?.f_max()?.double_value(&[]))
        };
        let worst = apart.f_div(&scale)?.f_argmax(None, false)?;
        let exact = match exact.map(wide) {
            Some(exact) => Some(Exact {
                reference: largest(&distance(&exact, &theirs)?)?,
                rounding: largest(&distance(&ours, &exact)?)?,
            }),
            None => None,
        };
        let same_argmax =
            (point == HookPoint::Logits).then(|| same_argmax(&ours, &theirs, &scale)).transpose()?;
        let value = |t: &Tensor| -> Result<f64, ModelError> { Ok(t.f_take(&worst)?.double_value(&[])) };
        Ok(Self {
            point,
            max_abs: apart.f_max()?.double_value(&[]),
            abs: value(&apart)?,
            scale: value(&scale)?,
            at: unravel(worst.int64_value(&[]), &theirs.size()),
            n: theirs.numel(),
            centred: largest(&centred(&ours, &theirs)?)?,
            same_argmax,
            exact,
        })
    }

    /// `abs / scale`.
    pub fn relative(&self) -> f64 {
        self.abs / self.scale
    }

    /// Whether the error is within `tolerance` and the likeliest tokens are the same, or the reference is as near
    /// to the exact values as rounding lets this model be.
    pub fn passes(&self, tolerance: f64) -> bool {
        let rounding = self.exact.is_some_and(|e| e.reference <= ROUNDING * e.rounding);
        rounding || (self.relative() <= tolerance && self.same_argmax != Some(false))
    }

    /// Whether it fails, but only by a constant for each token: a centred stream (TransformerLens' compatibility mode
    /// subtracts each token's mean), or logits at another level. Neither changes what the next norm or softmax gives.
    pub fn is_constant_per_token(&self, tolerance: f64) -> bool {
        let one_value = self.point == HookPoint::FinalScale;
        !one_value && !self.passes(tolerance) && self.centred <= tolerance
    }
}

/// The reference with -inf wherever it hides a score that this model hides.
fn hide(point: HookPoint, ours: &Tensor, theirs: Tensor) -> Result<Tensor, ModelError> {
    if !matches!(point, HookPoint::Block(_, BlockHook::AttnScores)) {
        return Ok(theirs);
    }
    let hidden = ours.f_eq(f64::NEG_INFINITY)?.f_logical_and(&theirs.f_le(HIDDEN)?)?;
    Ok(theirs.f_masked_fill(&hidden, f64::NEG_INFINITY)?)
}

/// What a difference at each value is measured against, see [`Difference::scale`]. One token of a trained model may
/// hold values a thousand times larger than all others (Sun et al. 2024, "Massive Activations"): rounding is large
/// there and only there, and a mean over all tokens would hide mistakes at the others.
fn scale(theirs: &Tensor) -> Result<Tensor, ModelError> {
    let finite = theirs.f_isfinite()?;
    let values = theirs.f_where_self(&finite, &theirs.f_zeros_like()?)?;
    let counts = finite.to_kind(Kind::Double).f_sum_dim_intlist(-1, true, Kind::Double)?.f_clamp_min(1.0)?;
    let rows = values.f_square()?.f_sum_dim_intlist(-1, true, Kind::Double)?.f_div(&counts)?.f_sqrt()?;
    let rows = rows.f_maximum(&rows.f_median()?)?;
    Ok(values.abs().f_add(&rows)?.f_clamp_min(f64::MIN_POSITIVE)?)
}

/// Elementwise. Equal infinities (masked scores) differ by nothing, although their difference is NaN.
fn distance(a: &Tensor, b: &Tensor) -> Result<Tensor, ModelError> {
    Ok(a.f_sub(b)?.abs().f_masked_fill(&a.f_eq_tensor(b)?, 0.0)?)
}

/// The distance once each row's mean difference is taken away.
fn centred(ours: &Tensor, theirs: &Tensor) -> Result<Tensor, ModelError> {
    let apart = ours.f_sub(theirs)?.f_masked_fill(&ours.f_eq_tensor(theirs)?, 0.0)?;
    Ok(apart.f_sub(&apart.f_mean_dim(-1, true, Kind::Double)?)?.abs())
}

/// Whether our likeliest token is theirs too, or one that theirs rates as high but for [`TOLERANCE`].
fn same_argmax(ours: &Tensor, theirs: &Tensor, scale: &Tensor) -> Result<bool, ModelError> {
    let best = theirs.f_argmax(-1, true)?;
    let lost = theirs.f_gather(-1, &best, false)? - theirs.f_gather(-1, &ours.f_argmax(-1, true)?, false)?;
    let tie = scale.f_gather(-1, &best, false)? * (2.0 * TOLERANCE);
    Ok(lost.f_le_tensor(&tie)?.f_all()?.int64_value(&[]) == 1)
}

fn unravel(mut flat: i64, shape: &[i64]) -> Vec<i64> {
    let mut index: Vec<i64> = shape
        .iter()
        .rev()
        .map(|n| {
            let i = flat % n;
            flat /= n;
            i
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight tokens of 64 values near one, none twice.
    fn stream() -> Tensor {
        let x = Tensor::arange(8 * 64, (Kind::Double, Device::Cpu)).view([1, 8, 64]);
        (x * 0.7).sin() + 0.1
    }

    fn set(x: &Tensor, at: [i64; 2], value: f64) -> Tensor {
        let x = x.copy();
        let _ = x.get(0).get(at[0]).get(at[1]).fill_(value);
        x
    }

    fn compare(point: HookPoint, ours: &Tensor, theirs: &Tensor) -> Difference {
        Difference::of(point, ours, theirs, None).unwrap()
    }

    #[test]
    fn a_massive_value_is_measured_at_its_own_size_and_hides_nothing() {
        let point = HookPoint::resid_pre(3);
        let ours = set(&stream(), [0, 5], 15_000.0);
        // A hundred times f32's rounding of the one value, 12 root mean squares of an ordinary token times the
        // tolerance.
        let rounded = compare(point, &ours, &set(&ours, [0, 5], 15_000.1));
        assert!(rounded.passes(TOLERANCE) && rounded.at == [0, 0, 5], "{rounded:?}");
        // A mistake at another token, far below the tolerance of a root mean square over everything (33).
        let before = stream().double_value(&[0, 4, 9]);
        let mistake = compare(point, &ours, &set(&ours, [4, 9], before + 1e-3));
        assert!(!mistake.passes(TOLERANCE) && mistake.at == [0, 4, 9], "{mistake:?}");
        assert!((mistake.abs - 1e-3).abs() < 1e-9 && mistake.abs / 663.0 < TOLERANCE, "{mistake:?}");
        let nan = compare(point, &ours, &set(&ours, [4, 9], f64::NAN));
        assert!(!nan.passes(TOLERANCE) && nan.at == [0, 4, 9], "{nan:?}");
    }

    #[test]
    fn hidden_scores_are_equal_however_they_are_hidden() {
        let point = HookPoint::Block(0, BlockHook::AttnScores);
        let ours = set(&stream(), [2, 7], f64::NEG_INFINITY);
        for hidden in [f64::from(f32::MIN), f64::NEG_INFINITY, -65504.0, -1e5, -1e4 + 12.0] {
            let same = compare(point, &ours, &set(&ours, [2, 7], hidden));
            assert!(same.passes(1e-15), "{hidden}: {same:?}");
        }
        for seen in [0.5, -30.0, f64::INFINITY] {
            assert!(!compare(point, &ours, &set(&ours, [2, 7], seen)).passes(1e9), "{seen}");
            // Nor may they hide what this model sees.
            assert!(!compare(point, &stream(), &ours).passes(1e9));
        }
        assert!(!compare(HookPoint::Logits, &ours, &set(&ours, [2, 7], -1e5)).passes(1e9));
    }

    #[test]
    fn a_constant_for_each_token_is_told_from_other_mistakes() {
        let point = HookPoint::resid_pre(1);
        let ours = stream();
        let theirs = &ours - ours.mean_dim(-1, true, Kind::Double);
        let centred = compare(point, &ours, &theirs);
        assert!(!centred.passes(TOLERANCE) && centred.is_constant_per_token(TOLERANCE), "{centred:?}");
        let more = compare(point, &ours, &set(&theirs, [3, 3], 0.9));
        assert!(!more.is_constant_per_token(TOLERANCE), "{more:?}");
        assert!(!compare(point, &ours, &ours).is_constant_per_token(TOLERANCE));
        let scale = Tensor::ones([1, 8, 1], (Kind::Double, Device::Cpu));
        assert!(!compare(HookPoint::FinalScale, &(&scale * 2.0), &scale).is_constant_per_token(TOLERANCE));
    }

    #[test]
    fn likeliest_tokens_may_change_places_within_rounding_only() {
        let ours = set(&set(&stream(), [1, 2], 9.0), [1, 3], 9.000_001);
        let tie = compare(HookPoint::Logits, &ours, &set(&ours, [1, 3], 8.999_999));
        assert_eq!(tie.same_argmax, Some(true), "{tie:?}");
        let other = compare(HookPoint::Logits, &ours, &set(&ours, [1, 3], 8.9));
        assert_eq!((other.same_argmax, other.passes(1.0)), (Some(false), false), "{other:?}");
    }
}
