//! Against a reference, on made-up heads, and on tiny models.

mod made_up;
mod reference;
mod tiny;

use std::path::Path;

use layerscope_lenses::{Precision, Readout};
use tch::{Device, Kind, Tensor};

use crate::model::Model;

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);
const MODELS: [&str; 7] = [
    "families/gpt2",
    "families/llama",
    "families/gpt-neox",
    "families/gemma2",
    "families/opt",
    "gpt2-alice-8l",
    "llama-alice-6l",
];

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn readout(model: &Model) -> Readout {
    tch::set_num_threads(1); // the models are too small to share
    Readout::new(model.unembed(), model.spec().vocab, Precision::Exact, 1).unwrap()
}

fn far(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn model(name: &str) -> Model {
    Model::load(&fixture(name), Kind::Float, Device::Cpu, |_, _| ()).unwrap()
}
