//! `import`: files that other tools made (`fixtures/import/make.py`) become exports, and wrong ones do not.

use std::path::Path;

use layerscope::states::store::ActivationStore;
use serde_json::{Value, json};

use super::{end, fixture, gpt2, layerscope, path, refusal, result, rewrite, run};

fn source(name: &str) -> String {
    path(fixture("import").join(name))
}

/// Imports and returns what the program says.
fn import(from: &str, maker: &str, out: &Path, more: &[&str]) -> Value {
    let (model, out) = (gpt2(), path(out));
    let mut args = vec!["import", from, "--as", maker, "--model", &model, "--out", &out, "--quiet", "--json"];
    args.extend(more);
    let ended = run(&args);
    assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.err);
    result(&ended.out)
}

/// Refuses with this code and these words, and writes nothing.
fn refused(from: &str, maker: &str, more: &[&str], code: i32, says: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (gpt2(), path(folder.path().join("out")));
    let mut args = vec!["import", from, "--as", maker, "--model", &model, "--out", &out, "--quiet"];
    args.extend(more);
    let wrong = refusal(layerscope().args(&args), code, says);
    assert_eq!(wrong, None, "{args:?}");
    assert!(!Path::new(&out).join("acts").exists(), "{args:?}");
}

/// The largest difference of a column from an export of the same tokens.
fn worst(found: &Value) -> f64 {
    let errors = found["agreement"].as_array().unwrap().iter().map(|a| a["relative_error"].as_f64().unwrap());
    errors.fold(0.0, f64::max)
}

