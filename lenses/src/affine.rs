use tch::{Device, Kind, Tensor};

use crate::Error;

/// A residual affine map `x = h + h Aᵀ + b` over the residual stream.
///
/// Zero is the identity, so that a lens made of it begins as the logit lens and shrinks towards it (Belrose et al.
/// 2023, whose released code has this form; the paper writes `A + I`).
#[derive(Debug)]
pub struct Affine {
    /// `A [d_model, d_model]`, f32.
    pub weight: Tensor,
    /// `b [d_model]`, f32.
    pub bias: Tensor,
}

impl Affine {
    /// From `A [d, d]` and `b [d]`.
    ///
    /// # Errors
    /// When the shapes do not fit each other.
    pub fn new(weight: Tensor, bias: Tensor) -> Result<Self, Error> {
        let (size, b) = (weight.size(), bias.size());
        if size.len() != 2 || size[0] != size[1] {
            return Err(Error::Shape {
                what: "translator weight",
                expected: "[d_model, d_model]".into(),
                got: size,
            });
        }
        if b != [size[0]] {
            return Err(Error::Shape { what: "translator bias", expected: format!("[{}]", size[0]), got: b });
        }
        Ok(Self { weight, bias })
    }

    /// The identity over `d` numbers.
    pub fn identity(d: usize, device: Device) -> Self {
        let d = d as i64;
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, device));
        Self { weight: zeros(&[d, d]), bias: zeros(&[d]) }
    }

    /// Width of the residual stream.
    pub fn d_model(&self) -> usize {
        self.bias.size()[0] as usize
    }

    /// `h [.., d_model]` to `h + h Aᵀ + b`, in f32.
    ///
    /// # Errors
    /// When `h` does not end in `d_model`.
    pub fn forward(&self, h: &Tensor) -> Result<Tensor, Error> {
        let h = h.to_kind(self.weight.kind());
        Ok(h.f_linear(&self.weight, Some(&self.bias))?.f_add(&h)?)
    }

    /// The map that is `self` and then `next`, in f32; `A = A₁ + A₂ + A₂A₁`, `b = b₁ + b₂ + A₂b₁`.
    ///
    /// # Errors
    /// When the widths differ.
    pub fn then(&self, next: &Self) -> Result<Self, Error> {
        let wide = |t: &Tensor| t.to_kind(Kind::Double);
        let (first, second) = (wide(&self.weight), wide(&next.weight));
        let (bias, shift) = (wide(&self.bias), wide(&next.bias));
        let weight = second.f_matmul(&first)?.f_add(&first)?.f_add(&second)?;
        let bias = second.f_mv(&bias)?.f_add(&bias)?.f_add(&shift)?;
        Self::new(weight.to_kind(Kind::Float), bias.to_kind(Kind::Float))
    }

    /// A copy that shares no memory.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { weight: self.weight.copy(), bias: self.bias.copy() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // h = (1, 2); A = [[0, 1], [3, 0]]: A h = (2, 3); b = (10, 20): x = (13, 25)
        let weight = Tensor::from_slice(&[0f32, 1., 3., 0.]).view([2, 2]);
        let map = Affine::new(weight, Tensor::from_slice(&[10f32, 20.])).unwrap();
        let x = map.forward(&Tensor::from_slice(&[1f32, 2.]).view([1, 2])).unwrap();
        assert_eq!(Vec::<f32>::try_from(x.view(-1)).unwrap(), [13., 25.]);
        assert_eq!(map.d_model(), 2);
    }

    #[test]
    fn maps_compose() {
        let random = |scale: f64| {
            let normal = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * scale;
            Affine::new(normal(&[5, 5]), normal(&[5])).unwrap()
        };
        let (first, second) = (random(0.5), random(2.0));
        let h = Tensor::randn([3, 5], (Kind::Float, Device::Cpu));
        let steps = second.forward(&first.forward(&h).unwrap()).unwrap();
        let at_once = first.then(&second).unwrap().forward(&h).unwrap();
        assert!((steps - at_once).abs().max().double_value(&[]) < 1e-4);
        let says = first.then(&Affine::identity(4, Device::Cpu)).unwrap_err().to_string();
        assert!(says.ends_with("cannot be multiplied (4x4 and 5x5)"), "{says}");
    }

    #[test]
    fn the_identity_changes_nothing_and_shapes_are_checked() {
        let h = Tensor::randn([3, 5], (Kind::Float, Device::Cpu));
        assert!(Affine::identity(5, Device::Cpu).forward(&h).unwrap().equal(&h));
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        for (weight, bias) in [(vec![2, 3], vec![2]), (vec![2, 2], vec![3]), (vec![4], vec![4])] {
            let failed = Affine::new(zeros(&weight), zeros(&bias)).unwrap_err();
            assert!(matches!(failed, Error::Shape { .. }), "{failed}");
        }
        let says = Affine::identity(4, Device::Cpu).forward(&h).unwrap_err().to_string();
        assert!(says.ends_with("cannot be multiplied (3x5 and 4x4)"), "{says}");
    }
}
