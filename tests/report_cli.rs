//! `report` from the outside: files, numbers, names, refusals.

use std::{
    fs,
    path::{Path, PathBuf},
};

use layerscope::{
    lens::trajectory::read_traces,
    results::run::{
        Counts, METRICS, Manifest, MetricRow, Parts, RunDir, Subject, read_metrics, write_metrics,
    },
    results::statistics::{Estimate, Interval},
};

use crate::cli::{
    Ended, end, files, fixture, gpt2, layerscope, path, refusal, result, rewrite, succeed, tiny,
};

/// A row with numbers that need all their digits.
fn row(subject: impl Into<Subject>, kind: &str, layer: i32, metric: &str) -> MetricRow {
    let subject = subject.into();
    let estimate = 1.0 / (f64::from(layer) + 3.0) + metric.len() as f64 / 7.0 + subject.len() as f64 / 90.0;
    let number = Estimate {
        estimate,
        interval: Ok(Interval { lower: estimate * 0.9, upper: estimate * 1.1 }),
        n: 12_345,
        n_clusters: 7,
        n_eff: 6.5,
    };
    let hook = "resid_pre".to_owned();
    MetricRow { subject, kind: kind.parse().unwrap(), hook, layer, ..MetricRow::of(metric, "nats", number) }
}

fn write_run(dir: &Path, kind: &str, rows: &[MetricRow]) {
    let run = RunDir::start(dir, Manifest::new(kind), false, &|path| path == Path::new(METRICS)).unwrap();
    write_metrics(dir, rows).unwrap();
    run.finish(Counts::default(), None).unwrap();
}

fn lens_rows(layers: i32) -> Vec<MetricRow> {
    let lens = |layer| {
        let ahead = MetricRow { horizon: 2, ..row("future", "future", layer, "accuracy") };
        let bits = MetricRow { unit: "bits/byte".into(), ..row("logit", "logit", layer, "ce") };
        let mut none = row("future", "future", layer, "marginal_kl");
        (none.lower, none.upper, none.reason) = (None, None, Some("of the whole text".into()));
        [row("logit", "logit", layer, "ce"), row("future", "future", layer, "accuracy"), ahead, bits, none]
    };
    let mut rows: Vec<MetricRow> = (0..layers).flat_map(lens).collect();
    rows.push(row("model", "model", layers, "ce"));
    rows.push(row("logit", "logit", layers, "prediction_depth"));
    rows
}

fn transfer_rows(layers: i32) -> Vec<MetricRow> {
    let cell = |(i, j)| MetricRow { source_layer: Some(i), ..row("tuned", "transfer", j, "penalty_state") };
    (0..layers).flat_map(|i| (0..layers).map(move |j| (i, j))).map(cell).collect()
}

fn report(runs: &[&Path], out: &Path, more: &[&str]) -> Ended {
    end(layerscope().arg("report").args(runs).arg("--out").arg(out).args(more))
}

fn names(dir: &Path) -> Vec<String> {
    files(dir).into_keys().map(path).collect()
}

/// The rows of a figure's file.
fn csv_rows(file: &Path) -> Vec<MetricRow> {
    let number = |text: &str| (!text.is_empty()).then(|| text.parse::<f64>().unwrap());
    let read = |record: csv::StringRecord| MetricRow {
        subject: record[0].into(),
        kind: record[1].parse().unwrap(),
        hook: record[2].into(),
        layer: record[3].parse().unwrap(),
        source_layer: record[4].parse().ok(),
        horizon: record[5].parse().unwrap(),
        metric: record[6].into(),
        unit: record[7].into(),
        estimate: record[8].parse().unwrap(),
        lower: number(&record[9]),
        upper: number(&record[10]),
        n: record[11].parse().unwrap(),
        n_clusters: record[12].parse().unwrap(),
        n_eff: record[13].parse().unwrap(),
        reason: Some(record[14].to_owned()).filter(|r| !r.is_empty()),
    };
    csv::Reader::from_path(file).unwrap().into_records().map(|record| read(record.unwrap())).collect()
}

