use tch::{Kind, Tensor};

use super::GenerateError;
use crate::results::draw::uniform;

/// How a token is chosen from logits: the likeliest, or a draw. Temperature first, then `top_k`, then `top_p`, as in
/// transformers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 is greedy.
    pub temperature: f64,
    /// Only so many likeliest tokens.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together reach this probability (Holtzman et al. 2020).
    pub top_p: Option<f64>,
    /// Draws come from (seed, prompt, step).
    pub seed: u64,
}

impl Sampling {
    /// The likeliest token; of equals the one with the smallest id.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: None, top_p: None, seed: 0 };

    /// Fails on settings out of range.
    ///
    /// # Errors
    /// [`GenerateError::Sampling`].
    pub fn check(&self) -> Result<(), GenerateError> {
        let wrong = |what, value, must| Err(GenerateError::Sampling { what, value, must });
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return wrong("temperature", self.temperature, "0 (greedy) or more");
        }
        if self.top_k == Some(0) {
            return wrong("top-k", 0.0, "at least 1");
        }
        match self.top_p {
            Some(p) if !(p > 0.0 && p <= 1.0) => wrong("top-p", p, "above 0 and at most 1"),
            _ => Ok(()),
        }
    }

    /// The token for (prompt, step), from `logits [vocab]`.
    pub(super) fn choose(
        &self,
        logits: &Tensor,
        (prompt, step): (usize, usize),
    ) -> Result<u32, GenerateError> {
        let logits = Vec::<f64>::try_from(logits.f_to_kind(Kind::Double)?)?;
        // -inf is a token that cannot be said; all of them, or NaN, is no distribution.
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if !most.is_finite() || logits.iter().any(|x| x.is_nan()) {
            return Err(GenerateError::NotFinite { prompt, step });
        }
        let u = uniform(self.seed, prompt as u64, step as u64);
        Ok(self.pick(&logits, u) as u32)
    }

    /// The token at quantile `u` of what may be drawn, likeliest tokens first.
    fn pick(&self, logits: &[f64], u: f64) -> usize {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        let likelier = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
        if self.temperature == 0.0 {
            return order.into_iter().min_by(likelier).unwrap_or(0);
        }
        order.sort_unstable_by(likelier);
        order.truncate(self.top_k.unwrap_or(usize::MAX));
        let most = order.first().map_or(0.0, |i| logits[*i]);
        let weight = |i: &usize| ((logits[*i] - most) / self.temperature).exp();
        let all: f64 = order.iter().map(weight).sum();
        // The smallest set of likeliest tokens that reaches top_p; the one that crosses it is in.
        let mut reached = 0.0;
        let kept = order.iter().position(|i| {
            reached += weight(i);
            reached >= all * self.top_p.unwrap_or(f64::INFINITY)
        });
        order.truncate(kept.map_or(usize::MAX, |last| last + 1));
        let kept: f64 = order.iter().map(weight).sum();
        let mut below = 0.0;
        let drawn = order.iter().position(|i| {
            below += weight(i);
            u * kept < below
        });
        order.get(drawn.unwrap_or(0)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(sampling: &Sampling, p: &[f64], u: f64) -> usize {
        sampling.pick(&p.iter().map(|p| p.ln()).collect::<Vec<_>>(), u)
    }

    const PLAIN: Sampling = Sampling { temperature: 1.0, top_k: None, top_p: None, seed: 0 };

    #[test]
    fn by_hand() {
        let p = [0.2, 0.5, 0.3];
        assert_eq!(pick(&Sampling::GREEDY, &p, 0.99), 1);
        assert_eq!(pick(&Sampling::GREEDY, &[0.25, 0.25], 0.99), 0); // equals: the smaller id
        let at = |sampling: &Sampling| [0.0, 0.49, 0.51, 0.79, 0.81].map(|u| pick(sampling, &p, u));
        assert_eq!(at(&PLAIN), [1, 1, 2, 2, 0]); // 0.5, then 0.3, then 0.2
        // Two tokens: 0.5 and 0.3 become 0.625 and 0.375.
        assert_eq!(at(&Sampling { top_k: Some(2), ..PLAIN }), [1, 1, 1, 2, 2]);
        // 0.5 < 0.6 <= 0.5 + 0.3: the same two; at 0.5 and below one is enough.
        assert_eq!(at(&Sampling { top_p: Some(0.6), ..PLAIN }), [1, 1, 1, 2, 2]);
        assert_eq!(at(&Sampling { top_p: Some(0.4), ..PLAIN }), [1; 5]);
        // Half the temperature squares: 0.25, 0.09, 0.04 of 0.38, so 0.658 and 0.895.
        assert_eq!(at(&Sampling { temperature: 0.5, ..PLAIN }), [1, 1, 1, 2, 2]);
        assert_eq!(pick(&PLAIN, &[0.0, 1.0], 0.999_999), 1); // what cannot be is never drawn
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = Tensor::from_slice(&[0.1_f64.ln(), 0.6_f64.ln(), 0.3_f64.ln()]);
        let mut counts = [0; 3];
        for step in 0..4000 {
            counts[PLAIN.choose(&logits, (7, step)).unwrap() as usize] += 1;
        }
        // Four standard deviations: 76, 124, 116.
        let off = [400, 2400, 1200].map(f64::from);
        assert!(counts.iter().zip(off).all(|(n, e)| (f64::from(*n) - e).abs() < 125.0), "{counts:?}");
        let other = (0..50)
            .filter(|s| PLAIN.choose(&logits, (7, *s)).unwrap() != PLAIN.choose(&logits, (8, *s)).unwrap());
        assert!(other.count() > 5, "prompts draw apart");
    }

    #[test]
    fn nonsense_is_refused() {
        let nan = Tensor::from_slice(&[0.0, f64::NAN]);
        let message = PLAIN.choose(&nan, (3, 5)).unwrap_err().to_string();
        assert_eq!(message, "the logits of prompt 3 are not finite at new token 5");
        let says = |sampling: Sampling| sampling.check().unwrap_err().to_string();
        assert_eq!(
            says(Sampling { temperature: -1.0, ..PLAIN }),
            "temperature is -1, must be 0 (greedy) or more"
        );
        assert!(says(Sampling { top_p: Some(1.5), ..PLAIN }).starts_with("top-p is 1.5"));
        assert!(says(Sampling { top_k: Some(0), ..PLAIN }).starts_with("top-k is 0"));
    }
}
