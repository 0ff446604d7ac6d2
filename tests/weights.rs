//! Checkpoints in other files than one `model.safetensors`, against what transformers says of the same numbers.

use std::path::{Path, PathBuf};

use layerscope::model::{Config, Model, ModelError, Weights, settle, spec, verify::verify};
use tch::{Device, Kind};

use crate::cli;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/weights").join(name)
}

fn load(dir: &Path) -> Result<Model, ModelError> {
    Model::load(dir, Kind::Double, Device::Cpu, |_, _| ())
}

/// Both sides start from the same stored numbers in f64, but transformers computes norms and rotations in f32 also in
/// f64 models: a few roundings of 6e-8. One weight in the wrong place changes the streams by tenths.
#[test]
fn every_kind_of_file_holds_the_same_model() {
    for name in [
        "bin",
        "bin-sharded",
        "bin-base",
        "bin-head-only",
        "variant",
        "lone-shard",
        "fp8-blocks",
        "fp8-rows",
        "gptq",
        "awq",
        "int8",
    ] {
        let model = load(&folder(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let differences = verify(&model, &folder(name).join("reference.safetensors")).unwrap();
        assert_eq!(differences.len(), 3, "{name}");
        for difference in differences {
            assert!(difference.passes(2e-6), "{name} {} {:e}", difference.point, difference.relative());
        }
    }
}

#[test]
fn numbers_keep_the_type_they_are_stored_in() {
    for (name, stored) in [
        ("bin", Kind::Float),
        ("bin-sharded", Kind::BFloat16),
        ("variant", Kind::Half),
        ("lone-shard", Kind::Double),
    ] {
        let weights = Weights::open(&folder(name), Kind::Float, Device::Cpu).unwrap();
        assert_eq!(weights.stored().0, Some(stored), "{name}");
        let spec = spec(&Config::read(&folder(name)).unwrap()).unwrap();
        assert_eq!(settle(spec, &weights).unwrap().tied, name != "bin-sharded", "{name}");
    }
}

/// A copy of the tied `pytorch_model.bin`, changed.
fn changed(change: impl Fn(&mut Vec<u8>)) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(folder("bin").join("config.json"), dir.path().join("config.json")).unwrap();
    let mut bytes = std::fs::read(folder("bin").join("pytorch_model.bin")).unwrap();
    change(&mut bytes);
    std::fs::write(dir.path().join("pytorch_model.bin"), bytes).unwrap();
    load(dir.path()).map_or_else(|e| e.to_string(), |_| "loaded".to_owned())
}

/// Replaces the first `from` by as many bytes.
fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
}

#[test]
fn hostile_pickles_are_refused_and_nothing_is_run() {
    assert_eq!(changed(|_| ()), "loaded");
    let says =
        |message: String, part: &str| assert!(message.contains(part) && !message.contains('\n'), "{message}");
    let rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n";
    // The entry's sum would give a change away, so it is removed: with a wrong one the file is refused as well.
    says(changed(|b| replace(b, rebuild, b"cposix      \nsystem            \n")), "data.pkl");
    says(changed(|b| b.truncate(b.len() / 2)), "not a whole torch.save file");
    says(changed(Vec::clear), "it is empty");
    says(changed(|b| *b = b"\x80\x02}.".to_vec()), "before 1.6");
    for pickle in ["system", "list", "float8", "legacy"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/torch_save/{pickle}.pt"));
        let message = changed(|b| *b = std::fs::read(&file).unwrap());
        let part = ["is not allowed in a file of tensors", "is no tensor", "before 1.6"];
        assert!(part.iter().any(|part| message.contains(part)), "{pickle}: {message}");
    }
    assert!(!Path::new("executed").exists());
}

#[test]
fn few_bits_are_recorded_and_what_is_not_supported_is_named() {
    for (name, stored) in [
        ("fp8-blocks", "F8_E4M3"),
        ("fp8-rows", "F8_E4M3"),
        ("gptq", "GPTQ 4 bits"),
        ("awq", "AWQ 4 bits"),
        ("int8", "INT8"),
    ] {
        let types = Weights::open(&folder(name), Kind::Float, Device::Cpu).unwrap().types();
        let n: Vec<(&str, u64)> = types.iter().map(|(name, n)| (name.as_str(), n.tensors)).collect();
        let mut want = [("F32", 6), (stored, 14)];
        want.sort_unstable();
        assert_eq!(n, want, "{name}");
    }
    let changed = |from: &str, to: &str, name: &str| {
        let dir = tempfile::tempdir().unwrap();
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(folder(name).join(file), dir.path().join(file)).unwrap();
        }
        let config = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        assert!(config.contains(from));
        std::fs::write(dir.path().join("config.json"), config.replace(from, to)).unwrap();
        load(dir.path()).map(|_| ()).unwrap_err().to_string()
    };
    for (name, from, to, says) in [
        ("gptq", "\"bits\": 4", "\"bits\": 3", "quantization_config = "),
        ("awq", "\"gemm\"", "\"gemv\"", "quantization_config = "),
        ("int8", "load_in_8bit", "load_in_4bit", "quantization_config = "),
        ("int8", "\"bitsandbytes\"", "\"hqq\"", "(supported: fp8, "),
        ("awq", "\"awq\"", "\"gptq\"", "none is stored so"),
        ("fp8-blocks", "\"quantization_config\"", "\"other\"", "type F8_E4M3 is not supported"),
    ] {
        let said = changed(from, to, name);
        assert!(said.contains(says), "{name}: {said}");
    }
}

/// What is missing is said before anyone waits for weights.
#[test]
fn info_says_what_is_stored_and_what_is_missing() {
    let info = |dir: &Path| {
        let dir = dir.display().to_string();
        let json = cli::result(&cli::succeed(&["info", "--model", &dir, "--json", "--quiet"]));
        (cli::succeed(&["info", "--model", &dir, "--quiet"]), json)
    };
    let (text, json) = info(&folder("gptq"));
    assert!(
        text.contains("tensors     6 of F32, 14 of GPTQ 4 bits, made into floats when they are read\n"),
        "{text}"
    );
    assert_eq!(json["tensors"], serde_json::json!({ "faults": [], "other_senses": 0, "unused": 0 }));
    let (text, json) = info(&folder("bin"));
    assert!(!text.contains("tensors  ") && json["stored_as"]["F32"] == 21, "{text} {json}");

    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(folder("lone-shard").join("config.json"), dir.path().join("config.json")).unwrap();
    cli::rewrite(
        &folder("lone-shard").join("model-00001-of-00001.safetensors"),
        &dir.path().join("model.safetensors"),
        |tensors| {
            let gate = tensors.remove("model.layers.1.mlp.gate_proj.weight").unwrap();
            tensors.remove("model.layers.0.mlp.gate_proj.weight").unwrap();
            tensors.insert("vision_tower.patch".into(), gate);
        },
    );
    let (text, json) = info(dir.path());
    let says = "tensor `model.layers.0.mlp.gate_proj.weight` is missing";
    assert!(
        text.contains(says) && text.contains("and 1 more like it; 1 of vision or audio, which are not read"),
        "{text}"
    );
    assert_eq!(json["tensors"]["faults"].as_array().unwrap().len(), 2);

    let (text, json) = info(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families/qwen2_moe"));
    assert!(text.contains("\nexperts     "), "{text}");
    assert_eq!(json["experts"]["n"].as_u64().map(|n| n > 1), Some(true));
}
