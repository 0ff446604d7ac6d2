//! `think` and `think space`: against other commands, dense numbers, and refusals.

use std::{fs, path::Path};

use layerscope::{
    hook::{Capture, HookPoint, Selection},
    model::{Model, hook_points},
    results::run::{MetricRow, RowKind, read_metrics},
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::cli::{end, gpt2, layerscope, path, refusal, result, run, succeed, tiny};

const FIRST: &str = "w7 w11 w3 w40 w2 w19";
const SECOND: &str = "w1 w5 w9 w13 w17";

fn think(model: &Path, more: &[&str]) -> Value {
    let mut args = vec!["think", "--quiet", "--json", "--max-new-tokens", "5", "--model"];
    let model = path(model);
    args.push(&model);
    args.extend(more);
    result(&succeed(&args))
}

fn find<'a>(rows: &'a [MetricRow], subject: &str, metric: &str, (hook, layer): (&str, i32)) -> &'a MetricRow {
    let own = |r: &&MetricRow| {
        (r.subject.as_str(), r.metric.as_str(), r.hook.as_str(), r.layer) == (subject, metric, hook, layer)
    };
    rows.iter().find(own).unwrap_or_else(|| panic!("no {metric} of {subject} at {hook} {layer}"))
}

#[test]
fn without_thoughts_it_is_generate() {
    let model = tiny("gpt-neox");
    let plain = result(&succeed(&[
        "generate",
        "--quiet",
        "--json",
        "--max-new-tokens",
        "5",
        "--model",
        &path(model.path()),
        "--text",
        FIRST,
    ]));
    let none = think(model.path(), &["--text", FIRST, "--steps", "0"]);
    assert_eq!(none["token_ids"], plain["token_ids"]);
    assert!(none["effects"].as_array().unwrap().is_empty());
    let [with, without] = [&[][..], &["--no-cache"]].map(|more| {
        let mut args = vec!["--text", FIRST, "--steps", "3", "--rescale", "embedding"];
        args.extend(more);
        think(model.path(), &args)
    });
    assert_eq!(with["token_ids"], without["token_ids"]);
    // Plain decoding of three tokens, then the answer: what `greedy` and `none` said, one after the other.
    let replaced = |name: &str| {
        let all = with["prompts"][0]["replaced"].as_array().unwrap();
        let own = all.iter().find(|r| r["replacement"] == name).unwrap();
        own["token_ids"].as_array().unwrap().clone()
    };
    assert_eq!(replaced("none"), *plain["token_ids"].as_array().unwrap());
    assert_eq!(replaced("greedy")[..2], plain["token_ids"].as_array().unwrap()[3..]);
}

