//! Learned prompts and the table of methods, from the outside.

use std::{fs, path::Path};

use layerscope::{
    lens::trajectory::{LensTrace, read_traces},
    results::run::{MetricRow, RowKind, read_metrics},
};

use crate::cli::{files, layerscope, path, refuse_all, result, run, succeed, tiny};

/// Twelve short texts of the tiny models' words.
fn write_texts(file: &Path) {
    let line = |doc: usize| {
        let words: Vec<String> =
            (0..8 + doc % 5).map(|i| format!("w{}", (doc * 7 + i * i * 3 + 1) % 61)).collect();
        serde_json::json!({ "text": words.join(" "), "group": format!("g{}", doc / 2) }).to_string()
    };
    fs::write(file, (0..12).map(line).collect::<Vec<_>>().join("\n")).unwrap();
}

fn fit(model: &str, data: &str, out: &str, more: &[&str]) -> Vec<String> {
    let args = ["lens", "fit", "--kind", "future-prompt", "--model", model, "--data", data, "--out", out];
    let small = ["--horizons", "2", "--prompt-tokens", "3", "--contexts", "24", "--batch", "6"];
    args.iter().chain(&small).chain(more).map(|s| (*s).to_owned()).collect()
}

#[test]
fn prompts_are_trained_saved_evaluated_and_shown() {
    let (dir, model) = (tempfile::tempdir().unwrap(), tiny("gpt2"));
    let at = |name: &str| path(dir.path().join(name));
    let (model, data) = (path(model.path()), at("texts.jsonl"));
    write_texts(Path::new(&data));
    let done = result(&succeed(&fit(&model, &data, &at("soft"), &["--json", "--epochs", "3"])));
    assert_eq!(done["prompts"], 4); // two layers, two horizons
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.path().join("soft/config.json")).unwrap()).unwrap();
    let own = &config["layerscope"];
    assert_eq!(
        (&own["kind"], own["details"]["cells"].as_array().unwrap().len()),
        (&"future-prompt".into(), 4)
    );
    let cell = |layer: u64, horizon: u64| {
        let of = |c: &&serde_json::Value| c["layer"] == layer && c["horizon"] == horizon;
        own["details"]["cells"].as_array().unwrap().iter().find(of).unwrap().clone()
    };
    assert!(cell(1, 2)["held_out_kl"].as_f64().unwrap() < cell(1, 2)["held_out_kl_before"].as_f64().unwrap());
    assert_eq!(cell(2, 1)["steps"], 0); // the last layer's own prediction: no prompt reaches it
    // The same command again has nothing to do, in another folder gives the same bytes.
    assert_eq!(
        result(&succeed(&fit(&model, &data, &at("soft"), &["--json", "--epochs", "3"])))["complete"],
        true
    );
    succeed(&fit(&model, &data, &at("again"), &["--quiet", "--epochs", "3"]));
    let params = |name: &str| fs::read(dir.path().join(name).join("params.safetensors")).unwrap();
    assert_eq!(params("soft"), params("again"));
    assert!(!files(dir.path()).keys().any(|p| p.ends_with("checkpoint.safetensors")));

    let vocab =
        ["lens", "fit", "--kind", "future-vocab", "--model", &model, "--data", &data, "--out", &at("vocab")];
    succeed(&[&vocab[..], &["--horizons", "2", "--quiet"]].concat());

    let table = |out: &str, more: &[&str]| {
        let args = [
            "future",
            "--model",
            &model,
            "--data",
            &data,
            "--lens",
            &at("soft"),
            "--lens",
            "logit",
            "--out",
            out,
        ];
        let small = [
            "--lens",
            &at("vocab"),
            "--horizons",
            "3",
            "--replicates",
            "50",
            "--document-column",
            "group",
            "--json",
        ];
        succeed(&args.iter().chain(&small).chain(more).collect::<Vec<_>>())
    };
    let best = result(&table(&at("run"), &["--prompt", "w1 w2 w3", "--prompt", "w5 w6"]));
    assert!(best["best"].as_array().unwrap().iter().any(|b| b["subject"] == "soft" && b["horizon"] == 2));
    let rows = read_metrics(&dir.path().join("run")).unwrap();
    let find = |subject: &str, layer: i32, horizon: i32, metric: &str, unit: &str| -> &MetricRow {
        let same = |r: &&MetricRow| {
            (r.subject.as_str(), r.layer, r.horizon) == (subject, layer, horizon)
                && (&*r.metric, &*r.unit) == (metric, unit)
        };
        rows.iter().find(same).unwrap_or_else(|| panic!("{subject} {layer} {horizon} {metric} {unit}"))
    };
    // The last layer's state in any prompt is the model's own prediction; nothing else is.
    for subject in ["fixed", "fixed:1", "fixed:2", "soft", "fixed:free", "soft:free", "logit"] {
        let row = find(subject, 2, 1, "precision_at_1", "share");
        assert_eq!((row.estimate, row.n, row.n_clusters), (1.0, 12, 6), "{subject}");
        assert!(find(subject, 2, 1, "kl", "nats").estimate.abs() < 1e-4, "{subject}");
    }
    assert!(find("fixed", 1, 1, "kl", "nats").estimate > 1e-3);
    // Least squares on 12 texts know something of them, by a map to normalised states.
    let direct = find("vocab", 1, 2, "kl", "nats");
    assert!(
        direct.kind == RowKind::FutureVocab && direct.estimate > 0.0 && direct.estimate < 20.0,
        "{direct:?}"
    );
    // A mean of two prompts; information is a difference of two rows.
    for horizon in 1..=3 {
        let mean = |s: &str| find(s, 1, horizon, "surprisal", "nats").estimate;
        assert!((mean("fixed") - f64::midpoint(mean("fixed:1"), mean("fixed:2"))).abs() < 1e-9);
        let kl = |s: &str| find(s, 1, horizon, "kl", "nats").estimate;
        let information = find("fixed", 1, horizon, "information", "nats");
        assert!((information.estimate - (kl("fixed:shuffled") - kl("fixed"))).abs() < 1e-9);
        assert!(
            information.lower.unwrap() <= information.estimate
                && information.estimate <= information.upper.unwrap()
        );
        // Without a transplant layers do not differ.
        assert_eq!(
            find("fixed:none", 1, horizon, "kl", "nats").estimate,
            find("fixed:none", 2, horizon, "kl", "nats").estimate
        );
    }
    assert!(rows.iter().any(|r| r.subject == "bigram" && r.kind == RowKind::Baseline && r.horizon == 3));
    assert!(
        rows.iter()
            .filter(|r| r.subject == "soft")
            .all(|r| r.horizon <= 2 && r.kind == RowKind::FuturePrompt)
    );

    let view = ["view", "--model", &model, "--lens", &at("soft"), "--text", "w3 w4 w5", "--ahead", "2"];
    let grid = result(&succeed(&[&view[..], &["--json"]].concat()));
    assert_eq!(grid["grid"].as_array().unwrap().len(), 2);
    assert_eq!(grid["grid"][0]["cells"][2]["tokens"].as_array().unwrap().len(), 2);
    let text = succeed(&[&view[..], &["--color", "never", "--quiet"]].concat());
    assert!(text.contains("next 2 tokens") && text.contains("w5") && text.contains('%'), "{text}");

    // The files have the same grid, beside any other lens, and a page shows it.
    let (out, page) = (at("viewed"), at("grid.html"));
    succeed(&[&view[..], &["--lens", "logit", "--quiet", "--out", &out, "--html", &page]].concat());
    let traces = read_traces(&dir.path().join("viewed")).unwrap();
    let soft: Vec<&LensTrace> = traces[0].lenses.iter().filter(|l| l.lens == "soft").collect();
    assert_eq!(soft.iter().map(|l| l.horizon).collect::<Vec<_>>(), [1, 2]);
    for (row, layer) in grid["grid"].as_array().unwrap().iter().zip(&soft[1].layers) {
        if *layer == 2 {
            continue; // the last layer is the model itself, one token ahead
        }
        assert_eq!(row["layer"], *layer);
        for (place, cell) in row["cells"].as_array().unwrap().iter().enumerate() {
            for (ahead, lens) in soft.iter().enumerate() {
                let own = lens.layers.iter().position(|l| l == layer).unwrap();
                let (token, probability) = lens.cells[own][place].top[0];
                assert_eq!(cell["token_ids"][ahead], token, "{layer} {place} {ahead}");
                let told = cell["probabilities"][ahead].as_f64().unwrap();
                assert!((probability - told).abs() < 1e-4, "{probability} {told}");
            }
        }
    }
    assert!(fs::read_to_string(dir.path().join("grid.html")).unwrap().contains("\"soft\""));
}

