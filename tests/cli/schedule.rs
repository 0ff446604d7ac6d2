//! `schedule`: the table, the numbers, refusals.

use layerscope::results::run::{MetricRow, RowKind, read_metrics};
use serde_json::Value;

use super::{fixture, gpt2, path, refuse_all, result, succeed, words};

fn number<'a>(rows: &'a [MetricRow], subject: &str, metric: &str, layer: i32) -> &'a MetricRow {
    let same = |r: &&MetricRow| (r.subject.as_str(), r.metric.as_str(), r.layer) == (subject, metric, layer);
    rows.iter().find(same).unwrap_or_else(|| panic!("{subject} {metric} {layer}"))
}

#[test]
fn schedules_against_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = (gpt2(), path(fixture("stories.jsonl")));
    let run = |name: &str, extra: &[&str]| {
        let out = dir.path().join(name);
        let common =
            ["schedule", "--quiet", "--model", &model, "--data", &data, "--tokens", "600", "--seq-len", "64"];
        let args = [&common, extra, &["--replicates", "50", "--out", out.to_str().unwrap()][..]].concat();
        (succeed(&args), read_metrics(&out).unwrap())
    };
    let (text, rows) =
        run("few", &["--schedule", "0-7", "--schedule", "skip:3", "--schedule", "reverse:2-5"]);
    assert!(text.starts_with("nats and shares") && text.lines().count() == 6, "{text}");
    // The model's own order is the model; every lens reading of it is the logit lens's.
    assert!(number(&rows, "0-7", "kl", 8).estimate.abs() < 1e-6);
    assert_eq!(number(&rows, "0-7", "agreement", 8).estimate, 1.0);
    assert_eq!(number(&rows, "0-7", "ce", 8).estimate, number(&rows, "model", "ce", 8).estimate);
    assert_eq!(number(&rows, "0-7", "kl", 8).kind, RowKind::Schedule);
    assert_eq!(number(&rows, "0-7", "kl", 4).kind, RowKind::Logit);
    let out = dir.path().join("lens");
    let args =
        ["lens", "eval", "--quiet", "--model", &model, "--data", &data, "--tokens", "600", "--seq-len", "64"];
    succeed(
        &[&args[..], &["--lens", "logit", "--replicates", "50", "--out", out.to_str().unwrap()]].concat(),
    );
    let lens = read_metrics(&out).unwrap();
    for layer in 0..8 {
        for metric in ["kl", "ce", "agreement"] {
            let (a, b) = (number(&rows, "0-7", metric, layer), number(&lens, "logit", metric, layer));
            assert!((a.estimate - b.estimate).abs() < 1e-9 && a.n == b.n, "{metric} {layer}");
        }
    }
    // Before the first change nothing is other than in the model; a block that does not run is not read.
    assert_eq!(number(&rows, "skip:3", "kl", 2).estimate, number(&rows, "0-7", "kl", 2).estimate);
    assert!(number(&rows, "skip:3", "kl", 8).estimate > 0.01);
    assert!(!rows.iter().any(|r| r.subject == "skip:3" && r.layer == 3));
    // A lens of its own beside the logit lens: on the model's own order its numbers are those of `lens eval`.
    let tuned = path(fixture("lenses/package-gpt2-alice"));
    let (_, rows_of_two) = run("two", &["--schedule", "0-7", "--schedule", "skip:3", "--lens", &tuned]);
    let out = dir.path().join("tuned");
    succeed(&[&args[..], &["--lens", &tuned, "--replicates", "50", "--out", out.to_str().unwrap()]].concat());
    let lens = read_metrics(&out).unwrap();
    for layer in 0..8 {
        let own = number(&lens, "package-gpt2-alice", "kl", layer);
        let read = number(&rows_of_two, "0-7|package-gpt2-alice", "kl", layer);
        assert!((read.estimate - own.estimate).abs() < 1e-9 && read.kind == own.kind, "{layer}");
    }
    assert_ne!(
        number(&rows_of_two, "skip:3|package-gpt2-alice", "kl", 6).estimate,
        number(&rows_of_two, "0-7|package-gpt2-alice", "kl", 6).estimate
    );
    assert_eq!(number(&rows_of_two, "skip:3", "kl", 8).estimate, number(&rows, "skip:3", "kl", 8).estimate);
    let kl = number(&rows, "reverse:2-5", "kl", 8);
    assert!(kl.lower.unwrap() < kl.estimate && kl.estimate < kl.upper.unwrap() && kl.n_clusters > 1);

    let (json, rows) = run("sets", &["--deletions", "--painters", "--no-readouts", "--json"]);
    let told = result(&json);
    let names: Vec<&str> =
        told["schedules"].as_array().unwrap().iter().map(|s| s["schedule"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 8 + 6);
    assert_eq!(names[..2], ["skip:0", "skip:1"]);
    assert!(rows.iter().all(|r| r.layer == 8));
    assert_eq!(told["schedules"][0]["kl"], Value::from(number(&rows, "skip:0", "kl", 8).estimate));
    let (again, _) = run("sets", &["--deletions", "--painters", "--no-readouts", "--json"]);
    assert_eq!(result(&again), told, "a finished run is read back");
}

#[test]
fn what_cannot_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = path(dir.path().join("out"));
    let row = |extra: &str, says: &[&str]| {
        let data = path(fixture("stories.jsonl"));
        let args = words(&format!("schedule --model {} --data {data} --out {out} {extra}", gpt2()));
        (args, 2, says.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    };
    refuse_all(&[
        row("", &["nothing to run"]),
        row("--schedule 0,8", &["schedule `0,8`", "no block 8; this model's blocks are 0 to 7"]),
        row("--schedule skip:x", &["expected a number at `x`"]),
        row("--painters --margin 4", &["a margin of 4", "of 8 blocks fewer than two"]),
        row("--margin 4", &["--painters"]),
        row("--deletions --layers 9", &["no layer 9"]),
    ]);
    assert!(!std::path::Path::new(&out).exists());
}
