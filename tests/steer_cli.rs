//! `steer`: numbers against a dense computation with a tap, and refusals.

use std::{collections::BTreeMap, path::Path};

use layerscope::{
    hook::{BlockHook, Edit, HookPoint},
    model::Model,
    results::run::{MetricRow, RowKind, read_metrics},
    sources::text::{BosPolicy, Tokenizer},
    states::write_tensors,
};
use tch::{Device, Kind, Tensor};

use crate::cli::{fixture, gpt2, layerscope, path, refusal, succeed};

/// Twice the same text: two documents.
const TEXT: &str = "Alice was beginning to get very tired of sitting by her sister";

fn find<'a>(rows: &'a [MetricRow], subject: &str, metric: &str, layer: i32) -> &'a MetricRow {
    let own = |r: &&MetricRow| r.subject == subject && r.metric == metric && r.layer == layer;
    rows.iter().find(own).unwrap_or_else(|| panic!("no {metric} of {subject} at {layer}"))
}

#[test]
fn a_push_does_what_a_tap_does() {
    let _no_grad = tch::no_grad_guard();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    let model = Model::load(&fixture("gpt2-alice-8l"), Kind::Float, Device::Cpu, |_, _| ()).unwrap();
    let tokenizer = Tokenizer::load(&fixture("gpt2-alice-8l"), BosPolicy::Auto).unwrap();
    let d = model.spec().d_model as i64;
    let vector = Tensor::arange(d, (Kind::Double, Device::Cpu)).cos();
    let tensors = BTreeMap::from([("wave".to_owned(), vector.shallow_clone())]);
    write_tensors(dir.path().join("v.safetensors").as_path(), &tensors).unwrap();
    std::fs::write(dir.path().join("text.jsonl"), format!("{{\"text\": {TEXT:?}}}\n").repeat(2)).unwrap();
    succeed(&[
        "steer",
        "--quiet",
        "--model",
        &gpt2(),
        "--data",
        &at("text.jsonl"),
        "--direction",
        &at("v.safetensors"),
        "--layers",
        "3,8",
        "--strengths",
        "-0.4,0.4,0.8",
        "--random",
        "1",
        "--toward",
        " the",
        "--away",
        " a",
        "--out",
        &at("run"),
    ]);
    let rows = read_metrics(&dir.path().join("run")).unwrap();

    let mut ids: Vec<i64> = vec![0];
    ids.extend(tokenizer.encode(TEXT).unwrap().into_iter().filter(|id| *id != 0).map(i64::from));
    let input = Tensor::from_slice(&ids).unsqueeze(0);
    let point = HookPoint::Block(3, BlockHook::ResidPre);
    let mut stream = Tensor::new();
    let logits = |push: Option<Tensor>, stream: &mut Tensor| {
        let mut tap = Edit::at(point, |value: Tensor| {
            *stream = value.copy();
            push.as_ref().map_or_else(|| value.shallow_clone(), |push| &value + push)
        });
        model.forward(&input, &mut tap).unwrap().unwrap().squeeze_dim(0).to_kind(Kind::Double)
    };
    let own = logits(None, &mut stream);
    let lengths = stream.squeeze_dim(0).narrow(0, 1, ids.len() as i64 - 1).square().sum_dim_intlist(
        [-1_i64].as_slice(),
        false,
        Kind::Double,
    );
    let length = lengths.sqrt().mean(Kind::Double).double_value(&[]);
    assert!((find(&rows, "model", "stream_length", 3).estimate / length - 1.0).abs() < 1e-5);

    let one = |text: &str| i64::from(*tokenizer.encode(text).unwrap().last().unwrap());
    let difference = |logits: &Tensor| {
        let column = |id: i64| logits.select(1, id);
        (column(one(" the")) - column(one(" a"))).mean(Kind::Double).double_value(&[])
    };
    let unit = &vector / vector.norm();
    let (mut xy, mut xx) = (0.0, 0.0);
    for strength in [-0.4, 0.4, 0.8] {
        let push = (&unit * (strength * length)).to_kind(Kind::Float);
        let steered = logits(Some(push), &mut stream);
        let (p, q) = (own.log_softmax(-1, Kind::Double), steered.log_softmax(-1, Kind::Double));
        let kl = (p.exp() * (&p - &q)).sum(Kind::Double).double_value(&[]) / ids.len() as f64;
        let same = own.argmax(-1, false).eq_tensor(&steered.argmax(-1, false)).to_kind(Kind::Double);
        let next = Tensor::from_slice(&ids[1..]).unsqueeze(1);
        let ce = -q.narrow(0, 0, ids.len() as i64 - 1).gather(1, &next, false).mean(Kind::Double);
        let response = difference(&steered) - difference(&own);
        let expected = [
            ("kl", kl),
            ("agreement", same.mean(Kind::Double).double_value(&[])),
            ("ce", ce.double_value(&[])),
            ("response", response),
        ];
        let subject = format!("wave@{strength:+}");
        for (metric, expected) in expected {
            let found = find(&rows, &subject, metric, 3);
            assert!(
                (found.estimate - expected).abs() < 2e-4,
                "{subject} {metric} {} {expected}",
                found.estimate
            );
            // Two documents make no interval.
            assert!(found.kind == RowKind::Steer && found.lower.is_none() && found.n_clusters == 2);
            assert!(found.reason.as_deref().unwrap().ends_with("effective clusters, fewer than 5"));
        }
        let less = find(&rows, &subject, "ce", 3).estimate - find(&rows, "model", "ce", 8).estimate;
        assert!((find(&rows, &subject, "ce_increase", 3).estimate - less).abs() < 1e-9);
        xy += strength * response;
        xx += strength * strength;
    }
    assert!((find(&rows, "wave", "response_slope", 3).estimate - xy / xx).abs() < 1e-3);
    let random = find(&rows, "random-1@+0.4", "kl", 3);
    assert_eq!(random.kind, RowKind::SteerRandom);
    // One random direction, pushed to one side for both.
    assert!(rows.iter().all(|r| r.subject != "random-1@-0.4"));
    let farther = find(&rows, "wave@-0.4", "kl", 3).estimate > random.estimate;
    let rank = find(&rows, "wave@-0.4", "kl_rank", 3);
    assert_eq!((rank.estimate, rank.n), (if farther { 1.0 } else { 2.0 }, 1));
    assert_eq!(
        find(&rows, "random-mean@+0.8", "kl", 3).estimate,
        find(&rows, "random-1@+0.8", "kl", 3).estimate
    );
    assert!(find(&rows, "wave@+0.8", "kl", 8).estimate > find(&rows, "wave@+0.4", "kl", 8).estimate);
}

