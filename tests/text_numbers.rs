//! The logit lens of the two trained models on a real text, against transformers.

use layerscope::{
    lens::trajectory::trajectories,
    lenses::{LayerIndex, Lens, LogitLens},
    model::Model,
    sources::text::{BosPolicy, Tokenizer},
};
use tch::{Device, Kind};

use crate::properties::fixture;

/// Mean cross-entropy of the next token and mean KL(model ‖ lens) per layer, nats.
fn read(name: &str, text: &str, tokens: usize) -> (Vec<u32>, Vec<[f64; 2]>) {
    let folder = fixture(name);
    let model = Model::load(&folder, Kind::Float, Device::Cpu, |_, _| ()).unwrap();
    let mut ids = Tokenizer::load(&folder, BosPolicy::Auto).unwrap().encode(text).unwrap();
    ids.truncate(tokens);
    let lenses: [Box<dyn Lens>; 1] = [Box::new(LogitLens)];
    let layers: Vec<_> = (0..=model.spec().n_layers).map(LayerIndex).collect();
    let read = trajectories(&model, &lenses, &ids, &layers, 1).unwrap();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let of = |r: &layerscope::lenses::stats::Readings| {
        [mean(&r.ce.iter().flatten().copied().collect::<Vec<_>>()), mean(&r.kl)]
    };
    (ids, read[0].readings.iter().map(of).collect())
}

/// `fixtures/logit_lens/make.py` wrote the numbers; its text is the first documents of stories.jsonl.
#[test]
fn layers_read_as_in_transformers() {
    let json = |path| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(fixture(path)).unwrap()).unwrap()
    };
    let expected = json("logit_lens/expected.json");
    let stories = std::fs::read_to_string(fixture("stories.jsonl")).unwrap();
    let n = expected["documents"].as_u64().unwrap() as usize;
    let texts: Vec<String> = stories
        .lines()
        .take(n)
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["text"].as_str().unwrap().to_owned()
        })
        .collect();
    for name in ["gpt2-alice-8l", "llama-alice-6l"] {
        let theirs = &expected["models"][name];
        let (ids, ours) = read(name, &texts.join("\n\n"), 256);
        assert_eq!(serde_json::json!(ids), theirs["ids"], "{name}");
        let layers = theirs["layers"].as_array().unwrap();
        assert_eq!(layers.len(), ours.len());
        for (layer, (theirs, ours)) in layers.iter().zip(&ours).enumerate() {
            for (i, what) in ["ce", "kl"].into_iter().enumerate() {
                let theirs = theirs[what].as_f64().unwrap();
                assert!((theirs - ours[i]).abs() < 2e-4, "{name} layer {layer} {what}: {} {theirs}", ours[i]);
            }
        }
    }
}

/// Prints the same numbers for a text of yours:
/// `TEXT=book.txt cargo test --release --test tests numbers_of_a_text -- --ignored --nocapture`.
#[test]
#[ignore = "prints numbers for the text in $TEXT"]
fn numbers_of_a_text() {
    let text = std::fs::read_to_string(std::env::var("TEXT").unwrap()).unwrap();
    for name in ["gpt2-alice-8l", "llama-alice-6l"] {
        let (_, layers) = read(name, &text, 256);
        let shown: Vec<_> = layers.iter().map(|[ce, kl]| format!("({ce:.5}, {kl:.5})")).collect();
        println!("{name}: {}", shown.join(" "));
    }
}
