//! `convert`: exports, views and directions as other tools' files. What those tools say to them is tested in
//! `python/tests`.

use std::{collections::BTreeMap, path::Path};

use layerscope::states::store::ActivationStore;
use serde_json::{Value, json};

use super::{end, fixture, gpt2, layerscope, path, refusal, result, run};

const TEXTS: [&str; 3] = [
    "Alice was beginning to get very tired of sitting",
    "The Queen of Hearts",
    "Off with her head, said she",
];

/// An export of three documents, 4 tokens a window.
fn export(folder: &Path, name: &str, more: &[&str]) -> String {
    let data = folder.join("texts.jsonl");
    let lines: Vec<String> = TEXTS.iter().map(|text| json!({ "text": text }).to_string()).collect();
    std::fs::write(&data, lines.join("\n")).unwrap();
    let (model, data, out) = (gpt2(), path(data), path(folder.join(name)));
    let mut args =
        vec!["export", "--model", &model, "--data", &data, "--out", &out, "--quiet", "--seq-len", "4"];
    args.extend(["--hooks", "resid_pre", "mlp_out", "--layers", "0,3,8", "--shard-mb", "1"]);
    args.extend(more);
    let ended = run(&args);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    out
}

fn convert(from: &str, to: &str, out: &Path, more: &[&str]) -> Value {
    let out = path(out);
    let mut args = vec!["convert", from, "--to", to, "--out", &out, "--quiet", "--json"];
    args.extend(more);
    let ended = run(&args);
    assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.err);
    result(&ended.out)
}

fn import(from: &str, maker: &str, out: &Path) -> ActivationStore {
    let (model, to) = (gpt2(), path(out));
    // Documents that were cut into windows begin in the middle: the model would see them otherwise.
    let check = if maker == "saelens" { "0" } else { "1" };
    let args = ["import", from, "--as", maker, "--model", &model, "--out", &to, "--quiet", "--check", check];
    let ended = run(&args);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    ActivationStore::open(out).unwrap()
}

#[test]
fn responses_of_vllm_lens_come_back() {
    let folder = tempfile::tempdir().unwrap();
    for (dtype, format) in [("f32", "parquet"), ("bf16", "parquet"), ("bf16", "safetensors"), ("f16", "npy")]
    {
        let at = |name: &str| folder.path().join(format!("{name}.{dtype}.{format}"));
        let from = export(folder.path(), &path(at("acts")), &["--act-dtype", dtype, "--format", format]);
        let found = convert(&from, "vllm-lens", &at("out"), &[]);
        let there = ActivationStore::open(Path::new(&from)).unwrap();
        assert_eq!((&found["tokens"], &found["left_out"]), (&json!(there.n_rows()), &json!(0)));
        let text = std::fs::read_to_string(at("out").join("responses/000000.json")).unwrap();
        let first: Value = serde_json::from_str(&text).unwrap();
        // What enters block 3 leaves block 2; what enters block 0 leaves none, and mlp_out is no stream.
        assert_eq!(first["output_residual_stream"], json!([2, 7]));
        let stored = if dtype == "bf16" {
            "int16"
        } else if dtype == "f16" {
            "float16"
        } else {
            "float32"
        };
        assert_eq!(first["activations"]["residual_stream"]["dtype"], stored);
        let back = import(&path(at("out").join("responses")), "vllm-lens", &at("back"));
        assert_eq!(back.rows().unwrap().token_id, there.rows().unwrap().token_id);
        for layer in [3, 8] {
            let [a, b] = [&back, &there].map(|store| store.matrix("resid_pre", layer).unwrap());
            assert_eq!(a, b, "{dtype}, {format}");
        }
    }
    let from = path(folder.path().join("acts.f32.parquet"));
    let [a, b] = ["f32", "bf16"].map(|dtype| {
        let run = folder.path().join(format!("acts.{dtype}.parquet"));
        ActivationStore::open(&run).unwrap().matrix("resid_pre", 3).unwrap()
    });
    // To nearest of 8 significant bits: 2^-8 of a number at most.
    assert!(a != b && a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= a.abs() / 256.0));
    let refused = |more: &[&str], says: &[&str]| {
        let out = path(folder.path().join("none"));
        let mut args = vec!["convert", &from, "--to", "vllm-lens", "--out", &out];
        args.extend(more);
        assert_eq!(refusal(layerscope().args(&args), 2, says), None, "{more:?}");
    };
    refused(&["--layers", "0"], &["residual stream above layer 0"]);
    refused(&["--layers", "5"], &["--layers 5 selects none of", "blocks.3.hook_resid_pre"]);
    refused(&["--context", "4"], &["--context: the files that are asked for have none"]);
}

