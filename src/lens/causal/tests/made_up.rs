//! Energies and bases of a head of random numbers.

use std::collections::BTreeMap;

use layerscope_lenses::{
    Affine, Error, LayerIndex, Lens, Norm, NormKind, Precision, Readout, TunedLens, Unembed,
};
use tch::{Device, Kind, Tensor};

use super::{super::*, CPU, far};
use crate::watch::{Underway, testing::Counter};

/// A made-up head, states of uneven variance about a mean that is not zero, and a tuned lens.
struct Scene {
    readout: Readout,
    lens: TunedLens,
    states: Tensor,
    mean: Tensor,
    covariance: Tensor,
}

fn scene(kind: NormKind) -> Scene {
    tch::set_num_threads(1);
    tch::manual_seed(5);
    let (rows, d, vocab) = (300, 10, 60);
    let bias = (kind == NormKind::Layer).then(|| Tensor::randn([d], CPU));
    let norm = Norm::new(kind, Some(Tensor::rand([d], CPU) + 0.5), bias, 1e-5);
    let unembed = Unembed::new(norm, Tensor::randn([vocab, d], CPU) * 0.6, None, None).unwrap();
    let readout = Readout::new(&unembed, vocab as usize, Precision::Exact, 1).unwrap();
    let map = Affine::new(Tensor::randn([d, d], CPU) * 0.2, Tensor::randn([d], CPU)).unwrap();
    let lens = TunedLens::new("tuned", BTreeMap::from([(LayerIndex(2), map)]));
    let spread = Tensor::linspace(3.0, 0.3, d, CPU);
    let states = Tensor::randn([rows, d], CPU) * spread + Tensor::randn([d], CPU);
    let wide = states.to_kind(Kind::Double);
    let mean = wide.mean_dim([0_i64].as_slice(), false, Kind::Double);
    let centred = wide - &mean;
    let covariance = centred.tr().matmul(&centred) / rows as f64;
    Scene { readout, lens, states, mean, covariance }
}

impl Scene {
    fn energy(&self) -> Energy<'_> {
        Energy::new(&self.readout, (&self.lens, LayerIndex(2)), &self.states, &self.mean).unwrap()
    }
}

fn unit(seed: u64, d: usize) -> Vec<f64> {
    Vec::try_from(random(1, d, 0, seed).unwrap().view([-1])).unwrap()
}

#[test]
fn the_gradient_is_that_of_finite_differences() {
    for kind in [NormKind::Layer, NormKind::Rms] {
        let scene = scene(kind);
        let energy = scene.energy();
        let v = unit(3, 10);
        let (value, gradient) = energy.gradient(&v).unwrap();
        assert!((value - energy.mean(&v).unwrap()).abs() < 1e-6);
        for i in 0..10 {
            let moved = |step: f64| {
                let mut v = v.clone();
                v[i] += step;
                energy.mean(&v).unwrap()
            };
            let want = (moved(5e-3) - moved(-5e-3)) / 1e-2;
            assert!((gradient[i] - want).abs() < 2e-3 * want.abs().max(1.0), "{i}: {} {want}", gradient[i]);
        }
    }
}

#[test]
fn without_all_directions_every_state_is_the_mean() {
    let scene = scene(NormKind::Layer);
    let all = random(10, 10, 0, 7).unwrap();
    let removed = remove(&scene.states, &all, &scene.mean).unwrap();
    assert!(far(&removed, &scene.mean.expand_as(&scene.states)) < 1e-5);
    // So the energy is the divergence from what the lens says of the mean.
    let dense = |h: &Tensor| {
        let x = scene.lens.transform(LayerIndex(2), h).unwrap();
        scene.readout.unembed().logits(&x).unwrap().log_softmax(-1, Kind::Double)
    };
    let (p, q) = (dense(&scene.states), dense(&scene.mean.to_kind(Kind::Float).unsqueeze(0)));
    let want = (p.exp() * (&p - &q)).sum_dim_intlist([-1_i64].as_slice(), false, Kind::Double);
    let got = Tensor::from_slice(&scene.energy().rows(&all).unwrap());
    assert!(far(&got, &want) < 1e-5 * want.max().double_value(&[]));
}

#[test]
fn a_basis_is_orthonormal_sorted_and_better_than_others() {
    for kind in [NormKind::Layer, NormKind::Rms] {
        let scene = scene(kind);
        let energy = scene.energy();
        for k in [4, 10] {
            let basis = extract(&energy, &scene.covariance, k, &Underway::unwatched()).unwrap();
            let gram = basis.vectors.matmul(&basis.vectors.tr());
            assert!(far(&gram, &Tensor::eye(k as i64, (Kind::Double, Device::Cpu))) < 1e-10);
            assert!(basis.energies.is_sorted_by(|a, b| a >= b), "{:?}", basis.energies);
            assert!(basis.unfinished == 0 && basis.evaluations < 100 * k);
            let first = Vec::<f64>::try_from(basis.vectors.get(0)).unwrap();
            assert!((energy.mean(&first).unwrap() - basis.energies[0]).abs() < 1e-5);
            let axis = principal(&scene.covariance, 1).unwrap();
            let others = (0..50).map(|seed| unit(seed, 10)).chain([Vec::try_from(axis.get(0)).unwrap()]);
            for other in others {
                assert!(energy.mean(&other).unwrap() <= basis.energies[0] + 1e-5);
            }
        }
        assert!(matches!(
            extract(&energy, &scene.covariance, 11, &Underway::unwatched()),
            Err(CausalError::Directions { k: 11, d: 10 })
        ));
        let ended = extract(&energy, &scene.covariance, 2, &Counter::until(1).begin());
        assert!(matches!(ended, Err(CausalError::Interrupted(_))));
    }
}

/// Says one thing only: how far the state lies along a direction.
struct OneDirection {
    reads: Tensor,
    says: Tensor,
    base: Tensor,
}

impl Lens for OneDirection {
    fn name(&self) -> &'static str {
        "one"
    }

    fn transform(&self, _: LayerIndex, resid: &Tensor) -> Result<Tensor, Error> {
        Ok(resid.matmul(&self.reads).unsqueeze(-1) * &self.says + &self.base)
    }

    fn reads(&self, _: LayerIndex) -> bool {
        true
    }
}

#[test]
fn the_one_direction_that_a_lens_reads_is_found() {
    // States of even variance: a direction that varies more may do more through its part along the one that is read.
    let mut scene = scene(NormKind::Rms);
    scene.states = Tensor::randn([3000, 10], CPU);
    scene.mean = Tensor::zeros([10], CPU);
    let direction = unit(11, 10);
    let reads = Tensor::from_slice(&direction).to_kind(Kind::Float);
    let lens = OneDirection { reads, says: Tensor::randn([10], CPU), base: Tensor::randn([10], CPU) * 2.0 };
    let energy = Energy::new(&scene.readout, (&lens, LayerIndex(0)), &scene.states, &scene.mean).unwrap();
    let basis = extract(&energy, &scene.covariance, 3, &Underway::unwatched()).unwrap();
    let cosine: f64 =
        direction.iter().zip(Vec::<f64>::try_from(basis.vectors.get(0)).unwrap()).map(|(a, b)| a * b).sum();
    assert!(cosine.abs() > 0.99, "{cosine}");
    assert!(basis.energies[1] < 1e-2 * basis.energies[0], "{:?}", basis.energies);
}
