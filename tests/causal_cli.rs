//! `lens causal`: numbers against dense softmaxes with a tap, and refusals.

use std::path::Path;

use layerscope::{
    hook::{BlockHook, Capture, Edit, HookPoint, Selection},
    lenses::LayerIndex,
    model::{Model, Weights},
    results::run::{MetricRow, read_metrics},
    sources::text::{BosPolicy, Tokenizer},
};
use tch::{Device, Kind, Tensor};

use crate::{
    cli::{end, fixture, gpt2, layerscope, path, refusal, result, run, succeed},
    lens_cli::made_lens,
};

/// Four documents: the first and the third are measured, the others give directions.
const TEXTS: [&str; 4] = [
    "Alice was beginning to get very tired of sitting by her sister on the bank",
    "The old man looked at the sea and said that it would rain before the night",
    "There was a cat in the garden, and it did not want to come into the house",
    "She opened the little door with the key and looked into the long passage",
];
const LAYERS: [usize; 2] = [3, 8];

fn write_texts(file: &Path) {
    let lines: Vec<String> = TEXTS.iter().map(|text| format!("{{\"text\": {text:?}}}\n")).collect();
    std::fs::write(file, lines.concat()).unwrap();
}

fn find<'a>(rows: &'a [MetricRow], subject: &str, metric: &str, layer: usize) -> &'a MetricRow {
    let own = |r: &&MetricRow| r.subject == subject && r.metric == metric && r.layer == layer as i32;
    rows.iter().find(own).unwrap_or_else(|| panic!("no {metric} of {subject} at {layer}"))
}

fn point(layer: usize) -> HookPoint {
    HookPoint::Block(layer, BlockHook::ResidPre)
}

/// `Σ KL(p ‖ q)` over rows of logits.
fn divergence(p: &Tensor, q: &Tensor) -> f64 {
    let [p, q] = [p, q].map(|t| t.log_softmax(-1, Kind::Double));
    (p.exp() * (&p - &q)).sum(Kind::Double).double_value(&[])
}

