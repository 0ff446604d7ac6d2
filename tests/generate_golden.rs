//! Token for token what transformers says with forward hooks for edits, and the logits of its blocks in another order
//! (`fixtures/generate/make.py`).

use std::ops::ControlFlow;

use layerscope::{
    intervene::edits::{EditSpec, Edits},
    intervene::generate::{Prompt, Settings, TapSteps, generate},
    intervene::schedule::parse,
    model::{Model, Weights},
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::properties::fixture;

fn load(name: &str) -> Model {
    tch::set_num_threads(1); // the models are too small to share
    Model::load(&fixture(name), Kind::Float, Device::Cpu, |_, _| ()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn tokens_are_those_of_transformers() {
    let text = std::fs::read_to_string(fixture("generate/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let new = expected["new"].as_u64().unwrap() as usize;
    let dir = tempfile::tempdir().unwrap();
    let (mut runs, mut moved) = (0, 0);
    for case in expected["cases"].as_array().unwrap() {
        let name = case["model"].as_str().unwrap();
        let model = load(name);
        let prompts = [Prompt { index: 0, ids: ids(&case["ids"]) }];
        let file = dir.path().join("edits.safetensors");
        let stream = (Tensor::arange(model.spec().d_model as i64, (Kind::Float, Device::Cpu)) + 1.0).sin();
        Tensor::write_safetensors(&[("stream", stream)], &file).unwrap();
        for run in case["runs"].as_array().unwrap() {
            let edit = run["edit"].as_str().unwrap().replace("FILE", file.to_str().unwrap());
            let specs: Vec<EditSpec> = if edit.is_empty() { vec![] } else { vec![edit.parse().unwrap()] };
            let placed = specs.iter().map(|spec| spec.resolve(model.spec()).unwrap()).collect();
            let edits = Edits::new(placed, 0);
            let tap_steps = if run["steps"] == "all" { TapSteps::All } else { TapSteps::Prompt };
            for cache in [true, false] {
                let settings = Settings { cache, tap_steps, keep_logits: true, ..Settings::greedy(new) };
                let said = generate(&model, &prompts, &settings, &mut edits.tap(), &mut |_| {
                    ControlFlow::Continue(())
                });
                let said = said.unwrap().remove(0);
                assert_eq!(said.tokens, ids(&run["tokens"]), "{name} {edit} cache: {cache}");
                let (last, own) = (run["last_logit"].as_f64().unwrap(), said.logits.unwrap());
                let own = own.select(0, -1).max().double_value(&[]);
                assert!((own - last).abs() < 2e-4 * last.abs(), "{name} {edit}: {own} {last}");
            }
            runs += 1;
            moved += usize::from(run["tokens"] != case["runs"][0]["tokens"]);
        }
    }
    assert_eq!(runs, 16 * 8);
    assert!(moved > 90, "{moved}"); // of 112 edited runs, so many say something else
}

#[test]
fn schedules_are_those_of_transformers() {
    let path = fixture("generate/schedules.safetensors");
    let file = Weights::open_file(&path, Kind::Float).unwrap();
    let mut names: Vec<&str> = file.shapes().map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 8 * 6);
    for name in names {
        let (family, schedule) = name.split_once(' ').unwrap();
        let model = load(&format!("families/{family}"));
        let n = model.spec().n_layers;
        let theirs = file.take_any(name).unwrap();
        let ids = Tensor::arange(theirs.size()[1], (Kind::Int64, Device::Cpu)) * 5;
        let ids = ids.remainder(model.spec().vocab as i64).unsqueeze(0);
        let schedule = parse(schedule, n, 0).unwrap();
        let ours = model.forward_along(&ids, &schedule, None, &mut ()).unwrap().unwrap();
        let error = ((&ours - &theirs).abs().max() / theirs.abs().max()).double_value(&[]);
        assert!(error < 1e-5, "{name}: {error:e}");
    }
}
