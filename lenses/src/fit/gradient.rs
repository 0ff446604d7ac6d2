use tch::{Kind, Tensor};

use crate::{Affine, Ask, Error, Norm, NormKind, Readout, Teacher, Unembed};

/// What a lens is fitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// `KL(model ‖ lens)`: say what the model will say.
    Kl,
    /// Cross-entropy of the true token.
    Ce,
}

/// Some positions of one layer: states, and what their lens should say.
#[derive(Debug)]
pub struct Rows<'a> {
    /// Residuals `[n, d_model]`, f32.
    pub states: &'a Tensor,
    /// The model's own prediction at those positions.
    pub teacher: &'a Teacher,
    /// The true tokens; -1 where there is none (such rows count for [`Loss::Kl`] only).
    pub next: &'a [i64],
}

/// Sums over rows of the loss and of its gradient in an affine translator `x = y + A y + b`.
#[derive(Debug)]
pub struct Gradient {
    /// Rows that count.
    pub rows: f64,
    /// Summed loss, nats.
    pub loss: f64,
    /// `Σ g yᵀ [d, d]`.
    pub weight: Tensor,
    /// `Σ g [d]`.
    pub bias: Tensor,
}

/// Loss and gradient of `translator` over `rows`.
///
/// # Errors
/// When shapes do not fit or a prediction is not finite.
pub fn gradient(
    readout: &Readout,
    translator: &Affine,
    rows: &Rows<'_>,
    loss: Loss,
) -> Result<Gradient, Error> {
    let x = translator.forward(rows.states)?;
    let n = readout.normalize(&x)?;
    let (counted, total, g_n) = match loss {
        Loss::Kl => {
            let (kl, gradient) = rows.teacher.kl_gradient(readout, &n)?;
            (kl.len() as f64, kl.iter().sum(), gradient)
        }
        Loss::Ce => ce_gradient(readout, &n, rows.next)?,
    };
    let g = unembed_backward(readout.unembed(), &x, g_n)?;
    Ok(Gradient {
        rows: counted,
        loss: total,
        weight: g.tr().f_mm(rows.states)?,
        bias: g.f_sum_dim_intlist(0, false, Kind::Float)?,
    })
}

/// Summed loss of `translator` over `rows`, and how many rows count.
///
/// # Errors
/// As [`gradient`].
pub fn loss(
    readout: &Readout,
    translator: &Affine,
    rows: &Rows<'_>,
    loss: Loss,
) -> Result<(f64, f64), Error> {
    let n = readout.normalize(&translator.forward(rows.states)?)?;
    Ok(match loss {
        Loss::Kl => {
            let read = readout.sweep(&n, Ask::default())?;
            let kl = rows.teacher.kl(readout, &n, &read.lse)?;
            (kl.iter().sum(), kl.len() as f64)
        }
        Loss::Ce => {
            let ce = readout.sweep(&n, Ask { tokens: &[rows.next], ..Ask::default() })?.ce(0);
            let known = ce.iter().filter(|ce| !ce.is_nan());
            (known.clone().sum(), known.count() as f64)
        }
    })
}

/// Cross-entropy: `d CE / d n = e - slope(z_y) W_y`, zero where no token follows.
fn ce_gradient(readout: &Readout, n: &Tensor, next: &[i64]) -> Result<(f64, f64, Tensor), Error> {
    let read = readout.sweep(n, Ask { expectation: true, tokens: &[next], ..Ask::default() })?;
    let known: Vec<f32> = next.iter().map(|id| f32::from(u8::from(*id >= 0))).collect();
    let total = read.ce(0).iter().filter(|ce| !ce.is_nan()).sum();
    let slopes: Vec<f32> = match readout.unembed().soft_cap() {
        Some(cap) => read.tokens[0].logit.iter().map(|z| (1.0 - (z / cap).powi(2)).max(0.0) as f32).collect(),
        None => vec![1.0; next.len()],
    };
    let column = |values: &[f32]| Tensor::from_slice(values).to_device(n.device()).unsqueeze(-1);
    let own = Tensor::from_slice(next).f_clamp_min(0)?.to_device(n.device());
    let own = readout.weight().f_index_select(0, &own)?.f_mul(&column(&slopes))?;
    let e = read.expectation.unwrap_or_else(|| n.zeros_like());
    let gradient = e.f_sub(&own)?.f_mul(&column(&known))?;
    Ok((known.iter().map(|k| f64::from(*k)).sum(), total, gradient))
}

