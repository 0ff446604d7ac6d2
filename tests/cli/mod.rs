//! The command line from the outside: streams, exit codes, files.

mod basics;
mod convert;
mod export;
mod generate;
mod import;
mod resume;
mod schedule;
mod snapshots;
mod streams;
mod transfer;
mod verify;
mod view;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;

pub(crate) use crate::properties::fixture;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The binary, deaf to the caller's settings and never on the network.
pub(crate) fn layerscope() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layerscope"));
    for name in ["NO_COLOR", "COLORTERM", "RUST_BACKTRACE", "HF_TOKEN", "HF_HUB_CACHE", "COLUMNS"] {
        command.env_remove(name);
    }
    command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", "/nonexistent").env("TERM", "xterm-256color");
    // Many short processes at once: threads that spin while they wait only take time from each other.
    command.env("OMP_WAIT_POLICY", "PASSIVE").stdin(Stdio::null());
    command
}

pub(crate) fn end(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

pub(crate) fn run(args: &[impl AsRef<OsStr>]) -> Ended {
    end(layerscope().args(args))
}

/// Runs a command that must succeed; returns its stdout.
pub(crate) fn succeed(args: &[impl AsRef<OsStr> + std::fmt::Debug]) -> String {
    let ended = run(args);
    assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.err);
    ended.out
}

/// As [`succeed`], with bytes on stdin.
pub(crate) fn succeed_with(args: &[&str], stdin: &[u8]) -> String {
    let mut child = layerscope()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The last line of NDJSON, which must be the one `result`.
pub(crate) fn result(out: &str) -> Value {
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let results = events.iter().filter(|event| event["event"] == "result").count();
    let last = events.last().unwrap().clone();
    assert_eq!((results, &last["event"]), (1, &Value::from("result")), "{out}");
    last
}

/// Runs a command that must fail with `code` and one line on stderr that holds every one of `says`; else, what is
/// wrong.
pub(crate) fn refusal(command: &mut Command, code: i32, says: &[&str]) -> Option<String> {
    let ended = end(command);
    let mut lines: Vec<_> = ended.err.lines().collect();
    // clap adds the possible values and where to find help, after an empty line or indented.
    if ended.err.contains("For more information, try '--help'.") {
        lines.truncate(1);
    }
    let one = lines.len() == 1 && lines[0].starts_with("error: ");
    let clean = !ended.err.chars().any(|c| c.is_control() && c != '\n') && !ended.err.contains("panicked");
    let said = says.iter().all(|s| ended.err.contains(s));
    let good = ended.code == Some(code) && one && clean && said && ended.out.is_empty();
    (!good).then(|| format!("expected exit {code} and {says:?}, got {ended:?}"))
}

/// Runs `refusal` on every row (arguments, exit code, words) and fails with all that is wrong.
pub(crate) fn refuse_all(rows: &[(Vec<String>, i32, Vec<String>)]) {
    let bad: Vec<String> = rows
        .iter()
        .filter_map(|(args, code, says)| {
            let says: Vec<&str> = says.iter().map(String::as_str).collect();
            refusal(layerscope().args(args).arg("--quiet"), *code, &says)
                .map(|why| format!("{args:?}: {why}"))
        })
        .collect();
    assert!(bad.is_empty(), "{} of {}:\n{}", bad.len(), rows.len(), bad.join("\n"));
}

pub(crate) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

pub(crate) fn path(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}

pub(crate) fn gpt2() -> String {
    path(fixture("gpt2-alice-8l"))
}

/// A copy of a tiny model with a tokenizer of 61 words `w0` … `w60`.
pub(crate) fn tiny(family: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fixture("families").join(family).read_dir().unwrap() {
        let from = entry.unwrap().path();
        let name = from.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("reference") {
            std::fs::copy(&from, dir.path().join(name)).unwrap();
        }
    }
    write_tokenizer(dir.path(), 61);
    dir
}

pub(crate) fn write_tokenizer(dir: &Path, words: usize) {
    let vocab: BTreeMap<String, usize> = (0..words).map(|i| (format!("w{i}"), i)).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "w0" },
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

pub(crate) fn edit_config(dir: &Path, key: &str, value: Value) {
    let file = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    config[key] = value;
    std::fs::write(file, config.to_string()).unwrap();
}

/// A tensor of a file: type, shape, bytes.
pub(crate) type Stored = (Dtype, Vec<usize>, Vec<u8>);

/// Reads a safetensors file, changes it, writes it.
pub(crate) fn rewrite(from: &Path, to: &Path, change: impl FnOnce(&mut BTreeMap<String, Stored>)) {
    let bytes = std::fs::read(from).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let stored = |v: &TensorView<'_>| (v.dtype(), v.shape().to_vec(), v.data().to_vec());
    let mut tensors = file.tensors().iter().map(|(name, v)| (name.clone(), stored(v))).collect();
    change(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    std::fs::write(to, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Every file under `root`, by relative path.
pub(crate) fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for path in folder.read_dir().unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(root).unwrap().to_path_buf(), std::fs::read(&path).unwrap());
            }
        }
    }
    files
}
