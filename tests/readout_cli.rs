//! `--readout` from the outside, and what else of `lens fit` changes how it goes: a number added to all logits changes
//! no probability and so no lens, in bf16 as in f32.

use std::{collections::BTreeMap, path::Path};

use layerscope::{
    hook::{BlockHook, HookPoint},
    model::Model,
    results::run::{MetricRow, RowKind, read_metrics},
};
use safetensors::Dtype;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::{
    cli::{edit_config, end, gpt2, path, rewrite, words},
    lens_cli::{events, find, lens, made_lens, stories, validations},
    properties::{everything, fixture},
};

/// The bundled model with one vector added to every row of its head, so that all logits move by about `-shift`.
fn shifted(dir: &Path, shift: f64) -> String {
    let from = fixture("gpt2-alice-8l");
    let model = Model::load(&from, Kind::Float, Device::Cpu, |_, _| ()).unwrap();
    let ids = Tensor::from_slice(&(0..20).map(|i| (i * 37) % 4000).collect::<Vec<i64>>()).view([1, 20]);
    let pass = everything(&model, &ids, &mut ());
    let last = &pass[&HookPoint::Block(model.spec().n_layers, BlockHook::ResidPre)];
    let u = model.unembed().normalize(last).unwrap().mean_dim([0i64, 1].as_slice(), false, Kind::Float);
    let moved = (&u / u.square().sum(Kind::Float) * shift).unsqueeze(0);
    let head = (model.unembed().weight() - moved).contiguous();
    let bytes: Vec<u8> =
        Vec::<f32>::try_from(head.view(-1)).unwrap().iter().flat_map(|x| x.to_le_bytes()).collect();
    let out = dir.join(format!("shift{shift}"));
    std::fs::create_dir_all(&out).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(from.join(name), out.join(name)).unwrap();
    }
    let shape: Vec<usize> = head.size().iter().map(|n| *n as usize).collect();
    rewrite(&from.join("model.safetensors"), &out.join("model.safetensors"), |tensors| {
        tensors.insert("lm_head.weight".into(), (Dtype::F32, shape, bytes));
    });
    edit_config(&out, "tie_word_embeddings", json!(false));
    path(out)
}

/// Best held-out losses per layer of the one target of a fit.
fn held_out(events: &[Value], target: &str) -> Vec<f64> {
    let all = events.last().unwrap()["held_out"][target].as_array().unwrap().iter();
    all.map(|x| x.as_f64().unwrap()).collect()
}

fn furthest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn a_fit_does_not_depend_on_the_level_of_the_logits() {
    let dir = tempfile::tempdir().unwrap();
    let mut first: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for shift in [0.0, -1000.0, 3000.0] {
        let model = shifted(dir.path(), shift);
        for (kind, readout, size) in [
            ("tuned", "exact", "--layers 2,5 --tokens 1800"),
            ("tuned", "fast", "--layers 2,5 --tokens 1800"),
            ("linear", "exact", "--tokens 1800"),
            ("linear", "fast", "--tokens 1800"),
        ] {
            let out = dir.path().join(format!("{kind}{readout}{shift}"));
            let extra = format!("--kind {kind} --readout {readout} {size}");
            let got = held_out(&events(&mut lens("fit", &model, &stories(), &out, &extra)), kind);
            let manifest = std::fs::read(out.join("manifest.json")).unwrap();
            let manifest: Value = serde_json::from_slice(&manifest).unwrap();
            assert_eq!(manifest["config"]["readout"], readout);
            let want = first.entry((kind, readout)).or_insert_with(|| got.clone());
            let off = furthest(&got, want);
            assert!(off < 1e-3, "{kind} {readout} {shift}: {off}: {got:?} {want:?}");
        }
    }
    let off = furthest(&first[&("tuned", "fast")], &first[&("tuned", "exact")]);
    assert!(off < 5e-3, "{first:?}");
}

fn metrics(run: &Path, metric: &str) -> Vec<MetricRow> {
    let rows = read_metrics(run).unwrap();
    (0..8).map(|layer| find(&rows, "logit", layer, 1, metric).clone()).collect()
}

#[test]
fn a_fast_evaluation_is_an_exact_one_to_what_is_documented() {
    let dir = tempfile::tempdir().unwrap();
    let mut exact = BTreeMap::new();
    for (shift, readout) in [(0.0, "exact"), (0.0, "fast"), (3000.0, "exact"), (3000.0, "fast")] {
        let model = shifted(dir.path(), shift);
        let run = dir.path().join(format!("run{readout}{shift}"));
        let extra = format!("--lens logit --tokens 1200 --replicates 20 --per-token --readout {readout}");
        let events = events(&mut lens("eval", &model, &stories(), &run, &extra));
        assert!(!events.is_empty());
        // Means over 1200 tokens; a rank counts tokens whose logits bf16 cannot tell apart.
        for (metric, tolerance) in [
            ("kl", 2e-3),
            ("ce", 2e-3),
            ("entropy", 4e-3),
            ("agreement", 2e-3),
            ("precision_at_10", 2e-3),
            ("marginal_kl", 2e-3),
        ] {
            let got: Vec<f64> = metrics(&run, metric).iter().map(|row| row.estimate).collect();
            let want = exact.entry(metric).or_insert_with(|| got.clone());
            // A head moved by thousands is rounded to f32: shares of 1200 tokens may differ by two of them.
            let share = ["agreement", "precision_at_10"].contains(&metric);
            let tolerance = if readout == "exact" && !share { 1e-4 } else { tolerance };
            let off = furthest(&got, want);
            assert!(off < tolerance, "{metric} {readout} {shift}: {off}: {got:?} {want:?}");
            assert!(metric == "agreement" || got.iter().all(|x| *x > -1e-6), "{metric} {got:?}");
        }
    }
}