#[test]
fn every_number_of_a_figure_is_the_runs_own() {
    let dir = tempfile::tempdir().unwrap();
    let (eval, transfer, out) =
        (dir.path().join("eval"), dir.path().join("transfer"), dir.path().join("out"));
    write_run(&eval, "lens eval", &lens_rows(5));
    write_run(&transfer, "lens transfer", &transfer_rows(4));
    let ended = report(&[&eval, &transfer], &out, &["--json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let told = result(&ended.out);
    let figures: Vec<&str> =
        told["figures"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    let expected = [
        "eval-lens-ce",
        "eval-lens-accuracy",
        "eval-lens-marginal_kl",
        "eval-future-accuracy",
        "transfer-transfer-penalty_state",
    ];
    assert_eq!(figures, expected);
    let (eval, transfer) = (read_metrics(&eval).unwrap(), read_metrics(&transfer).unwrap());
    for name in figures {
        let own = if name.starts_with("eval-") { &eval } else { &transfer };
        let shown = csv_rows(&out.join(format!("figures/{name}.csv")));
        assert!(shown.iter().all(|row| own.contains(row)), "{name}");
        let metric = name.rsplit('-').next().unwrap();
        let (ahead, unit) = (name.contains("future"), "bits/byte");
        let all =
            own.iter().filter(|r| r.metric == metric && r.unit != unit && (ahead || r.horizon == 1)).count();
        assert_eq!(shown.len(), all, "{name}");
        assert!(fs::read_to_string(out.join(format!("figures/{name}.svg"))).unwrap().starts_with("<svg "));
        assert!(fs::read(out.join(format!("figures/{name}.png"))).unwrap().starts_with(b"\x89PNG\r\n\x1a\n"));
    }
    // The table of a figure: layer, then estimate and ends of every lens; the model's own in a last column.
    let table = csv::Reader::from_path(out.join("tables/eval-lens-ce.csv")).unwrap();
    let records: Vec<csv::StringRecord> = table.into_records().map(Result::unwrap).collect();
    let find = |subject: &str, layer: i32| {
        eval.iter()
            .find(|r| r.subject == subject && r.layer == layer && r.metric == "ce" && r.unit == "nats")
            .unwrap()
    };
    for (layer, record) in (0..5).zip(&records) {
        let own = find("logit", layer);
        let numbers = [own.estimate, own.lower.unwrap(), own.upper.unwrap()];
        assert_eq!(record[0], layer.to_string());
        assert_eq!([1, 2, 3].map(|i| record[i].parse::<f64>().unwrap()), numbers);
    }
    assert_eq!((&records[5][0], records[5][4].parse().unwrap()), ("model", find("model", 5).estimate));
    assert!(
        fs::read_to_string(out.join("tables/eval-lens-depth.md")).unwrap().contains("prediction\\_depth")
    );
    // What to be careful about: in the result, and below tables where they do not show it themselves.
    let caveats: Vec<&str> =
        told["caveats"].as_array().unwrap().iter().map(|c| c["text"].as_str().unwrap()).collect();
    assert!(
        caveats[0].starts_with("Some numbers rest on 6.5 effective documents, fewer than 30: "),
        "{caveats:?}"
    );
    assert_eq!(caveats[1], "Without an interval: marginal_kl.");
    let markdown = fs::read_to_string(out.join("tables/eval-lens-ce.md")).unwrap();
    assert!(
        markdown.contains("rest on 6.5 effective documents")
            && markdown.contains("n = 12,345 tokens, 7 documents."),
        "{markdown}"
    );
    assert!(!markdown.contains("marginal") && !markdown.contains("Ribbons"), "{markdown}");
    let listed: Vec<PathBuf> =
        told["files"].as_array().unwrap().iter().map(|f| f.as_str().unwrap().into()).collect();
    assert_eq!(listed.len() + 1, names(&out).len(), "and the manifest");
    assert!(listed.iter().all(|file| out.join(file).is_file()));
}

#[test]
fn hostile_names_stay_names() {
    let dir = tempfile::tempdir().unwrap();
    let (run, out) = (dir.path().join("a <run>&$(x)"), dir.path().join("out"));
    let long = "long".repeat(500);
    let hostile = [
        "<script>alert(1)</script>",
        "]]>&amp;<!--\n\u{1b}[2J\u{202e}",
        "\\input{/etc/passwd}|$x$",
        &long,
        "漢字 🙂",
    ];
    let rows: Vec<MetricRow> =
        hostile.iter().flat_map(|name| (0..3).map(move |layer| row(*name, "logit", layer, "kl"))).collect();
    write_run(&run, "lens eval", &rows);
    assert_eq!(report(&[&run], &out, &["--quiet"]).code, Some(0));
    let svg = fs::read_to_string(out.join("figures/lens-kl.svg")).unwrap();
    assert!(svg.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && svg.contains('…'), "{svg}");
    for bad in ["<script", "<!--", "]]>", "\u{1b}", "\u{202e}"] {
        assert!(!svg.contains(bad), "{bad:?}");
    }
    // Every tag is one that plotters writes, or ours.
    let tags = ["svg", "title", "rect", "polyline", "polygon", "circle", "text", "line"];
    let mut opened = svg.split('<').skip(1).map(|rest| rest.trim_start_matches('/'));
    assert!(opened.all(|rest| tags.iter().any(|tag| rest.starts_with(tag))), "{svg}");
    let tex = fs::read_to_string(out.join("tables/lens-kl.tex")).unwrap();
    assert!(
        !tex.contains("\\input") && tex.contains("\\textbackslash{}input\\{/etc/passwd\\}\\textbar{}\\$x\\$"),
        "{tex}"
    );
    let markdown = fs::read_to_string(out.join("tables/lens-kl.md")).unwrap();
    assert!(!markdown.contains("<script") && markdown.contains("&lt;script&gt;"), "{markdown}");
    let header = markdown.lines().find(|line| line.starts_with("| layer")).unwrap();
    assert_eq!(header.replace("\\|", "").matches('|').count(), 2 + hostile.len(), "{header}");
    // The data keep the names as they are.
    let shown = csv_rows(&out.join("figures/lens-kl.csv"));
    assert!(hostile.iter().all(|name| shown.iter().any(|r| r.subject == *name)));
}

#[test]
fn a_folder_of_figures_is_whole_repeatable_and_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("x/eval"), dir.path().join("y/eval"));
    write_run(&a, "lens eval", &lens_rows(3));
    write_run(&b, "lens eval", &lens_rows(4));
    let out = dir.path().join("out");
    let done = |runs: &[&Path], more: &[&str]| {
        let ended = report(runs, &out, more);
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        let mut files = files(&out);
        files.remove(Path::new("manifest.json")).unwrap();
        files
    };
    let both = done(&[&a, &b], &[]);
    assert!(both.contains_key(Path::new("figures/eval-2-lens-ce.png")), "{:?}", both.keys());
    assert_eq!(done(&[&a, &b], &[]), both, "the same runs give the same bytes");
    let message = refusal(
        layerscope().arg("report").arg(&a).arg("--quiet").arg("--out").arg(&out),
        2,
        &["another job", "--force"],
    );
    assert_eq!(message, None);
    let one = done(&[&a], &["--force"]);
    assert!(
        one.contains_key(Path::new("figures/lens-ce.svg"))
            && one.keys().all(|name| !path(name).contains("eval-"))
    );
}

#[test]
fn what_cannot_be_drawn_is_named_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (good, out) = (at("good"), at("out"));
    write_run(&good, "lens eval", &lens_rows(3));
    fs::create_dir(at("empty")).unwrap();
    RunDir::start(&at("half"), Manifest::new("lens eval"), false, &|_| false).unwrap();
    write_run(&at("damaged"), "lens eval", &lens_rows(3));
    fs::write(at("damaged").join(METRICS), b"PAR1 and no more").unwrap();
    write_run(&at("lost"), "lens eval", &lens_rows(3));
    fs::remove_file(at("lost").join(METRICS)).unwrap();
    write_run(&at("odd"), "lens eval", &[row("model", "model", 3, "ce")]);
    let lens = RunDir::start(&at("lens"), Manifest::new("fit"), false, &|_| false).unwrap();
    lens.finish(Counts::default(), None).unwrap();
    fs::create_dir(at("foreign")).unwrap();
    fs::write(at("foreign/thesis.tex"), "years").unwrap();
    let cases: [(&[&str], &str, &[&str]); 10] = [
        (&["nowhere"], "out", &["nowhere is not a run", "manifest.json"]),
        (&["empty"], "out", &["empty is not a run"]),
        (&["good", "half"], "out", &["half is not complete", "lens eval"]),
        (&["damaged"], "out", &["damaged/metrics.parquet"]),
        (&["lost"], "out", &["lost/metrics.parquet"]),
        (&["odd"], "out", &["odd has nothing to draw"]),
        (&["lens"], "out", &["lens has nothing to draw", "`fit`"]),
        (&["good", "good"], "out", &["good is given twice"]),
        (&["good"], "foreign", &["foreign is not empty", "thesis.tex"]),
        (&["good"], "good", &["good is the folder of `lens eval`"]),
    ];
    for (runs, folder, says) in cases {
        let runs: Vec<PathBuf> = runs.iter().map(|run| at(run)).collect();
        let wrong = refusal(
            layerscope().arg("report").args(&runs).args(["--quiet", "--force", "--out"]).arg(at(folder)),
            if runs[0].ends_with("damaged") { 1 } else { 2 }, // damage is no mistake of the command's
            says,
        );
        assert_eq!(wrong, None, "{runs:?}");
        assert!(!out.exists(), "{runs:?}");
    }
    assert_eq!(names(&at("foreign")), ["thesis.tex"]);
}

