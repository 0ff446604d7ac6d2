//! Soft-capped logits (Gemma 2): `KL` needs both distributions tile by tile, because `E_p[z_q]` is not linear in `n_q`.

use tch::{Device, Kind, Tensor};

use super::{Readout, Teacher, teacher::floor};
use crate::Error;

/// Logits held at once, per pass.
const AT_ONCE: usize = 4 << 20;

impl Readout {
    /// `KL(p ‖ q)` per row for capped logits and, if asked, `Σ p · slope(z_q) · W` `[rows, d_model]`, the part of its
    /// gradient that pulls towards `p`.
    pub(super) fn capped_kl(
        &self,
        p: &Teacher,
        n_q: &Tensor,
        lse_q: &[f64],
        gradient: bool,
    ) -> Result<(Vec<f64>, Tensor), Error> {
        let (rows, vocab) = (n_q.size()[0], self.vocab() as i64);
        let device = n_q.device();
        let lse_p = Tensor::from_slice(&p.lse).to_device(device).f_unsqueeze(-1)?;
        let mut gaps = Tensor::f_zeros([rows], (Kind::Double, device))?; // E_p[z_p - z_q]
        let mut pull = Tensor::f_zeros([rows, self.d_model() as i64], (Kind::Float, device))?;
        let tile = (AT_ONCE as i64 / rows.max(1)).clamp(64, vocab.max(64));
        for first in (0..vocab).step_by(tile as usize) {
            let width = tile.min(vocab - first);
            let z_p = self.capped_logits(&p.n, first, width)?;
            let z_q = self.capped_logits(n_q, first, width)?;
            let terms = z_p.f_sub(&lse_p)?.f_exp()?;
            gaps += terms.f_mul(&z_p.f_sub(&z_q)?)?.f_sum_dim_intlist(-1, false, Kind::Double)?;
            if gradient {
                let cap = self.soft_cap().unwrap_or(f64::INFINITY);
                let slope = (z_q / cap).f_square()?.f_neg()? + 1.0;
                let weight = self.head.weight.f_narrow(0, first, width)?;
                pull += terms.f_mul(&slope)?.f_to_kind(Kind::Float)?.f_mm(&weight)?;
            }
        }
        let gaps = Vec::<f64>::try_from(gaps.to_device(Device::Cpu))?;
        let kl = gaps.iter().zip(lse_q.iter().zip(&p.lse)).map(|(gap, (q, p))| floor(gap + q - p)).collect();
        Ok((kl, pull))
    }

    /// Capped logits `[rows, width]` in f64 of the tokens from `first` on.
    fn capped_logits(&self, n: &Tensor, first: i64, width: i64) -> Result<Tensor, Error> {
        let mut z = n.f_mm(&self.head.weight.f_narrow(0, first, width)?.tr())?.f_to_kind(Kind::Double)?;
        if let Some(bias) = &self.head.bias {
            z += bias.f_narrow(0, first, width)?;
        }
        Ok(match self.soft_cap() {
            Some(cap) => (z / cap).f_tanh()? * cap,
            None => z,
        })
    }
}
