//! `patch` and `trace` from the outside.

use layerscope::results::run::{MetricRow, Parts, RowKind, read_metrics};

use crate::cli::{gpt2, path, refuse_all, result, succeed, tiny};

/// The position that a row is of.
fn position(row: &MetricRow) -> usize {
    match row.subject.parts() {
        Parts::Token { position, .. } => *position,
        parts => panic!("{parts:?} is no position"),
    }
}

/// The last layer's state in the target's last place is the source's own prediction.
#[test]
fn a_patched_last_layer_says_what_the_source_says() {
    let dir = tempfile::tempdir().unwrap();
    let out = path(dir.path().join("run"));
    let model = gpt2();
    let args = [
        "patch",
        "--model",
        &model,
        "--source",
        "Alice was beginning to get very tired",
        "--position",
        "all",
    ];
    let said = result(&succeed(&[&args[..], &["--out", &out, "--json", "--steps", "3"]].concat()));
    let answers = said["answers"].as_array().unwrap();
    let n = answers.iter().filter(|a| a["layer"] == 8).count();
    assert_eq!(answers.len(), 9 * n);
    assert_eq!(answers[0]["tokens"].as_array().unwrap().len(), 3);
    let rows = read_metrics(&dir.path().join("run")).unwrap();
    let find = |layer: i32, metric: &str| {
        rows.iter().find(|r| r.source_layer == Some(layer) && r.metric == metric).unwrap().clone()
    };
    let last = find(8, "precision_at_1");
    assert_eq!(
        (last.estimate, last.n as usize, last.subject.as_str(), last.kind.as_str()),
        (1.0, n, "token-identity", "patchscope")
    );
    assert!(find(8, "kl").estimate.abs() < 1e-3 && find(2, "kl").estimate > 0.1);
    // Relevance is against the prompt alone: a target of its own, with the placeholder in two places.
    let own = [
        "--target",
        "x is what x is",
        "--placeholder",
        "x",
        "--target-layer",
        "2",
        "--layers",
        "3",
        "--json",
    ];
    let one = result(&succeed(&[&args[..5], &own].concat()));
    assert_eq!(
        (&one["answers"][0]["target_layer"], one["answers"].as_array().unwrap().len()),
        (&2.into(), 1)
    );
    let text = succeed(&[&args[..5], &["--preset", "description", "--quiet", "--steps", "4"]].concat());
    assert!(text.contains("relevance") && text.lines().count() >= 11, "{text}");
}

#[test]
fn a_trace_finds_where_two_prompts_differ() {
    let dir = tempfile::tempdir().unwrap();
    let (out, model) = (path(dir.path().join("run")), tiny("llama"));
    let model = path(model.path());
    let args = ["trace", "--model", &model, "--clean", "w3 w14 w15 w9 w26 w5"];
    let two = [&args[..], &["--corrupted", "w3 w14 w35 w9 w26 w5"]].concat();
    let found = result(&succeed(&[&two[..], &["--json", "--out", &out]].concat()));
    assert_eq!(found["maps"].as_array().unwrap().len(), 3);
    let effect = |hook: usize, layer: usize, place: usize| {
        found["maps"][hook]["metrics"]["kl"][layer]["effects"][place].as_f64().unwrap()
    };
    // BOS is position 0: the words differ at position 3, the answer is read at position 6.
    assert!((effect(0, 0, 3) - 1.0).abs() < 1e-4 && (effect(0, 2, 6) - 1.0).abs() < 1e-4);
    assert!(effect(0, 0, 1).abs() < 1e-4 && effect(0, 0, 6).abs() < 1e-4 && effect(0, 2, 3).abs() < 1e-4);
    let rows = read_metrics(&dir.path().join("run")).unwrap();
    let row = rows
        .iter()
        .find(|r| r.subject == "3:w15" && r.hook == "resid_pre" && r.layer == 0 && r.metric == "kl");
    let row = row.unwrap();
    assert!((row.estimate - 1.0).abs() < 1e-4 && row.unit == "effect" && row.kind == RowKind::Patch);
    assert!(
        rows.iter()
            .any(|r| r.subject == "corrupted" && r.kind == RowKind::Model && r.metric == "probability")
    );
    let text = succeed(&[&two[..], &["--hook", "mlp-out", "--quiet", "--metric", "kl"]].concat());
    assert!(text.contains("mlp_out") && text.contains("3:w15") && !text.contains("attn_out"), "{text}");
    // Noise on the subject: restoring its embeddings alone restores all.
    let noisy = [&args[..], &["--subject", "w15", "--samples", "3", "--json", "--quiet"]].concat();
    let found = result(&succeed(&noisy));
    let effects = &found["maps"][0]["metrics"]["kl"][0]["effects"];
    assert!((effects[3].as_f64().unwrap() - 1.0).abs() < 1e-4 && effects[2].as_f64().unwrap().abs() < 1e-4);
}

