//! `fixtures/causal/golden.safetensors`: torch, scipy, and transformers with hooks.

use layerscope_lenses::{Affine, LayerIndex, Lens, LogitLens, Teacher, TunedLens};
use tch::{Device, Kind, Tensor};

use super::{
    super::{
        align::{Change, alignment},
        *,
    },
    CPU, MODELS, far, fixture, mean, model, readout,
};
use crate::{
    hook::{BlockHook, Capture, HookPoint, Selection},
    model::Weights,
    results::statistics::spearman,
};

/// The tuned lens of `fixtures/causal/make.py`, the same map at every layer.
fn tuned(d: usize, n_layers: usize) -> TunedLens {
    let i = Tensor::arange(d as i64, (Kind::Double, Device::Cpu));
    let weight: Tensor = ((&i + 1.0).outer(&(&i + 2.0)) * 0.37).cos() * (0.4 / (d as f64).sqrt());
    let bias: Tensor = i.sin() * 0.1;
    let map = Affine::new(weight.to_kind(Kind::Float), bias.to_kind(Kind::Float)).unwrap();
    TunedLens::new("tuned", (0..=n_layers).map(|l| (LayerIndex(l), map.copy())).collect())
}

/// Formulas and models against torch, scipy and transformers with hooks: `fixtures/causal/make.py`, which is in f64.
#[test]
fn energies_effects_and_alignments_are_those_of_the_reference() {
    let golden = Weights::open_file(&fixture("causal/golden.safetensors"), Kind::Double).unwrap();
    let take = |name: &str| golden.take_any(name).unwrap();
    let list = |name: &str| Vec::<f64>::try_from(take(name).contiguous().view([-1])).unwrap();
    let pairs: Vec<(f64, f64)> = list("spearman.x").into_iter().zip(list("spearman.y")).collect();
    assert!((spearman(&pairs) - list("spearman.value")[0]).abs() < 1e-12);
    let ids = Tensor::from_slice(&[3_i64, 14, 15, 9, 26, 5, 7, 1, 40, 22, 13, 2]).view([2, 6]);
    for folder in MODELS {
        let _no_grad = tch::no_grad_guard();
        let name = folder.trim_start_matches("families/");
        let of = |what: &str| take(&format!("{name}.{what}"));
        let model = model(folder);
        let (readout, n_layers, d) = (readout(&model), model.spec().n_layers, model.spec().d_model);
        let points: Vec<HookPoint> =
            (0..=n_layers).map(|l| HookPoint::Block(l, BlockHook::ResidPre)).collect();
        let mut capture = Capture::new(points.iter().copied().collect::<Selection>());
        model.forward(&ids, &mut capture).unwrap();
        let states: Vec<Tensor> = points
            .iter()
            .map(|p| capture.get(*p).unwrap().to_kind(Kind::Float).view([12, d as i64]))
            .collect();
        let teacher = Teacher::of(&readout, &states[n_layers]).unwrap();
        let lenses: [Box<dyn Lens>; 2] = [Box::new(LogitLens), Box::new(tuned(d, n_layers))];
        let directions = of("directions");
        let donors = Tensor::from_slice(&(0..12).map(|i| (i + 5) % 12).collect::<Vec<i64>>());
        let mut worst: f64 = 0.0;
        for removal in Removal::ALL {
            let stand_in = |layer: usize| match removal {
                Removal::Mean => of("mean").get(layer as i64),
                Removal::Zero => Tensor::zeros([d as i64], CPU),
                Removal::Resample => states[layer].index_select(0, &donors),
            };
            let removed = remove(&states[1], &directions, &stand_in(1)).unwrap();
            assert!(far(&removed, &of(&format!("{removal}.removed"))) < 1e-4, "{name} {removal}");
            let (effects, energies) = (of(&format!("{removal}.effect")), of(&format!("{removal}.energy")));
            for (layer, rows) in states.iter().enumerate() {
                let own: Vec<Energy<'_>> = lenses
                    .iter()
                    .map(|lens| {
                        let of = (lens.as_ref(), LayerIndex(layer));
                        Energy::new(&readout, of, rows, &stand_in(layer)).unwrap()
                    })
                    .collect();
                for i in 0..3 {
                    let direction = directions.narrow(0, i, 1);
                    let apart = remove(rows, &direction, &stand_in(layer)).unwrap();
                    let n = readout.normalize(&replay(&model, &ids, layer, &apart).unwrap()).unwrap();
                    let lse = readout.sweep(&n, layerscope_lenses::Ask::default()).unwrap().lse;
                    let effect = mean(&teacher.kl(&readout, &n, &lse).unwrap());
                    worst = worst.max((effect - effects.double_value(&[layer as i64, i])).abs());
                    for (place, energy) in own.iter().enumerate() {
                        let energy = mean(&energy.rows(&direction).unwrap());
                        let want = energies.double_value(&[place as i64, layer as i64, i]);
                        worst = worst.max((energy - want).abs());
                    }
                }
            }
        }
        assert!(worst < 1e-5, "{name}: {worst:e}");
        for (layer, own) in states.iter().enumerate() {
            let treated = remove(own, &directions, &own.index_select(0, &donors)).unwrap();
            let after = readout.normalize(&replay(&model, &ids, layer, &treated).unwrap()).unwrap();
            let read: Vec<[Tensor; 2]> = lenses
                .iter()
                .map(|lens| {
                    [own, &treated]
                        .map(|h| readout.normalize(&lens.transform(LayerIndex(layer), h).unwrap()).unwrap())
                })
                .collect();
            let stimuli: Vec<Change<'_>> =
                read.iter().map(|[before, after]| Change { before, after }).collect();
            let response = Change { before: &teacher.n, after: &after };
            // Every stimulus with the response of its own row twice, so that both lists can be checked.
            let same: Vec<i64> = (0..12).collect();
            let found = alignment(&readout, response, &stimuli, &same).unwrap();
            for (place, lists) in found.iter().enumerate() {
                for (row, (own, other)) in lists[0].iter().zip(&lists[1]).enumerate() {
                    let want = of("alignment").double_value(&[place as i64, layer as i64, row as i64]);
                    assert!((own - want).abs() < 1e-4, "{name}, layer {layer}: {own} {want}");
                    assert!((own - other).abs() < 1e-6);
                }
            }
        }
    }
}
