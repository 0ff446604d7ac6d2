//! Encoders against transformers: padded batches, models without a head, names of the first files; and what they cannot
//! do.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use layerscope::{
    hook::{Capture, HookPoint},
    model::{Config, Model, ModelError, Weights, hook_points, spec},
    results::run::{METRICS, read_metrics},
    sources::text::{BosPolicy, Tokenizer},
    states::store::ActivationStore,
};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::{
    cli::{Stored, edit_config, fixture, gpt2, path, refuse_all, result, rewrite, run, succeed, words},
    lens_cli::stories,
};

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

/// An encoder with a tokenizer, and its golden numbers.
fn wordpiece() -> PathBuf {
    fixture("bert-wordpiece")
}

fn golden() -> Value {
    serde_json::from_slice(&std::fs::read(wordpiece().join("golden.json")).unwrap()).unwrap()
}

fn texts() -> Vec<String> {
    let lines = std::fs::read_to_string(wordpiece().join("texts.jsonl")).unwrap();
    let text = |line: &str| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned();
    lines.lines().map(text).collect()
}

#[test]
fn a_text_has_what_the_template_puts_around_it() {
    let load = |policy, encoder| Tokenizer::load_for(&wordpiece(), policy, encoder).unwrap();
    let (whole, start) = (load(BosPolicy::Auto, true), load(BosPolicy::Auto, false));
    let bare = load(BosPolicy::Never, true);
    for (text, theirs) in texts().iter().zip(golden()["ids"].as_array().unwrap()) {
        let theirs: Vec<u32> =
            theirs.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let n = theirs.len();
        assert_eq!(whole.encode(text).unwrap(), theirs);
        assert_eq!(whole.encode_batch(&[text]).unwrap().concat(), theirs);
        assert_eq!(start.encode(text).unwrap(), theirs[..n - 1], "a decoder's text goes on");
        assert_eq!(bare.encode(text).unwrap(), theirs[1..n - 1]);
        // Not twice where it is written out.
        assert_eq!(whole.encode(&format!("[CLS] {text} [SEP]")).unwrap(), theirs);
    }
    assert!(whole.bos().reason.ends_with("which the post-processor appends, is added too"));
    assert!(start.bos().reason.ends_with("which the post-processor appends, is not added"));
    assert_eq!((whole.mask_id(), whole.is_special(2), whole.is_special(5)), (Some(4), true, false));
}

/// Every window of a document is a text of its own to an encoder.
#[test]
fn every_window_begins_and_ends_as_the_template_has_it() {
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().join("export");
    let data = wordpiece().join("texts.jsonl");
    let args = format!(
        "export --quiet --seq-len 16 --hooks embed --model {} --data {}",
        path(wordpiece()),
        path(&data)
    );
    let mut args = words(&args);
    args.extend(["--out".to_owned(), path(&dir)]);
    succeed(&args);
    let rows = ActivationStore::open(&dir).unwrap().rows().unwrap();
    let mut documents: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    rows.doc_id.iter().zip(&rows.token_id).for_each(|(doc, id)| documents.entry(*doc).or_default().push(*id));
    for (doc, theirs) in golden()["ids"].as_array().unwrap().iter().enumerate() {
        let own: Vec<u32> =
            theirs.as_array().unwrap()[1..].iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let own = &own[..own.len() - 1];
        let framed: Vec<u32> = own.chunks(14).flat_map(|part| [&[2], part, &[3]].concat()).collect();
        assert_eq!(documents[&(doc as u64)], framed, "document {doc}");
    }
}

fn eval(out: &Path, extra: &str) -> Vec<(String, i32, String, f64, i64)> {
    let mut args = words("lens eval --quiet --lens logit --threads 1 --model");
    args.push(path(wordpiece()));
    args.extend(words(extra));
    args.extend(["--out".to_owned(), path(out)]);
    succeed(&args);
    let of = |r: layerscope::results::run::MetricRow| {
        (r.subject.as_str().to_owned(), r.layer, format!("{} {}", r.metric, r.unit), r.estimate, r.n)
    };
    read_metrics(out).unwrap().into_iter().map(of).collect()
}

