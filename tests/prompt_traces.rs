//! Prompts as traces: horizons, followed tokens, and `view` into files.

use std::{collections::BTreeMap, fs, path::Path};

use layerscope::{
    lens::trajectory::{PromptStates, Trace, Tracked, read_traces},
    lenses::{Affine, FutureLens, Horizon, LayerIndex, LogitLens},
    model::Model,
    results::run::{Manifest, Status},
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::cli::{fixture, gpt2, layerscope, path, refusal, result, succeed};

const PROMPT: &str = "Alice was beginning </script><script>alert(1)</script> שלום 漢字";

/// A future lens without a map says what the logit lens says, of a token further ahead.
#[test]
fn a_horizon_moves_what_is_compared_with() {
    let _no_grad = tch::no_grad_guard();
    let model = Model::load(&fixture("gpt2-alice-8l"), Kind::Float, Device::Cpu, |_, _| ()).unwrap();
    let ids: Vec<u32> = vec![0, 301, 1999, 7, 420, 12];
    let layers: Vec<_> = [2, 5, 8].map(LayerIndex).into();
    let states = PromptStates::run(&model, &ids, &layers).unwrap();
    let next = states.trace(&LogitLens, &layers, 10, Tracked::Top).unwrap();
    let identity = Affine::identity(model.spec().d_model, Device::Cpu);
    let lens = FutureLens::new("ahead", Horizon(3), BTreeMap::from([(LayerIndex(2), identity)]));
    let ahead = states.trace(&lens, &layers, 10, Tracked::First).unwrap();
    assert_eq!((next.layers.clone(), ahead.layers.clone()), (vec![2, 5, 8], vec![2]));
    for i in 0..ids.len() {
        let (near, far) = (&next.cells[0][i], &ahead.cells[0][i]);
        assert_eq!(near.top.first().map(|t| t.0), far.top.first().map(|t| t.0));
        assert!((near.entropy - far.entropy).abs() < 1e-4);
        assert_eq!((far.kl.is_some(), far.ce.is_some()), (i + 2 < ids.len(), i + 3 < ids.len()), "{i}");
    }
    // By hand at position 1: the model's own distribution two places on, the true token three on.
    let dense = |layer: usize, place: i64| -> Tensor {
        let mut capture = layerscope::hook::Capture::new(
            [layerscope::hook::HookPoint::Block(layer, layerscope::hook::BlockHook::ResidPre)]
                .into_iter()
                .collect(),
        );
        let tokens: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        model.forward(&Tensor::from_slice(&tokens).unsqueeze(0), &mut capture).unwrap();
        let state = capture.into_inner().into_values().next().unwrap().squeeze_dim(0);
        model.unembed().logits(&state.narrow(0, place, 1)).unwrap().log_softmax(-1, Kind::Double)
    };
    let (q, p) = (dense(2, 1), dense(8, 3));
    let kl = (p.exp() * (&p - &q)).sum(Kind::Double).double_value(&[]);
    let cell = &ahead.cells[0][1];
    assert!((cell.kl.unwrap() - kl).abs() < 1e-4, "{:?} {kl}", cell.kl);
    assert!((cell.ce.unwrap() + q.double_value(&[0, 420])).abs() < 1e-4);
    // Followed tokens: all of every top-10, each with the probability that a dense softmax gives it.
    let cell = &next.cells[1][4];
    let dense = dense(5, 4);
    assert!(
        next.cells
            .iter()
            .all(|layer| layer[4].top.iter().all(|(id, _)| cell.tracked.iter().any(|(t, _)| t == id)))
    );
    for (id, p) in &cell.tracked {
        assert!((dense.double_value(&[0, i64::from(*id)]).exp() - p).abs() < 1e-6);
    }
}

fn view(out: &Path, extra: &[&str]) -> String {
    let model = gpt2();
    let html = path(out.join("page.html"));
    let run = path(out.join("run"));
    let args = [
        "view",
        "--quiet",
        "--model",
        &model,
        "--text",
        PROMPT,
        "--text",
        "The old man",
        "--html",
        &html,
        "--out",
        &run,
    ];
    succeed(&[&args, extra].concat())
}

#[test]
fn view_writes_a_page_and_a_run() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(view(dir.path(), &[]), "");
    let page = fs::read_to_string(dir.path().join("page.html")).unwrap();
    assert_eq!(page.matches("</script").count(), 2, "the page's own data and script");
    assert!(!page.contains("alert(1)</") && page.contains("alert"));
    let traces = read_traces(&dir.path().join("run")).unwrap();
    assert_eq!(Manifest::read(&dir.path().join("run")).unwrap().unwrap().status, Status::Complete);
    assert_eq!((traces.len(), traces[0].lenses.len(), &*traces[0].model), (2, 1, "gpt2-alice-8l"));
    agrees_with_json(&traces[0]);
    // Repeated, the same job: nothing changes; another prompt is another job.
    let before = fs::read(dir.path().join("run/trajectory.parquet")).unwrap();
    view(dir.path(), &["--json"]);
    assert_eq!(fs::read(dir.path().join("run/trajectory.parquet")).unwrap(), before);
    let run = path(dir.path().join("run"));
    let other = ["view", "--quiet", "--model", &gpt2(), "--text", "Other", "--out", &run];
    assert_eq!(refusal(layerscope().args(other), 2, &["another job", "--force"]), None);
    // A page is as safe as a folder.
    let html = path(dir.path().join("page.html"));
    let page = fs::read_to_string(&html).unwrap(); // written again since, by the command line with --json
    let other = ["view", "--quiet", "--model", &gpt2(), "--text", "Other", "--html", &html];
    assert_eq!(
        refusal(layerscope().args(other), 2, &["page.html: the file is there already", "--force"]),
        None
    );
    assert_eq!(fs::read_to_string(&html).unwrap(), page);
    succeed(&[&other[..], &["--force"]].concat());
    assert!(fs::read_to_string(&html).unwrap() != page);
}