fn hooks(found: &Value) -> Vec<String> {
    let columns = found["columns"].as_array().unwrap().iter();
    columns.map(|column| column["point"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn hidden_states_of_transformers_without_the_normed_one() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let found = import(&source("hf.safetensors"), "hf", &out, &[]);
    let expected: Vec<String> = (0..8).map(|layer| format!("blocks.{layer}.hook_resid_pre")).collect();
    assert_eq!(hooks(&found), expected);
    assert_eq!(found["left_aside"], json!(["hidden_states.8: normed already, and so not layer 8"]));
    // Sums of 128 numbers in another order: a few 1e-7 a layer.
    assert!(worst(&found) < 1e-5, "{found}");
    // Two documents; the padding of the second is no row.
    let store = ActivationStore::open(&out).unwrap();
    let rows = store.rows().unwrap();
    assert_eq!(rows.doc_id.iter().filter(|doc| **doc == 0).count(), 8);
    assert!(
        rows.doc_id.iter().filter(|doc| **doc == 1).count() < 8 && rows.doc_id.iter().all(|doc| *doc < 2)
    );
    assert_eq!(store.matrix("resid_pre", 3).unwrap().dim(), (rows.len(), 128));
    assert_eq!(store.manifest().parity.as_ref().unwrap()["verdict"], "pass");
    refused(&source("hf.safetensors"), "hf", &["--layers", "7,8"], 2, &["layer 8", "normed"]);
    // The same again is complete.
    let again = import(&source("hf.safetensors"), "hf", &out, &[]);
    assert_eq!(again["rows"], found["rows"]);
}

#[test]
fn the_values_are_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    import(&source("hf.safetensors"), "hf", &out, &["--layers", "5", "--format", "npy"]);
    let found = ActivationStore::open(&out).unwrap().matrix("resid_pre", 5).unwrap();
    let bytes = std::fs::read(fixture("import/hf.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let stored = file.tensor("hidden_states.5").unwrap();
    let numbers: Vec<f32> = stored.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let tokens = found.nrows();
    assert!(tokens < stored.shape()[1] * 2);
    let kept: Vec<f32> = found.iter().copied().collect();
    assert_eq!(kept, numbers[..tokens * 128]);
}

#[test]
fn arrays_that_numpy_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let found = import(&source("compressed.npz"), "npy", &at("out"), &[]);
    assert_eq!((hooks(&found), &found["documents"]), (vec!["blocks.3.hook_resid_pre".to_owned()], &json!(2)));
    import(&source("hf.safetensors"), "hf", &at("hf"), &["--layers", "3"]);
    let [a, b] =
        ["out", "hf"].map(|run| ActivationStore::open(&at(run)).unwrap().matrix("resid_pre", 3).unwrap());
    assert_eq!(a, b);
    // Bytes that changed since, in the middle of the first array.
    let mut bytes = std::fs::read(fixture("import/compressed.npz")).unwrap();
    bytes[400] ^= 0x55;
    std::fs::write(at("bad.npz"), bytes).unwrap();
    refused(&path(at("bad.npz")), "npy", &[], 2, &["bad.npz"]);
}

#[test]
fn a_cache_of_transformer_lens() {
    let folder = tempfile::tempdir().unwrap();
    let found = import(&source("tl.pt"), "tl", &folder.path().join("out"), &[]);
    assert!(worst(&found) < 1e-5, "{found}");
    let hooks = hooks(&found);
    for hook in ["hook_embed", "blocks.2.hook_resid_pre", "blocks.2.attn.hook_z", "blocks.7.hook_resid_post"]
    {
        assert!(hooks.iter().any(|other| other == hook), "{hooks:?}");
    }
    let aside = found["left_aside"].as_array().unwrap();
    let pattern = aside.iter().find(|name| name.as_str().unwrap().starts_with("blocks.2.attn.hook_pattern"));
    assert!(pattern.unwrap().as_str().unwrap().ends_with("not one row per token"), "{aside:?}");
}

#[test]
fn a_cache_of_saelens() {
    let folder = tempfile::tempdir().unwrap();
    let found = import(&source("saelens"), "saelens", &folder.path().join("out"), &["--check", "100"]);
    assert_eq!((hooks(&found), &found["documents"]), (vec!["blocks.4.hook_resid_pre".to_owned()], &json!(6)));
    assert_eq!(found["rows"], 48);
    assert!(worst(&found) < 1e-5, "{found}");
    // A map renames columns: as the layer before, they differ.
    let map = folder.path().join("map.json");
    std::fs::write(&map, r#"{"blocks.4.hook_resid_pre": "blocks.3.hook_resid_pre"}"#).unwrap();
    let says =
        ["blocks.3.hook_resid_pre", "it is the model's blocks.4.hook_resid_pre", "nothing was written"];
    refused(&source("saelens"), "saelens", &["--map", &path(&map)], 3, &says);
    std::fs::write(&map, r#"{"blocks.4.hook_resid_pre": null}"#).unwrap();
    refused(&source("saelens"), "saelens", &["--map", &path(&map)], 2, &["by the map"]);
}

#[test]
fn requests_of_vllm() {
    let folder = tempfile::tempdir().unwrap();
    let found = import(&source("vllm"), "vllm", &folder.path().join("out"), &["--layers", "3,8"]);
    assert_eq!(hooks(&found), ["blocks.3.hook_resid_pre", "blocks.8.hook_resid_pre"]);
    // bf16 has 8 bits: half of 2^-8 at most, and a third of that on average.
    assert!(worst(&found) < 0.004 && worst(&found) > 1e-4, "{found}");
    refused(&source("vllm"), "vllm", &[], 2, &["--layers"]);
    refused(&source("vllm"), "vllm", &["--layers", "3"], 2, &["hidden_states has shape"]);
    refused(&source("vllm"), "vllm", &["--layers", "3,9"], 2, &["no layer 9"]);
    refused(&source("vllm"), "vllm", &["--layers", "4,8"], 3, &["it is the model's blocks.3.hook_resid_pre"]);
}

#[test]
fn responses_of_vllm_lens() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let found = import(&source("vllm-lens"), "vllm-lens", &out, &["--layers", "3,8"]);
    assert_eq!(hooks(&found), ["blocks.3.hook_resid_pre", "blocks.8.hook_resid_pre"]);
    // bf16 has 8 bits: half of 2^-8 at most, and a third of that on average.
    assert!(worst(&found) < 0.004 && worst(&found) > 1e-4, "{found}");
    // The same states of the same tokens as vLLM's own connector keeps; the token that was sampled has none.
    let other = folder.path().join("vllm");
    import(&source("vllm"), "vllm", &other, &["--layers", "3,8"]);
    let [a, b] = [&out, &other].map(|run| ActivationStore::open(run).unwrap());
    assert_eq!(a.rows().unwrap(), b.rows().unwrap());
    for layer in [3, 8] {
        assert_eq!(a.matrix("resid_pre", layer).unwrap(), b.matrix("resid_pre", layer).unwrap());
    }
    let refuse = |more: &[&str], code, says: &[&str]| {
        refused(&source("vllm-lens"), "vllm-lens", more, code, says);
    };
    refuse(&[], 2, &["2 of 8 layers", "layer k of vllm-lens is k+1 here", "--layers"]);
    // Its own numbers: the layer before, which the model tells.
    refuse(&["--layers", "2,7"], 3, &["it is the model's blocks.3.hook_resid_pre"]);
    refuse(&["--layers", "0,8"], 2, &["no layer 0", "what leaves blocks"]);
    refuse(&["--layers", "3"], 2, &["2 layers, not 1"]);
    for (from, to, says) in [
        ("\"prompt_token_ids\"", "\"p\"", "return_token_ids"),
        ("\"compression\": \"zstd\"", "\"compression\": \"lz4\"", "compressed by lz4"),
        ("\"shape\": [2, ", "\"shape\": [3, ", "bytes of numbers, but"),
        ("\"residual_stream\"", "\"stream\"", "missing field `residual_stream`"),
        ("\"token_ids\": [3]", "\"token_ids\": [3, 4]", "states of 8 tokens"),
    ] {
        let text = std::fs::read_to_string(fixture("import/vllm-lens/req-0.json")).unwrap();
        assert!(text.contains(from), "{from}");
        let file = folder.path().join("bad.json");
        std::fs::write(&file, text.replace(from, to)).unwrap();
        refused(&path(&file), "vllm-lens", &["--layers", "3,8"], 2, &[says]);
    }
}

/// The faults that people make: the next layer's states, the last one normed, centred ones, another text, another
/// number.
#[test]
fn planted_faults_are_caught() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("planted.safetensors");
    let from = fixture("import/hf.safetensors");
    let plant = |change: &dyn Fn(&mut std::collections::BTreeMap<String, super::Stored>)| {
        rewrite(&from, &file, |tensors| {
            for layer in 0..9 {
                let state = tensors.remove(&format!("hidden_states.{layer}")).unwrap();
                tensors.insert(format!("blocks.{layer}.hook_resid_pre"), state);
            }
            change(tensors);
        });
    };
    let name = |layer: usize| format!("blocks.{layer}.hook_resid_pre");
    plant(&|_| ());
    refused(&path(&file), "npy", &[], 3, &["1 of 9", "blocks.8.hook_resid_pre", "the last layer's, normed"]);
    plant(&|tensors| drop(tensors.remove(&name(8))));
    let found = import(&path(&file), "npy", &folder.path().join("good"), &[]);
    assert_eq!(hooks(&found).len(), 8);
    plant(&|tensors| {
        for layer in 0..8 {
            let next = tensors[&name(layer + 1)].clone();
            tensors.insert(name(layer), next);
        }
        tensors.remove(&name(8));
    });
    refused(&path(&file), "npy", &[], 3, &["8 of 8", "it is the model's blocks.1.hook_resid_pre"]);
    plant(&|tensors| {
        tensors.remove(&name(8));
        let centred = |(_, _, data): &mut super::Stored| {
            let mut numbers: Vec<f32> =
                data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            for row in numbers.chunks_mut(128) {
                let mean = row.iter().sum::<f32>() / 128.0;
                row.iter_mut().for_each(|x| *x -= mean + 0.5);
            }
            *data = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        };
        (0..8).for_each(|layer| centred(tensors.get_mut(&name(layer)).unwrap()));
    });
    refused(&path(&file), "npy", &[], 3, &["by a constant for each token"]);
    plant(&|tensors| {
        tensors.remove(&name(8));
        let ids = &mut tensors.get_mut("input_ids").unwrap().2;
        ids[16] ^= 1; // another token in the third place of the first text
    });
    refused(&path(&file), "npy", &[], 3, &["blocks.0.hook_resid_pre"]);
    // What nobody looks at is taken as it is, and a warning says so.
    let out = path(folder.path().join("unchecked"));
    let model = gpt2();
    let args = ["import", &path(&file), "--as", "npy", "--model", &model, "--out", &out, "--check", "0"];
    let ended = run(&args);
    assert!(ended.code == Some(0) && ended.err.contains("the files' word is taken"), "{}", ended.err);
    plant(&|tensors| {
        tensors.remove(&name(8));
        tensors.get_mut(&name(4)).unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    refused(&path(&file), "npy", &[], 3, &["blocks.4.hook_resid_pre by NaN"]);
}

#[test]
fn what_is_no_such_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        path(file)
    };
    refused(&path(folder.path().join("nowhere.npz")), "npy", &[], 2, &["nowhere.npz"]);
    refused(&file("a.bin", b"x"), "npy", &[], 2, &["`.bin`; expected .safetensors"]);
    refused(&file("a.safetensors", b"not one"), "npy", &[], 2, &["a.safetensors"]);
    refused(&file("a.npy", b"\x93NUMPY"), "npy", &[], 2, &["a.npy"]);
    refused(&file("a.npz", b"PK\x03\x04"), "npy", &[], 2, &["no whole npz file"]);
    refused(&file("a.pt", b"\x80\x02}q."), "tl", &[], 2, &["a.pt"]);
    refused(&path(folder.path()), "saelens", &[], 2, &["state.json"]);
    let _ = file("state.json", br#"{"_data_files": [{"filename": "../../etc/passwd"}]}"#);
    refused(&path(folder.path()), "saelens", &[], 2, &["without a plain name"]);
    let bare = folder.path().join("bare.safetensors");
    rewrite(&fixture("import/hf.safetensors"), &bare, |tensors| drop(tensors.remove("input_ids")));
    refused(&path(&bare), "hf", &[], 2, &["no token ids", "--token-ids"]);
    refused(&source("tl.pt"), "npy", &["--map", &file("map.json", b"[1]")], 2, &["map.json"]);
    rewrite(&fixture("import/hf.safetensors"), &bare, |tensors| {
        let (kind, _, data) = tensors["hidden_states.2"].clone();
        tensors.insert("blocks.2.hook_resid_pre".into(), (kind, vec![1, 16, 128], data.clone()));
        tensors.insert("blocks.3.hook_resid_pre".into(), (kind, vec![1, 16, 128], data));
    });
    refused(&path(&bare), "npy", &[], 2, &["has shape [1, 16, 128], expected numbers [2, 8, …] with 128"]);
    refused(
        &source("hf.safetensors"),
        "hf",
        &["--tolerance", "0"],
        2,
        &["--tolerance: expected a number above 0"],
    );
}

#[test]
fn an_import_is_read_as_an_export() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    import(&source("saelens"), "saelens", &out, &["--shard-mb", "1"]);
    // A killed import goes on: a shard that is lost is made again.
    std::fs::remove_file(out.join("shards/0.done")).unwrap();
    import(&source("saelens"), "saelens", &out, &["--shard-mb", "1"]);
    assert_eq!(ActivationStore::open(&out).unwrap().n_rows(), 48);
    let model = gpt2();
    let (acts, lens) = (path(&out), path(folder.path().join("lens")));
    let args = ["lens", "fit", "--model", &model, "--activations", &acts, "--kind", "linear", "--out", &lens];
    let ended = end(layerscope().args(args).arg("--quiet"));
    // One layer is no pair to fit between, which is said of its layers and not of its kind.
    assert!(!ended.err.contains("it is a run of"), "{}", ended.err);
}