#[test]
fn what_cannot_be_steered_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    let zeros = |n: i64| Tensor::zeros([n], (Kind::Float, Device::Cpu));
    let tensors = BTreeMap::from([
        ("short".to_owned(), zeros(7) + 1.0),
        ("nothing".to_owned(), zeros(128)),
        ("good".to_owned(), zeros(128) + 1.0),
    ]);
    write_tensors(dir.path().join("v.safetensors").as_path(), &tensors).unwrap();
    let file = at("v.safetensors");
    let of = |key: &str| format!("{file}:{key}");
    let cases: [(&[&str], &[&str]); 10] = [
        (&["--direction", &of("nothing")], &["direction nothing has no length at any layer"]),
        (&["--direction", &file], &["which of", "good, nothing, short", "PATH:KEY"]),
        (&["--direction", &of("other")], &["no tensor \"other\"", "good"]),
        (&["--direction", &of("short")], &["direction short, layer 0", "[7], not [128]"]),
        (&["--direction", &of("nothing"), "--layers", "2"], &["direction nothing, layer 2", "length is 0"]),
        (&["--direction", &at("nowhere")], &["nowhere"]),
        (&["--direction", &of("good"), "--layers", "12"], &["12"]),
        (&["--direction", &of("good"), "--strengths", "0.5,0"], &["--strengths", "0"]),
        (
            &["--direction", &of("good"), "--toward", " the", "--away", " caterpillars"],
            &["is not one token but"],
        ),
        (&["--direction", &of("good"), "--direction", &of("good")], &["two directions are called good"]),
    ];
    refused(&cases, dir.path());
}

