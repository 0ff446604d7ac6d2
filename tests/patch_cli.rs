//! `patch` and `trace` from the outside.

use layerscope::run::read_metrics;

use crate::cli::{gpt2, path, refuse_all, result, succeed, tiny};

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
    assert!((row.estimate - 1.0).abs() < 1e-4 && row.unit == "effect" && row.kind == "patch");
    assert!(rows.iter().any(|r| r.subject == "corrupted" && r.kind == "model" && r.metric == "probability"));
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