/// Equal, but for the last digit that reading JSON may lose.
fn same(ours: Option<f64>, json: &Value) {
    match (ours, json.as_f64()) {
        (Some(a), Some(b)) => assert!((a - b).abs() <= 1e-14 * b.abs().max(1e-3), "{a} {b}"),
        (ours, json) => assert_eq!(ours, json),
    }
}

/// Every number of the trace is that of `view --json`.
fn agrees_with_json(trace: &Trace) {
    let out = succeed(&["view", "--quiet", "--json", "--model", &gpt2(), "--text", PROMPT]);
    let json = result(&out);
    for (l, layer) in json["lenses"][0]["layers"].as_array().unwrap().iter().enumerate() {
        for (i, cell) in layer["positions"].as_array().unwrap().iter().enumerate() {
            let ours = &trace.lenses[0].cells[l][i];
            let top = cell["top"].as_array().unwrap();
            assert_eq!(ours.top.len(), top.len());
            for ((id, p), read) in ours.top.iter().zip(top) {
                assert_eq!(read["id"].as_u64(), Some(u64::from(*id)));
                same(Some(*p), &read["prob"]);
            }
            same(Some(ours.entropy), &cell["entropy"]);
            same(ours.kl, &cell["kl"]);
            same(ours.ce, &cell["ce"]);
            assert_eq!(
                (ours.rank_of_final, ours.rank_of_true),
                (cell["rank_of_final"].as_i64(), cell["rank_of_true"].as_i64())
            );
            let (first, p) = ours.top[0];
            let followed = ours.tracked.iter().find(|(id, _)| *id == first);
            assert!(followed.is_some_and(|(_, q)| (p - q).abs() < 1e-12), "{:?}", ours.tracked);
        }
    }
}

#[test]
fn view_writes_what_logitlenskit_reads() {
    let dir = tempfile::tempdir().unwrap();
    let file = path(dir.path().join("kit.json"));
    let model = gpt2();
    let args =
        ["view", "--quiet", "--model", &model, "--text", PROMPT, "--top-k", "5", "--logitlenskit", &file];
    succeed(&args);
    let kit: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!((&kit["meta"]["version"], &kit["layers"][8]), (&Value::from(2), &Value::from(8)));
    let n = kit["input"].as_array().unwrap().len();
    assert_eq!(kit["tracked"].as_array().unwrap().len(), n);
    for (l, layer) in kit["topk"].as_array().unwrap().iter().enumerate() {
        for (i, top) in layer.as_array().unwrap().iter().enumerate() {
            let of = |token: &Value| kit["tracked"][i][token.as_str().unwrap()][l].as_f64().unwrap();
            let probs: Vec<f64> = top.as_array().unwrap().iter().map(of).collect();
            assert_eq!((probs.len(), layer.as_array().unwrap().len()), (5, n));
            assert!(probs.is_sorted_by(|a, b| a >= b), "{probs:?}");
        }
    }
    let two = [&args[..], &["--lens", "logit", "--lens", "logit"]].concat();
    assert_eq!(refusal(layerscope().args(two), 2, &["one --text through one --lens"]), None);
}
