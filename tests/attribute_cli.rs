//! `attribute` from the outside.

use std::{collections::BTreeMap, path::Path};

use arrow::array::{AsArray as _, RecordBatch};
use layerscope::results::run::{MetricRow, Parts, RowKind, read_metrics};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::cli::{path, refuse_all, result, succeed, tiny};

const PROMPT: &str = "w3 w14 w15 w9 w26 w5";

/// Parts of f32 numbers sum to their logit within 1e-4 of it (see `attribution::attribute`); so do means of them.
fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a} {b}");
}

fn table(file: &Path) -> RecordBatch {
    let file = std::fs::File::open(file).unwrap();
    let mut batches = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    batches.next().unwrap().unwrap()
}

fn component(row: &MetricRow) -> (String, Option<usize>, Option<usize>) {
    match row.subject.parts() {
        Parts::Component { component, head, neuron } => (component.clone(), *head, *neuron),
        parts => panic!("{parts:?} is no component"),
    }
}

/// The sum of the rows that together are the logit, and the model's own row.
fn sum_and_model(rows: &[MetricRow], metric: &str) -> (f64, MetricRow) {
    let own = rows.iter().filter(|r| r.kind == RowKind::Attribution && r.metric == "attribution");
    let model = rows.iter().find(|r| r.kind == RowKind::Model && r.metric == metric).unwrap();
    (own.map(|r| r.estimate).sum(), model.clone())
}

#[test]
fn a_difference_of_logits_is_taken_apart() {
    let (dir, model) = (tempfile::tempdir().unwrap(), tiny("llama"));
    let (out, model) = (dir.path().join("run"), path(model.path()));
    let args = ["attribute", "--model", &model, "--prompt", PROMPT, "--answer", "w7", "--foil", "w8"];
    let told = result(&succeed(&[&args[..], &["--neurons", "5", "--json", "--out", &path(&out)]].concat()));
    let logits: Vec<f64> = told["logits"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    close(logits[0], logits[1] - logits[2]);
    let components = told["components"].as_array().unwrap();
    let sum = |key: &str| components.iter().map(|c| c[key].as_f64().unwrap()).sum::<f64>();
    ["attribution", "answer", "foil"].iter().zip(&logits).for_each(|(key, logit)| close(sum(key), *logit));
    // Two layers of six heads and 44 neurons, and the embedding.
    let count = |name: &str| components.iter().filter(|c| c["component"] == name).count();
    assert_eq!((count("head"), count("neuron"), count("embed"), components.len()), (12, 88, 1, 101));
    // Ten heads and five neurons are shown, each with three tokens that it raises and three that it lowers.
    let words = told["words"].as_array().unwrap();
    assert_eq!(words.len(), 15);
    assert!(
        words.iter().all(|w| ["raised", "lowered"].iter().all(|way| w[way].as_array().unwrap().len() == 3))
    );
    for how in ["frozen", "lens"] {
        let sums = told["accumulated"][how].as_array().unwrap();
        assert_eq!(sums.len(), 3);
        close(sums[2].as_f64().unwrap(), logits[0]);
    }
    assert_eq!(
        (&told["answer"]["token"], &told["foil"]["token"], &told["position"]),
        (&"w7".into(), &"w8".into(), &6.into())
    );
    let rows = read_metrics(&out).unwrap();
    let (sum, whole) = sum_and_model(&rows, "logit_diff");
    close(sum, whole.estimate);
    close(whole.estimate, logits[0]);
    assert!(rows.iter().all(|r| r.reason.as_deref() == Some("one prompt") && r.unit == "logits"));
    // Neurons are parts of their MLP: the five that brought most, largest first.
    let neurons: Vec<&MetricRow> =
        rows.iter().filter(|r| r.kind == RowKind::AttributionPart && r.metric == "attribution").collect();
    assert!(neurons.len() == 5 && neurons.is_sorted_by(|a, b| a.estimate.abs() >= b.estimate.abs()));
    assert!(neurons.iter().all(|r| component(r).2.is_some() && r.hook == "mlp_post"));
    let attn = rows.iter().find(|r| component_name(r) == "attn" && r.layer == 1 && r.metric == "attribution");
    let heads =
        rows.iter().filter(|r| component_name(r) == "head" && r.layer == 1 && r.metric == "attribution");
    close(attn.unwrap().estimate, heads.map(|r| r.estimate).sum());
    let file = table(&out.join("components.parquet"));
    let names: Vec<&str> = file.schema_ref().fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["component", "layer", "head", "neuron", "estimate", "answer", "foil"]);
    assert_eq!(file.num_rows(), 101);
    let estimates = file.column(4).as_primitive::<arrow::datatypes::Float64Type>();
    close(estimates.values().iter().sum(), logits[0]);
    let text = succeed(&[&args[..], &["--quiet", "--top", "3"]].concat());
    assert!(text.starts_with("logit of \"w7\" less that of \"w8\", behind \"w5\" (position 6): "), "{text}");
    assert!(text.contains("raises") && text.contains("lowers"), "{text}");
    assert!(
        text.contains("so far") && text.contains("heads that brought most") && !text.contains("neurons"),
        "{text}"
    );
    let text = succeed(&[&args[..], &["--quiet", "--top", "0", "--accumulated", "lens"]].concat());
    assert!(text.contains("lens") && !text.contains("so far") && !text.contains("heads"), "{text}");
}

