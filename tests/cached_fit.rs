//! `lens fit --activations`: an export stands for the text and its forward passes.

use std::{collections::BTreeMap, path::Path};

use layerscope::results::run::{Manifest, MetricRow, read_metrics};

use crate::cli::{end, layerscope, path, refuse_all, words};
use crate::lens_cli::{events, lens, llama, stories, validations};
use crate::properties::fixture;

fn export(out: &Path, extra: &str) {
    let mut command = layerscope();
    command.args(["export", "--quiet", "--model", &llama(), "--data", &stories(), "--out"]).arg(out);
    let ended = end(command.args(words("--tokens 3000")).args(words(extra)));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}

fn cached(export: &Path, out: &Path, extra: &str) -> std::process::Command {
    let mut command = layerscope();
    command.args(["lens", "fit", "--quiet", "--threads", "1", "--model", &llama(), "--activations"]);
    command.arg(export).arg("--out").arg(out).args(words(extra));
    command
}

#[test]
fn a_fit_from_an_export_is_the_fit_from_its_text() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    export(&at("states"), "--hooks resid_pre --shard-mb 1 --format npy");
    let short = "--tokens 3000 --step-tokens 256 --batch-tokens 512";
    for kind in ["tuned", "future --horizons 2", "linear --target 4"] {
        let extra = format!("--kind {kind} {short}");
        let (text, states) = (at("text"), at("cached"));
        let from_text = events(&mut lens("fit", &llama(), &stories(), &text, &extra));
        let from_states = events(&mut cached(&at("states"), &states, &extra));
        for target in ["tuned", "linear", "horizon 1", "horizon 2"] {
            let (a, b) = (validations(&from_text, target), validations(&from_states, target));
            assert_eq!(a.len(), b.len(), "{kind}");
            assert!(!a.is_empty() || !kind.starts_with(&target[..4]), "{kind}");
            // The same windows, steps and order; the states differ by f32 rounding of other batches. (Parameters differ
            // more: where states hardly vary, they hardly matter.)
            for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
                assert!((a - b).abs() < 1e-3, "{kind}, {target}: {a} and {b}");
            }
        }
        std::fs::remove_dir_all(&text).unwrap();
        let left: Vec<_> = std::fs::read_dir(&states).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().contains("tmp")), "{left:?}");
        std::fs::remove_dir_all(&states).unwrap();
    }
}

#[test]
fn an_export_that_cannot_stand_for_the_text_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    export(&at("last"), "--hooks resid_pre --positions last");
    export(&at("packed"), "--hooks resid_pre --pack");
    export(&at("few"), "--hooks resid_pre --layers 0-4");
    let case = |model: &str, export: &str, extra: &str, code: i32, says: &[&str]| {
        let out = path(at("out"));
        let mut args = words("lens fit --kind tuned --step-tokens 256 --model");
        args.extend([model.into(), "--activations".into(), path(at(export)), "--out".into(), out]);
        args.extend(words(extra));
        (args, code, says.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    };
    refuse_all(&[
        case(&llama(), "last", "", 2, &["--positions last"]),
        case(&llama(), "packed", "", 2, &["--pack"]),
        case(&llama(), "nothing", "", 2, &["nothing", "is not an activation export"]),
        case(&path(fixture("gpt2-alice-8l")), "few", "", 3, &["another model"]),
        case(&llama(), "few", "--seq-len 64", 2, &["--seq-len", "--activations"]),
    ]);
    let ended = end(&mut cached(&at("few"), &at("out"), "--kind tuned --step-tokens 256"));
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("no activations of hook resid_pre, layer 5"), "{}", ended.err);
}

/// Every number of a run, by what it is of.
fn numbers(run: &Path) -> BTreeMap<String, f64> {
    let rows = read_metrics(run).unwrap();
    let name = |row: &MetricRow| {
        let (source, horizon) = (row.source_layer, row.horizon);
        format!(
            "{} {:?} {} {source:?} {horizon:?} {} {}",
            row.subject, row.kind, row.layer, row.metric, row.unit
        )
    };
    let all: BTreeMap<String, f64> = rows.iter().map(|row| (name(row), row.estimate)).collect();
    assert_eq!(all.len(), rows.len(), "two rows are of the same");
    all
}

fn agree(text: &Path, states: &Path, rows: usize) {
    let (a, b) = (numbers(text), numbers(states));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    assert!(a.len() > rows, "{}", a.len());
    for (name, a) in &a {
        let b = b[name];
        // Sums of f32 products in batches of other sizes: 1e-6 a state, which scores repeat.
        assert!((a - b).abs() < 1e-4 * a.abs().max(1.0), "{name}: {a} and {b}");
    }
}

#[test]
fn an_evaluation_and_a_transfer_from_an_export_are_those_of_the_text() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    export(&at("states"), "--hooks resid_pre --shard-mb 1 --format safetensors --seq-len 96");
    let short = "--kind tuned --tokens 3000 --step-tokens 256 --batch-tokens 512";
    assert_eq!(end(&mut lens("fit", &llama(), &stories(), &at("tuned"), short)).code, Some(0));
    let lens_dir = path(at("tuned"));
    for (command, extra, rows) in [
        ("eval", format!("--lens logit --lens {lens_dir} --replicates 50"), 100),
        ("transfer", format!("--lens {lens_dir} --layers 0,3,5 --no-corrections --replicates 50"), 30),
    ] {
        let (text, states) = (at("text"), at("out"));
        let whole = format!("{extra} --tokens 3000 --seq-len 96");
        let ended = end(&mut lens(command, &llama(), &stories(), &text, &whole));
        assert_eq!(ended.code, Some(0), "{command}: {}", ended.err);
        let mut command = layerscope();
        command.args(["lens", if rows == 100 { "eval" } else { "transfer" }, "--quiet", "--model", &llama()]);
        command.arg("--activations").arg(at("states")).arg("--out").arg(&states).args(words(&extra));
        let ended = end(&mut command);
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        agree(&text, &states, rows);
        let (a, b) = (Manifest::read(&text).unwrap().unwrap(), Manifest::read(&states).unwrap().unwrap());
        assert_eq!((a.counts, &a.data, &a.bos), (b.counts, &b.data, &b.bos));
        assert_eq!(b.config["activations"].as_str().unwrap().len(), 64);
        assert_eq!(a.leakage, b.leakage, "what the lens was fitted on is found in either");
        std::fs::remove_dir_all(&text).unwrap();
        std::fs::remove_dir_all(&states).unwrap();
    }
}

#[test]
fn an_export_that_a_lens_cannot_be_measured_on_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    export(&at("last"), "--hooks resid_pre --positions last");
    export(&at("few"), "--hooks resid_pre --layers 0-4");
    let case = |model: &str, export: &str, extra: &str, code: i32, says: &[&str]| {
        let mut args = words("lens eval --lens logit --model");
        args.extend([model.into(), "--activations".into(), path(at(export))]);
        args.extend(["--out".into(), path(at("out"))]);
        args.extend(words(extra));
        (args, code, says.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    };
    refuse_all(&[
        case(&llama(), "last", "", 2, &["--positions last"]),
        case(&path(fixture("gpt2-alice-8l")), "few", "", 3, &["another model"]),
        case(&llama(), "few", "", 2, &["no activations of hook resid_pre, layer 5", "resid_pre 4"]),
        // The model's own prediction comes from the last layer.
        case(&llama(), "few", "--layers 1,2", 2, &["no activations of hook resid_pre, layer 6"]),
        case(&llama(), "few", "--positions user", 2, &["--positions", "--activations"]),
    ]);
    assert!(!at("out").exists());
}
