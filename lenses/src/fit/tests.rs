use std::collections::BTreeMap;

use tch::Device;

use super::*;
use crate::{Norm, NormKind, Precision, Teacher, Unembed, noise::noise};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);
const D: i64 = 12;
const LAYERS: usize = 3;

/// A make-believe model: layer `l`'s state is the last one, seen through an affine map of its own, plus a little noise.
struct World {
    readout: Readout,
    maps: Vec<(Tensor, Tensor)>,
}

impl World {
    fn new() -> Self {
        let norm = Norm::new(NormKind::Layer, None, None, 1e-5);
        let unembed = Unembed::new(norm, noise(1, &[90, D]), None, None).unwrap();
        let readout = Readout::new(&unembed, 90, Precision::Exact, 1).unwrap();
        let map = |l| (Tensor::eye(D, CPU) + noise(10 + l, &[D, D]) * 0.25, noise(20 + l, &[D]));
        Self { readout, maps: (0..LAYERS as u64).map(map).collect() }
    }

    fn batch(&self, seed: u64) -> (Vec<Tensor>, Teacher) {
        let last = noise(seed, &[200, D]);
        let teacher = Teacher::of(&self.readout, &last).unwrap();
        let see = |(a, b): &(Tensor, Tensor)| last.matmul(&a.tr()) + b + noise(seed + 1000, &[200, D]) * 0.05;
        (self.maps.iter().map(see).collect(), teacher)
    }

    fn fit(&self, recipe: Recipe, rung: Rung, checkpoint: Option<usize>) -> Fitter {
        let start = || {
            let identity =
                Translators::identity(rung, (0..LAYERS).map(|_| None).collect(), D as usize, Device::Cpu);
            Fitter::new(recipe, identity).unwrap()
        };
        let mut fitter = start();
        self.validate(&mut fitter);
        while !fitter.is_done() {
            let (states, teacher) = self.batch(100 + fitter.steps_done() as u64);
            for (layer, states) in states.iter().enumerate() {
                let next = vec![5; 200];
                fitter.add(&self.readout, layer, &Rows { states, teacher: &teacher, next: &next }).unwrap();
            }
            fitter.step().unwrap();
            if fitter.steps_done().is_multiple_of(5) {
                self.validate(&mut fitter);
            }
            if Some(fitter.steps_done()) == checkpoint {
                let state = fitter.state();
                // A file gives tensors back row by row; other strides would not be those of an unbroken fit.
                let strided: Vec<_> = state.iter().filter(|(_, t)| !t.is_contiguous()).map(|s| s.0).collect();
                assert!(strided.is_empty(), "{strided:?}");
                fitter = start();
                fitter.restore(&state).unwrap();
            }
        }
        fitter
    }

    fn validate(&self, fitter: &mut Fitter) {
        let (states, teacher) = self.batch(1);
        let next = vec![5; 200];
        let one = |(layer, states): (usize, &Tensor)| {
            let (sum, n) = fitter
                .held_out(&self.readout, layer, &Rows { states, teacher: &teacher, next: &next })
                .unwrap();
            sum / n
        };
        let losses: Vec<f64> = states.iter().enumerate().map(one).collect();
        fitter.validate(&losses).unwrap();
    }
}

const SGD: Optimizer = Optimizer::FirstOrder(FirstOrder::Sgd);
const ADAM: Optimizer = Optimizer::FirstOrder(FirstOrder::Adam);
const MUON: Optimizer = Optimizer::FirstOrder(FirstOrder::Muon);

fn recipe(optimizer: Optimizer, steps: usize) -> Recipe {
    Recipe { loss: Loss::Kl, optimizer, rate: optimizer.default_rate(), trust: 0.2, steps, patience: 4 }
}

fn losses(fitter: &Fitter) -> Vec<f64> {
    fitter.best().iter().map(|b| b.0).collect()
}