fn component_name(row: &MetricRow) -> String {
    if row.kind == RowKind::Model { String::new() } else { component(row).0 }
}

/// Without an answer it is what the model says there; a soft cap is named; less the mean is less than nothing more.
#[test]
fn what_the_model_says_is_the_answer() {
    for family in ["gpt2", "gemma2"] {
        let model = tiny(family);
        let model = path(model.path());
        let args = ["--model", &model, "--quiet", "--json"];
        let said =
            result(&succeed(&[&["generate", "--text", PROMPT, "--max-new-tokens", "1"], &args[..]].concat()));
        let answer = said["token_ids"][0].clone();
        assert!(answer.is_u64(), "{said}");
        let attribute =
            |more: &[&str]| result(&succeed(&[&["attribute", "--prompt", PROMPT], &args[..], more].concat()));
        let found = attribute(&[]);
        assert_eq!(found["answer"]["token_id"], answer, "{family}");
        assert_eq!(found["soft_cap"], if family == "gemma2" { 3.0.into() } else { Value::Null });
        assert!(found["foil"].is_null() && found["components"][0]["answer"].is_null());
        let less = attribute(&["--less-mean"]);
        assert_eq!(less["metric"], "logit_less_mean");
        close(less["logits"][1].as_f64().unwrap(), found["logits"][0].as_f64().unwrap());
        // Position 0 is BOS (or the first token): what follows it does not depend on what comes after.
        let first = attribute(&["--position", "0", "--answer", "w5"]);
        let shorter = result(&succeed(
            &[&["attribute", "--prompt", "w3", "--answer", "w5", "--position", "0"], &args[..]].concat(),
        ));
        close(first["logits"][0].as_f64().unwrap(), shorter["logits"][0].as_f64().unwrap());
        assert_eq!(attribute(&["--position", "-1"])["logits"], found["logits"]);
    }
    let text = {
        let model = tiny("gemma2");
        succeed(&["attribute", "--model", &path(model.path()), "--prompt", PROMPT, "--quiet"])
    };
    assert!(text.contains("before the soft cap of 3"), "{text}");
}