#[test]
fn a_fast_transfer_is_an_exact_one_to_what_is_documented() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made");
    made_lens("gpt2-alice-8l", "random-gpt2", &made);
    let runs = ["exact", "fast"].map(|readout| {
        let run = dir.path().join(readout);
        let extra = format!(
            "--lens {} --layers 2,5 --tokens 1200 --replicates 10 --no-corrections --readout {readout}",
            path(&made)
        );
        events(&mut lens("transfer", &gpt2(), &stories(), &run, &extra));
        let mut rows = read_metrics(&run).unwrap();
        rows.retain(|row| row.kind == RowKind::Transfer && row.unit == "nats");
        rows
    });
    assert!(runs[0].len() >= 12 && runs[0].len() == runs[1].len());
    for (exact, fast) in runs[0].iter().zip(&runs[1]) {
        assert_eq!(
            (&exact.metric, exact.layer, exact.source_layer),
            (&fast.metric, fast.layer, fast.source_layer)
        );
        // The random lens is far from the model: of its 600 tokens' means less is documented than of a thousand's.
        assert!((exact.estimate - fast.estimate).abs() < 3e-3, "{exact:?} {fast:?}");
    }
}

/// What a user is told: which readout it was, and how far a fast one was off.
#[test]
fn a_fast_readout_says_how_good_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let run = |readout: &str| {
        let mut command = crate::cli::layerscope();
        let words =
            words(&format!("lens eval --threads 1 --lens logit --tokens 600 --layers 3 --readout {readout}"));
        command.args(words).args(["--model", &gpt2(), "--data", &stories(), "--out"]);
        end(command.arg(dir.path().join(readout))).err
    };
    assert!(!run("exact").contains("readout:"));
    let fast = run("fast");
    assert!(fast.contains("readout: fast; ") && fast.contains("% of ") && fast.contains("rows"), "{fast}");
    let auto = run("auto");
    assert!(auto.contains("readout: fast; ") || auto.contains("readout: exact, since this CPU"), "{auto}");
}

fn fit(out: &Path, extra: &str) -> Vec<Value> {
    events(&mut lens("fit", &gpt2(), &stories(), out, &format!("--kind tuned --layers 2,5 {extra}")))
}

/// Steps logged by a fit: the last step of any layer.
fn steps(out: &Path) -> i64 {
    let file = std::fs::File::open(out.join("fit.parquet")).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let column = |batch: &arrow::array::RecordBatch| {
        let steps = batch.column(0).as_any().downcast_ref::<arrow::array::Int32Array>().unwrap().clone();
        steps.iter().flatten().max().unwrap_or(0)
    };
    let batches = reader.build().unwrap();
    i64::from(batches.map(|batch| column(&batch.unwrap())).max().unwrap())
}

/// A step size at which nothing is gained: with little patience such a fit ends early, with much it goes on.
#[test]
fn patience_ends_a_fit_that_gains_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let size = "--tokens 3000 --step-tokens 128 --rate 1 --trust 50";
    let mut took = Vec::new();
    for patience in [1, 100] {
        let out = dir.path().join(patience.to_string());
        fit(&out, &format!("{size} --patience {patience}"));
        took.push(steps(&out));
    }
    assert!(took[0] < took[1] && took[1] >= 8, "{took:?}");
}

/// A trust region of nothing holds the translators where they began; a larger one lets them go further.
#[test]
fn trust_bounds_the_steps() {
    let dir = tempfile::tempdir().unwrap();
    let moved = |trust: &str| {
        let extra =
            format!("--tokens 3000 --step-tokens 512 --init zero --rate 1 --trust {trust} --patience 9");
        let events = fit(&dir.path().join(trust), &extra);
        let all = validations(&events, "tuned");
        furthest(&all[0], &all[1])
    };
    let (none, little, much) = (moved("1e-12"), moved("1e-3"), moved("0.2"));
    assert!(none < 1e-3 && none < little && 2.0 * little < much, "{none} {little} {much}");
}

#[test]
fn the_readout_of_a_fit_is_the_one_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let fits = ["exact", "fast"].map(|readout| {
        let out = dir.path().join(readout);
        held_out(&fit(&out, &format!("--tokens 2500 --readout {readout}")), "tuned")
    });
    let off = furthest(&fits[0], &fits[1]);
    // bf16 leaves its traces, and no more.
    assert!(off > 0.0 && off < 5e-3, "{fits:?}");
}
