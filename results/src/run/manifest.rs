//! `manifest.json`: who made these files, from what, and whether they are all there.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Leakage;
use super::outputs::{Outputs, stay_inside};
use super::{Compute, RunError, write_atomic};
use crate::hash::sha256;

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";
/// The last key of a manifest: all that stands before it is what it vouches for.
const SEAL: &str = "\"manifest_sha256\": \"";
/// Raised when an older reader could misread a newer run directory.
pub const FORMAT_VERSION: u32 = 1;

/// The version of libtorch that this program is built for, as scripts/bootstrap.py pins it.
pub const LIBTORCH: &str = "2.11.0";

/// Everything needed to know, and to repeat, a run. Holds no time stamp, so that a repeated run gives the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Layout of the run directory, [`FORMAT_VERSION`].
    pub format_version: u32,
    /// What made the run: `export`, `eval`, `fit` …
    pub kind: String,
    /// `running` until the last file is in place.
    pub status: Status,
    /// SHA-256 over everything that determines the content; filled in by [`super::RunDir::start`].
    pub job: String,
    /// This program.
    pub tool: Tool,
    /// Version of libtorch.
    pub libtorch: String,
    /// The command line of the run that wrote this manifest.
    pub argv: Vec<String>,
    /// The job as it was asked for, every setting with its value: what runs it again. Not part of the job's identity,
    /// which is `config` and the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Value>,
    /// Resolved settings that determine the content. Part of the job.
    pub config: Value,
    /// Resolved settings that do not (threads, verbosity). Not part of the job.
    #[serde(default)]
    pub runtime: Value,
    /// The model.
    pub model: Option<ModelRecord>,
    /// SHA-256 of the tokenizer file.
    pub tokenizer_sha256: Option<String>,
    /// Lenses used.
    #[serde(default)]
    pub lenses: Vec<LensRecord>,
    /// What was done about a beginning-of-sequence token.
    pub bos: Option<BosRecord>,
    /// What the text of chats depends on: the template, its options and the day; none where there were no chats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<Value>,
    /// Dtype of the forward pass: `f32`, `bf16`, `f16`.
    pub dtype: String,
    /// Device: `cpu`, `cuda:0`.
    pub device: String,
    /// Seed of every random draw.
    pub seed: u64,
    /// Input files in reading order.
    pub data: Vec<DataFile>,
    /// What the job's own reader needs to find its files (an export keeps its `store::Layout` here). Part of the job.
    pub layout: Option<Value>,
    /// Totals; zeros while running. Not part of the job.
    #[serde(default)]
    pub counts: Counts,
    /// Outcome of a parity check where there was one. Not part of the job.
    pub parity: Option<Value>,
    /// Whether lenses and probes were measured on what they were fitted on. Not part of the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leakage: Vec<Leakage>,
    /// What the numbers were computed with; none where nothing was. Part of the job, see [`super::RunDir::claim`].
    #[serde(default)]
    pub compute: Option<Compute>,
    /// Every file of a complete run; none in manifests from before there were checksums. Not part of the job.
    #[serde(default)]
    pub outputs: Option<Outputs>,
    /// SHA-256 of the manifest up to this key; filled in by [`Manifest::write`].
    #[serde(default)]
    pub manifest_sha256: String,
}

/// Whether all files of a run are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Started, not finished: repeat the command to go on.
    Running,
    /// Every file is in place.
    Complete,
}

/// Name and version of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Tool {
    pub name: String,
    pub version: String,
}

impl Default for Tool {
    fn default() -> Self {
        Self { name: "layerscope".into(), version: env!("CARGO_PKG_VERSION").into() }
    }
}

/// The model's place, family and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ModelRecord {
    pub path: String,
    pub family: String,
    pub sha256: String,
    /// Tensors by the type that they are stored in, where some had to be made into floats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Value>,
}

/// A lens's name and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LensRecord {
    pub name: String,
    pub sha256: String,
}