/// Means over prompts of a file are those of the single runs, with intervals over prompts.
#[test]
fn prompts_of_a_file_have_means_and_intervals() {
    let (dir, model) = (tempfile::tempdir().unwrap(), tiny("gpt2"));
    let model = path(model.path());
    let write = |name: &str, lines: &[String]| {
        std::fs::write(dir.path().join(name), lines.join("\n")).unwrap();
        path(dir.path().join(name))
    };
    let prompts: Vec<[String; 3]> = (0..6)
        .map(|i| {
            [format!("w{} w{} w{}", 10 + i, 20 + i, 3 * i), format!("w{}", 30 + i), format!("w{}", 2 + i)]
        })
        .collect();
    let line = |[prompt, answer, foil]: &[String; 3]| {
        format!("{{\"prompt\": {prompt:?}, \"answer\": {answer:?}, \"foil\": {foil:?}, \"position\": -2}}")
    };
    let file = write("prompts.jsonl", &prompts.iter().map(line).collect::<Vec<_>>());
    let out = dir.path().join("many");
    succeed(&["attribute", "--quiet", "--model", &model, "--prompts", &file, "--out", &path(&out)]);
    let rows = read_metrics(&out).unwrap();
    let (sum, whole) = sum_and_model(&rows, "logit_diff");
    close(sum, whole.estimate);
    assert!(rows.iter().all(|r| (r.n, r.n_clusters) == (6, 6) && r.lower.is_some()), "{:?}", rows[0]);
    let single = |[prompt, answer, foil]: &[String; 3]| {
        result(&succeed(&[
            "attribute",
            "--model",
            &model,
            "--prompt",
            prompt,
            "--answer",
            answer,
            "--foil",
            foil,
            "--position",
            "-2",
            "--json",
            "--quiet",
        ]))
    };
    let singles: Vec<Value> = prompts.iter().map(single).collect();
    let head = |found: &Value| -> f64 {
        let own = found["components"].as_array().unwrap().iter();
        let mut own = own.filter(|c| c["component"] == "head" && c["layer"] == 1 && c["head"] == 2);
        own.next().unwrap()["attribution"].as_f64().unwrap()
    };
    let own = |metric: &str| {
        let own = |r: &&MetricRow| r.metric == metric && r.subject == "head:2" && r.layer == 1;
        rows.iter().find(own).unwrap().estimate
    };
    close(own("attribution"), singles.iter().map(head).sum::<f64>() / 6.0);
    close(own("attribution_abs"), singles.iter().map(|found| head(found).abs()).sum::<f64>() / 6.0);
    let text = succeed(&["attribute", "--quiet", "--model", &model, "--prompts", &file]);
    assert!(
        text.starts_with("logit of the answer less that of the foil: ") && text.contains("6 prompts"),
        "{text}"
    );
    let plain = |line: &str| line.to_owned();
    let mixed = write("mixed.jsonl", &[line(&prompts[0]), plain("{\"prompt\": \"w1\"}")]);
    let odd = write("odd.jsonl", &[plain("{\"prompt\": \"w1\", \"anwser\": \"w2\"}")]);
    let far = write("far.jsonl", &[plain("{\"prompt\": \"w1\", \"position\": 9}")]);
    let row = |args: &[&str], says: &[&str]| {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        (owned(&[&["attribute", "--model", &model], args].concat()), 2, owned(says))
    };
    refuse_all(&[
        row(&["--prompts", &mixed], &["mixed.jsonl:2: no foil", "mixed.jsonl:1"]),
        row(&["--prompts", &odd], &["odd.jsonl:1", "anwser"]),
        row(&["--prompts", &far], &["far.jsonl:1", "0 to 1"]),
        row(&["--prompts", &file, "--less-mean"], &["foil", "--less-mean"]),
        row(&["--prompts", &file, "--prompt", "w1"], &["--prompts", "--prompt"]),
        row(&["--prompts", &file, "--answer", "w1"], &["--prompts", "--answer"]),
    ]);
}

fn write_texts(file: &Path, texts: &[&str]) {
    let lines: Vec<String> = texts.iter().map(|text| format!("{{\"text\": \"{text}\"}}")).collect();
    std::fs::write(file, lines.join("\n")).unwrap();
}