#[test]
fn energies_and_effects_are_those_of_a_dense_computation() {
    let _no_grad = tch::no_grad_guard();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    write_texts(&dir.path().join("text.jsonl"));
    made_lens("gpt2-alice-8l", "random-gpt2", &dir.path().join("made"));
    let (model, data, lens, out) = (gpt2(), at("text.jsonl"), at("made"), at("run"));
    let args = [
        "lens",
        "causal",
        "--json",
        "--model",
        &model,
        "--data",
        &data,
        "--lens",
        &lens,
        "--layers",
        "3,8",
        "--directions",
        "4",
        "--basis-tokens",
        "20",
        "--replicates",
        "100",
        "--out",
        &out,
    ];
    let told = result(&succeed(&args));
    let rows = read_metrics(&dir.path().join("run")).unwrap();
    assert_eq!(
        (told["rows"].as_u64(), told["layers"].as_array().unwrap().len()),
        (Some(rows.len() as u64), 2)
    );
    let said = &told["layers"][0]["lenses"]["logit"]["spearman_all"]["estimate"];
    assert_eq!(said.as_f64(), Some(find(&rows, "logit", "spearman_all", 3).estimate));

    let bases = Weights::open_file(&dir.path().join("run/bases.safetensors"), Kind::Double).unwrap();
    let lens =
        layerscope::lens::artifact::load(&dir.path().join("made"), "made", Device::Cpu).unwrap().remove(0);
    let loaded = Model::load(&fixture("gpt2-alice-8l"), Kind::Float, Device::Cpu, |_, _| ()).unwrap();
    let tokenizer = Tokenizer::load(&fixture("gpt2-alice-8l"), BosPolicy::Auto).unwrap();
    let ids: Vec<Tensor> = [0, 2]
        .iter()
        .map(|i| {
            let own = tokenizer.encode(TEXTS[*i]).unwrap().into_iter().filter(|id| *id != 0);
            Tensor::from_slice(&[0].into_iter().chain(own).map(i64::from).collect::<Vec<_>>()).unsqueeze(0)
        })
        .collect();
    let tokens: i64 = ids.iter().map(|ids| ids.size()[1]).sum();
    let unembed = |x: &Tensor| loaded.unembed().logits(x).unwrap();
    for layer in LAYERS {
        let mean = bases.take_any(&format!("mean.layer.{layer}")).unwrap();
        for set in ["logit.cbe", "made.cbe", "pca", "random"] {
            let name = format!("{set}.layer.{layer}");
            if layer == 8 && set == "made.cbe" {
                // A tuned lens has no translator for the last layer.
                assert!(bases.take_any(&name).unwrap_err().to_string().contains(&name));
                continue;
            }
            let basis = bases.take_any(&name).unwrap();
            let gram = basis.matmul(&basis.tr()) - Tensor::eye(4, (Kind::Double, Device::Cpu));
            assert!(basis.size() == [4, 128] && gram.abs().max().double_value(&[]) < 1e-5, "{name}");
            let v = basis.get(1);
            let without = |h: &Tensor| {
                let h = h.to_kind(Kind::Double);
                let share = (&mean - &h).matmul(&v).unsqueeze(-1);
                (h + share * &v).to_kind(Kind::Float)
            };
            let (mut effect, mut energies) = (0.0, [0.0; 2]);
            for ids in &ids {
                let mut keep = Capture::new([point(layer)].into_iter().collect::<Selection>()).run_on();
                let own = loaded.forward(ids, &mut keep).unwrap().unwrap();
                let h = keep.get(point(layer)).unwrap();
                let mut tap = Edit::at(point(layer), |value: Tensor| without(&value));
                effect += divergence(&own, &loaded.forward(ids, &mut tap).unwrap().unwrap());
                energies[0] += divergence(&unembed(h), &unembed(&without(h)));
                if layer < 8 {
                    let read = |h: &Tensor| unembed(&lens.transform(LayerIndex(layer), h).unwrap());
                    energies[1] += divergence(&read(h), &read(&without(h)));
                }
            }
            let close = |subject: &str, metric: &str, want: f64| {
                let row = find(&rows, &format!("{subject}@{set}-2"), metric, layer);
                let want = want / tokens as f64;
                assert!((row.estimate - want).abs() < 1e-5 + 1e-3 * want, "{name} {subject}: {row:?} {want}");
                assert!(row.n == tokens && row.n_clusters == 2 && row.lower.is_some(), "{row:?}");
            };
            close("model", "effect", effect);
            close("logit", "energy", energies[0]);
            if layer < 8 {
                close("made", "energy", energies[1]);
            }
        }
    }
    let own = |i: usize, metric: &str| find(&rows, &format!("logit@logit.cbe-{i}"), metric, 3).estimate;
    assert!((1..4).all(|i| own(i, "energy_fit") >= own(i + 1, "energy_fit")));
    // At the last layer the logit lens is the model.
    assert_eq!(find(&rows, "logit", "spearman", 8).estimate, 1.0);

    // Nothing is computed twice, and the report draws it.
    let again = end(layerscope().args(args));
    assert!(again.code == Some(0) && again.err.contains("is complete already"), "{again:?}");
    let told = result(&succeed(&["report", "--json", "--quiet", &out, "--out", &at("report")]));
    let names: Vec<&str> =
        told["figures"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    let expected = [
        "causal-spearman",
        "causal-alignment",
        "causal-effect",
        "causal-scatter-logit",
        "causal-scatter-made",
    ];
    assert_eq!(names, expected);
}

#[test]
fn one_document_has_numbers_without_intervals() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    std::fs::write(dir.path().join("one.txt"), TEXTS.concat()).unwrap();
    let ended = run(&[
        "lens",
        "causal",
        "--model",
        &gpt2(),
        "--data",
        &at("one.txt"),
        "--seq-len",
        "16",
        "--layers",
        "8",
        "--directions",
        "3",
        "--basis-tokens",
        "16",
        "--mode",
        "resample",
        "--out",
        &at("run"),
    ]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("one document gives no interval; --cluster window"), "{}", ended.err);
    let rows = read_metrics(&dir.path().join("run")).unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|r| r.lower.is_none() && r.n_clusters <= 1));
}

#[test]
fn what_cannot_be_checked_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    write_texts(&dir.path().join("text.jsonl"));
    std::fs::write(dir.path().join("short.txt"), "Alice was").unwrap();
    made_lens("llama-alice-6l", "random-llama", &dir.path().join("llama"));
    let (data, short, llama, nowhere) = (at("text.jsonl"), at("short.txt"), at("llama"), at("nowhere"));
    let cases: [(i32, &[&str], &[&str]); 10] = [
        (2, &["--layers", "9"], &["no layer 9", "0 to 8"]),
        (2, &["--directions", "129"], &["--directions 129: the stream has 128"]),
        (2, &["--directions", "0"], &["`0` is neither a number from 1 on nor `all`"]),
        (2, &["--directions", "some"], &["`some`"]),
        (2, &["--mode", "median"], &["`median` is none of mean, zero and resample"]),
        (2, &["--basis-tokens", "1"], &["--basis-tokens 1: at least 2"]),
        (2, &["--no-logit"], &["--lens"]),
        (2, &["--lens", &nowhere], &["nowhere"]),
        (2, &["--data", &short], &["one window"]),
        (3, &["--lens", &llama], &["llama"]),
    ];
    let wrong = cases.into_iter().filter_map(|(code, args, says)| {
        let mut command = layerscope();
        command.args(["lens", "causal", "--quiet", "--model", &gpt2(), "--out", &at("out")]).args(args);
        if !args.contains(&"--data") {
            command.args(["--data", &data]);
        }
        refusal(&mut command, code, says)
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!dir.path().join("out").exists());
}
