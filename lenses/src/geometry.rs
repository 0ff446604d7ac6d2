//! How two layers' states relate, from their moments alone: similarity, and the corrections that carry one to the
//! other.

use tch::{Kind, Tensor};

use crate::{CrossMoments, Error, Moments};

/// The centred covariances of pairs of states `x` and `y` of two layers, of one width.
///
/// A transfer matrix asks whether the lens of layer `y` can read a state of layer `x`. The corrections here map `x` to
/// `y`-like states, from weak to strong: [`shift`](Self::shift), [`match_moments`](Self::match_moments),
/// [`rotate`](Self::rotate). A layer that never varies has no geometry: its measures are NaN. Each correction is an
/// affine map to apply before the lens (`correction.then(translator)`).
#[derive(Debug)]
pub struct Geometry {
    pub(crate) mean_x: Tensor, // [d], of every dimension
    pub(crate) mean_y: Tensor,
    pub(crate) kept: Vec<i64>, // the dimensions that count, ascending
    pub(crate) xx: Tensor,     // [kept, kept], f64
    pub(crate) yy: Tensor,
    pub(crate) yx: Tensor,
}

impl Geometry {
    /// From the moments of both layers at the same rows, and of the pairs.
    ///
    /// # Errors
    /// When there are no rows, the moments count different rows, or the widths differ.
    pub fn new(x: &Moments, y: &Moments, pairs: &CrossMoments) -> Result<Self, Error> {
        let d = x.d() as i64;
        if y.d() != x.d() || pairs.shape() != [d, d] {
            let (expected, got) = (format!("[{d}, {d}]"), pairs.shape().to_vec());
            return Err(Error::Shape { what: "cross moments", expected, got });
        }
        let yx = pairs.covariance(x)?;
        if y.n() != x.n() {
            return Err(Error::Pairs { x: x.n(), y: y.n() });
        }
        if x.n() == 0 {
            return Err(Error::NoRows { what: "geometry".into() });
        }
        let (xx, yy) = (x.covariance()?, y.covariance()?);
        Ok(Self { mean_x: x.mean()?, mean_y: y.mean()?, kept: (0..d).collect(), xx, yy, yx })
    }

    /// The pair the other way round.
    #[must_use]
    pub fn swapped(&self) -> Self {
        let same = Tensor::shallow_clone;
        Self {
            mean_x: same(&self.mean_y),
            mean_y: same(&self.mean_x),
            kept: self.kept.clone(),
            xx: same(&self.yy),
            yy: same(&self.xx),
            yx: self.yx.tr(),
        }
    }

    /// The same without some dimensions, such as [`outlier_dims`]. Corrections still map full states: they only move
    /// the mean of a dimension that was left out.
    ///
    /// # Errors
    /// When a dimension is beyond the width.
    pub fn without(&self, dims: &[usize]) -> Result<Self, Error> {
        let d = self.mean_x.size()[0] as usize;
        if let Some(&dim) = dims.iter().find(|&&dim| dim >= d) {
            return Err(Error::Dimension { dim, d });
        }
        let stays = |i: &usize| !dims.contains(&(self.kept[*i] as usize));
        let places: Vec<usize> = (0..self.kept.len()).filter(stays).collect();
        let index: Vec<i64> = places.iter().map(|&i| i as i64).collect();
        let index = Tensor::from_slice(&index).to_device(self.xx.device());
        let cut = |m: &Tensor| m.f_index_select(0, &index)?.f_index_select(1, &index);
        Ok(Self {
            mean_x: self.mean_x.shallow_clone(),
            mean_y: self.mean_y.shallow_clone(),
            kept: places.iter().map(|&i| self.kept[i]).collect(),
            xx: cut(&self.xx)?,
            yy: cut(&self.yy)?,
            yx: cut(&self.yx)?,
        })
    }