/// Means over a text are those of its positions one by one.
#[test]
fn means_over_a_text_are_those_of_its_tokens() {
    let (dir, model) = (tempfile::tempdir().unwrap(), tiny("llama"));
    let model = path(model.path());
    let texts = ["w1 w2 w3", "w9 w2 w14 w5"];
    let data = dir.path().join("texts.jsonl");
    write_texts(&data, &texts);
    let (data, out) = (path(&data), dir.path().join("run"));
    let args = ["attribute", "--model", &model, "--data", &data, "--out", &path(&out)];
    succeed(&[&args[..], &["--quiet"]].concat());
    let rows = read_metrics(&out).unwrap();
    let mut sums: BTreeMap<String, [f64; 2]> = BTreeMap::new();
    let mut n = 0;
    for text in texts {
        let words: Vec<&str> = text.split(' ').collect();
        for (i, next) in words.iter().enumerate() {
            // BOS is position 0, whose next token is the first word.
            let place = i.to_string();
            let found = result(&succeed(&[
                "attribute",
                "--model",
                &model,
                "--prompt",
                text,
                "--answer",
                next,
                "--position",
                &place,
                "--json",
                "--quiet",
            ]));
            for c in found["components"].as_array().unwrap() {
                let value = c["attribution"].as_f64().unwrap();
                let sum = sums.entry(format!("{} {} {}", c["component"], c["layer"], c["head"])).or_default();
                *sum = [sum[0] + value, sum[1] + value.abs()];
            }
            n += 1;
        }
    }
    assert_eq!(n, 7);
    let mut seen = 0;
    for row in rows.iter().filter(|r| r.kind == RowKind::Attribution) {
        let (name, head, _) = component(row);
        let layer = if name == "embed" { Value::Null } else { row.layer.into() };
        let sum = sums[&format!("{} {layer} {}", Value::from(name), head.map_or(Value::Null, Value::from))];
        let absolute = usize::from(row.metric == "attribution_abs");
        close(row.estimate, sum[absolute] / 7.0);
        assert_eq!((row.n, row.n_clusters), (7, 2));
        seen += 1;
    }
    assert_eq!(seen, 2 * (1 + 12 + 2));
    let (sum, whole) = sum_and_model(&rows, "logit");
    close(sum, whole.estimate);
    // A complete run is read, not made again.
    let told = result(&succeed(&[&args[..], &["--json", "--quiet"]].concat()));
    assert_eq!(told["rows"].as_array().unwrap().len(), rows.len());
    let file = table(&out.join("components.parquet"));
    assert_eq!(file.num_rows(), 15);
    let names: Vec<&str> = file.schema_ref().fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names[4..], ["estimate", "lower", "upper", "absolute", "n"]);
}

