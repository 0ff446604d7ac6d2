use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::*;
use crate::{
    model::Weights,
    sources::text::{Segment, Window},
    watch::testing::Counter,
};

fn model(family: &str) -> Model {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families").join(family);
    Model::load(&dir, Kind::Double, Device::Cpu, |_, _| ()).unwrap()
}

/// Texts of several lengths, three documents.
fn contexts() -> Vec<Window> {
    let one = |(doc_id, n): (u64, u32)| Window {
        ids: (0..n).map(|i| (7 * i + 11 * doc_id as u32 + 3) % 61).collect(),
        segments: vec![Segment { doc_id, doc_pos: 0, doc_len: n, offset: 0, len: n, ..Segment::default() }],
    };
    [(0, 5), (1, 7), (2, 5), (0, 6)].map(one).into()
}

fn sources(model: &Model, horizons: usize) -> Sources {
    let layers: Vec<usize> = (0..=model.spec().n_layers).collect();
    Sources::run(model, &contexts(), &layers, horizons, model.spec().vocab, 64, &Underway::unwatched())
        .unwrap()
}

/// Central differences in f64, at the largest and some other entries, of five architectures.
#[test]
fn gradients_are_central_differences() {
    for family in ["gpt2", "llama", "gpt-neox", "gemma2", "gptj", "bloom"] {
        let model = model(family);
        let sources = sources(&model, 3);
        let d = model.spec().d_model;
        let last = model.spec().n_layers;
        for cell in [(1, 1), (1, 3), (last, 2)].map(|(layer, horizon)| PromptCell { layer, horizon }) {
            let recipe = Recipe { tokens: 3, init_std: 0.3, ..Recipe::default() };
            let prompt = recipe.init(d, (cell.layer, cell.horizon), 5).to_kind(Kind::Double);
            let rows = [0, 1, 2, 3];
            let vocab = model.spec().vocab;
            let (_, exact) = gradient(&model, vocab, &sources, &rows, cell, &prompt).unwrap();
            let flat = exact.view([-1]).abs();
            let most = flat.argmax(0, false).int64_value(&[]);
            assert!(flat.max().double_value(&[]) > 1e-6, "{family} {cell:?}: nothing to compare");
            for place in [most, 0, d as i64 + 1, 3 * d as i64 - 1] {
                let at = |by: f64| {
                    let moved = prompt.copy();
                    let _ = moved.view([-1]).narrow(0, place, 1).f_add_scalar_(by).unwrap();
                    loss(&model, vocab, &sources, &rows, cell, &Prompt::Soft(moved))
                        .unwrap()
                        .double_value(&[])
                };
                let step = 1e-5;
                let central = (at(step) - at(-step)) / (2.0 * step);
                let got = exact.view([-1]).double_value(&[place]);
                let scale = flat.max().double_value(&[]);
                assert!(
                    (got - central).abs() < 1e-6 * scale.max(1e-3),
                    "{family} {cell:?} {place}: {got} {central}"
                );
            }
        }
    }
}

/// The loss and gradient of the same prompt by torch autograd in Python (`fixtures/future/make.py`).
#[test]
fn gradients_are_pythons() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/future/gradients.safetensors");
    let golden = Weights::open_file(&file, Kind::Double).unwrap();
    for family in ["gpt2", "llama"] {
        let model = model(family);
        let take = |name: &str| golden.take_any(&format!("{family}.{name}")).unwrap();
        let contexts: Vec<Window> = contexts();
        let layers = [1, 2];
        let sources =
            Sources::run(&model, &contexts, &layers, 3, model.spec().vocab, 64, &Underway::unwatched())
                .unwrap();
        assert!(sources.tokens.equal(&take("tokens")), "{family}");
        for (layer, horizon) in [(1, 1), (1, 2), (2, 3)] {
            let name = |what: &str| format!("{layer}.{horizon}.{what}");
            let cell = PromptCell { layer, horizon };
            let prompt = take("prompt");
            let (loss, gradient) =
                gradient(&model, model.spec().vocab, &sources, &[0, 1, 2, 3], cell, &prompt).unwrap();
            let want = take(&name("loss")).double_value(&[0]);
            assert!((loss - want).abs() < 1e-9 * want, "{family} {cell:?}: {loss} {want}");
            let want = take(&name("gradient"));
            let error = (gradient - &want).abs().max().double_value(&[]) / want.abs().max().double_value(&[]);
            assert!(error < 1e-8, "{family} {cell:?}: {error:e}");
        }
    }
}

