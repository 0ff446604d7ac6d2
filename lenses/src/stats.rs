//! Dense statistics of a few rows of logits, for the tokens somebody looks at.

use tch::{Kind, Tensor};

use crate::Error;

/// What a reader's prediction says at each of `n` positions. Natural logarithms throughout.
#[derive(Debug, Default)]
pub struct Readings {
    /// The `k` likeliest tokens per row, likeliest first, `n × k`.
    pub top_ids: Vec<Vec<i64>>,
    /// Their probabilities, `n × k`.
    pub top_probs: Vec<Vec<f64>>,
    /// Entropy of the prediction, nats.
    pub entropy: Vec<f64>,
    /// KL(model ‖ lens), nats.
    pub kl: Vec<f64>,
    /// Rank of the model's own top token in the lens's order; 0 is first.
    pub rank_of_final: Vec<i64>,
    /// Probability the lens gives to the model's own top token.
    pub prob_of_final: Vec<f64>,
    /// Rank of the true next token; none where no token follows.
    pub rank_of_true: Vec<Option<i64>>,
    /// Cross-entropy of the true next token, nats; none where no token follows.
    pub ce: Vec<Option<f64>>,
}

impl Readings {
    /// Readings of consecutive positions as one.
    pub fn concat(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut whole = Self::default();
        for part in parts {
            whole.top_ids.extend(part.top_ids);
            whole.top_probs.extend(part.top_probs);
            whole.entropy.extend(part.entropy);
            whole.kl.extend(part.kl);
            whole.rank_of_final.extend(part.rank_of_final);
            whole.prob_of_final.extend(part.prob_of_final);
            whole.rank_of_true.extend(part.rank_of_true);
            whole.ce.extend(part.ce);
        }
        whole
    }
}

/// Reads `lens [n, vocab]` against `model [n, vocab]` (logits) and the true next tokens (`n` ids, -1 for none).
///
/// Probabilities are computed in f64, so that the KL of a lens with itself is zero to 1e-12.
///
/// # Errors
/// When the shapes do not agree.
pub fn readings(lens: &Tensor, model: &Tensor, next: &[i64], k: usize) -> Result<Readings, Error> {
    if lens.size() != model.size() || lens.size()[0] != next.len() as i64 {
        let expected = format!("{:?} and {} next tokens", model.size(), next.len());
        return Err(Error::Shape { what: "lens logits", expected, got: lens.size() });
    }
    let log_q = lens.to_kind(Kind::Double).f_log_softmax(-1, Kind::Double)?;
    let log_p = model.to_kind(Kind::Double).f_log_softmax(-1, Kind::Double)?;
    let q = log_q.f_exp()?;
    let (top_probs, top_ids) = q.f_topk((k as i64).min(q.size()[1]), -1, true, true)?;
    let entropy =
        -q.f_mul(&log_q)?.f_nan_to_num(0.0, None, None)?.f_sum_dim_intlist(-1, false, Kind::Double)?;
    let p = log_p.f_exp()?;
    let kl = p.f_mul(&log_p.f_sub(&log_q)?)?.f_nan_to_num(0.0, None, None)?;
    let kl = kl.f_sum_dim_intlist(-1, false, Kind::Double)?;

    let finals = model.f_argmax(-1, true)?;
    let truth = Tensor::from_slice(next).to_device(lens.device()).view([-1, 1]);
    let known = truth.f_clamp_min(0)?;
    let masked = |values: &[f64]| -> Vec<Option<f64>> {
        values.iter().zip(next).map(|(&v, &id)| (id >= 0).then_some(v)).collect()
    };
    let ranks_of_true = rank(&log_q, &known)?;
    Ok(Readings {
        top_ids: rows(&top_ids)?,
        top_probs: rows(&top_probs)?,
        entropy: column(&entropy)?,
        kl: column(&kl)?,
        rank_of_final: rank(&log_q, &finals)?,
        prob_of_final: column(&q.f_gather(-1, &finals, false)?)?,
        rank_of_true: ranks_of_true.iter().zip(next).map(|(&r, &id)| (id >= 0).then_some(r)).collect(),
        ce: masked(&column(&-log_q.f_gather(-1, &known, false)?)?),
    })
}

/// How many tokens are strictly likelier than `ids [n, 1]`.
fn rank(log_q: &Tensor, ids: &Tensor) -> Result<Vec<i64>, Error> {
    let own = log_q.f_gather(-1, ids, false)?;
    let above = log_q.f_greater_tensor(&own)?.f_sum_dim_intlist(-1, false, Kind::Int64)?;
    Ok(Vec::<i64>::try_from(above.view(-1).to_device(tch::Device::Cpu))?)
}

fn column(values: &Tensor) -> Result<Vec<f64>, Error> {
    Ok(Vec::<f64>::try_from(values.view(-1).to_device(tch::Device::Cpu))?)
}

fn rows<T: tch::kind::Element>(values: &Tensor) -> Result<Vec<Vec<T>>, Error>
where
    Vec<T>: TryFrom<Tensor, Error = tch::TchError>,
{
    let width = values.size()[1];
    let flat = Vec::<T>::try_from(values.contiguous().view(-1).to_device(tch::Device::Cpu))?;
    let mut flat = flat.into_iter();
    Ok((0..values.size()[0]).map(|_| flat.by_ref().take(width as usize).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4)
        let ln = |v: [f64; 3]| Tensor::from_slice(&v.map(f64::ln)).view([1, 3]);
        let r = readings(&ln([0.25, 0.5, 0.25]), &ln([0.5, 0.25, 0.25]), &[2], 2).unwrap();
        // KL = 1/2 ln 2 + 1/4 ln(1/2) + 0 = 1/4 ln 2
        assert!((r.kl[0] - 0.25 * 2f64.ln()).abs() < 1e-12);
        // H(q) = 1/2 ln 2 + 2 * 1/4 ln 4 = 3/2 ln 2
        assert!((r.entropy[0] - 1.5 * 2f64.ln()).abs() < 1e-12);
        assert_eq!(r.top_ids[0][0], 1);
        assert!((r.top_probs[0][0] - 0.5).abs() < 1e-12);
        assert_eq!((r.rank_of_final[0], r.rank_of_true[0]), (1, Some(1)));
        assert!((r.ce[0].unwrap() - 4f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn no_next_token_has_no_cross_entropy() {
        let x = Tensor::randn([2, 7], (Kind::Float, tch::Device::Cpu));
        let r = readings(&x, &x, &[3, -1], 3).unwrap();
        assert!(r.ce[0].is_some() && r.ce[1].is_none() && r.rank_of_true[1].is_none());
        assert!(r.kl.iter().all(|kl| kl.abs() < 1e-12));
    }
}
