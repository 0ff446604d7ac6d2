//! Writes a tuned lens with random translators and what it reads, for `tests/python/tuned_lens_package.py`.
//!
//! ```sh
//! cargo run --release --example random_lens -- fixtures/gpt2-alice-8l OUT
//! ```
//!
//! `OUT` becomes a lens folder with a file `logits.safetensors` beside: `ids [seq]` and `layer.I [seq, vocab]`.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;
use layerscope::{
    hook::{BlockHook, Capture, HookPoint},
    lens::artifact::{LensConfig, LensFolder, LensKind, ModelRef, load, tuned_tensors, unembed_sha256},
    lenses::{Affine, LayerIndex},
    model::Model,
};
use tch::{Device, Kind, Tensor};

const IDS: [i64; 5] = [0, 17, 301, 42, 1999];

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (dir, out) = args.next().zip(args.next()).context("usage: random_lens MODEL OUT")?;
    let _no_grad = tch::no_grad_guard();
    tch::manual_seed(3);
    let model = Model::load(&dir, Kind::Float, Device::Cpu, |_, _| ())?;
    let spec = model.spec();
    let (d, n_layers) = (spec.d_model as i64, spec.n_layers);
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.05;
    let translators = (0..n_layers)
        .map(|i| Ok((LayerIndex(i), Affine::new(random(&[d, d]), random(&[d]))?)))
        .collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    let config = LensConfig {
        kind: LensKind::Tuned,
        site: "resid_pre".into(),
        model: ModelRef { name: dir.to_string_lossy().into_owned(), sha256: None },
        d_model: spec.d_model,
        n_layers,
        unembed_sha256: Some(unembed_sha256(model.unembed())?),
        tokenizer_sha256: None,
        layers: (0..n_layers).collect(),
        horizons: vec![1],
        details: serde_json::json!({"fit": "none, random numbers"}),
    };
    LensFolder::write(&out, &config, &tuned_tensors(&translators))?;

    let lenses = load(&out, "random", Device::Cpu)?;
    let points: Vec<_> = (0..n_layers).map(|i| HookPoint::Block(i, BlockHook::ResidPre)).collect();
    let mut capture = Capture::new(points.into_iter().collect());
    let ids = Tensor::from_slice(&IDS);
    model.forward(&ids.unsqueeze(0), &mut capture)?;
    let mut read = vec![("ids".to_owned(), ids)];
    for i in 0..n_layers {
        let state = capture.get(HookPoint::Block(i, BlockHook::ResidPre)).context("a state is missing")?;
        let x = lenses[0].transform(LayerIndex(i), &state.get(0))?;
        read.push((format!("layer.{i}"), model.unembed().logits(&x)?));
    }
    Ok(Tensor::write_safetensors(&read, out.join("logits.safetensors"))?)
}
