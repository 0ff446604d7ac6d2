//! Jacobian lenses from the outside: fitting, reading, and the files of other tools.

use std::{fs, path::Path};

use layerscope::{
    lens::artifact::LensFolder,
    lenses::LayerIndex,
    results::run::{MetricRow, RowKind, read_metrics},
};
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::cli::{fixture, gpt2, path, refuse_all, result, run, succeed, words};

/// Four prompts of 24 tokens.
const SMALL: &str = "--kind jacobian --n-prompts 4 --seq-len 24";

fn fit(out: &str, more: &str) -> Vec<String> {
    let (model, data) = (gpt2(), fixture("stories.jsonl"));
    words(&format!("lens fit --model {model} --data {} --out {out} {SMALL} {more}", path(data)))
}

fn jacobian(folder: &str, layer: usize) -> Tensor {
    let folder = LensFolder::read(Path::new(folder)).unwrap();
    let mut jacobians = folder.jacobians().unwrap();
    jacobians.remove(&LayerIndex(layer)).unwrap().mean
}

fn largest(t: &Tensor) -> f64 {
    t.abs().max().to_kind(Kind::Double).double_value(&[])
}

#[test]
fn fitted_read_and_carried_to_other_tools() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    let done = result(&succeed(&fit(&at("whole"), "--skip-first 5 --layers 5,7 --json")));
    let layers = done["jacobians"].as_array().unwrap();
    assert_eq!((&layers[1]["layer"], &layers[1]["prompts"]), (&7.into(), &4.into()));
    // What is nearer the end is better known.
    assert!(layers[1]["refit_cosine"].as_f64() > layers[0]["refit_cosine"].as_f64());
    // Every row of a quarter of the prompts: other prompts per row, another mean; the same command, the same bytes.
    let blocks = "--skip-first 5 --layers 5,7 --rows-per-prompt 64 --json";
    let partly = result(&succeed(&fit(&at("blocks"), blocks)));
    assert_eq!(partly["jacobians"][1]["prompts"], 2);
    succeed(&fit(&at("again"), blocks));
    let params = |name: &str| fs::read(dir.path().join(name).join("params.safetensors")).unwrap();
    assert_eq!(params("blocks"), params("again"));
    assert_ne!(params("blocks"), params("whole"));

    let (model, data) = (gpt2(), path(fixture("stories.jsonl")));
    let read = format!(
        "lens eval --model {model} --data {data} --tokens 300 --seq-len 64 --lens {} --layers 5,7 --replicates 20 --quiet --out {}",
        at("whole"),
        at("eval")
    );
    succeed(&words(&read));
    let rows = read_metrics(&dir.path().join("eval")).unwrap();
    let of = |row: &&MetricRow| row.kind == RowKind::Jacobian && row.metric == "kl" && row.unit == "nats";
    assert_eq!(rows.iter().filter(of).count(), 2);

    let carried = format!("convert {} --to jacobian-lens --quiet --json --out {}", at("whole"), at("pt"));
    assert_eq!(result(&succeed(&words(&carried)))["records"], 2);
    let back =
        format!("lens import {}/lens.pt --model {model} --quiet --json --out {}", at("pt"), at("back"));
    let said = result(&succeed(&words(&back)));
    assert_eq!((&said["layers"], &said["prompts"]), (&serde_json::json!([5, 7]), &4.into()));
    for layer in [5, 7] {
        let (own, back) = (jacobian(&at("whole"), layer), jacobian(&at("back"), layer));
        // f16 has eleven bits.
        assert!(largest(&(&back - &own)) < largest(&own) / 2048.0);
    }
    let again = format!("convert {} --to jacobian-lens --quiet --out {}", at("back"), at("pt2"));
    succeed(&words(&again));
    let file = |name: &str| fs::read(dir.path().join(name).join("lens.pt")).unwrap();
    assert_eq!(file("pt"), file("pt2"));
}

