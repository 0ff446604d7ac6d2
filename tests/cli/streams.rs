//! What becomes of a command whose output nobody takes, and of one that panics.

use std::{fs::File, process::Stdio};

use layerscope::results::run::{Manifest, Status};

use super::{end, gpt2, layerscope, path, run, words};

fn export(out: &str) -> Vec<String> {
    let data = path(super::fixture("stories.jsonl"));
    let mut args = words("export --tokens 300 --layers 0 --model");
    args.extend([gpt2(), "--data".into(), data, "--out".into(), out.to_owned()]);
    args
}

fn status(out: &std::path::Path) -> Status {
    Manifest::read(out).unwrap().expect("a manifest is there").status
}

#[test]
#[cfg(unix)]
fn no_run_is_lost_over_a_stderr_that_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ended = |name: &str, shell: &str| {
        let out = dir.path().join(name);
        let mut command = std::process::Command::new("sh");
        let line = format!("\"$0\" \"$@\" {shell}");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_layerscope")]).args(export(&path(&out)));
        command.env("HF_HUB_OFFLINE", "1").env("OMP_WAIT_POLICY", "PASSIVE").stdin(Stdio::null());
        let ended = end(&mut command);
        assert!(!ended.err.contains("panicked"), "{shell}: {ended:?}");
        assert_eq!(status(&out), Status::Complete, "{shell}: {ended:?}");
        ended
    };
    assert_eq!(ended("closed", "2>&-").code, Some(0));
    if std::path::Path::new("/dev/full").exists() {
        assert_eq!(ended("full", "2>/dev/full").code, Some(0));
    }
    // `head` ends with its first line, which is a note; every later write fails.
    assert_eq!(ended("piped", "2>&1 | head -n 1").code, Some(0));
    // A usage error that nobody hears is still one.
    let mut command = layerscope();
    command.args(["view", "--model"]).arg(gpt2());
    if let Ok(full) = File::options().write(true).open("/dev/full") {
        assert_eq!(command.stderr(full).status().unwrap().code(), Some(2));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_stdout_is_named() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let model = gpt2();
    let rows: [&[&str]; 6] = [
        &["info", "--model", &model],
        &["info", "--json", "--model", &model],
        &["view", "--quiet", "--model", &model, "--text", "Alice was"],
        &["generate", "--quiet", "--model", &model, "--text", "Alice was", "--max-new-tokens", "2"],
        &["completions", "bash"],
        &["--help"],
    ];
    for args in rows {
        let output = layerscope().args(args).stdout(full()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("error: stdout: No space left on device"), "{args:?}: {said}");
    }
}

#[test]
#[cfg(unix)]
fn a_reader_who_has_seen_enough_is_no_error() {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "\"$0\" completions bash | head -n 1", env!("CARGO_BIN_EXE_layerscope")]);
    let ended = end(&mut command);
    assert!(ended.code == Some(0) && ended.err.is_empty() && ended.out.lines().count() == 1, "{ended:?}");
}

#[test]
fn a_panic_is_a_line_and_exit_code_70() {
    for (place, says) in [
        ("main", "src/cli/fault.rs"),
        ("worker", "on purpose, in a worker"),
        ("thread", "on purpose, in a thread"),
        ("cleanup", "on purpose, before cleaning up; then src/cli/fault.rs"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("a run");
        let ended = run(&["fault", place, "--out", &path(&out)]);
        assert_eq!((ended.code, ended.out.as_str()), (Some(70), ""), "{place}: {ended:?}");
        assert_eq!(ended.err.lines().count(), 1, "{place}: {}", ended.err);
        let line = format!("error: layerscope {} stopped at a fault of its own", env!("CARGO_PKG_VERSION"));
        assert!(ended.err.starts_with(&line) && ended.err.contains("please report it"), "{}", ended.err);
        assert!(ended.err.contains(says), "{place}: {}", ended.err);
        let command = format!("fault {place} --out '{}'", out.display());
        assert!(ended.err.contains(&command), "{place}: {}", ended.err);
        assert_eq!(status(&out), Status::Running, "{place}: a run in the making stays as it is");
    }
    let ended = run(&["fault", "main"]);
    assert!(ended.err.contains("on purpose,") && !ended.err.contains("in the main thread"), "{}", ended.err);
}

#[test]
fn a_panic_that_is_caught_is_none() {
    let ended = run(&["fault", "caught"]);
    assert!(ended.code == Some(0) && ended.err.is_empty(), "{ended:?}");
}

#[test]
fn a_trace_is_there_for_the_asking() {
    let ended = end(layerscope().args(["fault", "main"]).env("RUST_BACKTRACE", "1"));
    assert_eq!(ended.code, Some(70));
    assert!(ended.err.contains("stack backtrace") && ended.err.contains("please report it"), "{}", ended.err);
}