/// Against transformers in f64, every token behind a mask in turn.
#[test]
fn lenses_read_hidden_tokens_as_transformers_does() {
    let dir = tempfile::tempdir().unwrap();
    let golden = golden();
    let data = path(wordpiece().join("texts.jsonl"));
    for (name, batch) in [("a", ""), ("b", " --batch-tokens 40")] {
        let rows = eval(&dir.path().join(name), &format!("--data {data} --seq-len 16 --mask all{batch}"));
        for (layer, theirs) in golden["layers"].as_array().unwrap().iter().enumerate() {
            let subject = if layer == 3 { "model" } else { "logit" };
            for (metric, unit) in [("ce", "nats"), ("accuracy", "share"), ("kl", "nats")] {
                if (subject, metric) == ("model", "kl") {
                    continue;
                }
                let named = format!("{metric} {unit}");
                let row = rows.iter().find(|r| (r.0.as_str(), r.1, &r.2) == (subject, layer as i32, &named));
                let (_, _, _, estimate, n) = row.unwrap_or_else(|| panic!("{subject} {layer} {named}"));
                let want = theirs[metric].as_f64().unwrap();
                // f32 against f64: logits of size 10 have 24 binary digits, and means do not add to that.
                assert!((estimate - want).abs() < 1e-5, "{subject} {layer} {metric}: {estimate}, not {want}");
                assert_eq!(*n, golden["tokens"].as_i64().unwrap(), "{metric}");
            }
        }
    }
}

#[test]
fn random_masks_are_the_default_and_depend_on_the_seed_alone() {
    let dir = tempfile::tempdir().unwrap();
    let base = format!("--data {} --tokens 1500 --seq-len 32", stories());
    let read = |name: &str, extra: &str| eval(&dir.path().join(name), &format!("{base} {extra}"));
    let (default, random) = (read("a", ""), read("b", "--mask random --batch-tokens 64"));
    let other = read("c", "--seed 1");
    let ce = |rows: &[(String, i32, String, f64, i64)]| {
        rows.iter().find(|r| r.0 == "model" && r.2 == "ce nats").map(|r| (r.3, r.4)).unwrap()
    };
    assert!((ce(&default).0 - ce(&random).0).abs() < 1e-6 && ce(&default).1 == ce(&random).1);
    assert_ne!(ce(&default), ce(&other));
    // 15 % of about 1400 tokens that are no [CLS] and no [SEP], and one at least of each window.
    assert!((150..320).contains(&ce(&default).1), "{:?}", ce(&default));
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("a/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["config"]["mask"], "random");
}

#[test]
fn a_tuned_lens_of_hidden_tokens_is_closer_to_the_model_than_none() {
    let dir = tempfile::tempdir().unwrap();
    let (lens, out) = (dir.path().join("tuned"), dir.path().join("eval"));
    let mut fit = words("lens fit --quiet --kind tuned --threads 1 --tokens 20000 --seq-len 32 --model");
    fit.extend([path(wordpiece()), "--data".to_owned(), stories(), "--out".to_owned(), path(&lens)]);
    succeed(&fit);
    let rows = eval(&out, &format!("--data {} --tokens 3000 --seq-len 32 --lens {}", stories(), path(&lens)));
    let kl = |subject: &str, layer: i32| {
        rows.iter().find(|r| r.0 == subject && r.1 == layer && r.2 == "kl nats").map(|r| r.3).unwrap()
    };
    for layer in 0..3 {
        assert!(kl("tuned", layer) < kl("logit", layer), "layer {layer}");
    }
    assert!(dir.path().join("eval").join(METRICS).is_file());
}

/// The encoder as sentence-transformers have it: no head.
fn wordpiece_without_head() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(wordpiece().join(file), dir.path().join(file)).unwrap();
    }
    rewrite(&wordpiece().join("model.safetensors"), &dir.path().join("model.safetensors"), |tensors| {
        tensors.retain(|name, _| !name.starts_with("cls."));
    });
    dir
}