#[test]
fn a_cache_of_saelens_has_whole_contexts() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let from = export(folder.path(), "acts", &["--format", "arrow"]);
    let there = ActivationStore::open(Path::new(&from)).unwrap();
    let rows = there.rows().unwrap();
    let mut whole = Value::Null;
    for context in [3, 4] {
        let out = at(&format!("cache{context}"));
        // By default the windows'.
        let more: &[&str] = if context == 4 { &[] } else { &["--context", "3"] };
        let found = convert(&from, "saelens", &out, more);
        let back = import(&path(&out), "saelens", &at(&format!("back{context}")));
        // Runs of a window's tokens, as many as fit into it.
        let mut kept = Vec::new();
        for row in 0..rows.len() {
            let place = rows.pos[row] as usize % 4;
            let start = row - place % context;
            let fits = |row: usize| rows.doc_id.get(row) == Some(&rows.doc_id[start]);
            if place / context * context + context <= 4 && (start..start + context).all(fits) {
                kept.push(row);
            }
        }
        assert!(kept.len() < rows.len() && kept.len() > 12);
        assert_eq!(found["records"], kept.len() / context);
        assert_eq!(found["left_out"], rows.len() - kept.len());
        let ids: Vec<u32> = kept.iter().map(|row| rows.token_id[*row]).collect();
        assert_eq!(back.rows().unwrap().token_id, ids);
        for (hook, layer) in [("resid_pre", 0), ("resid_pre", 8), ("mlp_out", 3)] {
            let every = there.matrix(hook, layer).unwrap();
            assert_eq!(back.matrix(hook, layer).unwrap(), every.select(ndarray::Axis(0), &kept));
        }
        whole = found;
    }
    let out = path(at("none"));
    let args = ["convert", &from, "--to", "saelens", "--context", "5", "--out", &out];
    let says = ["no 5 consecutive tokens", "the longest has 4", "--context"];
    assert_eq!(refusal(layerscope().args(args), 2, &says), None);
    assert!(!Path::new(&out).exists());
    // Complete again, and another conversion does not take its place.
    let again = convert(&from, "saelens", &at("cache4"), &[]);
    assert_eq!((&again["left_out"], &again["records"]), (&whole["left_out"], &whole["records"]));
    let (model_out, other) = (path(at("cache4")), ["--to", "hf"]);
    let args = ["convert", &from, other[0], other[1], "--out", &model_out];
    assert_eq!(refusal(layerscope().args(args), 2, &["--force"]), None);
    let args = ["convert", &from, "--to", "hf", "--force", "--out", &format!("{from}/../acts")];
    assert_eq!(refusal(layerscope().args(args), 2, &["--out: it is the run itself"]), None);
    let none = path(fixture("gpt2-alice-8l"));
    let args = ["convert", &none, "--to", "hf", "--out", &out];
    assert_eq!(refusal(layerscope().args(args), 2, &["is not an activation export"]), None);
}

