//! Whether what a lens says moves the way the model's prediction does: Aitchison geometry of distributions.

use layerscope_lenses::{Error, Readout};
use tch::{Device, Kind, TchError, Tensor};

/// Logits held at once, per tensor.
const AT_ONCE: usize = 2 << 20;

/// The weighted Aitchison cosine of two changes of log-probabilities `[n, vocab]`, one number per row: of
/// `clr_w(y) = y - Σ w y` under `⟨a, b⟩_w = Σ w a b`, with `weights [n, vocab]` that sum to 1. Adding a constant to a
/// row changes nothing, so changes of logits serve as well. NaN where nothing changes.
///
/// # Errors
/// When shapes do not fit.
pub fn similarity(stimulus: &Tensor, response: &Tensor, weights: &Tensor) -> Result<Tensor, TchError> {
    let sum = |t: &Tensor| t.f_sum_dim_intlist(-1, true, Kind::Double);
    let clr = |y: &Tensor| -> Result<Tensor, TchError> {
        let mean = sum(&y.f_mul(weights)?)?.f_to_kind(y.kind())?;
        y.f_sub(&mean)
    };
    let (a, b) = (clr(stimulus)?, clr(response)?);
    let weighted = a.f_mul(weights)?;
    let (aa, ab) = (sum(&weighted.f_mul(&a)?)?, sum(&weighted.f_mul(&b)?)?);
    let bb = sum(&b.f_square()?.f_mul(weights)?)?;
    ab.f_div(&aa.f_mul(&bb)?.f_sqrt()?)?.f_squeeze_dim(-1)
}

/// What a prediction was and has become: normalised states `[n, d]` of both.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'a> {
    pub(super) before: &'a Tensor,
    pub(super) after: &'a Tensor,
}

/// Of each of `stimuli`, with the response at the same row, the cosine per row; weights are the model's mean
/// distribution before and after, `½ (p + p')`. `shuffled` says for each row whose stimulus is compared instead in the
/// second list (-1: nobody's, NaN).
pub(super) fn alignment(
    readout: &Readout,
    response: Change<'_>,
    stimuli: &[Change<'_>],
    shuffled: &[i64],
) -> Result<Vec<[Vec<f64>; 2]>, Error> {
    let n = response.before.size()[0];
    let step = (AT_ONCE / readout.vocab()).max(1) as i64;
    let partners = Tensor::from_slice(shuffled).to_device(response.before.device());
    let mut found = vec![[const { Vec::new() }; 2]; stimuli.len()];
    for first in (0..n).step_by(step as usize) {
        let rows = step.min(n - first);
        let part = |t: &Tensor| t.f_narrow(0, first, rows);
        let (before, after) = (part(response.before)?, part(response.after)?);
        let (before, after) = (logits(readout, &before)?, logits(readout, &after)?);
        let p = |z: &Tensor| z.f_softmax(-1, Kind::Float);
        let weights = p(&before)?.f_add(&p(&after)?)?.f_mul_scalar(0.5)?;
        let response = after.f_sub(&before)?;
        let who = part(&partners)?;
        let nobody = who.f_lt(0)?;
        let who = who.f_clamp_min(0)?;
        for (stimulus, [own, other]) in stimuli.iter().zip(&mut found) {
            let moved = moved(readout, &part(stimulus.before)?, &part(stimulus.after)?)?;
            own.extend(numbers(&similarity(&moved, &response, &weights)?)?);
            let of = |t: &Tensor| t.f_index_select(0, &who);
            let moved = self::moved(readout, &of(stimulus.before)?, &of(stimulus.after)?)?;
            let cosines = similarity(&moved, &response, &weights)?.f_masked_fill(&nobody, f64::NAN)?;
            other.extend(numbers(&cosines)?);
        }
    }
    Ok(found)
}

/// The change of the logits `[n, vocab]`.
fn moved(readout: &Readout, before: &Tensor, after: &Tensor) -> Result<Tensor, Error> {
    if readout.unembed().soft_cap().is_none() {
        return Ok(after.f_sub(before)?.f_matmul(&readout.weight().f_tr()?)?);
    }
    Ok(logits(readout, after)?.f_sub(&logits(readout, before)?)?)
}

/// Logits `[n, vocab]` in f32, without the rows that pad the vocabulary.
fn logits(readout: &Readout, n: &Tensor) -> Result<Tensor, Error> {
    let mut z = n.f_matmul(&readout.weight().f_tr()?)?;
    if let Some(bias) = readout.bias() {
        z = z.f_add(bias)?;
    }
    Ok(match readout.unembed().soft_cap() {
        Some(cap) => z.f_div_scalar(cap)?.f_tanh()?.f_mul_scalar(cap)?,
        None => z,
    })
}

fn numbers(t: &Tensor) -> Result<Vec<f64>, Error> {
    Ok(Vec::try_from(t.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?)?)
}