/// Where a prompt cannot reach the prediction its gradient is zero, and elsewhere it is not.
#[test]
fn the_last_layers_own_position_takes_no_gradient() {
    let model = model("gpt2");
    let sources = sources(&model, 2);
    let last = model.spec().n_layers;
    let recipe = Recipe { tokens: 2, ..Recipe::default() };
    for layer in 0..=last {
        for horizon in [1, 2] {
            let prompt = recipe.init(model.spec().d_model, (layer, horizon), 0).to_kind(Kind::Double);
            let cell = PromptCell { layer, horizon };
            let (_, g) = gradient(&model, model.spec().vocab, &sources, &[0, 1], cell, &prompt).unwrap();
            let dead = layer == last && horizon == 1;
            assert_eq!(g.abs().max().double_value(&[]) == 0.0, dead, "{cell:?}");
        }
    }
    let trained = train(
        &model,
        model.spec().vocab,
        (&sources, &sources),
        PromptCell { layer: last, horizon: 1 },
        &recipe,
        0,
        &Underway::unwatched(),
    );
    let trained = trained.unwrap();
    // The transplant of the last layer is the model's own prediction.
    assert!(trained.steps == 0 && trained.after.abs() < 1e-12, "{trained:?}");
}

#[test]
fn training_lowers_the_loss_and_repeats_itself() {
    let model = model("llama");
    let sources = sources(&model, 2);
    let recipe = Recipe { tokens: 4, rate: 1e-2, epochs: 40, batch: 3, ..Recipe::default() };
    let cell = PromptCell { layer: 1, horizon: 2 };
    let run = || {
        let counter = Counter::default();
        let (vocab, stage) = (model.spec().vocab, counter.begin());
        let trained = train(&model, vocab, (&sources, &sources), cell, &recipe, 3, &stage).unwrap();
        (trained, counter.counted())
    };
    let (one, counted) = run();
    assert_eq!((one.steps, counted), (80, 80)); // 4 contexts in batches of 3: 2 steps, 40 times
    assert!(one.after < 0.7 * one.before, "{} {}", one.before, one.after);
    assert!(run().0.prompt.equal(&one.prompt));
    let stopped =
        train(&model, 61, (&sources, &sources), cell, &recipe, 3, &Counter::until(1).begin()).unwrap_err();
    assert!(matches!(stopped, FutureError::Interrupted(_)));
}

/// A transplant is the source itself where it must be: the state of T into its own place gives the source's own
/// prediction, and that of the last block into any prompt.
#[test]
fn transplants_that_change_nothing() {
    for family in ["gpt2", "llama", "gpt-neox", "gemma2", "bloom"] {
        let model = model(family);
        let sources = sources(&model, 3);
        for (i, context) in contexts().iter().enumerate() {
            let ids: Vec<i64> = context.ids.iter().map(|id| i64::from(*id)).collect();
            let own = Prompt::Words(Tensor::from_slice(&ids));
            let other = Prompt::Words(Tensor::from_slice(&[5i64, 4, 3]));
            let row = |t: &Tensor| t.narrow(0, i as i64, 1);
            for (&layer, states) in &sources.states {
                let run = |prompt: &Prompt, state: Option<&Tensor>| {
                    transplant(&model, prompt, layer, state, &row(&sources.fed(3))).unwrap()
                };
                let out = run(&own, Some(&row(states)));
                for k in 0..3 {
                    let error =
                        (out.select(1, k) - row(&sources.last[k as usize])).abs().max().double_value(&[]);
                    assert!(error < 1e-10, "{family} {layer} {k}: {error:e}");
                }
                assert!((run(&own, None) - &out).abs().max().double_value(&[]) < 1e-10);
                let elsewhere = (run(&other, Some(&row(states))).select(1, 0) - row(&sources.last[0])).abs();
                let same = elsewhere.max().double_value(&[]) < 1e-12;
                assert_eq!(same, layer == model.spec().n_layers, "{family} {layer}");
            }
        }
    }
}