/// What was done about a beginning-of-sequence token, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct BosRecord {
    pub policy: String,
    pub id: Option<u32>,
    /// Every id put in front, where these are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefix: Vec<u32>,
    pub token: Option<String>,
    pub reason: String,
}

/// One input file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct DataFile {
    pub path: String,
    pub sha256: String,
    pub bytes: u64,
}

/// Totals of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Documents read, empty ones included.
    pub documents: u64,
    /// Documents without a token.
    pub empty_documents: u64,
    /// Tokens run through the model.
    pub tokens: u64,
    /// Bytes of text behind those tokens.
    pub text_bytes: u64,
    /// Rows written.
    pub rows: u64,
}

impl Manifest {
    /// A manifest with nothing but the kind filled in; set the public fields from there.
    pub fn new(kind: &str) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            kind: kind.into(),
            status: Status::Running,
            job: String::new(),
            tool: Tool::default(),
            libtorch: LIBTORCH.into(),
            argv: Vec::new(),
            request: None,
            config: Value::Null,
            runtime: Value::Null,
            model: None,
            tokenizer_sha256: None,
            lenses: Vec::new(),
            bos: None,
            chat: None,
            dtype: String::new(),
            device: String::new(),
            seed: 0,
            data: Vec::new(),
            layout: None,
            counts: Counts::default(),
            parity: None,
            leakage: Vec::new(),
            compute: None,
            outputs: Some(Outputs::new()),
            manifest_sha256: String::new(),
        }
    }

    /// Makes the number of threads part of what the run is computed with: see [`Compute::threads`].
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        if let Some(compute) = &mut self.compute {
            compute.threads = Some(threads);
        }
        self
    }

    /// Reads `dir/manifest.json`; `None` if there is none.
    ///
    /// # Errors
    /// [`RunError::BadManifest`] if it is damaged, was changed, or is of a newer format.
    pub fn read(dir: &Path) -> Result<Option<Self>, RunError> {
        let path = dir.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(RunError::io("read", &path, e)),
        };
        let bad = |reason: String| RunError::BadManifest { path: path.clone(), reason };
        let manifest = Self::parse(&bytes).map_err(bad)?;
        if let Some(outputs) = &manifest.outputs {
            check_seal(&bytes, &manifest.manifest_sha256).map_err(bad)?;
            if !stay_inside(outputs) {
                return Err(bad("it lists files outside of its folder".into()));
            }
        }
        Ok(Some(manifest))
    }

    /// What a manifest says, whether or not it was changed since it was written.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|e| format!("not JSON: {e}"))?;
        let version = value.get("format_version").and_then(Value::as_u64);
        if version.is_some_and(|v| v > u64::from(FORMAT_VERSION)) {
            return Err(format!(
                "format version {version:?} is newer than {FORMAT_VERSION}; use a newer layerscope"
            ));
        }
        serde_json::from_value(value).map_err(|e| format!("not a manifest of layerscope: {e}"))
    }

    /// Writes `dir/manifest.json`, whole or not at all.
    ///
    /// # Errors
    /// [`RunError`] naming the file.
    pub fn write(&self, dir: &Path) -> Result<(), RunError> {
        let path = dir.join(MANIFEST);
        let text = self.text().map_err(|reason| RunError::BadManifest { path: path.clone(), reason })?;
        write_atomic(&path, |f| f.write_all(text.as_bytes()).map_err(|e| RunError::io("write", &path, e)))?;
        Ok(())
    }

    /// The file's content.
    fn text(&self) -> Result<String, String> {
        let unsealed = Self { manifest_sha256: String::new(), ..self.clone() };
        let text = serde_json::to_string_pretty(&unsealed).map_err(|e| e.to_string())?;
        let at = text.rfind(SEAL).ok_or("it cannot be sealed")? + SEAL.len();
        let (before, after) = text.split_at(at);
        Ok(format!("{before}{}{after}\n", sha256(before.as_bytes())))
    }

    /// The manifest as it will be read: a number such as 0.1 may lose its last bit on the way through JSON.
    pub(super) fn as_read(&self) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(&serde_json::to_vec(self)?)
    }

    /// Every setting that determines the content, as (dotted name, value), in a fixed order.
    pub fn job_settings(&self) -> Vec<(String, Value)> {
        let mut out = Vec::new();
        if let Ok(Value::Object(fields)) = serde_json::to_value(self) {
            let not_content = [
                "status",
                "job",
                "argv",
                "request",
                "runtime",
                "counts",
                "parity",
                "leakage",
                "outputs",
                "manifest_sha256",
            ];
            for (name, value) in fields.iter().filter(|(name, _)| !not_content.contains(&name.as_str())) {
                flatten(name.clone(), value, &mut out);
            }
        }
        // Where a file lies says nothing about what is in it.
        out.retain(|(name, _)| {
            name != "model.path" && !(name.starts_with("data[") && name.ends_with("].path"))
        });
        if self.compute.is_none() {
            out.retain(|(name, _)| name != "compute"); // nothing was computed, or a manifest from before it said so
        }
        out.sort_by(|a, b| a.0.cmp(&b.0));
        out
    }

    /// SHA-256 over [`Manifest::job_settings`], in hex.
    pub fn job_key(&self) -> String {
        let lines: Vec<_> =
            self.job_settings().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        sha256(lines.concat().as_bytes())
    }
}

