use tch::{Kind, Tensor};

use crate::Error;

/// Which mean and variance a norm uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `(x - mean) / sqrt(var + eps) * w + b`.
    Layer,
    /// `x / sqrt(mean(x²) + eps) * w` (Zhang & Sennrich 2019).
    Rms,
}

/// A norm over the last dimension, with its weights `[d]`.
///
/// Gemma stores `w - 1`; whoever loads it adds the one, so `weight` always is the factor.
#[derive(Debug)]
pub struct Norm {
    kind: NormKind,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    eps: f64,
}

impl Norm {
    /// A norm with factor `weight [d]` (none: 1) and offset `bias [d]` (none: 0).
    pub fn new(kind: NormKind, weight: Option<Tensor>, bias: Option<Tensor>, eps: f64) -> Self {
        Self { kind, weight, bias, eps }
    }

    /// Which statistics the norm uses.
    pub fn kind(&self) -> NormKind {
        self.kind
    }

    /// The factor `[d]`; none is 1.
    pub fn weight(&self) -> Option<&Tensor> {
        self.weight.as_ref()
    }

    /// The offset `[d]`; none is 0.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Normalises `x [.., d]`.
    ///
    /// # Errors
    /// When `x` does not end in the norm's dimension.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        let d = *x.size().last().unwrap_or(&0);
        let (w, b) = (self.weight.as_ref(), self.bias.as_ref());
        Ok(match self.kind {
            NormKind::Layer => x.f_layer_norm([d], w, b, self.eps, true)?,
            // Half-precision states are squared in f32, as the reference implementations do.
            NormKind::Rms if x.kind() != Kind::Float => self.with_scale(x, &self.scale(x)?)?,
            NormKind::Rms => {
                // mean(x²) as ‖x‖² / d: one pass, and no tensor of squares.
                let mean_square = x.f_norm_scalaropt_dim(2, -1, true)?.f_square()? / d as f64;
                let inverse = (mean_square + self.eps).f_rsqrt()?;
                match w {
                    Some(w) => x.f_mul(&inverse)?.f_mul_(w)?,
                    None => x.f_mul(&inverse)?,
                }
            }
        })
    }

    /// The divisor `[.., 1]`: `sqrt(var + eps)` or `sqrt(mean(x²) + eps)`, in f32 or wider.
    ///
    /// # Errors
    /// As [`Norm::forward`].
    pub fn scale(&self, x: &Tensor) -> Result<Tensor, Error> {
        let x = widen(x);
        let centred = match self.kind {
            NormKind::Layer => x.f_sub(&x.f_mean_dim(-1, true, x.kind())?)?,
            NormKind::Rms => x,
        };
        Ok((centred.f_square()?.f_mean_dim(-1, true, centred.kind())? + self.eps).f_sqrt()?)
    }

    /// Normalises `x [.., d]` with a given divisor `scale [.., 1]`.
    ///
    /// # Errors
    /// As [`Norm::forward`].
    pub fn with_scale(&self, x: &Tensor, scale: &Tensor) -> Result<Tensor, Error> {
        let wide = widen(x);
        let centred = match self.kind {
            NormKind::Layer => wide.f_sub(&wide.f_mean_dim(-1, true, wide.kind())?)?,
            NormKind::Rms => wide,
        };
        let mut out = centred.f_div(scale)?;
        if let Some(w) = &self.weight {
            out = out.f_mul(w)?;
        }
        if let Some(b) = &self.bias {
            out = out.f_add(b)?;
        }
        Ok(out.to_kind(x.kind()))
    }
}

fn widen(x: &Tensor) -> Tensor {
    if matches!(x.kind(), Kind::Half | Kind::BFloat16) { x.to_kind(Kind::Float) } else { x.shallow_clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Tensor {
        Tensor::from_slice(&[1f32, 2., 3., 6.]).view([1, 4])
    }

    #[test]
    fn layer_norm_by_hand() {
        // mean 3, deviations (-2,-1,0,3), var (4+1+0+9)/4 = 3.5
        let norm = Norm::new(NormKind::Layer, None, None, 0.0);
        let y = Vec::<f32>::try_from(norm.forward(&row()).unwrap().view(-1)).unwrap();
        for (got, deviation) in y.iter().zip([-2f32, -1., 0., 3.]) {
            assert!((got - deviation / 3.5f32.sqrt()).abs() < 1e-6);
        }
    }

    #[test]
    fn rms_norm_by_hand() {
        // mean of squares (1+4+9+36)/4 = 12.5
        let weight = Tensor::from_slice(&[1f32, 1., 2., 1.]);
        let norm = Norm::new(NormKind::Rms, Some(weight), None, 0.0);
        let y = Vec::<f32>::try_from(norm.forward(&row()).unwrap().view(-1)).unwrap();
        for (got, want) in y.iter().zip([1f32, 2., 6., 6.]) {
            assert!((got - want / 12.5f32.sqrt()).abs() < 1e-6);
        }
    }

    #[test]
    fn the_two_paths_agree() {
        let x = Tensor::randn([5, 16], (Kind::Float, tch::Device::Cpu));
        let w = Tensor::randn([16], (Kind::Float, tch::Device::Cpu));
        let b = Tensor::randn([16], (Kind::Float, tch::Device::Cpu));
        for kind in [NormKind::Layer, NormKind::Rms] {
            let bias = (kind == NormKind::Layer).then(|| b.shallow_clone());
            let norm = Norm::new(kind, Some(w.shallow_clone()), bias, 1e-5);
            let fused = norm.forward(&x).unwrap();
            let split = norm.with_scale(&x, &norm.scale(&x).unwrap()).unwrap();
            assert!((fused - split).abs().max().double_value(&[]) < 1e-5);
        }
    }
}
