//! Maps put in front of a shared translator: what a rung may know of a layer without fitting it.

use tch::{Device, Kind, Tensor};

use crate::{Affine, Error, LayerIndex, Moments};

/// `φ(h) = μ_L + (σ_L / σ)(h - μ)`: a layer's states with the mean and the spread of the last layer's, `σ²` being the
/// mean variance of a dimension. The rung `standardised` of the ladder.
///
/// # Errors
/// When a layer has no rows or libtorch fails.
pub fn standardise(own: &Moments, end: &Moments) -> Result<Affine, Error> {
    let spread = |m: &Moments| Ok::<_, Error>(m.covariance()?.f_trace()?.double_value(&[]).sqrt());
    let ratio = spread(end)? / spread(own)?;
    let mean = own.mean()?;
    let weight = identity(own.d(), mean.device())? * (ratio - 1.0);
    let bias = end.mean()?.f_sub(&(mean * ratio))?;
    Affine::new(weight.to_kind(Kind::Float), bias.to_kind(Kind::Float))
}

/// `φ(h) = R (h - μ) + μ` with a rotation drawn uniformly from (seed, layer): the control in which layers share nothing
/// but their spectra. `R` is the QR factor of a Gaussian matrix, signs fixed (Mezzadri 2007).
///
/// # Errors
/// When the layer has no rows or libtorch fails.
pub fn rotate(own: &Moments, seed: u64, layer: LayerIndex) -> Result<Affine, Error> {
    let d = own.d() as i64;
    tch::manual_seed((seed as i64).wrapping_mul(1_000_003) ^ (layer.0 as i64 + 1));
    let gaussian = Tensor::f_randn([d, d], (Kind::Double, Device::Cpu))?;
    let (q, r) = Tensor::f_linalg_qr(&gaussian, "reduced")?;
    let mean = own.mean()?;
    let rotation = q.f_mul(&r.f_diag(0)?.f_sign()?)?.to_device(mean.device());
    let bias = mean.f_sub(&rotation.f_mv(&mean)?)?;
    let weight = rotation.f_sub(&identity(own.d(), mean.device())?)?;
    Affine::new(weight.to_kind(Kind::Float), bias.to_kind(Kind::Float))
}

fn identity(d: usize, device: Device) -> Result<Tensor, Error> {
    Ok(Tensor::f_eye(d as i64, (Kind::Double, device))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rows;

    fn moments(x: &Tensor) -> Moments {
        let mut moments = Moments::new(x.size()[1] as usize, Device::Cpu);
        moments.add(&Rows::new("x", x).expect("rows")).expect("they fit");
        moments
    }

    #[test]
    fn standardised_states_have_the_last_layers_mean_and_spread() {
        let _guard = tch::no_grad_guard();
        tch::manual_seed(3);
        let x = Tensor::randn([400, 5], (Kind::Float, Device::Cpu)) * 3.0 + 2.0;
        let end = Tensor::randn([400, 5], (Kind::Float, Device::Cpu)) * 0.5 - 1.0;
        let map = standardise(&moments(&x), &moments(&end)).expect("it has rows");
        let got = moments(&map.forward(&x).expect("it fits"));
        let far = |a: Tensor, b: Tensor| (a - b).abs().max().double_value(&[]);
        assert!(far(got.mean().unwrap(), moments(&end).mean().unwrap()) < 1e-5);
        let trace = |m: &Moments| m.covariance().unwrap().trace().double_value(&[]);
        assert!((trace(&got) / trace(&moments(&end)) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_rotation_keeps_distances_and_the_mean_and_differs_by_layer() {
        let _guard = tch::no_grad_guard();
        tch::manual_seed(4);
        let x = Tensor::randn([300, 6], (Kind::Float, Device::Cpu)) + 1.5;
        let own = moments(&x);
        let of =
            |layer| rotate(&own, 7, LayerIndex(layer)).expect("it has rows").forward(&x).expect("it fits");
        let centred =
            |t: &Tensor| (t - t.mean_dim([0i64].as_slice(), false, Kind::Float)).norm().double_value(&[]);
        let turned = of(2);
        assert!((centred(&turned) / centred(&x) - 1.0).abs() < 1e-5);
        let mean = |t: &Tensor| t.mean_dim([0i64].as_slice(), false, Kind::Double);
        assert!((mean(&turned) - mean(&x)).abs().max().double_value(&[]) < 1e-4);
        assert!((&turned - of(3)).abs().max().double_value(&[]) > 0.1);
        assert_eq!((&turned - of(2)).abs().max().double_value(&[]), 0.0);
    }
}