/// Whether the text before the seal is what was sealed.
fn check_seal(text: &[u8], seal: &str) -> Result<(), String> {
    let at = text.windows(SEAL.len()).rposition(|some| some == SEAL.as_bytes());
    let found = at.and_then(|at| text.get(..at + SEAL.len())).map(sha256);
    if found.as_deref() == Some(seal) {
        return Ok(());
    }
    let found = found.unwrap_or_default();
    Err(format!(
        "damaged or changed since it was written: its sha256 is {found:.12}…, it says {seal:.12}…; \
         repeat the command that made it, if need be with --force"
    ))
}

fn flatten(name: String, value: &Value, out: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(k, v)| flatten(format!("{name}.{k}"), v, out));
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(i, v)| flatten(format!("{name}[{i}]"), v, out));
        }
        leaf => out.push((name, leaf.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bit_of_a_manifest_changes_unnoticed() {
        let tmp = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::new("lens eval");
        manifest.config = serde_json::json!({ "layers": [0, 4], "rate": 0.1, "text": "tünéd" });
        manifest.seed = 7;
        manifest.write(tmp.path()).unwrap();
        let written = Manifest::read(tmp.path()).unwrap().unwrap();
        assert_eq!(Manifest { manifest_sha256: String::new(), ..written.clone() }, manifest);
        let path = tmp.path().join(MANIFEST);
        let whole = fs::read(&path).unwrap();
        let mut refused = 0;
        for bit in 0..8 * whole.len() {
            let mut text = whole.clone();
            text[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, text).unwrap();
            // A flip in the key `outputs` makes it one from before there were checksums; nothing it says has changed.
            match Manifest::read(tmp.path()) {
                Err(RunError::BadManifest { .. }) => refused += 1,
                Ok(Some(read)) if read.outputs.is_none() => {
                    assert_eq!(Manifest { outputs: written.outputs.clone(), ..read }, written, "bit {bit}");
                }
                Ok(Some(read)) => assert_eq!(read, written, "bit {bit}"), // a blank at the end of the file
                other => panic!("bit {bit}: {other:?}"),
            }
        }
        assert!(refused > 7 * whole.len(), "{refused} of {}", 8 * whole.len());
    }

    #[test]
    fn the_version_of_libtorch_is_the_one_that_is_fetched() {
        let pinned = format!("VERSION = {LIBTORCH:?}");
        assert!(include_str!("../../../scripts/bootstrap.py").lines().any(|line| line == pinned));
    }
}
