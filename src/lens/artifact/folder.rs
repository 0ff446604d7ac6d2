//! The folder on the disk.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::Tensor;

use super::{ArtifactError, LensConfig, LensKind, params_pt, tensors};
use crate::results::hash::{sha256, sha256_file};
use crate::results::run::{Manifest, RunError, write_atomic};

/// What the lens is.
pub const CONFIG: &str = "config.json";
/// Its tensors.
pub const PARAMS: &str = "params.safetensors";
/// Its tensors as the tuned-lens package has them.
pub const PARAMS_PT: &str = "params.pt";

/// A lens as it is stored.
#[derive(Debug)]
pub struct LensFolder {
    /// Where it is.
    pub dir: PathBuf,
    /// What it is.
    pub config: LensConfig,
    /// Its tensors by name, f32 on the CPU: `layer.3.weight`, `layer.3.bias`, for future lenses
    /// `layer.3.horizon.2.weight`.
    pub tensors: BTreeMap<String, Tensor>,
    /// Whether its fit left checksums, which its files were compared with.
    pub checked: bool,
}

impl LensFolder {
    /// Reads a folder of ours, or one with the tuned-lens package's `config.json` and `params.pt` only.
    ///
    /// `params.pt` counts where `config.json` is the package's own: its `save` leaves an older `params.safetensors`
    /// alone.
    ///
    /// # Errors
    /// When a file is missing, not a lens's, not what the fit wrote, or a tensor is not finite; the message names
    /// which.
    pub fn read(dir: &Path) -> Result<Self, ArtifactError> {
        let path = dir.join(CONFIG);
        let content = fs::read(&path).map_err(|e| ArtifactError::io(&path, e))?;
        let bad = |reason: String| ArtifactError::Config { path: path.clone(), reason };
        let json: Value = serde_json::from_slice(&content).map_err(|e| bad(e.to_string()))?;
        let ours = json.get("layerscope").is_some();
        // The package saves over a fit of ours and leaves the manifest as it is, which then is of another lens.
        let manifest = if is_flat(&json) { None } else { Manifest::read(dir)? };
        let check = |name: &str, content: &[u8]| {
            manifest.as_ref().map_or(Ok(()), |manifest| manifest.check_output(dir, name, content))
        };
        check(CONFIG, &content)?;
        let config: LensConfig = serde_json::from_value(json).map_err(|e| bad(e.to_string()))?;
        let pt_only = !ours || (config.kind == LensKind::Tuned && !dir.join(PARAMS).exists());
        let name = if pt_only && dir.join(PARAMS_PT).exists() { PARAMS_PT } else { PARAMS };
        let file = dir.join(name);
        let content = fs::read(&file).map_err(|e| ArtifactError::io(&file, e))?;
        check(name, &content)?;
        let tensors = if name == PARAMS_PT {
            if !config.fits_package() {
                return Err(ArtifactError::Config {
                    path: file,
                    reason: "a lens of this kind has no such file".into(),
                });
            }
            params_pt::decode(&file, &config, &content)?
        } else if ours {
            tensors::decode(&file, &content)?
        } else {
            let missing = io::Error::from(io::ErrorKind::NotFound);
            return Err(ArtifactError::io(&dir.join(PARAMS_PT), missing));
        };
        tensors::check_finite(&file, &tensors)?;
        let checked = manifest.is_some_and(|manifest| manifest.outputs.is_some());
        Ok(Self { dir: dir.to_owned(), config, tensors, checked })
    }

    /// Writes a lens, over an older one if there is one. Every file is whole or absent, and `config.json` goes first
    /// and comes last, so that a folder with it is always one lens.
    ///
    /// # Errors
    /// When `config` contradicts itself, a tensor is not finite or does not fit `params.pt`, or a file cannot be
    /// written.
    pub fn write(
        dir: &Path,
        config: &LensConfig,
        tensors: &BTreeMap<String, Tensor>,
    ) -> Result<(), ArtifactError> {
        let path = |name| dir.join(name);
        let bad = |reason| ArtifactError::Config { path: path(CONFIG), reason };
        config.validate().map_err(bad)?;
        tensors::check_finite(&path(PARAMS), tensors)?;
        let safe = tensors::encode(&path(PARAMS), tensors)?;
        let package = if config.fits_package() {
            Some(params_pt::encode(&path(PARAMS_PT), config, tensors)?)
        } else {
            None
        };
        let mut json = serde_json::to_vec_pretty(config).map_err(|e| bad(e.to_string()))?;
        json.push(b'\n');
        remove(&path(CONFIG))?;
        match package {
            Some(bytes) => put(&path(PARAMS_PT), &bytes)?,
            None => remove(&path(PARAMS_PT))?,
        }
        put(&path(PARAMS), &safe)?;
        put(&path(CONFIG), &json)
    }
}

