//! The corrections that carry the states of one layer to another.

use tch::{Kind, Tensor};

use crate::{Affine, Error, Geometry};

impl Geometry {
    /// `x - μx + μy`.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn shift(&self) -> Result<Affine, Error> {
        let k = self.kept.len() as i64;
        self.correction(&Tensor::f_eye(k, (Kind::Double, self.xx.device()))?)
    }

    /// `Σy^½ Σx^-½ (x - μx) + μy`: mean and covariance become those of `y`.
    ///
    /// Eigenvalues of `Σx` below `floor` times the largest count as that much, so that directions in which `x` hardly
    /// varies are not blown up: 1e-8 lets the standard deviations of directions span four decimal orders.
    ///
    /// # Errors
    /// When the floor is so low that a direction without variance would be divided by.
    pub fn match_moments(&self, floor: f64) -> Result<Affine, Error> {
        let to = power(&self.yy, 0.5, 0.0)?;
        self.correction(&to.f_matmul(&power(&self.xx, -0.5, floor)?)?)
    }

    /// `Q (x - μx) + μy` with the orthogonal `Q` that minimises `|Y - X Qᵀ|` of centred states: `Q = U Vᵀ` of the SVD
    /// of `Σyx` (Schönemann 1966).
    ///
    /// # Errors
    /// When the SVD fails.
    pub fn rotate(&self) -> Result<Affine, Error> {
        self.correction(&self.rotation()?)
    }

    /// `Q [kept, kept]`, f64.
    pub(crate) fn rotation(&self) -> Result<Tensor, Error> {
        let (u, _, v) = self.yx.f_svd(true, true)?;
        Ok(u.f_matmul(&v.f_tr()?)?)
    }

    /// `M (x - μx) + μy` on the kept dimensions, the shift alone on the others, as a residual map in f32.
    fn correction(&self, m: &Tensor) -> Result<Affine, Error> {
        let (d, device) = (self.mean_x.size()[0], self.xx.device());
        let index = Tensor::from_slice(&self.kept).to_device(device);
        let weight = Tensor::f_eye(d, (Kind::Double, device))?;
        let rows = weight.f_index_select(0, &index)?.f_index_copy(1, &index, m)?;
        let weight =
            weight.f_index_copy(0, &index, &rows)?.f_sub(&Tensor::f_eye(d, (Kind::Double, device))?)?;
        let bias = self.mean_y.f_sub(&self.mean_x)?.f_sub(&weight.f_mv(&self.mean_x)?)?;
        Affine::new(weight.to_kind(Kind::Float), bias.to_kind(Kind::Float))
    }
}

/// A power of a symmetric matrix, whose eigenvalues below `floor` times the largest count as that much.
fn power(m: &Tensor, exponent: f64, floor: f64) -> Result<Tensor, Error> {
    let (values, vectors) = m.f_linalg_eigh("L")?;
    let largest = values.f_max()?.double_value(&[]);
    let values = values.f_clamp_min(floor * largest)?;
    let rounding = f64::EPSILON * m.size()[0] as f64 * largest;
    if exponent < 0.0 && values.f_min()?.double_value(&[]) <= rounding {
        return Err(Error::Flat { floor });
    }
    let values = values.f_pow_tensor_scalar(exponent)?;
    Ok(vectors.f_mul(&values)?.f_matmul(&vectors.f_tr()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::tests::{geometry, normal, rotated};
    use crate::golden::{Golden, error};
    use tch::Device;

    #[test]
    fn as_scipy_has_them() {
        let golden = Golden::load();
        let whole = geometry(&golden.get("x"), &golden.get("y"));
        for (suffix, geometry) in [("", &whole), (".without", &whole.without(&[5, 2]).unwrap())] {
            let rotation = geometry.rotation().unwrap();
            assert!(error(&rotation, &golden.get(&format!("rotation{suffix}"))) < 1e-9);
            let to = power(&geometry.yy, 0.5, 0.0).unwrap();
            let matched = to.matmul(&power(&geometry.xx, -0.5, 1e-12).unwrap());
            assert!(error(&matched, &golden.get(&format!("match{suffix}"))) < 1e-9);
        }
    }

    #[test]
    fn one_dimension_by_hand() {
        // x = (1, 3), y = (0, 4): deviations (-1, 1) and (-2, 2)
        let column = |v: [f32; 2]| Tensor::from_slice(&v).view([2, 1]);
        let g = geometry(&column([1., 3.]), &column([0., 4.]));
        let at_three = |map: Affine| map.forward(&Tensor::from_slice(&[3f32])).unwrap().double_value(&[0]);
        assert_eq!(at_three(g.shift().unwrap()), 3.); // 3 - 2 + 2
        assert_eq!(at_three(g.match_moments(0.0).unwrap()), 4.); // 2 (3 - 2) + 2
        assert_eq!(at_three(g.rotate().unwrap()), 3.);
    }

    #[test]
    fn corrections_do_what_their_names_say() {
        let (x, y, _) = rotated();
        let g = geometry(&x, &y);
        let moved = |map: Affine| map.forward(&x).unwrap();
        let close = |a: &Tensor, b: &Tensor| error(a, b) < 1e-4;
        let matched = geometry(&moved(g.match_moments(1e-8).unwrap()), &y);
        assert!(close(&matched.xx, &matched.yy) && close(&matched.mean_x, &matched.mean_y));
        let shifted = geometry(&moved(g.shift().unwrap()), &y);
        assert!(close(&shifted.mean_x, &shifted.mean_y) && close(&shifted.xx, &g.xx));
        // A rotation alone keeps the scale: 2.5 (rotated - mean) is the copy.
        let rotated = moved(g.rotate().unwrap());
        let centred = |t: &Tensor| t - t.mean_dim(0, true, Kind::Float);
        assert!(close(&(centred(&rotated) * 2.5), &centred(&y)));
    }

    #[test]
    fn a_flat_direction_needs_a_floor() {
        let (x, y) = (normal(50, 3), normal(50, 3));
        let _ = x.narrow(1, 1, 1).fill_(4.0);
        let g = geometry(&x, &y);
        assert!(matches!(g.match_moments(0.0), Err(Error::Flat { .. })));
        let states = g.match_moments(1e-8).unwrap().forward(&x).unwrap();
        assert!(states.abs().max().double_value(&[]) < 10.0);
        let never = Tensor::ones([4, 3], (Kind::Float, Device::Cpu));
        assert!(geometry(&never, &never).cka().unwrap().is_nan());
        assert!(matches!(geometry(&never, &never).match_moments(1e-8), Err(Error::Flat { .. })));
    }
}