#[test]
fn every_optimizer_lowers_every_layer_and_the_natural_one_most() {
    let world = World::new();
    let start = losses(&world.fit(recipe(Optimizer::Kfac, 0), Rung::Tuned, None));
    let mut final_means = BTreeMap::new();
    for optimizer in [Optimizer::Kfac, SGD, ADAM, MUON] {
        let rate = match optimizer {
            Optimizer::Kfac => 0.5,
            ADAM => 0.01,
            other @ Optimizer::FirstOrder(_) => other.default_rate(),
        };
        let end = losses(&world.fit(Recipe { rate, ..recipe(optimizer, 40) }, Rung::Tuned, None));
        assert!(
            end.iter().zip(&start).all(|(end, start)| *end < 0.95 * start),
            "{optimizer:?} {start:?} {end:?}"
        );
        final_means.insert(format!("{optimizer:?}"), end.iter().sum::<f64>());
    }
    let best = final_means["Kfac"];
    assert!(final_means.values().all(|mean| *mean >= best), "{final_means:?}");
}

#[test]
fn rungs_nest() {
    let world = World::new();
    let fit = |rung| {
        losses(&world.fit(Recipe { rate: 0.5, ..recipe(Optimizer::Kfac, 40) }, rung, None))
            .iter()
            .sum::<f64>()
    };
    let start = losses(&world.fit(recipe(Optimizer::Kfac, 0), Rung::Tuned, None)).iter().sum::<f64>();
    let rungs = [Rung::Bias, Rung::Affine, Rung::LayerBias, Rung::Gain, Rung::LowRank(4), Rung::Tuned];
    let kl: Vec<f64> = rungs.into_iter().map(fit).collect();
    // Gains cannot do much here; every other rung adds something that the make-believe layers need.
    assert!(kl[0] < start && kl[1] < kl[0] && kl[2] < 0.95 * kl[1] && kl[3] < 1.02 * kl[2], "{start} {kl:?}");
    assert!(kl[4] < 0.95 * kl[2] && kl[5] < 0.95 * kl[4], "{start} {kl:?}");
}

#[test]
fn a_checkpoint_continues_to_the_same_bits() {
    let world = World::new();
    for (optimizer, rung) in [
        (Optimizer::Kfac, Rung::Tuned),
        (Optimizer::Kfac, Rung::LowRank(2)),
        (Optimizer::Kfac, Rung::Gain),
        (SGD, Rung::Tuned),
        (ADAM, Rung::Tuned),
        (MUON, Rung::Tuned),
    ] {
        let (whole, parts) =
            (world.fit(recipe(optimizer, 12), rung, None), world.fit(recipe(optimizer, 12), rung, Some(7)));
        for ((a_loss, a), (b_loss, b)) in whole.best().iter().zip(parts.best()) {
            assert_eq!(a_loss.to_bits(), b_loss.to_bits());
            assert!(a.weight.equal(&b.weight) && a.bias.equal(&b.bias), "{optimizer:?} {rung}");
        }
    }
}

#[test]
fn shared_rungs_are_not_for_first_order_methods_and_bad_checkpoints_are_named() {
    let identity = |d| Translators::identity(Rung::Affine, vec![None], d, Device::Cpu);
    let message = Fitter::new(recipe(SGD, 1), identity(4)).unwrap_err().to_string();
    assert!(message.contains("Sgd") && message.contains("affine"), "{message}");
    let state = Fitter::new(recipe(Optimizer::Kfac, 1), identity(5)).unwrap().state();
    let error = Fitter::new(recipe(Optimizer::Kfac, 1), identity(4))
        .unwrap()
        .restore(&state)
        .unwrap_err()
        .to_string();
    assert!(error.contains("checkpoint") && error.contains("[4, 4]"), "{error}");
}

#[test]
fn a_layer_that_gains_nothing_is_left_alone() {
    let world = World::new();
    let mut fitter = world.fit(Recipe { patience: 1, ..recipe(Optimizer::Kfac, 5) }, Rung::Tuned, None);
    fitter.validate(&[9.0, 0.0, 9.0]).unwrap();
    assert!(fitter.is_frozen(0) && !fitter.is_frozen(1) && fitter.is_frozen(2));
}