#[test]
fn files_of_other_tools_are_read_one_layer_on() {
    let dir = tempfile::tempdir().unwrap();
    let import = |file: &str, out: &str| {
        let (file, out) = (path(fixture("jacobian").join(file)), path(dir.path().join(out)));
        let args = format!("lens import {file} --model {} --out {out} --quiet --json", gpt2());
        (result(&succeed(&words(&args))), jacobian(&out, if file.ends_with("checkpoint.pt") { 5 } else { 6 }))
    };
    let (said, artifact) = import("transformer_lens.pt", "tl");
    assert_eq!((&said["layers"], &said["prompts"]), (&serde_json::json!([6]), &3.into()));
    // What fixtures/jacobian/make.py put there: k mod 97 over 64 along the rows, plus the identity.
    let expected = |row: i64, column: i64| {
        ((row * 128 + column) % 97) as f64 / 64.0 + f64::from(u8::from(row == column))
    };
    for (row, column) in [(0, 0), (3, 3), (17, 90), (127, 1)] {
        assert_eq!(artifact.double_value(&[row, column]), expected(row, column));
    }
    let config: Value =
        serde_json::from_slice(&fs::read(dir.path().join("tl/config.json")).unwrap()).unwrap();
    let details = &config["layerscope"]["details"];
    assert_eq!((&details["target"], &details["rules"]), (&8.into(), &"exact".into()));
    assert_eq!(details["imported"]["about"]["corpus"], serde_json::json!(["a", 0.5, null]));
    // The reference's checkpoints hold sums, here of four prompts.
    let (said, sums) = import("checkpoint.pt", "sums");
    assert_eq!((&said["layers"], sums.double_value(&[17, 90])), (&serde_json::json!([5]), expected(17, 90)));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    let says = |lines: &[&str]| lines.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let row = |more: &str, lines: &[&str]| (fit(&at("no"), more), 2, says(lines));
    let llama = path(fixture("llama-alice-6l"));
    let file = path(fixture("jacobian/transformer_lens.pt"));
    let other = words(&format!("lens import {file} --model {llama} --out {}", at("no")));
    let none = words(&format!(
        "lens import {} --model {} --out {}",
        path(fixture("stories.jsonl")),
        gpt2(),
        at("no")
    ));
    refuse_all(&[
        row("--skip-first 23", &["--skip-first", "24 tokens"]),
        row("--rows-per-prompt 8", &["--n-prompts", "16 are needed"]),
        row("--target 3 --layers 3", &["--layers", "below layer 3"]),
        row("--skip-first 5 --rules relp", &["--rules", "not RMS norms"]),
        row("--site mlp_out", &["--site", "resid_pre"]),
        row("--pack", &["--pack", "one document"]),
        row("--refine", &["--refine", "not trained"]),
        (other, 3, says(&["a lens of 128 dimensions; this model has 96"])),
        (none, 2, says(&["not a whole torch.save file"])),
    ]);
    assert!(!dir.path().join("no").exists());
    let tuned = run(&words(&format!(
        "convert {} --to jacobian-lens --out {}",
        path(fixture("lenses/package-gpt2-alice")),
        at("no")
    )));
    assert_eq!(tuned.code, Some(2));
    assert!(tuned.err.contains("such a file holds Jacobians"), "{}", tuned.err);
}

#[test]
fn concepts_are_read_with_their_control() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    let prompts = dir.path().join("prompts.jsonl");
    let line =
        |prompt: &str, word: &str| format!("{{\"prompt\": \"{prompt}\", \"intermediates\": [\"{word}\"]}}");
    let lines = [
        line("The Queen of", "heart"),
        line("Alice was beginning to get very", "tired"),
        line("said the", "man"),
        line("Off with her", "head"),
        line("She opened the", "door"),
        line("It was all a", "qqxzvbn"), // no token of this model
    ];
    fs::write(&prompts, lines.join("\n")).unwrap();
    let read = |out: &str, more: &str| {
        let args = format!(
            "lens concepts --model {} --prompts {} --out {} --quiet --json {more}",
            gpt2(),
            path(&prompts),
            at(out)
        );
        result(&succeed(&words(&args)))
    };
    let lens = path(fixture("lenses/package-gpt2-alice"));
    let done = read("all", &format!("--lens logit --lens {lens}"));
    assert_eq!(done["left_out"], serde_json::json!(["qqxzvbn"]));
    let rows = read_metrics(&dir.path().join("all")).unwrap();
    let one = |subject: &str, metric: &str| {
        let own = |row: &&MetricRow| row.subject == subject && row.metric == metric;
        rows.iter().find(own).unwrap_or_else(|| panic!("{subject} {metric}"))
    };
    let (own, control) = (one("logit", "any_auc"), one("logit", "any_control_auc"));
    let excess = one("logit", "any_excess_auc");
    assert!((own.estimate - control.estimate - excess.estimate).abs() < 1e-12);
    assert_eq!((own.n_clusters, own.lower.is_some()), (5, true));
    // The words that follow are nearer than others' words.
    assert!(excess.estimate > 0.0, "{excess:?}");
    let report = format!("report {} --out {} --quiet", at("all"), at("page"));
    succeed(&words(&report));
    let drawn = fs::read_to_string(dir.path().join("page/figures/concepts-first-10.svg")).unwrap();
    for line in ["logit", "logit, another prompt's word"] {
        assert!(drawn.contains(line) || drawn.contains(&line.replace('\'', "&apos;")), "{line}");
    }
    let less = one("package-gpt2-alice less logit", "any_excess_auc_difference");
    let other = one("package-gpt2-alice", "any_excess_auc");
    assert!((less.estimate - (other.estimate - excess.estimate)).abs() < 1e-12);
    let (command, says) = (
        words(&format!(
            "lens concepts --model {} --prompts {} --lens logit --out {}",
            gpt2(),
            path(fixture("stories.jsonl")),
            at("no")
        )),
        vec!["stories.jsonl:1".to_owned()],
    );
    refuse_all(&[(command, 2, says)]);
}