#[test]
fn a_model_without_a_head_is_exported_probed_and_measured() {
    let (model, out) = (wordpiece_without_head(), tempfile::tempdir().unwrap());
    let run = |args: &str, name: &str| {
        let mut all = words(args);
        all.extend([
            "--model".to_owned(),
            path(model.path()),
            "--out".to_owned(),
            path(out.path().join(name)),
        ]);
        succeed(&all)
    };
    let stories = stories();
    run(&format!("export --quiet --tokens 300 --hooks resid_pre --data {stories}"), "export");
    let statements = path(fixture("probes/statements.csv"));
    run(&format!("probe sweep --quiet --seeds 1 --data {statements}"), "sweep");
    run(&format!("lens transfer --quiet --tokens 2000 --seq-len 32 --data {stories}"), "geometry");
    let rows = read_metrics(&out.path().join("geometry")).unwrap();
    assert!(rows.iter().any(|r| r.metric == "cka" && (r.layer, r.source_layer) == (3, Some(0))), "{rows:?}");
    let info = succeed(&["info", "--json", "--model", &path(model.path())]);
    let hooks = result(&info)["hooks"].as_array().unwrap().clone();
    assert!(!hooks.contains(&json!("logits")) && hooks.contains(&json!("blocks.3.hook_resid_pre")));
}

#[test]
fn what_makes_no_sense_on_an_encoder_is_refused_by_name() {
    let (bert, out) = (path(wordpiece()), tempfile::tempdir().unwrap());
    let (stories, out) = (stories(), path(out.path().join("run")));
    let pairs = path(fixture("probes/pairs.csv"));
    let headless = wordpiece_without_head();
    let headless = path(headless.path());
    let encoder = ["bert-wordpiece (bert) is an encoder", "probe sweep"].map(str::to_owned).to_vec();
    let row = |args: String, code, says: &[&str]| {
        (words(&args), code, says.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    };
    let mut rows: Vec<_> = [
        format!("generate --model {bert} --text hi"),
        format!("schedule --model {bert} --data {stories} --out {out}"),
        format!("patch --model {bert} --source a --preset token-identity --out {out}"),
        format!("steer --model {bert} --data {stories} --pairs {pairs} --out {out}"),
        format!("trace --model {bert} --clean a --corrupted b --answer c --out {out}"),
        format!("think --model {bert} --text hi"),
        format!("lens causal --model {bert} --data {stories} --out {out}"),
        format!("lens fit --kind future --model {bert} --data {stories} --out {out}"),
        format!("lens fit --kind future-vocab --model {bert} --data {stories} --out {out}"),
        format!("lens fit --kind future-prompt --model {bert} --data {stories} --out {out}"),
        format!("lens fit --kind jacobian --model {bert} --data {stories} --out {out}"),
        format!("probe law --model {bert} --data {stories} --out {out}"),
        format!("future --model {bert} --data {stories} --out {out}"),
    ]
    .map(|args| (words(&args), 2, encoder.clone()))
    .into();
    let head = ["is stored without its masked-language-model head", "export"];
    rows.push(row(
        format!("lens eval --lens logit --model {headless} --data {stories} --out {out}"),
        2,
        &head,
    ));
    rows.push(row(
        format!("lens fit --kind tuned --model {headless} --data {stories} --out {out}"),
        2,
        &head,
    ));
    rows.push(row(format!("view --text hi --model {headless}"), 2, &head));
    let eval = format!("lens eval --lens logit --data {stories} --out {out}");
    rows.push(row(format!("{eval} --model {bert} --pack"), 2, &["--pack", "template"]));
    rows.push(row(format!("{eval} --model {bert} --seq-len 2"), 2, &["--seq-len 2 leaves no room"]));
    rows.push(row(format!("{eval} --mask random --model {}", gpt2()), 2, &["--mask", "is a decoder"]));
    refuse_all(&rows);
}

#[test]
fn view_reads_a_mask_in_a_prompt() {
    let ended = run(&[
        "view",
        "--json",
        "--quiet",
        "--model",
        &path(wordpiece()),
        "--text",
        "the [MASK] of the king",
    ]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let found = result(&ended.out);
    assert!(found.to_string().contains("[MASK]") && found.to_string().contains("[SEP]"), "{found}");
}