/// Whether a `config.json` has nothing but plain values, as the package's.
fn is_flat(json: &Value) -> bool {
    json.as_object().is_some_and(|keys| !keys.values().any(|value| value.is_object() || value.is_array()))
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), ArtifactError> {
    write_atomic(path, |f| f.write_all(bytes).map_err(|e| RunError::io("write", path, e)))?;
    Ok(())
}

/// Removes a file; that there is none is fine.
fn remove(path: &Path) -> Result<(), ArtifactError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(RunError::io("remove", path, e).into()),
        _ => Ok(()),
    }
}

/// SHA-256 of a lens folder: of the list of its files' names and SHA-256s, for manifests.
///
/// # Errors
/// When there is no `config.json`, or a file cannot be read.
pub fn lens_sha256(dir: &Path) -> Result<String, ArtifactError> {
    let mut list = String::new();
    for name in [CONFIG, PARAMS, PARAMS_PT] {
        let path = dir.join(name);
        match sha256_file(&path, &|_| ()) {
            Ok(hash) => list.extend([hash.as_str(), "  ", name, "\n"]),
            Err(e) if e.kind() == io::ErrorKind::NotFound && name != CONFIG => {}
            Err(e) => return Err(ArtifactError::io(&path, e)),
        }
    }
    Ok(sha256(list.as_bytes()))
}

#[cfg(test)]
pub(super) mod tests {
    use layerscope_lenses::{Affine, LayerIndex};
    use serde_json::json;
    use tch::Device;

    use super::super::{ModelRef, load, tuned_tensors};
    use super::*;
    use crate::results::run::RunDir;

    pub(in super::super) fn config() -> LensConfig {
        LensConfig {
            kind: LensKind::Tuned,
            site: "resid_pre".into(),
            model: ModelRef { name: "toy".into(), sha256: Some("11".into()) },
            d_model: 3,
            n_layers: 2,
            unembed_sha256: Some("22".into()),
            tokenizer_sha256: None,
            layers: vec![0, 1],
            horizons: vec![1],
            details: json!({"steps": 7}),
        }
    }

    fn params(layers: &[usize]) -> BTreeMap<String, Tensor> {
        let map = |i: &usize| {
            let mut map = Affine::identity(3, Device::Cpu);
            let _same = map.weight.fill_(*i as f64 + 0.5);
            (LayerIndex(*i), map)
        };
        tuned_tensors(&layers.iter().map(map).collect())
    }

    fn json_of(dir: &Path) -> Value {
        serde_json::from_slice(&fs::read(dir.join(CONFIG)).unwrap()).unwrap()
    }