/// Pairs and a sentence: what was found is kept, steers again the same, and makes `generate` say the sentence.
#[test]
fn what_the_model_is_asked_for_is_kept_and_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    let pairs = "positive,negative\nthe queen was here,the king was here\nher sister sat,his brother sat\n\
                 she said,he said\nthe woman ran,the man ran\n";
    std::fs::write(dir.path().join("pairs.csv"), pairs).unwrap();
    std::fs::write(dir.path().join("text.jsonl"), format!("{{\"text\": {TEXT:?}}}\n")).unwrap();
    let steer = |more: &[&str]| {
        let (model, data) = (gpt2(), at("text.jsonl"));
        let shared = [
            "steer",
            "--quiet",
            "--model",
            &model,
            "--data",
            &data,
            "--layers",
            "4,6",
            "--strengths",
            "0.25",
        ];
        succeed(&[&shared, more].concat());
    };
    let sentence = "The king went to the sea.";
    steer(&[
        "--pairs",
        &at("pairs.csv"),
        "--sentence",
        sentence,
        "--sentence-steps",
        "120",
        "--random",
        "1",
        "--out",
        &at("one"),
    ]);
    let found = at("one/directions.safetensors");
    let pca = format!("{found}:pca");
    steer(&["--direction", &pca, "--random", "1", "--out", &at("two")]);
    let read = |name: &str| read_metrics(&dir.path().join(name)).unwrap();
    let (one, two) = (read("one"), read("two"));
    for layer in [4, 6] {
        let kl = |rows: &[MetricRow]| find(rows, "pca@+0.25", "kl", layer).estimate;
        assert!((kl(&one) / kl(&two) - 1.0).abs() < 1e-5, "{} {}", kl(&one), kl(&two)); // kept in f32
        assert_eq!(
            find(&one, "random-1@+0.25", "kl", layer).estimate,
            find(&two, "random-1@+0.25", "kl", layer).estimate
        );
        let consistency = find(&one, "pairs", "consistency", layer);
        assert!(consistency.n == 4 && consistency.n_eff == 4.0 && consistency.lower.is_none());
        let random = find(&one, "sentence-random", "sentence_ce", layer);
        assert!(random.estimate > 4.0 && random.kind == RowKind::SteerRandom);
    }
    assert_eq!(find(&one, "sentence", "recovered", 4).estimate, 1.0);
    let edit = format!("blocks.4.hook_resid_pre:add={found}:sentence.4");
    let mut said = layerscope();
    said.args(["generate", "--quiet", "--json", "--model", &gpt2(), "--text", "", "--edit", &edit]);
    said.args(["--edit-steps", "all", "--max-new-tokens", "12"]);
    let out = crate::cli::end(&mut said);
    assert!(out.out.contains(sentence), "{out:?}");
}

#[test]
fn pairs_and_sentences_that_give_nothing_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    let files = [
        ("two.csv", "positive,negative\na,b\nc,d\n"),
        ("other.csv", "text,negative\na,b\n"),
        ("empty.csv", "positive,negative\na,b\n,d\ne,f\n"),
        ("half.jsonl", "{\"positive\": \"a\"}\n"),
        ("good.csv", "positive,negative\na,b\nc,d\ne,f\n"),
    ];
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let good = at("good.csv");
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--pairs", &at("two.csv")], &["two.csv", "2 pairs given, at least 3"]),
        (&["--pairs", &at("other.csv")], &["no column \"positive\""]),
        (&["--pairs", &at("empty.csv")], &["empty.csv:3", "a positive and a negative text"]),
        (&["--pairs", &at("half.jsonl")], &["half.jsonl", "negative"]),
        (&["--pairs", &at("nowhere.csv")], &["nowhere.csv"]),
        (&["--pairs", &good, "--layers", "12"], &["no layer 12", "0 to 8"]),
        (&["--sentence", ""], &["--sentence", "nothing to say"]),
        (&["--sentence", "She ran.", "--sentence-rate", "0"], &["--sentence-rate"]),
        (&[], &["--direction"]),
    ];
    refused(&cases, dir.path());
}

/// Every command ends with exit code 2 and says what is wrong, before anything is written.
fn refused(cases: &[(&[&str], &[&str])], dir: &Path) {
    let (stories, out) = (path(fixture("stories.jsonl")), dir.join("out"));
    let wrong = cases.iter().filter_map(|(args, says)| {
        let mut command = layerscope();
        command.args(["steer", "--quiet", "--model", &gpt2(), "--data", &stories]).arg("--out").arg(&out);
        refusal(command.args(*args), 2, says)
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!out.exists());
}