#[test]
fn what_cannot_be_patched_is_named() {
    let model = tiny("gpt2");
    let model = path(model.path());
    let command = |args: &[&str]| -> Vec<String> {
        [&[args[0], "--model", &model], &args[1..]].concat().iter().map(|s| (*s).to_owned()).collect()
    };
    let row =
        |args: &[&str], says: &[&str]| (command(args), 2, says.iter().map(|s| (*s).to_owned()).collect());
    refuse_all(&[
        row(&["trace", "--clean", "w1 w2"], &["--corrupted"]),
        row(&["trace", "--clean", "w1 w2", "--corrupted", "w1"], &["3 tokens", "2;"]),
        row(&["trace", "--clean", "w1 w2", "--subject", "w9"], &["\"w9\" does not occur"]),
        row(&["trace", "--clean", "w1 w2", "--corrupted", "w1 w3", "--noise", "2"], &["--subject"]),
        row(&["trace", "--clean", "w1", "--subject", "w1", "--samples", "0"], &["--samples"]),
        row(&["patch", "--source", "w1", "--position", "7"], &["--position 7"]),
        row(&["patch", "--source", "", "--bos", "never"], &["0 tokens"]),
        row(&["patch", "--source", "w1", "--target-layer", "9"], &["no layer 9"]),
        row(&["patch", "--source", "w1", "--target", "w2 w3", "--placeholder", "w4"], &["does not occur"]),
        row(&["patch", "--source", "w1", "--target", "w2", "--steps", "99"], &["context of 64"]),
    ]);
}

#[test]
fn json_has_tokens_as_text() {
    let model = gpt2();
    let json = |args: &[&str]| result(&succeed(&[args, &["--json", "--quiet", "--model", &model]].concat()));
    let (clean, corrupted) = ("She took her hat and", "He took his hat and");
    let trace = json(&[
        "trace",
        "--clean",
        clean,
        "--corrupted",
        corrupted,
        "--layers",
        "4",
        "--hook",
        "hook_resid_pre",
    ]);
    let text = |key: &str| {
        let tokens = trace[key].as_array().unwrap().iter().skip(1); // BOS
        tokens.map(|token| token.as_str().unwrap()).collect::<String>()
    };
    assert_eq!([text("tokens"), text("corrupted_tokens")], [clean, corrupted]);
    let n = trace["tokens"].as_array().unwrap().len();
    for ids in ["token_ids", "corrupted_token_ids"] {
        assert_eq!(trace[ids].as_array().unwrap().len(), n, "{ids}");
    }
    for side in ["answer", "foil"] {
        assert!(!trace[side]["token"].as_str().unwrap().contains('·'), "{}", trace[side]);
    }
    assert_eq!(trace["maps"][0]["hook"], "resid_pre");
    let patch = json(&["patch", "--source", clean, "--position", "all", "--layers", "6"]);
    let answers = patch["answers"].as_array().unwrap();
    let source: String = answers.iter().skip(1).map(|a| a["source_token"].as_str().unwrap()).collect();
    assert_eq!(source, clean);
    assert!(answers.iter().all(|a| !a["tokens"][0]["token"].as_str().unwrap().contains('·')), "{patch}");
}