/// Killed after a cell, it goes on with the next and ends with the same bytes.
#[test]
fn training_goes_on_from_its_checkpoint() {
    let (dir, model) = (tempfile::tempdir().unwrap(), tiny("llama"));
    let at = |name: &str| path(dir.path().join(name));
    let (model, data) = (path(model.path()), at("texts.jsonl"));
    write_texts(Path::new(&data));
    let args = |out: &str| fit(&model, &data, &at(out), &["--epochs", "100", "--layers", "1"]);
    succeed(&args("whole"));
    let mut child = layerscope()
        .args(args("killed"))
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let checkpoint = dir.path().join("killed/checkpoint.safetensors");
    let started = std::time::Instant::now();
    while !checkpoint.exists() && child.try_wait().unwrap().is_none() && started.elapsed().as_secs() < 120 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let killed = checkpoint.exists() && child.kill().is_ok();
    let _ended = child.wait().unwrap();
    let again = run(&args("killed"));
    assert_eq!(again.code, Some(0), "{}", again.err);
    if killed {
        assert!(
            again.err.contains("going on after 1 prompt") || again.err.contains("complete already"),
            "{}",
            again.err
        );
    }
    for file in ["params.safetensors", "config.json"] {
        let read = |out: &str| fs::read(dir.path().join(out).join(file)).unwrap();
        assert_eq!(read("whole"), read("killed"), "{file}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let (dir, model) = (tempfile::tempdir().unwrap(), tiny("gpt2"));
    let at = |name: &str| path(dir.path().join(name));
    let (model, data) = (path(model.path()), at("texts.jsonl"));
    write_texts(Path::new(&data));
    succeed(&fit(&model, &data, &at("soft"), &["--quiet", "--layers", "1"]));
    let row = |args: Vec<String>, says: &[&str]| {
        (args, 2, says.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    };
    let fit = |more: &[&str]| fit(&model, &data, &at("x"), more);
    let future = |more: &[&str]| {
        let args = ["future", "--model", &model, "--data", &data, "--out", &at("y")];
        args.iter().chain(more).map(|s| (*s).to_owned()).collect::<Vec<_>>()
    };
    let soft = at("soft");
    let rows = vec![
        row(fit(&["--pack"]), &["--pack"]),
        row(fit(&["--site", "attn_out"]), &["--site"]),
        row(fit(&["--epochs", "0"]), &["--epochs"]),
        row(fit(&["--rate=-1"]), &["--rate"]),
        row(fit(&["--init-std", "nan"]), &["--init-std"]),
        row(future(&["--horizons", "0"]), &["--horizons"]),
        row(future(&["--no-fixed"]), &["--lens"]),
        row(future(&["--horizons", "63"]), &["fit a context of 64"]),
        row(future(&["--layers", "9"]), &["no layer 9"]),
        row(future(&["--at", "drawn", "--document-column", "group"]), &["--document-column"]),
        row(future(&["--document-column", "nobody"]), &["nobody"]),
        row(future(&["--contexts", "1"]), &["1 contexts"]),
        row(future(&["--prompt", "", "--bos", "never"]), &["has no tokens"]),
        row(
            ["lens", "eval", "--model", &model, "--data", &data, "--lens", &soft, "--out", &at("z")]
                .map(str::to_owned)
                .into(),
            &["layerscope future"],
        ),
        row(
            ["view", "--model", &model, "--text", "w1", "--lens", &soft, "--lens", "logit"]
                .map(str::to_owned)
                .into(),
            &["by itself", "--html"],
        ),
    ];
    refuse_all(&rows);
}