    /// Linear CKA, `|YᵀX|² / (|XᵀX| |YᵀY|)` of centred states in Frobenius norms, 0 to 1 (Kornblith et al. 2019, arXiv
    /// 1905.00414). It does not change when either layer is rotated or scaled.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn cka(&self) -> Result<f64, Error> {
        Ok(inner(&self.yx, &self.yx)? / (inner(&self.xx, &self.xx)? * inner(&self.yy, &self.yy)?).sqrt())
    }

    /// `⟨Σx, Σy⟩ / (|Σx| |Σy|)`, 0 to 1: whether the two vary along the same axes (Belrose et al. 2023, section 3.2).
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn covariance_cosine(&self) -> Result<f64, Error> {
        let norms = inner(&self.xx, &self.xx)? * inner(&self.yy, &self.yy)?;
        Ok(inner(&self.xx, &self.yy)? / norms.sqrt())
    }

    /// `tr(Yᵀ X) / (|X| |Y|)` of centred states, -1 to 1: the cosine of paired states, each pair weighted by its
    /// lengths. The plain mean of cosines is not a function of moments: see [`cosines`](Self::cosines).
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn cosine(&self) -> Result<f64, Error> {
        Ok(trace(&self.yx)? / self.scale()?)
    }

    /// The cosines `[n]`, f64, of pairs of rows `x [n, d]` and `y [n, d]` once the means of this geometry are taken
    /// out.
    ///
    /// # Errors
    /// When a width is another.
    pub fn cosines(&self, x: &Tensor, y: &Tensor) -> Result<Tensor, Error> {
        let index = Tensor::from_slice(&self.kept).to_device(self.xx.device());
        let centred = |rows: &Tensor, mean: &Tensor| {
            rows.f_to_kind(Kind::Double)?.f_sub(mean)?.f_index_select(-1, &index)
        };
        Ok(Tensor::f_cosine_similarity(&centred(x, &self.mean_x)?, &centred(y, &self.mean_y)?, -1, 1e-300)?)
    }

    /// The squared Procrustes distance `|X|² + |Y|² - 2 |YᵀX|_*` of centred states scaled to `|X| = |Y| = 1`: 0 for a
    /// rotated and scaled copy, 2 for unrelated layers.
    ///
    /// # Errors
    /// When the SVD fails.
    pub fn procrustes_distance(&self) -> Result<f64, Error> {
        let nuclear = self.yx.f_svd(true, false)?.1.f_sum(Kind::Double)?.double_value(&[]);
        Ok((2.0 - 2.0 * nuclear / self.scale()?).max(0.0))
    }

    /// `|X| |Y| / n`.
    fn scale(&self) -> Result<f64, Error> {
        Ok((trace(&self.xx)? * trace(&self.yy)?).sqrt())
    }
}

/// The `k` dimensions with the largest mean square, largest first, each with its ratio to the median dimension's
/// (of an even number, the lower of the two in the middle).
///
/// A ratio above about 100 is the usual mark of an outlier dimension of a residual stream (a "massive activation").
///
/// # Errors
/// When there are no rows.
pub fn outlier_dims(moments: &Moments, k: usize) -> Result<Vec<(usize, f64)>, Error> {
    if moments.n() == 0 {
        return Err(Error::NoRows { what: "outlier dimensions".into() });
    }
    let squares = Vec::<f64>::try_from(moments.mean_square()?.to_device(tch::Device::Cpu))?;
    let mut order: Vec<usize> = (0..squares.len()).collect();
    order.sort_by(|&a, &b| squares[b].total_cmp(&squares[a])); // stable: the lower dimension first among equals
    let Some(&middle) = order.get(order.len() / 2) else { return Ok(vec![]) };
    let ratio = |dim: usize| (dim, squares[dim] / squares[middle]);
    Ok(order.into_iter().take(k).map(ratio).collect())
}

fn trace(m: &Tensor) -> Result<f64, Error> {
    Ok(m.f_trace()?.double_value(&[]))
}

