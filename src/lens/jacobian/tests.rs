//! Against torch autograd on transformers, and by hand.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use super::{Estimator, Rows};
use crate::{
    lenses::JacobianSums,
    model::{Model, Rules, Weights},
    watch::Underway,
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn model(case: &str, kind: Kind) -> Model {
    Model::load(&fixtures().join("families").join(case), kind, Device::Cpu, |_, _| ()).unwrap()
}

struct Golden(Weights);

impl Golden {
    fn open() -> Self {
        Self(Weights::open_file(&fixtures().join("jacobian/golden.safetensors"), Kind::Double).unwrap())
    }

    fn ids(&self, case: &str) -> Vec<u32> {
        let ids = Vec::<i64>::try_from(self.0.take_any(&format!("{case}.ids")).unwrap().view(-1)).unwrap();
        ids.into_iter().map(|id| id as u32).collect()
    }

    fn jacobian(&self, case: &str, layer: usize) -> Tensor {
        self.0.take_any(&format!("{case}.layer.{layer}")).unwrap()
    }
}

fn estimator(model: &Model, batch: usize, rules: Rules) -> Estimator {
    let target = model.spec().n_layers;
    Estimator { layers: (0..target).collect(), target, skip: 4, batch, rules }
}

fn all(model: &Model) -> Vec<usize> {
    (0..model.spec().d_model).collect()
}

/// The largest difference of two matrices, relative to the largest number of the second.
fn off(found: &Tensor, expected: &Tensor) -> f64 {
    let largest = |t: &Tensor| t.abs().max().double_value(&[]);
    largest(&(found.to_kind(Kind::Double) - expected)) / largest(expected)
}

#[test]
fn the_jacobian_is_autograds() {
    let golden = Golden::open();
    for case in ["gpt2", "llama", "gemma2", "gpt-neox", "qwen3", "nemotron", "bloom"] {
        let model = model(case, Kind::Double);
        let rows = all(&model);
        let found = estimator(&model, 5, Rules::Exact)
            .rows(&model, &golden.ids(case), &rows, 0, &Underway::unwatched())
            .unwrap();
        for (layer, jacobian) in found.iter().enumerate() {
            let off = off(jacobian, &golden.jacobian(case, layer));
            // f64 sums of some thousand terms on either side; BLOOM's GELU has its √(2/π) to eight digits only.
            assert!(off < if case == "bloom" { 1e-9 } else { 1e-12 }, "{case}, layer {layer}: {off:.1e}");
        }
    }
}

#[test]
fn relevance_is_saklas() {
    let golden = Golden::open();
    for case in ["llama", "gemma2", "qwen3"] {
        let model = model(case, Kind::Double);
        let (ids, rows) = (golden.ids(case), all(&model));
        let found =
            estimator(&model, 8, Rules::Relp).rows(&model, &ids, &rows, 0, &Underway::unwatched()).unwrap();
        for (layer, jacobian) in found.iter().enumerate() {
            let own = golden.jacobian(&format!("{case}.relp"), layer);
            // saklas rounds what comes back to f32.
            assert!(off(jacobian, &own) < 1e-6, "{case}, layer {layer}: {:.1e}", off(jacobian, &own));
            assert!(off(&own, &golden.jacobian(case, layer)) > 1e-2, "{case}: the rules change something");
        }
    }
    for (case, why) in [("gpt2", "not RMS"), ("nemotron", "not RMS"), ("mixtral", "experts")] {
        let model = model(case, Kind::Double);
        let refused = estimator(&model, 8, Rules::Relp)
            .rows(&model, &[1; 9], &[0], 0, &Underway::unwatched())
            .unwrap_err();
        assert!(refused.to_string().contains(why), "{case}: {refused}");
    }
}

#[test]
fn neither_batch_nor_blocks_change_a_row() {
    let golden = Golden::open();
    let (model, ids) = (model("llama", Kind::Double), golden.ids("llama"));
    let whole = estimator(&model, 36, Rules::Exact)
        .rows(&model, &ids, &all(&model), 0, &Underway::unwatched())
        .unwrap();
    let mut sums = JacobianSums::new(36);
    let blocks = Rows::new(36, Some(7), 1);
    for prompt in 0..blocks.least_prompts() {
        let rows = blocks.of(prompt);
        let found =
            estimator(&model, 3, Rules::Exact).rows(&model, &ids, &rows, 0, &Underway::unwatched()).unwrap();
        sums.add(&rows, &found[1]).unwrap();
    }
    let mean = sums.finish().unwrap();
    // The mean is f32.
    assert!(off(&mean.mean, &whole[1]) < 1e-6);
    // The same prompt each time: no spread but rounding.
    assert!(mean.error().unwrap() < 1e-6 * mean.norm(), "{:?}", mean.error());
}

#[test]
fn a_nearer_target_is_reached_by_fewer_blocks() {
    let (model, ids) = (model("gemma2", Kind::Double), Golden::open().ids("gemma2"));
    let one = |target: usize, layer: usize| {
        let estimator = Estimator { layers: vec![layer], target, skip: 4, batch: 24, rules: Rules::Exact };
        estimator.rows(&model, &ids, &all(&model), 0, &Underway::unwatched()).unwrap().remove(0)
    };
    assert!(off(&one(2, 1), &one(3, 2)) > 1e-3, "blocks differ");
    assert!(off(&one(3, 2), &Golden::open().jacobian("gemma2", 2)) < 1e-12);
    let short = estimator(&model, 1, Rules::Exact)
        .rows(&model, &ids[..5], &[0], 0, &Underway::unwatched())
        .unwrap_err()
        .to_string();
    assert_eq!(short, "a prompt of 5 tokens has no place after the first 4 and before the last");
}