    #[test]
    fn a_tuned_lens_comes_back_from_either_file() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        LensFolder::write(dir, &config(), &params(&[0, 1])).unwrap();
        let hash = lens_sha256(dir).unwrap();
        for file in [PARAMS, PARAMS_PT] {
            let read = LensFolder::read(dir).unwrap();
            assert_eq!(read.config, config());
            assert_eq!(read.tensors, params(&[0, 1]));
            assert_eq!(load(dir, "mine", tch::Device::Cpu).unwrap()[0].name(), "mine");
            fs::remove_file(dir.join(file)).unwrap();
        }
        let says = LensFolder::read(dir).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(says.contains("params.safetensors: No such file"), "{says}");
        assert_ne!(lens_sha256(dir).unwrap(), hash);
        LensFolder::write(dir, &config(), &params(&[0, 1])).unwrap();
        assert_eq!(lens_sha256(dir).unwrap(), hash, "the same lens, the same bytes");
    }

    #[test]
    fn the_package_finds_its_keys_and_no_others_but_one() {
        let dir = tempfile::tempdir().unwrap();
        LensFolder::write(dir.path(), &config(), &params(&[0, 1])).unwrap();
        let mut json = json_of(dir.path());
        let own = json.as_object_mut().unwrap().remove("layerscope").unwrap();
        let package = json!({
            "base_model_name_or_path": "toy", "d_model": 3, "num_hidden_layers": 2, "bias": true,
            "base_model_revision": null, "unembed_hash": null, "lens_type": "linear_tuned_lens"
        });
        assert_eq!(json, package);
        assert_eq!((&own["format_version"], &own["kind"]), (&json!(1), &json!("tuned")));
        // Saved again by the package: its file counts, ours is old.
        fs::write(dir.path().join(CONFIG), package.to_string()).unwrap();
        let read = LensFolder::read(dir.path()).unwrap();
        assert_eq!((read.config.unembed_sha256, read.config.layers), (None, vec![0, 1]));
        fs::remove_file(dir.path().join(PARAMS_PT)).unwrap();
        assert!(LensFolder::read(dir.path()).unwrap_err().to_string().contains(PARAMS_PT));
    }

    /// What `lens fit` leaves behind.
    fn fitted(dir: &Path) {
        let owns: crate::results::run::Owns =
            &|p| [CONFIG, PARAMS, PARAMS_PT].iter().any(|name| p == Path::new(name));
        let run = RunDir::start(dir, Manifest::new("lens fit"), false, owns).unwrap();
        LensFolder::write(dir, &config(), &params(&[0, 1])).unwrap();
        assert!(LensFolder::read(dir).unwrap_err().to_string().contains("is unfinished"));
        run.finish(crate::results::run::Counts::default(), None).unwrap();
    }

    #[test]
    fn a_fitted_lens_is_read_as_it_was_written_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fitted(dir);
        assert!(LensFolder::read(dir).unwrap().checked);
        let mut refused = 0;
        for file in [CONFIG, PARAMS, crate::results::run::MANIFEST] {
            let whole = fs::read(dir.join(file)).unwrap();
            for bit in (0..8 * whole.len()).step_by(7) {
                let mut content = whole.clone();
                content[bit / 8] ^= 1 << (bit % 8);
                fs::write(dir.join(file), content).unwrap();
                match LensFolder::read(dir) {
                    Ok(read) => {
                        assert_eq!(
                            file,
                            crate::results::run::MANIFEST,
                            "bit {bit}: only a manifest may lose a check"
                        );
                        assert_eq!((read.config, read.tensors), (config(), params(&[0, 1])));
                    }
                    Err(e) => {
                        assert!(e.to_string().contains(file), "{file}, bit {bit}: {e}");
                        refused += 1;
                    }
                }
            }
            fs::write(dir.join(file), whole).unwrap();
        }
        assert!(refused > 1000, "{refused}");
        // The package's save takes the place of ours, and is not what the manifest is of.
        let package = json!({"base_model_name_or_path": "toy", "d_model": 3, "num_hidden_layers": 2});
        fs::write(dir.join(CONFIG), package.to_string()).unwrap();
        assert!(!LensFolder::read(dir).unwrap().checked);
    }

    #[test]
    fn what_the_package_cannot_hold_is_not_offered_to_it() {
        let dir = tempfile::tempdir().unwrap();
        LensFolder::write(dir.path(), &config(), &params(&[0, 1])).unwrap();
        let some = LensConfig { layers: vec![1], ..config() };
        LensFolder::write(dir.path(), &some, &params(&[1])).unwrap();
        assert!(!dir.path().join(PARAMS_PT).exists());
        assert!(json_of(dir.path()).get("lens_type").is_none());
        assert_eq!(LensFolder::read(dir.path()).unwrap().config, some);
        let shared = LensConfig { kind: LensKind::Shared, ..config() };
        let tensors = BTreeMap::from([("shared.weight".to_owned(), Tensor::from_slice(&[1f32]))]);
        LensFolder::write(dir.path(), &shared, &tensors).unwrap();
        assert_eq!(LensFolder::read(dir.path()).unwrap().tensors, tensors);
        let message = load(dir.path(), "x", tch::Device::Cpu).err().unwrap().to_string();
        assert!(message.contains("details.rungs"), "{message}");
    }

    #[test]
    fn nothing_wrong_is_written_or_read() {
        let dir = tempfile::tempdir().unwrap();
        let write = |config: &LensConfig, tensors: &BTreeMap<String, Tensor>| {
            LensFolder::write(dir.path(), config, tensors).unwrap_err().to_string()
        };
        assert!(write(&config(), &params(&[0])).contains("\"layer.1.weight\" is missing"));
        let mut nan = params(&[0, 1]);
        let _same = nan.get_mut("layer.1.bias").unwrap().fill_(f64::NAN);
        assert!(write(&config(), &nan).contains("\"layer.1.bias\" holds a NaN"));
        for layers in [vec![], vec![1, 0], vec![0, 3]] {
            assert!(write(&LensConfig { layers, ..config() }, &params(&[0, 1])).contains("layer"));
        }
        assert!(!dir.path().join(CONFIG).exists());
        LensFolder::write(dir.path(), &config(), &params(&[0, 1])).unwrap();
        let good = json_of(dir.path());
        for (key, value) in [
            ("bias", json!(false)),
            ("lens_type", json!("mlp")),
            ("d_model", json!(-1)),
            ("num_hidden_layers", json!(1e9 as u64)),
            ("layerscope", json!({"format_version": 2})),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            fs::write(dir.path().join(CONFIG), bad.to_string()).unwrap();
            assert!(LensFolder::read(dir.path()).is_err(), "{key}");
        }
        fs::write(dir.path().join(CONFIG), good.to_string()).unwrap();
        for file in [PARAMS, PARAMS_PT] {
            let whole = fs::read(dir.path().join(file)).unwrap();
            fs::write(dir.path().join(file), &whole[..whole.len() - 3]).unwrap();
            assert!(LensFolder::read(dir.path()).unwrap_err().to_string().contains(file));
            fs::remove_file(dir.path().join(file)).unwrap();
        }
    }
}
