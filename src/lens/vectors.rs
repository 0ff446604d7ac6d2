//! Lens vectors: the direction at a layer that moves a token's logit most, as a lens sees it.

use layerscope_lenses::{Error, LayerIndex, Lens};
use tch::{Kind, Tensor};

/// `Jᵀu [n, d_model]` of rows `u [n, d_model]` of the unembedding, for the map `h ↦ J h + b` of an affine lens: what a
/// state has to go along for the lens to say the token. For the logit lens, whose `J` is the identity, that is `u`.
///
/// The map is taken from what the lens does to the unit vectors, so every lens that is affine has lens vectors.
///
/// # Errors
/// When the lens does not read `layer`, or `u` has another width.
pub fn lens_vectors(lens: &dyn Lens, layer: LayerIndex, unembedded: &Tensor) -> Result<Tensor, Error> {
    let u = unembedded.f_to_kind(Kind::Float)?;
    let d = *u.size().last().unwrap_or(&0);
    let options = (Kind::Float, u.device());
    let origin = lens.transform(layer, &Tensor::f_zeros([1, d], options)?)?;
    // Row i is J e_i: the transpose of J.
    let columns = lens.transform(layer, &Tensor::f_eye(d, options)?)?.f_sub(&origin)?;
    Ok(u.f_matmul(&columns.f_transpose(0, 1)?)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use layerscope_lenses::{Affine, JacobianLens, LogitLens, TunedLens};
    use tch::Device;

    use super::*;

    #[test]
    fn by_hand() {
        // J = [[1, 2], [0, 3]]: Jᵀ (5, 7) = (5, 10 + 21)
        let jacobian = Tensor::from_slice(&[1f32, 2., 0., 3.]).view([2, 2]);
        let lens =
            JacobianLens::new("j", LayerIndex(4), BTreeMap::from([(LayerIndex(1), jacobian)])).unwrap();
        let u = Tensor::from_slice(&[5f32, 7.]).view([1, 2]);
        let found = lens_vectors(&lens, LayerIndex(1), &u).unwrap().view(-1);
        assert_eq!(Vec::<f32>::try_from(found).unwrap(), [5., 31.]);
    }

    #[test]
    fn every_affine_lens_has_them() {
        tch::manual_seed(3);
        let normal = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        let (u, jacobian, layer) = (normal(&[4, 6]), normal(&[6, 6]), LayerIndex(2));
        let near = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]) < 1e-5;
        let lens = JacobianLens::new("j", LayerIndex(9), BTreeMap::from([(layer, jacobian.copy())])).unwrap();
        let found = lens_vectors(&lens, layer, &u).unwrap();
        assert!(near(&found, &u.matmul(&jacobian)));
        // A tuned lens is h + A h + b.
        let map = Affine::new(jacobian.copy(), normal(&[6])).unwrap();
        let tuned = TunedLens::new("t", BTreeMap::from([(layer, map)]));
        assert!(near(&lens_vectors(&tuned, layer, &u).unwrap(), &(&u + u.matmul(&jacobian))));
        assert!(lens_vectors(&LogitLens, layer, &u).unwrap().equal(&u));
        assert!(lens_vectors(&tuned, LayerIndex(3), &u).is_err());
    }
}