/// The gradient in `x` of a function of [`Unembed::normalize`] whose gradient there is `g_n`; `[n, d]`.
fn unembed_backward(unembed: &Unembed, x: &Tensor, g_n: Tensor) -> Result<Tensor, Error> {
    let g = match unembed.transform() {
        Some(transform) => transform.backward(&unembed.normed(x)?, &g_n)?,
        None => g_n,
    };
    match unembed.norm() {
        Some(norm) => norm_backward(norm, x, &g),
        None => Ok(g),
    }
}

/// The gradient in `x` of a function of `norm(x)` whose gradient there is `g_n`; `[n, d]`.
///
/// With `r = 1 / scale`, `x̂ = (x - mean) r` and `u = γ g_n`: `r (u - mean u - x̂ mean(u x̂))`, for RMS norms without
/// the means of `x` and `u`.
///
/// # Errors
/// When shapes do not fit.
pub fn norm_backward(norm: &Norm, x: &Tensor, g_n: &Tensor) -> Result<Tensor, Error> {
    let mean = |t: &Tensor| t.f_mean_dim(-1, true, Kind::Float);
    let centred = match norm.kind() {
        NormKind::Layer => x.f_sub(&mean(x)?)?,
        NormKind::Rms => x.shallow_clone(),
    };
    let scale = norm.scale(x)?;
    let direction = centred.f_div(&scale)?;
    let u = match norm.weight() {
        Some(weight) => g_n.f_mul(&weight.to_kind(Kind::Float))?,
        None => g_n.shallow_clone(),
    };
    let along = direction.f_mul(&mean(&u.f_mul(&direction)?)?)?;
    let u = match norm.kind() {
        NormKind::Layer => u.f_sub(&mean(&u)?)?,
        NormKind::Rms => u,
    };
    Ok(u.f_sub(&along)?.f_div(&scale)?)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::Precision;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn close(a: &Tensor, b: &Tensor) {
        let off = (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[]);
        assert!(off < 1e-4 * b.abs().max().double_value(&[]).max(1.0), "{off}");
    }

    #[test]
    fn gradients_agree_with_autograd_for_both_norms_and_losses() {
        tch::manual_seed(3);
        let (rows, d, vocab) = (60, 12, 200);
        for kind in [NormKind::Layer, NormKind::Rms] {
            let bias = (kind == NormKind::Layer).then(|| Tensor::randn([d], CPU));
            let norm = Norm::new(kind, Some(Tensor::rand([d], CPU) + 0.5), bias, 1e-5);
            let w = Tensor::randn([vocab, d], CPU) * 0.3;
            let unembed = Unembed::new(norm, w, Some(Tensor::randn([vocab], CPU)), None).unwrap();
            let readout = Readout::new(&unembed, vocab as usize, Precision::Exact, 1).unwrap();
            let (h, last) = (Tensor::randn([rows, d], CPU) * 3.0, Tensor::randn([rows, d], CPU));
            let teacher = Teacher::of(&readout, &last).unwrap();
            let next: Vec<i64> = (0..rows).map(|i| if i % 7 == 0 { -1 } else { (i * 31) % vocab }).collect();
            let part = Rows { states: &h, teacher: &teacher, next: &next };
            let a = (Tensor::randn([d, d], CPU) * 0.1).set_requires_grad(true);
            let b = Tensor::randn([d], CPU).set_requires_grad(true);
            let log_q = unembed.logits(&(&h + h.linear(&a, Some(&b)))).unwrap().log_softmax(-1, Kind::Double);
            let log_p = unembed.logits(&last).unwrap().log_softmax(-1, Kind::Double);
            for which in [Loss::Kl, Loss::Ce] {
                let want = match which {
                    Loss::Kl => (log_p.exp() * (&log_p - &log_q)).sum(Kind::Double),
                    Loss::Ce => {
                        let ids = Tensor::from_slice(&next);
                        let known = ids.ge(0).nonzero().view(-1);
                        let picked = log_q.index_select(0, &known);
                        -picked
                            .gather(-1, &ids.index_select(0, &known).unsqueeze(-1), false)
                            .sum(Kind::Double)
                    }
                };
                let want_grad = Tensor::run_backward(&[&want], &[&a, &b], true, false);
                let map = Affine::new(a.detach(), b.detach()).unwrap();
                let got = gradient(&readout, &map, &part, which).unwrap();
                assert!((got.loss - want.double_value(&[])).abs() < 1e-3, "{} {want:?}", got.loss);
                close(&got.weight, &want_grad[0]);
                close(&got.bias, &want_grad[1]);
                let (total, n) = loss(&readout, &map, &part, which).unwrap();
                assert!((total - got.loss).abs() < 1e-4 * total.abs() && n == got.rows);
                assert_eq!(n, if which == Loss::Kl { 60.0 } else { 51.0 });
            }
        }
    }
}