/// Batches of any size give the same means; with enough documents they have intervals, and windows may stand for them.
#[test]
fn means_have_intervals_and_do_not_depend_on_batches() {
    let (dir, model) = (tempfile::tempdir().unwrap(), tiny("gemma2"));
    let model = path(model.path());
    let texts: Vec<String> = (0..9)
        .map(|i| (0..6 + i % 3).map(|j| format!("w{}", (7 * i + 5 * j) % 61)).collect::<Vec<_>>().join(" "))
        .collect();
    let data = dir.path().join("texts.jsonl");
    write_texts(&data, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    let run = |name: &str, more: &[&str]| {
        let out = dir.path().join(name);
        let args = [
            "attribute",
            "--quiet",
            "--model",
            &model,
            "--data",
            &path(&data),
            "--less-mean",
            "--out",
            &path(&out),
        ];
        succeed(&[&args[..], more].concat());
        read_metrics(&out).unwrap()
    };
    let (one, many) = (run("one", &["--batch-tokens", "1"]), run("many", &[]));
    assert_eq!(one.len(), many.len());
    for (a, b) in one.iter().zip(&many) {
        assert_eq!((&a.subject, &a.metric, a.layer, a.n), (&b.subject, &b.metric, b.layer, b.n));
        close(a.estimate, b.estimate);
        assert!(b.lower.is_some() && b.n_clusters == 9, "{b:?}");
    }
    let (sum, whole) = sum_and_model(&many, "logit_less_mean");
    close(sum, whole.estimate);
    // At all positions, where no token has to follow; in windows of 4.
    let top = run("top", &["--target", "top-1", "--cluster", "window", "--seq-len", "4"]);
    let (sum, whole) = sum_and_model(&top, "logit_less_mean");
    close(sum, whole.estimate);
    assert!(whole.n > many[0].n && whole.n_clusters > 9 && whole.estimate > 0.0, "{whole:?}");
    let given = run("given", &["--answer", "w7"]);
    assert!(given[0].n == top[0].n);
    let text = succeed(&["attribute", "--quiet", "--model", &model, "--data", &path(&data), "--top", "2"]);
    assert!(
        text.contains("the token that follows, before the soft cap") && text.contains("absolute"),
        "{text}"
    );
}

/// A prompt's waterfall and a text's means are drawn, and stand on the page.
#[test]
fn a_report_shows_where_logits_come_from() {
    let (dir, model) = (tempfile::tempdir().unwrap(), tiny("gpt2"));
    let model = path(model.path());
    let data = dir.path().join("texts.jsonl");
    write_texts(&data, &["w1 w2 w3", "w9 w2 w14 w5"]);
    let [one, all, out] = ["one", "all", "report"].map(|name| path(dir.path().join(name)));
    let quiet = ["attribute", "--quiet", "--model", &model, "--out"];
    succeed(&[&quiet[..], &[&one, "--prompt", PROMPT, "--neurons", "4"]].concat());
    succeed(&[&quiet[..], &[&all, "--data", &path(&data)]].concat());
    let told = result(&succeed(&["report", &one, &all, "--json", "--quiet", "--out", &out]));
    let names: Vec<&str> =
        told["figures"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    let own = ["layers", "largest", "heads", "accumulated"].map(|name| format!("one-attribution-{name}"));
    let means = ["layers", "largest", "heads", "heads-abs", "accumulated"];
    let means = means.map(|name| format!("all-attribution-{name}"));
    assert_eq!(names, own.iter().chain(&means).collect::<Vec<_>>());
    let page = std::fs::read_to_string(dir.path().join("report/report.html")).unwrap();
    assert!(names.iter().all(|name| page.contains(&format!("\"id\":\"{name}\""))), "{names:?}");
    // The waterfall ends at the logit.
    let rows = read_metrics(&dir.path().join("one")).unwrap();
    let (_, whole) = sum_and_model(&rows, "logit");
    let svg = std::fs::read_to_string(dir.path().join("report/figures/one-attribution-layers.svg")).unwrap();
    let number = format!("{:+.3}", whole.estimate).replace('-', "−");
    assert!(svg.contains("the model") && svg.contains(&number), "{number}");
}

#[test]
fn what_cannot_be_taken_apart_is_refused() {
    let [llama, mixtral, bert] = ["llama", "mixtral", "bert"].map(tiny);
    let [llama, mixtral, bert] = [&llama, &mixtral, &bert].map(|dir| path(dir.path()));
    let dir = tempfile::tempdir().unwrap();
    let (text, short) = (path(dir.path().join("a.txt")), path(dir.path().join("b.txt")));
    std::fs::write(&text, "w1 w2 w3").unwrap();
    std::fs::write(&short, "w1").unwrap();
    let row = |model: &String, args: &[&str], says: &[&str]| {
        let command = [&["attribute", "--model", model], args].concat();
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        (owned(&command), 2, owned(says))
    };
    refuse_all(&[
        row(&llama, &[], &["give --prompt, --prompts or --data"]),
        row(&llama, &["--prompt", "w1", "--data", &text], &["--prompt", "--data"]),
        row(&llama, &["--prompt", "w1", "--position", "2"], &["--position 2", "0 to 1"]),
        row(&llama, &["--prompt", "w1", "--position", "-3"], &["--position -3"]),
        row(&llama, &["--prompt", "w1", "--answer", "w1 w2"], &["w1 w2"]),
        row(&llama, &["--prompt", "w1", "--foil", "w2", "--less-mean"], &["--foil", "--less-mean"]),
        row(&llama, &["--prompt", "w1", "--target", "top-1"], &["--target"]),
        row(&llama, &["--prompt", "w1", "--dtype", "bf16"], &["bf16 is too coarse", "--dtype f32"]),
        row(&llama, &["--data", &text, "--neurons", "3"], &["--neurons"]),
        row(&llama, &["--data", &text, "--position", "0"], &["--position"]),
        row(&llama, &["--data", &text, "--answer", "w1", "--target", "label"], &["--target"]),
        row(&llama, &["--data", &short, "--bos", "never"], &["no token of the text follows another"]),
        row(&mixtral, &["--prompt", "w1", "--neurons", "3"], &["mixtral: block 0 has experts"]),
        row(&bert, &["--prompt", "w1"], &["encoder"]),
    ]);
}