#[test]
fn directions_of_tokens_are_swapped_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    let vectors = |out: &str, tokens: &[&str], more: &str| {
        let mut args = words(&format!(
            "lens vectors --model {} --lens logit --layers 2,4 --out {} {more}",
            gpt2(),
            at(out)
        ));
        args.extend(tokens.iter().flat_map(|token| ["--token".to_owned(), (*token).to_owned()]));
        args
    };
    let json = |mut args: Vec<String>| {
        args.extend(words("--quiet --json"));
        result(&succeed(&args))
    };
    let found = json(vectors("v", &[" man", " woman"], ""));
    assert_eq!(found["names"], serde_json::json!(["man", "woman"]));
    let file = dir.path().join("v/directions.safetensors");
    let stored = layerscope::model::Weights::open_file(&file, Kind::Double).unwrap();
    let mut names: Vec<&str> = stored.shapes().map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["all.2", "all.4", "man.2", "man.4", "woman.2", "woman.4"]);
    // Under the logit lens a token's direction is its row of the unembedding, at every layer; a difference is theirs.
    let take = |name: &str| stored.take_any(name).unwrap();
    assert!(take("man.2").equal(&take("man.4")));
    let mut args = vectors("less", &[" man"], "");
    args.extend(["--less".to_owned(), " woman".to_owned()]);
    json(args);
    let less = dir.path().join("less/directions.safetensors");
    let less = layerscope::model::Weights::open_file(&less, Kind::Double).unwrap();
    assert!(largest(&(less.take_any("man-woman.2").unwrap() - (take("man.2") - take("woman.2")))) < 1e-6);

    let says = |edits: &[&str]| {
        let args = format!("generate --model {} --max-new-tokens 6 --text Alice --quiet --json", gpt2());
        let mut args = words(&args);
        for edit in edits {
            let edit = format!("blocks.4.hook_resid_pre:swap={}:all.4{edit}", path(&file));
            args.extend(["--edit".to_owned(), edit]);
        }
        result(&succeed(&args))["generated"].clone()
    };
    let own = says(&[]);
    assert!(own.is_string());
    assert_eq!(says(&["", ""]), own, "a swap undoes itself");
    assert_ne!(says(&["*8"]), own);
    refuse_all(&[
        (vectors("no", &["man and woman"], ""), 2, vec!["is not one token".to_owned()]),
        (vectors("no", &[" man", "man"], ""), 2, vec!["--token".to_owned(), "\"man\"".to_owned()]),
    ]);
}

#[test]
fn an_audit_is_three_runs() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    let prompts = dir.path().join("prompts.jsonl");
    let line = |word: &str| format!("{{\"prompt\": \"said the\", \"intermediates\": [\"{word}\"]}}");
    fs::write(&prompts, ["man", "King"].map(line).join("\n")).unwrap();
    let lens = path(fixture("lenses/package-gpt2-alice"));
    let audit = |out: &str, more: &str| {
        words(&format!(
            "lens audit --model {} --data {} --tokens 600 --seq-len 64 --layers 3,5 --directions 3 --lens {lens} --out {} --quiet {more}",
            gpt2(),
            path(fixture("stories.jsonl")),
            at(out)
        ))
    };
    let prompts = format!("--prompts {} --json", path(&prompts));
    let done = result(&succeed(&audit("all", &prompts)));
    assert_eq!(done["runs"].as_array().unwrap().len(), 3);
    let kinds = ["eval", "concepts", "causal"].map(|part| {
        let rows = read_metrics(&dir.path().join("all").join(part)).unwrap();
        assert!(rows.iter().any(|row| row.kind == RowKind::Logit && row.layer == 5), "{part}");
        rows.len()
    });
    // Again there is nothing to do, and the same is said.
    assert_eq!(result(&succeed(&audit("all", &prompts))), done);
    assert!(kinds.iter().all(|rows| *rows > 0));
    assert!(!dir.path().join("all/manifest.json").exists());
}
