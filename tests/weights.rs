//! Checkpoints in other files than one `model.safetensors`, against what transformers says of the same numbers.

use std::path::{Path, PathBuf};

use layerscope::model::{Config, Model, ModelError, Weights, settle, spec, verify::verify};
use tch::{Device, Kind};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/weights").join(name)
}

fn load(dir: &Path) -> Result<Model, ModelError> {
    Model::load(dir, Kind::Double, Device::Cpu, |_, _| ())
}

/// Both sides start from the same stored numbers in f64, but transformers computes norms and rotations in f32 also in f64 models:
/// a few roundings of 6e-8. One weight in the wrong place changes the streams by tenths.
#[test]
fn every_kind_of_file_holds_the_same_model() {
    for name in ["bin", "bin-sharded", "bin-base", "bin-head-only", "variant", "lone-shard"] {
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
    for (name, stored) in
        [("bin", Kind::Float), ("bin-sharded", Kind::BFloat16), ("variant", Kind::Half), ("lone-shard", Kind::Double)]
    {
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
    load(dir.path()).map(|_| "loaded".to_owned()).unwrap_or_else(|e| e.to_string())
}

/// Replaces the first `from` by as many bytes.
fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
}

#[test]
fn hostile_pickles_are_refused_and_nothing_is_run() {
    assert_eq!(changed(|_| ()), "loaded");
    let says = |message: String, part: &str| assert!(message.contains(part) && !message.contains('\n'), "{message}");
    let rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n";
    // The entry's sum would give a change away, so it is removed: with a wrong one the file is refused as well.
    says(changed(|b| replace(b, rebuild, b"cposix      \nsystem            \n")), "data.pkl");
    says(changed(|b| b.truncate(b.len() / 2)), "not a whole torch.save file");
    says(changed(Vec::clear), "it is empty");
    says(changed(|b| *b = b"\x80\x02}.".to_vec()), "before 1.6");
    for pickle in ["system", "list", "float8", "legacy"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/torch_save/{pickle}.pt"));
        let message = changed(|b| *b = std::fs::read(&file).unwrap());
        let part = ["is not allowed in a file of tensors", "before 1.6"];
        assert!(part.iter().any(|part| message.contains(part)), "{pickle}: {message}");
    }
    assert!(!Path::new("executed").exists());
}