#[test]
fn a_view_becomes_what_logitlenskit_shows() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| path(folder.path().join(name));
    let (model, kit, saved) = (gpt2(), at("kit.json"), at("saved"));
    let view = ["view", "--model", &model, "--text", "The Queen of", "--top-k", "4", "--quiet"];
    for more in [["--logitlenskit", &kit], ["--out", &saved]] {
        assert_eq!(end(layerscope().args(view).args(more)).code, Some(0));
    }
    let found = convert(&saved, "logitlenskit", &folder.path().join("out"), &[]);
    let read = |file: &str| -> Value { serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap() };
    let (ours, theirs) = (read(&at("out/logitlenskit/0.logit.json")), read(&kit));
    assert_eq!(found["records"], 1);
    assert_eq!(found["tokens"], ours["input"].as_array().unwrap().len());
    for key in ["meta", "layers", "input"] {
        assert_eq!(ours[key], theirs[key], "{key}");
    }
    let mut tracked = 0;
    for (position, own) in ours["tracked"].as_array().unwrap().iter().enumerate() {
        for (token, probabilities) in own.as_object().unwrap() {
            assert_eq!(*probabilities, theirs["tracked"][position][token], "{token}");
            tracked += 1;
        }
    }
    assert!(tracked >= 3);
    // A list of likeliest tokens is the beginning of the whole one, and every first token is there.
    for (layer, own) in ours["topk"].as_array().unwrap().iter().enumerate() {
        for (position, top) in own.as_array().unwrap().iter().enumerate() {
            let (top, whole) = (top.as_array().unwrap(), theirs["topk"][layer][position].as_array().unwrap());
            assert!(!top.is_empty() && whole.starts_with(top), "{layer} {position}");
        }
    }
    let args = ["convert", &saved, "--to", "logitlenskit", "--layers", "2", "--out", &at("none")];
    assert_eq!(refusal(layerscope().args(args), 2, &["--layers: a view is converted whole"]), None);
}

#[test]
fn directions_become_vectors_of_neuronpedia() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| path(folder.path().join(name));
    let (model, data, sweep) = (gpt2(), path(fixture("probes/statements.csv")), at("sweep"));
    let args = ["probe", "sweep", "--model", &model, "--data", &data, "--group-column", "pair", "--quiet"];
    let args =
        args.into_iter().chain(["--probe", "mean-diff", "--layers", "2,5", "--seeds", "1", "--out", &sweep]);
    let ended = end(layerscope().args(args));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let more = ["--model-id", "alice-8l", "--strength", "25"];
    let found = convert(&sweep, "neuronpedia", &folder.path().join("out"), &more);
    assert_eq!(found["records"], 2);
    for layer in [2, 5] {
        let file = at(&format!("out/vectors/mean-diff.{layer}.json"));
        let body: BTreeMap<String, Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let probe =
            std::fs::read(at(&format!("sweep/probes/mean-diff.resid_pre.{layer}.safetensors"))).unwrap();
        let probe = safetensors::SafeTensors::deserialize(&probe).unwrap();
        let weight = probe.tensor("weight").unwrap();
        let numbers: Vec<f64> = match weight.dtype() {
            safetensors::Dtype::F64 => {
                weight.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
            }
            _ => weight.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
        };
        let sent = body["vector"].as_array().unwrap();
        assert_eq!(sent.len(), numbers.len());
        // JSON of a number is parsed to one unit in the last place here.
        for (a, b) in sent.iter().zip(&numbers) {
            assert!((a.as_f64().unwrap() - b).abs() <= f64::EPSILON * b.abs(), "{a} {b}");
        }
        assert_eq!((&body["modelId"], &body["layerNumber"]), (&json!("alice-8l"), &json!(layer)));
        assert_eq!(
            (&body["hookType"], &body["vectorLabel"]),
            (&json!("hook_resid_pre"), &json!("mean-diff"))
        );
        assert_eq!(body["vectorDefaultSteerStrength"], 25.0);
        assert_eq!(body.len(), 6);
    }
    // By default the model's folder names it, and one layer is enough.
    let found = convert(&sweep, "neuronpedia", &folder.path().join("one"), &["--layers", "5"]);
    assert_eq!(found["records"], 1);
    let body: Value =
        serde_json::from_slice(&std::fs::read(at("one/vectors/mean-diff.5.json")).unwrap()).unwrap();
    assert_eq!(
        (&body["modelId"], &body["vectorDefaultSteerStrength"]),
        (&json!("gpt2-alice-8l"), &json!(10.0))
    );
    let args = ["convert", &sweep, "--to", "neuronpedia", "--layers", "3", "--out", &at("none")];
    assert_eq!(refusal(layerscope().args(args), 2, &["no vector of layer 3"]), None);
}