/// `⟨a, b⟩`, Frobenius.
fn inner(a: &Tensor, b: &Tensor) -> Result<f64, Error> {
    Ok(a.f_mul(b)?.f_sum(Kind::Double)?.double_value(&[]))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Rows;
    use crate::golden::{Golden, error};
    use tch::Device;

    pub(crate) fn geometry(x: &Tensor, y: &Tensor) -> Geometry {
        let d = x.size()[1] as usize;
        let (x, y) = (Rows::new("x", x).unwrap(), Rows::new("y", y).unwrap());
        let moments = |rows: &Rows| {
            let mut moments = Moments::new(d, Device::Cpu);
            moments.add(rows).unwrap();
            moments
        };
        let mut pairs = CrossMoments::new(d, d, Device::Cpu);
        pairs.add(&x, &y).unwrap();
        Geometry::new(&moments(&x), &moments(&y), &pairs).unwrap()
    }

    pub(crate) fn normal(n: i64, d: i64) -> Tensor {
        Tensor::randn([n, d], (Kind::Float, Device::Cpu))
    }

    /// Correlated, off-centre states and a copy that is rotated, scaled and moved.
    pub(crate) fn rotated() -> (Tensor, Tensor, Tensor) {
        let turn = || Tensor::linalg_qr(&normal(6, 6), "reduced").0;
        let x = (normal(200, 6) * Tensor::from_slice(&[1f32, 1.5, 2., 3., 4., 5.])).matmul(&turn()) + 3.0;
        let q = turn();
        let y = x.matmul(&q.tr()) * 2.5 - 7.0;
        (x, y, q)
    }

    #[test]
    fn as_numpy_and_scipy_have_it() {
        let golden = Golden::load();
        let whole = geometry(&golden.get("x"), &golden.get("y"));
        for (suffix, geometry) in [("", &whole), (".without", &whole.without(&[5, 2]).unwrap())] {
            let got = [
                geometry.cka().unwrap(),
                geometry.covariance_cosine().unwrap(),
                geometry.cosine().unwrap(),
                geometry.procrustes_distance().unwrap(),
            ];
            for (got, want) in got.iter().zip(golden.values(&format!("geometry{suffix}"))) {
                assert!((got - want).abs() < 1e-11, "{suffix} {got} {want}");
            }
        }
    }

    #[test]
    fn one_dimension_by_hand() {
        // x = (1, 3), y = (0, 4): deviations (-1, 1) and (-2, 2)
        let column = |v: [f32; 2]| Tensor::from_slice(&v).view([2, 1]);
        let g = geometry(&column([1., 3.]), &column([0., 4.]));
        assert_eq!((g.cka().unwrap(), g.cosine().unwrap(), g.procrustes_distance().unwrap()), (1., 1., 0.));
    }

    #[test]
    fn a_rotated_scaled_copy_is_the_same_layer() {
        let (x, y, q) = rotated();
        let g = geometry(&x, &y);
        assert!((g.cka().unwrap() - 1.0).abs() < 1e-9);
        assert!(g.procrustes_distance().unwrap() < 1e-9);
        assert!(error(&g.rotation().unwrap(), &q) < 1e-5);
        assert!(g.cosine().unwrap() < 0.999 && g.covariance_cosine().unwrap() < 0.9999);
        // And CKA with a third layer sees neither rotation nor scale.
        let third = normal(200, 6) + &x;
        let (of_x, of_y) = (geometry(&x, &third).cka().unwrap(), geometry(&y, &third).cka().unwrap());
        assert!((of_x - of_y).abs() < 1e-6 && of_x < 0.999);
    }

    #[test]
    fn cosines_are_taken_from_the_means() {
        // means (1, 1) and (2, 0); deviations (1, 0), (-1, 0) and (3, 4), (-3, -4); the third dimension is left out
        let x = Tensor::from_slice(&[2f32, 1., 9., 0., 1., 0.]).view([2, 3]);
        let y = Tensor::from_slice(&[5f32, 4., 0., -1., -4., 0.]).view([2, 3]);
        let g = geometry(&x, &y).without(&[2]).unwrap();
        let got = Vec::<f64>::try_from(g.cosines(&x, &y).unwrap()).unwrap();
        assert!(got.iter().all(|cosine| (cosine - 0.6).abs() < 1e-12), "{got:?}");
        let says = g.cosines(&x.narrow(1, 0, 2), &y).unwrap_err().to_string();
        assert!(says.contains("size of tensor a (2) must match the size of tensor b (3)"), "{says}");
    }

    #[test]
    fn dimensions_left_out_do_not_count_and_are_only_moved() {
        let (x, y, _) = rotated();
        let mut loud = x.narrow(1, 2, 1);
        loud *= 1e4;
        let g = geometry(&x, &y);
        assert!(g.cka().unwrap() < 0.99);
        let rest = g.without(&[2]).unwrap();
        let index = Tensor::from_slice(&[0i64, 1, 3, 4, 5]);
        let want = geometry(&x.index_select(1, &index), &y.index_select(1, &index));
        assert!((rest.cka().unwrap() - want.cka().unwrap()).abs() < 1e-12);
        assert!((g.without(&[0]).unwrap().without(&[2]).unwrap().kept).eq(&[1, 3, 4, 5]));

        let (map, shift) =
            (rest.rotate().unwrap().forward(&x).unwrap(), g.shift().unwrap().forward(&x).unwrap());
        assert!(error(&map.select(1, 2), &shift.select(1, 2)) < 1e-6);
        let small = want.rotate().unwrap().forward(&x.index_select(1, &index)).unwrap();
        assert!(error(&map.index_select(1, &index), &small) < 1e-5);
        assert!(matches!(g.without(&[6]), Err(Error::Dimension { dim: 6, d: 6 })));
    }

    #[test]
    fn outliers_are_ranked_against_the_median() {
        let rows = Tensor::from_slice(&[1f32, -20., 2., 3., 1.]).view([1, 5]);
        let mut moments = Moments::new(5, Device::Cpu);
        assert!(matches!(outlier_dims(&moments, 2), Err(Error::NoRows { .. })));
        moments.add(&Rows::new("x", &rows).unwrap()).unwrap();
        assert_eq!(outlier_dims(&moments, 2).unwrap(), [(1, 100.), (3, 2.25)]);
        assert_eq!(outlier_dims(&moments, 9).unwrap().len(), 5);
    }
}
