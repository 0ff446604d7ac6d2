//! `attention` against transformers (`fixtures/attention/make.py`), on a planted copy task, and from the outside.

use std::{io::Write as _, path::Path, process::Stdio};

use layerscope::{
    attention::{
        Ablation, Ablations, AttentionError, HeadMeans, HeadScores, HeadSet, Repeated, next_tokens, repeated,
    },
    hook::{BlockHook, Capture, HookPoint},
    lenses::{Precision, Readout},
    model::Model,
    results::{
        patterns::read_patterns,
        run::{MetricRow, Parts, RowKind, read_metrics},
        statistics::Intervals,
    },
    sources::text::{BosPolicy, Segment, Tokenizer, Window, batches},
};
use serde_json::Value;
use tch::{Device, IndexOp as _, Kind, Tensor};

use crate::cli::{fixture, gpt2, layerscope, path, refuse_all, result, run, succeed, tiny, words};

/// What transformers says of each model.
fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string(fixture("attention/expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn load(case: &Value, kind: Kind) -> Model {
    Model::load(&fixture(case["model"].as_str().unwrap()), kind, Device::Cpu, |_, _| ()).unwrap()
}

fn windows(case: &Value) -> Vec<Window> {
    let ids = |text: &Value| -> Vec<u32> {
        text.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let window = |(doc_id, text): (u64, &Value)| {
        let ids = ids(text);
        let len = ids.len() as u32;
        Window { ids, segments: vec![Segment { doc_id, len, doc_len: len, ..Segment::default() }] }
    };
    (0..).zip(case["texts"].as_array().unwrap()).map(window).collect()
}

/// Statistics of these windows, run in batches of at most so many tokens.
fn measured(model: &Model, windows: &[Window], batch_tokens: usize) -> Vec<MetricRow> {
    let (layers, heads) = (model.spec().n_layers, model.spec().n_heads);
    let layers: Vec<usize> = (0..layers).collect();
    let mut scores = HeadScores::new(&layers, heads, Intervals::default()).unwrap();
    for batch in batches(windows, batch_tokens) {
        scores.add(model, &batch.windows, None).unwrap();
    }
    scores.finish()
}

fn head(row: &MetricRow) -> (usize, usize) {
    match row.subject.parts() {
        Parts::Head { head, .. } => (row.layer as usize, *head),
        other => panic!("{other:?}"),
    }
}

fn number(rows: &[MetricRow], (layer, number): (usize, usize), metric: &str) -> f64 {
    let same = |r: &&MetricRow| {
        let own = matches!(r.subject.parts(), Parts::Head { head, .. } if *head == number);
        own && r.layer as usize == layer && r.metric == metric
    };
    rows.iter().find(same).unwrap_or_else(|| panic!("L{layer}H{number} {metric}")).estimate
}

/// In f64 both sides differ by the order of additions alone: 1e-15 of numbers below 10, a few hundred terms deep, and
/// what two layers make of it.
const EXACT: f64 = 1e-10;

#[test]
fn statistics_are_those_of_transformers() {
    let (mut compared, cases) = (0, cases());
    for case in &cases {
        let model = load(case, Kind::Double);
        let texts = windows(case);
        let rows = measured(&model, &texts, 1 << 20);
        let last = measured(&model, &texts[texts.len() - 1..], 1 << 20);
        for expected in case["heads"].as_array().unwrap() {
            let place = |name: &str| expected[name].as_u64().unwrap() as usize;
            let of = (place("layer"), place("head"));
            for (metric, value) in expected["statistics"].as_object().unwrap() {
                let metric = match metric.as_str() {
                    "entropy" => "attention_entropy",
                    "entropy_normalised" => "attention_entropy_normalised",
                    other => other,
                };
                let (got, value) = (number(&rows, of, metric), value.as_f64().unwrap());
                assert!((got - value).abs() < EXACT, "{} {of:?} {metric}: {got} {value}", case["model"]);
                compared += 1;
            }
            for (metric, n) in
                expected["rows"].as_object().unwrap().iter().filter(|(m, _)| !m.starts_with("entropy"))
            {
                let counted = |r: &&MetricRow| head(r) == of && r.metric == **metric;
                assert_eq!(rows.iter().find(counted).unwrap().n, n.as_i64().unwrap(), "{metric}");
            }
            // `transformer_lens.head_detector` on one text.
            for (metric, value) in expected["last_text_mul"].as_object().unwrap() {
                let got = number(&last, of, &format!("{metric}_mul"));
                assert!((got - value.as_f64().unwrap()).abs() < EXACT, "{of:?} {metric}: {got} {value}");
            }
        }
    }
    assert_eq!((cases.len(), compared), (8, 72 * 10));
}

/// f32 rounds a row's sums by 1e-7 of at most 20 tokens, and a batch may be multiplied in another order.
#[test]
fn statistics_do_not_depend_on_batches() {
    for case in &cases() {
        let model = load(case, Kind::Float);
        let texts = windows(case);
        let (one, all) = (measured(&model, &texts, 1), measured(&model, &texts, 1 << 20));
        assert_eq!(one.len(), all.len());
        for (a, b) in one.iter().zip(&all) {
            assert_eq!(
                (&a.subject, &a.metric, a.n, a.n_clusters),
                (&b.subject, &b.metric, b.n, b.n_clusters)
            );
            assert!((a.estimate - b.estimate).abs() < 2e-5, "{a:?} {b:?}");
        }
    }
}

#[test]
fn losses_without_heads_are_those_of_transformers() {
    for case in &cases() {
        let model = load(case, Kind::Float);
        let texts = windows(case);
        let readout = Readout::new(model.unembed(), model.spec().vocab, Precision::Exact, 1).unwrap();
        let together = case["together"]["heads"].as_array().unwrap().iter();
        let together = together.map(|pair| format!("{}.{}", pair[0], pair[1])).collect::<Vec<_>>().join("+");
        let heads = case["heads"].as_array().unwrap();
        let mut sets: Vec<HeadSet> = heads
            .iter()
            .map(|h| {
                HeadSet::one(h["layer"].as_u64().unwrap() as usize, h["head"].as_u64().unwrap() as usize)
            })
            .collect();
        sets.push(together.parse().unwrap());
        let layers: Vec<usize> = (0..model.spec().n_layers).collect();
        let mut means = HeadMeans::new(&layers);
        batches(&texts, 30).iter().for_each(|batch| means.add(&model, &batch.windows).unwrap());
        for ablation in [Ablation::Zero, Ablation::Mean] {
            let of = (&sets[..], ablation);
            let mut found = Ablations::new(&model, &readout, of, &means, Intervals::default()).unwrap();
            for batch in batches(&texts, 30) {
                let next: Vec<Vec<i64>> = batch.windows.iter().map(|w| next_tokens(w)).collect();
                found.add(&model, &batch.windows, &next, None).unwrap();
            }
            let rows = found.finish();
            let close = |row: &MetricRow, expected: &Value| {
                // Logits of tens in f32: a few 1e-6 each; the mean of 70 losses is no further off.
                let (got, expected) = (row.estimate, expected.as_f64().unwrap());
                assert!((got - expected).abs() < 5e-5, "{}: {row:?} {expected}", case["model"]);
            };
            close(&rows[0], &case["ce"]);
            close(&rows[1], &case["accuracy"]);
            assert_eq!(rows[0].n, case["n"].as_i64().unwrap());
            let expected =
                heads.iter().map(|h| &h[ablation.name()]).chain([&case["together"][ablation.name()]]);
            for (own, expected) in rows[2..].chunks(4).zip(expected) {
                let metrics: Vec<&str> = own.iter().map(|r| r.metric.as_str()).collect();
                assert_eq!(metrics, ["ce", "ce_increase", "accuracy", "accuracy_drop"]);
                close(&own[0], &expected[0]);
                close(&own[2], &expected[1]);
                assert!((own[1].estimate - (own[0].estimate - rows[0].estimate)).abs() < 1e-9);
                assert!((own[3].estimate - (rows[1].estimate - own[2].estimate)).abs() < 1e-9);
            }
            assert_eq!(rows.len(), 2 + 4 * sets.len());
        }
    }
}

/// On random tokens said twice the statistics are the two stripes that are read off the pattern there.
#[test]
fn on_repeated_tokens_induction_is_the_stripe() {
    let folder = fixture("induction-2l");
    let model = Model::load(&folder, Kind::Double, Device::Cpu, |_, _| ()).unwrap();
    let tokenizer = Tokenizer::load(&folder, BosPolicy::Auto).unwrap();
    let length = 21;
    let texts = repeated(Repeated { length, texts: 5, seed: 3 }, &tokenizer, 64, &[0]).unwrap();
    let rows = measured(&model, &texts, 1 << 20);
    let point = HookPoint::Block(1, BlockHook::Pattern);
    let stripes = |offset: i64| -> Vec<f64> {
        let mut sum = Tensor::zeros([4], (Kind::Double, Device::Cpu));
        for text in &texts {
            assert_eq!((text.ids[0], text.ids.len()), (0, 1 + 2 * length));
            assert_eq!(text.ids[1..=length], text.ids[length + 1..]);
            let ids: Vec<i64> = text.ids.iter().map(|id| i64::from(*id)).collect();
            let mut capture = Capture::new([point].into_iter().collect());
            model.forward(&Tensor::from_slice(&ids).unsqueeze(0), &mut capture).unwrap();
            // The last `length` entries of the diagonal are the queries of the second half.
            let stripe = capture.get(point).unwrap().i(0).diagonal(offset, 1, 2);
            sum += stripe.narrow(1, stripe.size()[1] - length as i64, length as i64).mean_dim(
                1,
                false,
                Kind::Double,
            );
        }
        Vec::try_from(sum / 5.0).unwrap()
    };
    for (metric, offset) in [("induction", 1 - length as i64), ("duplicate_token", -(length as i64))] {
        for (head, expected) in stripes(offset).into_iter().enumerate() {
            let got = number(&rows, (1, head), metric);
            assert!((got - expected).abs() < EXACT, "{metric} {head}: {got} {expected}");
        }
    }
    let too_long = repeated(Repeated { length: 64, texts: 1, seed: 0 }, &tokenizer, 64, &[]);
    assert!(matches!(too_long, Err(AttentionError::Vocabulary { asked: 64, ordinary: 63 })));
}

/// The planted copy task: its heads are found, and without them there is no copy.
#[test]
fn a_planted_copy_task_is_found_and_destroyed() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (path(fixture("induction-2l")), path(dir.path().join("run")));
    let line = format!(
        "attention --model {model} --repeated-random 24 --seeds 40 --ablate zero \
         --heads 0.1 0.3 1.0 1.1 0.0+0.2+0.3 1.0+1.2+1.3 --out {out}"
    );
    let text = succeed(&words(&line));
    assert!(
        text.contains("induction") && text.contains("L1H0 0.9") && text.contains("L1H0+L1H2+L1H3"),
        "{text}"
    );
    let rows = read_metrics(Path::new(&out)).unwrap();
    let best = |metric: &str| {
        let own = rows.iter().filter(|r| r.kind == RowKind::Head && r.metric == metric);
        let best = own.max_by(|a, b| a.estimate.total_cmp(&b.estimate)).unwrap();
        assert!(best.n_clusters == 40 && best.lower.is_some(), "{best:?}");
        (head(best), best.estimate)
    };
    let (at, induction) = best("induction");
    assert!(at == (1, 0) && induction > 0.9, "{at:?} {induction}");
    let (at, previous) = best("previous_token");
    assert!(at == (0, 3) && previous > 0.5, "{at:?} {previous}");
    let left = |subject: &str, layer: i32, metric: &str| {
        let same = |r: &&MetricRow| r.subject == subject && r.layer == layer && r.metric == metric;
        rows.iter().find(same).unwrap_or_else(|| panic!("{subject} {metric}")).clone()
    };
    assert!(left("model", 2, "accuracy").estimate > 0.99);
    // One of 63 tokens, or nearly.
    assert!(left("L1H0+L1H2+L1H3:zero", 1, "accuracy").estimate < 0.1);
    assert!(left("L0H0+L0H2+L0H3:zero", 0, "accuracy").estimate < 0.2);
    let one = left("H0:zero", 1, "accuracy_drop");
    assert!(one.estimate > 0.1 && one.lower.unwrap() > 0.0, "{one:?}");
    for (other, layer) in [("H1:zero", 0), ("H1:zero", 1)] {
        let drop = left(other, layer, "accuracy_drop").estimate;
        assert!(drop < 0.05, "{other} of layer {layer}: {drop}");
    }
}

#[test]
fn a_text_with_threads_batches_and_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = (gpt2(), path(fixture("stories.jsonl")));
    let run = |name: &str, more: &str| {
        let out = path(dir.path().join(name));
        let line =
            format!("attention --model {model} --data {data} --tokens 1500 --seq-len 64 --out {out} {more}");
        let text = succeed(&words(&line));
        (text, read_metrics(Path::new(&out)).unwrap())
    };
    let (text, rows) = run("one", "--threads 1 --quiet");
    assert!(text.starts_with("heads that stand out") && text.contains("previous token"), "{text}");
    assert_eq!(rows.len(), 8 * 4 * 10);
    assert!(rows.iter().all(|r| r.hook == "pattern" && r.kind == RowKind::Head));
    let (_, other) = run("two", "--threads 2 --batch-tokens 100 --quiet");
    for (a, b) in rows.iter().zip(&other) {
        assert_eq!((&a.subject, a.layer, &a.metric, a.n), (&b.subject, b.layer, &b.metric, b.n));
        // f32 sums of rows of 64; the model's own rounding between batch shapes is larger than that.
        assert!((a.estimate - b.estimate).abs() < 1e-3 * (1.0 + a.estimate.abs()), "{a:?} {b:?}");
        assert!(a.unit != "share" || (0.0..=1.0).contains(&a.estimate), "{a:?}");
    }
    let (_, some) = run("some", "--quiet --layers 2,5");
    assert_eq!(some.len(), 2 * 4 * 10);
    for row in &some {
        let same =
            rows.iter().find(|r| (&r.subject, r.layer, &r.metric) == (&row.subject, row.layer, &row.metric));
        assert!((same.unwrap().estimate - row.estimate).abs() < 1e-3 * (1.0 + row.estimate.abs()));
    }
    let (text, rows) = run("mean", "--quiet --ablate mean --layers 0");
    assert!(text.contains("the model itself") && text.contains("L0H"), "{text}");
    assert_eq!(rows.iter().filter(|r| r.metric == "ce_increase").count(), 4);
    let page = dir.path().join("page");
    succeed(&words(&format!("report {} --out {} --quiet", path(dir.path().join("mean")), path(&page))));
    for name in ["heads-induction", "heads-sink", "heads-attention_entropy", "heads-ablated"] {
        assert!(page.join(format!("figures/{name}.svg")).is_file(), "{name}");
    }
    let again = result(&succeed(&words(&format!(
        "attention --model {model} --data {data} --tokens 1500 --seq-len 64 --out {} --threads 1 --json",
        path(dir.path().join("one"))
    ))));
    assert_eq!(again["rows"], 320);
}