/// The texts of a report's caveats.
fn caveats(told: &serde_json::Value) -> Vec<String> {
    told["caveats"].as_array().unwrap().iter().map(|c| c["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_verdict_holds_for_every_run_of_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let reference = fixture("gpt2-alice-8l/reference.safetensors");
    let (checked, prompt) = (path(at("checked")), path(at("prompt")));
    succeed(&["verify", "--quiet", "--model", &gpt2(), "--reference", &path(&reference), "--out", &checked]);
    let view = ["view", "--quiet", "--model", &gpt2(), "--text", "Alice was <b>", "--out", &prompt];
    succeed(&view);
    let told = |runs: &[&Path], out: &str| result(&report(runs, &at(out), &["--json"]).out);

    let alone = caveats(&told(&[&at("prompt")], "alone"));
    assert!(alone.iter().any(|text| text.contains("was not checked")), "{alone:?}");
    let both = told(&[&at("checked"), &at("prompt")], "both");
    assert!(caveats(&both).iter().all(|text| !text.contains("was not checked")), "{both}");
    let page = fs::read_to_string(at("both/report.html")).unwrap();
    assert_eq!(page.matches("pass: 59 activations agree").count(), 3, "of both runs, and below the figure");

    // The parity figure shows the run's own numbers, the largest of the hooks that have no line.
    let own = read_metrics(&at("checked")).unwrap();
    assert_eq!(own.len(), 59);
    let shown = csv_rows(&at("both/figures/checked-parity.csv"));
    let (tolerance, shown): (Vec<_>, Vec<_>) = shown.into_iter().partition(|row| row.metric == "tolerance");
    assert_eq!(tolerance[0].estimate, 5e-5);
    assert!(shown.iter().all(|row| own.contains(row)));
    let lines = ["resid_pre", "attn_out", "mlp_out", "logits"];
    let others = own.iter().filter(|r| !lines.contains(&r.hook.as_str()) && r.layer == 3);
    let worst = others.map(|r| r.estimate).fold(0.0, f64::max);
    assert!(worst > 0.0 && shown.iter().any(|r| r.layer == 3 && r.estimate == worst));

    // The prompt's figure holds the cells of the run.
    let trace = &read_traces(&at("prompt")).unwrap()[0];
    let cells = csv::Reader::from_path(at("both/figures/prompt-prompt-1-logit.csv")).unwrap();
    let cells: Vec<csv::StringRecord> = cells.into_records().map(Result::unwrap).collect();
    let all: Vec<_> = trace.lenses[0].cells.iter().flatten().collect();
    assert_eq!(cells.len(), all.len());
    for (record, cell) in cells.iter().zip(all) {
        assert_eq!(record[6].parse::<f64>().unwrap(), cell.top[0].1);
        assert_eq!(record[7].parse::<f64>().unwrap(), cell.entropy);
    }
}

#[test]
fn a_failed_check_is_kept_and_said() {
    let model = tiny("llama");
    let at = |name: &str| model.path().join(name);
    rewrite(&fixture("families/llama/reference.safetensors"), &at("changed.safetensors"), |tensors| {
        tensors.get_mut("logits").unwrap().2[40..44].copy_from_slice(&100f32.to_le_bytes());
    });
    let ended = end(layerscope().args(["verify", "--quiet", "--model"]).arg(model.path()).args([
        "--reference",
        &path(at("changed.safetensors")),
        "--out",
        &path(at("run")),
    ]));
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let told = result(&report(&[&at("run")], &at("out"), &["--json"]).out);
    let said = caveats(&told);
    assert!(said[0].starts_with("The model is not its reference's. FAIL: of "), "{said:?}");
}

#[test]
fn a_metric_of_two_units_has_two_figures() {
    let dir = tempfile::tempdir().unwrap();
    let share = row("soft", "future-prompt", 2, "information");
    let both = [MetricRow { unit: "share".into(), ..share.clone() }, share];
    let ahead = both.clone().map(|row| MetricRow { horizon: 2, ..row });
    write_run(&dir.path().join("run"), "future", &[both, ahead].concat());
    let told = result(&report(&[&dir.path().join("run")], &dir.path().join("out"), &["--json"]).out);
    let figures: Vec<&str> =
        told["figures"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    let expected = [
        "lens-information-share",
        "lens-information-nats",
        "future-information-share",
        "future-information-nats",
    ];
    assert_eq!(figures, expected);
}

/// Whether a row of a CSV, which has a subject's text alone, is one of these.
fn holds(rows: &[MetricRow], shown: &MetricRow) -> bool {
    rows.iter().any(|row| MetricRow { subject: row.subject.to_string().into(), ..row.clone() } == *shown)
}

#[test]
fn steering_schedules_and_patches_are_drawn_with_their_own_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let named = |subjects: Vec<Parts>, kind: &str, metric: &str| -> Vec<MetricRow> {
        let each = |parts: Parts| (0..3).map(move |layer| row(parts.clone(), kind, layer, metric));
        subjects.into_iter().flat_map(each).collect()
    };
    let pushed = |of: &str, strength: f64| Parts::Pushed { of: of.into(), strength };
    let mut steer = named(vec![pushed("man", -0.5), pushed("man", 0.5)], "steer", "kl");
    steer.extend(named(vec![pushed("random-1", 0.5)], "steer-random", "kl"));
    steer.push(row("man", "steer", 1, "response_slope"));
    let under = |schedule: &str, skipped| Parts::Scheduled { of: None, schedule: schedule.into(), skipped };
    let mut schedule = named(vec![under("reverse:0-1", None)], "logit", "kl");
    schedule
        .extend([0, 1].map(|block| row(under(&format!("skip:{block}"), Some(block)), "schedule", 3, "kl")));
    let token = |(position, text): (usize, &str)| Parts::Token { position, token: text.into() };
    let tokens = [(0, "The"), (1, " old:man"), (2, " said")].map(token);
    let mut trace = named(tokens.to_vec(), "patch", "logit_diff");
    trace.push(row("clean", "model", 3, "logit_diff"));
    let step = |horizon: i32, metric: &str| MetricRow { horizon, ..row("generate", "generate", 3, metric) };
    let generate = ["surprisal", "kl"].into_iter().flat_map(|metric| (1..4).map(move |h| step(h, metric)));
    let generate: Vec<MetricRow> = generate.collect();
    // Into layer 2 from each layer: along the layers that states come from.
    let from = |layer| MetricRow { source_layer: Some(layer), ..row("cat", "patchscope", 2, "surprisal") };
    let patch: Vec<MetricRow> = (0..3).map(from).collect();
    let runs = [
        ("steer", &steer),
        ("schedule", &schedule),
        ("trace", &trace),
        ("generate", &generate),
        ("patch", &patch),
    ];
    for (name, rows) in runs {
        write_run(&at(name), name, rows);
    }
    let paths = runs.map(|(name, _)| at(name));
    let told = result(&report(&paths.each_ref().map(PathBuf::as_path), &at("out"), &["--json"]).out);
    let figures: Vec<&str> =
        told["figures"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    let expected = [
        "steer-steer-kl",
        "schedule-deletions-kl",
        "schedule-schedules-kl",
        "trace-patch-resid_pre-logit_diff",
        "generate-generate",
        "generate-generate-kl",
        "patch-patchscope-surprisal",
    ];
    assert_eq!(figures, expected);
    let shown = |name: &str| csv_rows(&at("out").join(format!("figures/{name}.csv")));
    let steered = shown("steer-steer-kl");
    assert!(steered.len() == 9 && steered.iter().all(|r| holds(&steer, r)));
    let skipped: Vec<(i32, f64)> =
        shown("schedule-deletions-kl").iter().map(|r| (r.layer, r.estimate)).collect();
    assert_eq!(skipped, [(0, schedule[3].estimate), (1, schedule[4].estimate)]);
    let patched = shown("trace-patch-resid_pre-logit_diff");
    assert!(patched.len() == 9 && patched.iter().all(|r| holds(&trace, r)));
    let svg = fs::read_to_string(at("out/figures/trace-patch-resid_pre-logit_diff.svg")).unwrap();
    assert!(svg.contains(" old:man"), "the token, not its place");
    let table = |name: &str| fs::read_to_string(at("out").join(format!("tables/{name}.csv"))).unwrap();
    let starts: Vec<String> = table("generate-generate-kl").lines().map(|l| l[..2].to_owned()).collect();
    assert_eq!(starts, ["ne", "1,", "2,", "3,"], "by new token");
    assert!(table("patch-patchscope-surprisal").starts_with("layer of the state,cat"));
    let page = fs::read_to_string(at("out/report.html")).unwrap();
    for name in expected {
        assert!(page.contains(&format!("\"id\":\"{name}\"")), "{name} is not on the page");
    }
}