#[test]
fn a_run_holds_means_of_its_prompts_and_is_drawn() {
    let (model, dir) = (tiny("llama"), tempfile::tempdir().unwrap());
    let at = |name: &str| path(dir.path().join(name));
    let (out, drawn) = (at("run"), at("report"));
    let more = [
        "--text", FIRST, "--text", SECOND, "--text", "w8", "--steps", "2", "--layer", "1", "--norm",
        "--decay", "0.9", "--out", &out,
    ];
    let told = think(model.path(), &more);
    let settings = &told["settings"];
    assert_eq!((&settings["norm"], &settings["layer"]), (&Value::from(true), &Value::from(1)));
    let rows = read_metrics(&dir.path().join("run")).unwrap();
    let lines: Vec<Value> = fs::read_to_string(dir.path().join("run/thoughts.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    let mean = |of: &dyn Fn(&Value) -> f64| lines.iter().map(of).sum::<f64>() / 3.0;
    for (case, place) in [("zero", 0), ("other", 2), ("none", 5), ("mean@1", 7), ("greedy@2", 15)] {
        let row = find(&rows, case, "kl", ("embed", 1));
        let expected = mean(&|line| {
            assert_eq!(line["replaced"][place]["replacement"], case);
            line["replaced"][place]["kl"].as_f64().unwrap()
        });
        assert!((row.estimate - expected).abs() < 1e-9 && row.n_clusters == 3 && row.n_eff == 3.0, "{case}");
    }
    let norm = find(&rows, "thought@2", "norm", ("resid_pre", 1));
    assert!((norm.estimate - mean(&|line| line["thoughts"][1]["norm"].as_f64().unwrap())).abs() < 1e-9);
    assert!(find(&rows, "logit@1", "entropy", ("resid_pre", 1)).estimate > 0.0);
    let told = result(&end(layerscope().args(["report", &out, "--out", &drawn, "--json"])).out);
    let names: Vec<&str> =
        told["figures"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["think-kl", "think-kl-each", "think-surprisal", "think-surprisal-each"]);
    let table = fs::read_to_string(dir.path().join("report/tables/think-kl.md")).unwrap();
    assert!(table.contains("in place of all thoughts") && table.contains("| greedy |"), "{table}");
}

#[test]
fn prompts_of_a_file_are_the_beginnings_of_documents() {
    let (model, dir) = (tiny("gpt2"), tempfile::tempdir().unwrap());
    let file = dir.path().join("texts.jsonl");
    let texts = [FIRST, SECOND, "w1 w2", FIRST].map(|text| format!("{{\"text\": \"{text}\"}}\n"));
    fs::write(&file, texts.concat()).unwrap();
    let told = think(
        model.path(),
        &[
            "--data",
            &path(&file),
            "--prompt-tokens",
            "4",
            "--prompts",
            "3",
            "--steps",
            "1",
            "--replace",
            "other",
        ],
    );
    let prompts = told["prompts"].as_array().unwrap();
    let ids: Vec<usize> = prompts.iter().map(|p| p["prompt_ids"].as_array().unwrap().len()).collect();
    assert_eq!((ids.len(), ids[0], ids[1]), (3, 4, 4));
    assert!(ids[2] < 4 && prompts.iter().all(|p| p["other"] != p["prompt"]));
    // One thought: `other` and none at all, and nothing one by one.
    let cases: Vec<&str> = prompts[0]["replaced"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["replacement"].as_str().unwrap())
        .collect();
    assert_eq!(cases, ["other", "none"]);
}

#[test]
fn one_prompt_has_no_other() {
    let ended = run(&[
        "think",
        "--quiet",
        "--model",
        &gpt2(),
        "--text",
        "Alice was",
        "--steps",
        "1",
        "--max-new-tokens",
        "2",
    ]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(
        ended.err,
        "warning: left out of the replacements: mean, other: made of other prompts' thoughts, and there is one prompt\n"
    );
    assert!(ended.out.contains("zero") && !ended.out.contains("another prompt"), "{}", ended.out);
}

/// CKA, Procrustes, cosines and shares of variance against dense matrices of the same positions.
#[test]
fn space_is_that_of_dense_matrices() {
    let _no_grad = tch::no_grad_guard();
    let (folder, dir) = (tiny("gpt2"), tempfile::tempdir().unwrap());
    let model = Model::load(folder.path(), Kind::Float, Device::Cpu, |_, _| ()).unwrap();
    let (last, d) = (model.spec().n_layers, model.spec().d_model as i64);
    let documents: Vec<Vec<i64>> =
        (0..12).map(|doc| (0..20).map(|i| (i * (doc + 3) + doc * doc) % 61).collect()).collect();
    let line = |ids: &Vec<i64>| {
        format!("{{\"text\": \"{}\"}}\n", ids.iter().map(|id| format!("w{id}")).collect::<Vec<_>>().join(" "))
    };
    fs::write(dir.path().join("t.jsonl"), documents.iter().map(line).collect::<String>()).unwrap();
    let at = |name: &str| path(dir.path().join(name));
    let told = result(&succeed(&[
        "think",
        "space",
        "--quiet",
        "--json",
        "--bos",
        "never",
        "--model",
        &path(folder.path()),
        "--data",
        &at("t.jsonl"),
        "--out",
        &at("run"),
    ]));
    assert_eq!(told["tied"], model.spec().tied);
    let rows = read_metrics(&dir.path().join("run")).unwrap();

    let input = Tensor::from_slice(&documents.concat()).view([12, 20]);
    let mut capture = Capture::new(hook_points(model.spec()).into_iter().collect::<Selection>()).run_on();
    model.forward(&input, &mut capture).unwrap();
    // Without first and last tokens; the next token's embedding is that of the position after.
    let at = |point: HookPoint, from: i64| {
        capture.get(point).unwrap().narrow(1, from, 18).reshape([-1, d]).to_kind(Kind::Double)
    };
    let centre = |x: &Tensor| x - x.mean_dim([0_i64].as_slice(), true, Kind::Double);
    let square = |x: &Tensor| x.square().sum(Kind::Double).double_value(&[]);
    let every = Tensor::arange(61, (Kind::Int64, Device::Cpu)).view([1, -1]);
    let mut table = Capture::new([HookPoint::Embed].into_iter().collect::<Selection>());
    model.forward(&every, &mut table).unwrap();
    let table = centre(&table.get(HookPoint::Embed).unwrap().squeeze_dim(0).to_kind(Kind::Double));
    let (_, singular, axes) = table.svd(true, true);
    let points = (0..=last)
        .map(|l| (HookPoint::Block(l, layerscope::hook::BlockHook::ResidPre), "resid_pre", l))
        .chain([(HookPoint::FinalNormalized, "ln_final_normalized", last)]);
    for (point, hook, layer) in points {
        let place = (hook, layer as i32);
        let raw = at(point, 1);
        let x = centre(&raw);
        for (subject, from) in [("embedding", 1), ("next-embedding", 2)] {
            let other = at(HookPoint::Embed, from);
            let y = centre(&other);
            let cka =
                square(&y.tr().matmul(&x)) / (square(&x.tr().matmul(&x)) * square(&y.tr().matmul(&y))).sqrt();
            let nuclear = y.tr().matmul(&x).svd(true, false).1.sum(Kind::Double).double_value(&[]);
            let cosine =
                Tensor::cosine_similarity(&raw, &other, 1, 1e-12).mean(Kind::Double).double_value(&[]);
            let expected = [
                ("cka", cka),
                ("procrustes_distance", 2.0 - 2.0 * nuclear / (square(&x) * square(&y)).sqrt()),
                ("cosine", cosine),
                (
                    "cosine_centred",
                    (&x * &y).sum(Kind::Double).double_value(&[]) / (square(&x) * square(&y)).sqrt(),
                ),
            ];
            for (metric, expected) in expected {
                let row = find(&rows, subject, metric, place);
                assert!(
                    (row.estimate - expected).abs() < 1e-5,
                    "{hook} {layer} {subject} {metric} {} {expected}",
                    row.estimate
                );
                assert_eq!((row.n, row.n_clusters, row.n_eff), (12 * 18, 12, 12.0));
                let holds = |(lower, upper)| lower <= row.estimate && row.estimate <= upper;
                assert!(row.lower.zip(row.upper).is_some_and(holds), "{row:?}");
            }
        }
        for percent in [50.0, 90.0, 99.0] {
            let held = singular.square().cumsum(0, Kind::Double) / square(&table);
            let k = held.lt(percent / 100.0).sum(Kind::Int64).int64_value(&[]) + 1;
            let share = square(&x.matmul(&axes.narrow(1, 0, k))) / square(&x);
            let row = find(&rows, &format!("components-{percent}"), "variance_share", place);
            assert!(
                (row.estimate - share).abs() < 1e-6,
                "{hook} {layer} {percent}: {} {share}",
                row.estimate
            );
            assert_eq!(
                find(&rows, &format!("components-{percent}"), "components", ("embed", 0)).estimate,
                k as f64
            );
            let random = find(&rows, &format!("random-{percent}"), "variance_share", place);
            let spread = random.upper.unwrap() - random.lower.unwrap();
            assert!(
                row.lower.is_some() || row.reason.as_deref() == Some("the same in every cluster"),
                "{row:?}"
            );
            assert!(
                (random.estimate - k as f64 / d as f64).abs() <= spread
                    && random.kind == RowKind::SpaceRandom
            );
        }
    }
    let told = result(
        &end(layerscope().args([
            "report",
            &path(dir.path().join("run")),
            "--out",
            &path(dir.path().join("report")),
            "--json",
        ]))
        .out,
    );
    let names: Vec<&str> =
        told["figures"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["think-space-cka", "think-space-procrustes_distance", "think-space-cosine", "think-space-variance"]
    );
}

#[test]
fn what_cannot_be_thought_is_refused() {
    let cases: [(&[&str], &[&str]); 13] = [
        (&["--text", "Alice", "--layer", "9"], &["no layer 9; this model's layers are 0 to 8"]),
        (&["--text", "Alice", "--steps", "9999"], &["9999 thoughts", "do not fit the model's context"]),
        (&["--text", ""], &["--text is empty"]),
        (&["--text", "Alice", "--replace", "mean"], &["--replace mean", "there is one prompt"]),
        (
            &["--text", "Alice", "--replace", "zero,other"],
            &["--replace other", "give --text twice, or --data"],
        ),
        (
            &["--text", "Alice", "--replace", "noise"],
            &["`noise` is none of zero, mean, other, random, greedy"],
        ),
        (&["--text", "Alice", "--replace", "zero,none"], &["none stands alone"]),
        (&["--text", "Alice", "--decay", "0"], &["decay is 0, must be above 0"]),
        (&["--text", "Alice", "--decay", "NaN"], &["decay is NaN"]),
        (&["--text", "Alice", "--norm", "--no-norm"], &["--norm", "--no-norm"]),
        (&["--text", "Alice", "--lens", "nowhere"], &["--lens nowhere"]),
        (&["--text", "Alice", "--prompts", "3"], &["--text", "--prompts"]),
        (&[], &["the following required arguments were not provided"]),
    ];
    let wrong = cases.into_iter().filter_map(|(args, says)| {
        let mut command = layerscope();
        command.args(["think", "--quiet", "--model", &gpt2()]).args(args);
        refusal(&mut command, 2, says)
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
