//! Encoders against transformers: padded batches, models without a head, names of the first files; and what they cannot do.

use std::path::{Path, PathBuf};

use layerscope::{
    hook::{Capture, HookPoint},
    model::{Config, Model, ModelError, Weights, hook_points, spec},
};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::cli::{Stored, edit_config, fixture, rewrite};

/// The tiny encoders of which there is a padded batch.
pub(crate) const ENCODERS: [&str; 8] =
    ["bert", "bert-hub", "distilbert", "esm", "esm-absolute", "modernbert", "modernbert-hub", "roberta"];

fn load(dir: &Path) -> Model {
    Model::load(dir, Kind::Float, Device::Cpu, |_, _| ()).unwrap()
}

fn family(name: &str) -> PathBuf {
    fixture("families").join(name)
}

/// Largest difference over the largest number.
fn off(ours: &Tensor, theirs: &Tensor) -> f64 {
    ((ours - theirs).abs().max() / theirs.abs().max()).double_value(&[])
}

/// Texts run without padding here; each is what it is in transformers beside a longer one, padded and masked.
#[test]
fn a_text_alone_is_the_text_in_a_padded_batch() {
    for name in ENCODERS {
        let model = load(&family(name));
        let batch = Weights::open_file(&family(name).join("padded.safetensors"), Kind::Float).unwrap();
        let take = |name: &str| batch.take_any(name).unwrap();
        let (ids, mask) = (take("input_ids"), take("attention_mask"));
        let end = HookPoint::resid_pre(model.spec().n_layers);
        let (states, logits) = (take(&end.to_string()), take("logits"));
        let lengths = Vec::<i64>::try_from(mask.sum_dim_intlist([1].as_slice(), false, Kind::Int64)).unwrap();
        assert!(lengths[1] < lengths[0], "{name}");
        for (row, length) in lengths.iter().enumerate() {
            let real = |t: &Tensor| t.narrow(0, row as i64, 1).narrow(1, 0, *length);
            let mut capture = Capture::new([end].into_iter().collect()).run_on();
            let ours = model.forward(&real(&ids), &mut capture).unwrap().unwrap();
            // f32 rounding through these models stays below 1e-6 of the scale, as in parity.rs.
            assert!(off(&ours, &real(&logits)) < 1e-5, "{name} row {row}");
            assert!(off(capture.get(end).unwrap(), &real(&states)) < 1e-5, "{name} row {row}");
        }
    }
}

/// The encoder `name` as `AutoModel` writes it: without a head, and without the prefix of its names.
fn headless(name: &str) -> tempfile::TempDir {
    let (from, dir) = (family(name), tempfile::tempdir().unwrap());
    std::fs::copy(from.join("config.json"), dir.path().join("config.json")).unwrap();
    let heads = ["cls.", "lm_head.", "vocab_", "head.", "decoder."];
    rewrite(&from.join("model.safetensors"), &dir.path().join("model.safetensors"), |tensors| {
        tensors.retain(|name, _| !heads.iter().any(|head| name.starts_with(head)));
        let bare = |name: &str| {
            ["bert.", "roberta.", "distilbert.", "esm.", "model."]
                .iter()
                .find_map(|prefix| name.strip_prefix(prefix))
                .unwrap_or(name)
                .to_owned()
        };
        let all: Vec<(String, Stored)> = std::mem::take(tensors).into_iter().collect();
        tensors.extend(all.into_iter().map(|(name, tensor)| (bare(&name), tensor)));
    });
    dir
}

#[test]
fn without_a_head_the_streams_are_the_same_and_there_are_no_logits() {
    for name in ENCODERS {
        let (whole, dir) = (load(&family(name)), headless(name));
        let model = load(dir.path());
        let ids = Tensor::arange(9, (Kind::Int64, Device::Cpu)).view([1, 9]);
        let points = hook_points(model.spec());
        assert!(
            !points.contains(&HookPoint::Logits) && !points.contains(&HookPoint::HeadNormalized),
            "{name}"
        );
        assert_eq!(
            points.contains(&HookPoint::FinalNormalized),
            name.starts_with("modern") || name.starts_with("esm"),
            "{name}"
        );
        let run = |model: &Model| {
            let mut capture = Capture::new(points.iter().copied().collect()).run_on();
            let logits = model.forward(&ids, &mut capture).unwrap();
            (capture.into_inner(), logits.is_some())
        };
        let ((with, logits), (without, none)) = (run(&whole), run(&model));
        assert!(logits && !none, "{name}");
        assert!(with.iter().all(|(point, value)| value.equal(&without[point])), "{name}");
        assert_eq!(model.unembed().vocab(), 0, "{name}: a head of no tokens, which no readout takes");
    }
}

/// A head of which a part is missing is not no head.
#[test]
fn half_a_head_is_refused_by_the_missing_tensor() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(family("bert").join("config.json"), dir.path().join("config.json")).unwrap();
    rewrite(&family("bert").join("model.safetensors"), &dir.path().join("model.safetensors"), |tensors| {
        tensors.remove("cls.predictions.transform.LayerNorm.weight").unwrap();
    });
    let error = Model::load(dir.path(), Kind::Float, Device::Cpu, |_, _| ()).unwrap_err().to_string();
    assert!(error.starts_with("tensor `cls.predictions.transform.LayerNorm.weight` is missing"), "{error}");
}

#[test]
fn options_that_are_another_model_are_refused_by_key() {
    let refused = |name: &str, key: &str, value: serde_json::Value| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(family(name).join("config.json"), dir.path().join("config.json")).unwrap();
        edit_config(dir.path(), key, value);
        spec(&Config::read(dir.path()).unwrap()).unwrap_err().to_string()
    };
    for (name, key, value) in [
        ("bert", "is_decoder", json!(true)),
        ("bert", "add_cross_attention", json!(true)),
        ("bert", "position_embedding_type", json!("relative_key")),
        ("esm", "position_embedding_type", json!("relative_key")),
        ("esm", "is_folding_model", json!(true)),
        ("esm", "mask_token_id", json!(null)),
        ("roberta", "pad_token_id", json!(null)),
        ("roberta", "pad_token_id", json!(63)),
        ("modernbert", "rope_scaling", json!({"rope_type": "linear", "factor": 2.0})),
    ] {
        let error = refused(name, key, value);
        assert!(error.contains(key), "{name} {key}: {error}");
    }
}

#[test]
fn an_encoder_keeps_no_cache() {
    let model = load(&family("bert"));
    let ids = Tensor::from_slice(&[1i64, 2, 3]).view([1, 3]);
    let mut cache = layerscope::model::Cache::new();
    let refused = model.forward_cached(&ids, &mut cache, &mut ()).unwrap_err();
    assert!(matches!(refused, ModelError::Input(_)) && refused.to_string().contains("no cache"), "{refused}");
}