/// Means over the prompts of a file are those of the single runs; intervals are over prompts.
#[test]
fn prompts_of_a_file_have_means_and_intervals() {
    let dir = tempfile::tempdir().unwrap();
    let model = tiny("llama");
    let model = path(model.path());
    let at = |name: &str| path(dir.path().join(name));
    let write =
        |name: &str, lines: &[String]| std::fs::write(dir.path().join(name), lines.join("\n")).unwrap();
    // BOS, then the words: differing at position 2 of 5, and of 6; position 1 is before, 3 (and 4) between.
    let pairs: Vec<[String; 2]> = (0..5)
        .map(|i| {
            let end = if i > 2 { " w21 w30" } else { " w21" };
            [7, 8].map(|word| format!("w{} w{word} w{}{end}", 10 + i, 20 + i))
        })
        .collect();
    let line =
        |[clean, corrupted]: &[String; 2]| format!("{{\"clean\": {clean:?}, \"corrupted\": {corrupted:?}}}");
    write("pairs.jsonl", &pairs.iter().map(line).collect::<Vec<_>>());
    let (file, out) = (at("pairs.jsonl"), at("many"));
    let many = ["trace", "--model", &model, "--prompts", &file, "--json", "--out", &out];
    let told = result(&succeed(&many));
    assert_eq!(told["prompts"], 5);
    let rows = read_metrics(&dir.path().join("many")).unwrap();
    let singles: Vec<_> = pairs
        .iter()
        .enumerate()
        .map(|(i, [clean, corrupted])| {
            let out = at(&format!("one-{i}"));
            succeed(&[
                "trace",
                "--quiet",
                "--model",
                &model,
                "--clean",
                clean,
                "--corrupted",
                corrupted,
                "--out",
                &out,
            ]);
            read_metrics(&dir.path().join(format!("one-{i}"))).unwrap()
        })
        .collect();
    assert!(singles.iter().flatten().all(|r| r.reason.as_deref() == Some("one prompt")));
    // Before anything differs, and behind the last position's reading, there is nothing but rounding.
    let nothing =
        |r: &&MetricRow| r.reason.as_deref().is_some_and(|why| why.starts_with("0 but for rounding"));
    let expected = |r: &&MetricRow| {
        let at_end = r.layer == if r.hook == "resid_pre" { 2 } else { 1 };
        r.unit == "effect" && (r.subject == "before" || (at_end && r.subject != "last"))
    };
    assert!(rows.iter().filter(nothing).all(|r| expected(&r) && r.estimate.abs() < 1e-3));
    assert_eq!(rows.iter().filter(nothing).count(), rows.iter().filter(expected).count());
    let mut compared = 0;
    for row in rows.iter().filter(|r| r.unit == "effect") {
        assert!(
            row.n == 5
                && row.n_eff == 5.0
                && row.kind == RowKind::Patch
                && row.lower.is_some() != row.reason.is_some()
        );
        let mean = |rows: &[layerscope::results::run::MetricRow]| {
            let own = rows.iter().filter(|r| {
                (&r.metric, &r.hook, r.layer, &r.unit) == (&row.metric, &row.hook, row.layer, &row.unit)
            });
            let all: Vec<(usize, f64)> = own.map(|r| (position(r), r.estimate)).collect();
            let last = all.iter().map(|(i, _)| *i).max().unwrap();
            let role = |i: usize| match i {
                _ if i == last => "last",
                0 | 1 => "before",
                2 => "changed",
                _ => "between",
            };
            let own: Vec<f64> =
                all.iter().filter(|(i, _)| row.subject == role(*i)).map(|(_, x)| *x).collect();
            own.iter().sum::<f64>() / own.len() as f64
        };
        let expected = singles.iter().map(|rows| mean(rows)).sum::<f64>() / 5.0;
        assert!((row.estimate - expected).abs() < 1e-12 + 1e-9 * expected.abs(), "{row:?} {expected}");
        compared += 1;
    }
    // Four roles, three measures, two layers of two hooks and three of one.
    assert_eq!(compared, 4 * 3 * 7);
    let text = succeed(&["trace", "--quiet", "--model", &model, "--prompts", &file, "--hook", "resid_pre"]);
    assert!(text.contains("changed") && text.contains('±') && text.contains('*'), "{text}");

    let sources: Vec<String> = pairs.iter().map(|[clean, _]| format!("{{\"source\": {clean:?}}}")).collect();
    write("sources.jsonl", &sources);
    succeed(&[
        "patch",
        "--quiet",
        "--model",
        &model,
        "--prompts",
        &at("sources.jsonl"),
        "--target",
        "w2 w3",
        "--steps",
        "1",
        "--out",
        &at("patched"),
    ]);
    let rows = read_metrics(&dir.path().join("patched")).unwrap();
    let kl = rows.iter().find(|r| r.metric == "kl" && r.source_layer == Some(1)).unwrap();
    let one = |i: usize| {
        let (source, out) = (&pairs[i][0], at(&format!("patched-{i}")));
        succeed(&[
            "patch", "--quiet", "--model", &model, "--source", source, "--target", "w2 w3", "--steps", "1",
            "--out", &out,
        ]);
        let rows = read_metrics(&dir.path().join(format!("patched-{i}"))).unwrap();
        rows.into_iter().find(|r| r.metric == "kl" && r.source_layer == Some(1)).unwrap().estimate
    };
    let expected = (0..5).map(one).sum::<f64>() / 5.0;
    assert!((kl.estimate - expected).abs() < 1e-9 && kl.n == 5 && kl.lower.is_some(), "{kl:?} {expected}");

    for (name, text) in [
        ("two.jsonl", "{\"clean\": \"w1\"}"),
        ("odd.jsonl", "{\"clean\": \"w1\", \"corupted\": \"w2\"}"),
        ("none.jsonl", "\n"),
    ] {
        write(name, &[text.to_owned()]);
    }
    let command = |args: &[&str]| -> Vec<String> {
        [&[args[0], "--model", &model], &args[1..]].concat().iter().map(|s| (*s).to_owned()).collect()
    };
    let row =
        |args: &[&str], says: &[&str]| (command(args), 2, says.iter().map(|s| (*s).to_owned()).collect());
    refuse_all(&[
        row(&["trace", "--prompts", &at("two.jsonl")], &["two.jsonl:1", "`corrupted` or `subject`"]),
        row(&["trace", "--prompts", &at("odd.jsonl")], &["odd.jsonl:1", "corupted"]),
        row(&["trace", "--prompts", &at("none.jsonl")], &["no prompts"]),
        row(&["trace", "--prompts", &file, "--corrupted", "w1"], &["--prompts", "--corrupted"]),
        row(&["trace", "--prompts", &file, "--clean", "w1"], &["--prompts", "--clean"]),
        row(&["trace", "--prompts", &at("nowhere.jsonl")], &["nowhere.jsonl"]),
        row(&["patch", "--prompts", &file], &["pairs.jsonl:1", "clean"]),
        row(
            &["patch", "--prompts", &at("sources.jsonl"), "--position", "7"],
            &["sources.jsonl:1", "--position 7"],
        ),
    ]);
}