#[test]
fn a_prompt_and_its_patterns() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| path(dir.path().join(name));
    let model = gpt2();
    let args = ["attention", "--model", &model, "--prompt", "Alice said that Alice said", "--quiet"];
    let out = place("prompt");
    let text = succeed(&[&args[..], &["--out", &out, "--save", "pattern", "attn_scores"]].concat());
    assert!(text.starts_with("where heads look") && text.contains("L7H3") && text.contains("→"), "{text}");
    let patterns = read_patterns(Path::new(&out)).unwrap();
    let n = patterns.tokens.len();
    assert_eq!(patterns.heads.len(), 32);
    for head in &patterns.heads {
        for row in head.weights.chunks(n) {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{}", head.label());
        }
    }
    // Saved squares are what `verify` reads: this model's own, the mask's -inf included.
    let file = dir.path().join("prompt/patterns/window=0.safetensors");
    let verified =
        result(&succeed(&["verify", "--model", &model, "--reference", &path(&file), "--json", "--quiet"]));
    assert_eq!(verified["verdict"], "pass", "{verified}");
    let kept: std::collections::BTreeMap<String, Tensor> =
        Tensor::read_safetensors(&file).unwrap().into_iter().collect();
    assert_eq!(kept.len(), 1 + 2 * 8);
    let pattern = &kept["blocks.3.attn.hook_pattern"];
    assert_eq!(pattern.size(), [1, 4, n as i64, n as i64]);
    let own = Tensor::from_slice(&patterns.heads[3 * 4 + 1].weights).view([n as i64, n as i64]);
    assert!((pattern.i((0, 1)).to_kind(Kind::Double) - own).abs().max().double_value(&[]) < 1e-6);
    let page = dir.path().join("page");
    succeed(&["report", &out, "--out", &path(&page), "--quiet"]);
    let figures: Vec<String> = page
        .join("figures")
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(figures.iter().any(|name| name == "patterns.svg"), "{figures:?}");
    assert!(figures.iter().any(|name| name.starts_with("pattern-L")), "{figures:?}");
    let csv = std::fs::read_to_string(page.join("figures/patterns.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 32 * n * (n + 1) / 2);
    // Another text on stdin is another job.
    let from_stdin = |text: &[u8]| {
        let mut command = layerscope();
        command.args(["attention", "--model", &model, "--prompt", "-", "--quiet", "--out", &place("stdin")]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text).unwrap();
        child.wait_with_output().unwrap().status.code()
    };
    assert_eq!([b"Alice".as_slice(), b"Alice", b"Bob"].map(from_stdin), [Some(0), Some(0), Some(2)]);
    // The same command again finds it complete, and prints the same.
    let again = succeed(&[&args[..], &["--out", &out, "--save", "pattern", "attn_scores"]].concat());
    assert_eq!(text, again);
}

#[test]
fn refusals() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (path(fixture("stories.jsonl")), path(dir.path().join("out")));
    let row = |rest: &str, code: i32, says: &[&str]| {
        let args = words(&format!("attention --model {} --out {out} {rest}", gpt2()));
        (args, code, says.iter().map(|s| (*s).to_owned()).collect())
    };
    let bert = format!("attention --model {} --data {data} --out {out}", path(fixture("bert-wordpiece")));
    refuse_all(&[
        row("", 2, &["required"]),
        row(&format!("--data {data} --prompt a"), 2, &["cannot be used with"]),
        row("--prompt a --repeated-random 4", 2, &["cannot be used with"]),
        row(&format!("--data {data} --pack"), 2, &["--pack: a row of joined documents"]),
        row(&format!("--data {data} --layers 8"), 2, &["layer 8 has no heads", "0 to 7"]),
        row(&format!("--data {data} --layers 9"), 2, &["no layer 9"]),
        row(&format!("--data {data} --heads 0.0"), 2, &["--ablate"]),
        row(&format!("--data {data} --ablate zero --heads 0.4"), 2, &["no head 0.4", "heads 0 to 3"]),
        row(&format!("--data {data} --ablate zero --heads x"), 2, &["`x` names no head"]),
        row("--repeated-random 128", 2, &["257 tokens", "context is 256"]),
        row("--repeated-random 1 --ablate zero", 2, &["nothing is copied"]),
        row(&format!("--data {data} --seeds 4"), 2, &["--seeds", "cannot be used with"]),
        (words(&bert), 2, vec!["is an encoder".to_owned()]),
    ]);
    let tiny = tiny("gpt2");
    let ended =
        run(&words(&format!("attention --model {} --repeated-random 40 --out {out}", path(tiny.path()))));
    assert!(
        ended.code == Some(2) && ended.err.contains("81 tokens") || ended.err.contains("80 tokens"),
        "{ended:?}"
    );
    let ended = run(&["attention", "--model", &gpt2(), "--prompt", "", "--out", &out]);
    assert!(ended.code == Some(2) && ended.err.contains("--prompt gives no tokens"), "{ended:?}");
    assert!(!Path::new(&out).exists());
}

/// Of one token there is nothing before, and nothing to predict: statistics that no row counts for are not there.
#[test]
fn one_token_has_no_number_that_needs_two() {
    let dir = tempfile::tempdir().unwrap();
    let out = path(dir.path().join("one"));
    let model = gpt2();
    let args = ["--prompt", "a", "--bos", "never", "--ablate", "zero", "--layers", "0", "--out", &out];
    let ended = run(&[&["attention", "--model", &model, "--quiet"], &args[..]].concat());
    assert!(ended.code == Some(0) && ended.err.contains("there is no loss to measure"), "{ended:?}");
    assert!(!ended.out.contains("-0.00"), "{ended:?}");
    let rows = read_metrics(Path::new(&out)).unwrap();
    let mut metrics: Vec<&str> = rows.iter().map(|r| r.metric.as_str()).collect();
    metrics.dedup();
    let all = ["attention_entropy", "distance", "previous_token_mul", "duplicate_token_mul", "induction_mul"];
    assert_eq!(metrics, all.repeat(4));
    let page = path(dir.path().join("page"));
    succeed(&["report", &out, "--out", &page, "--quiet"]);
}
