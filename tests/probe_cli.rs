//! `probe sweep` and `probe law` from the outside.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::{Float64Type, Int32Type},
};
use bytes::Bytes;
use layerscope::{
    model::Weights,
    results::run::{MetricRow, RowKind, read_metrics},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use tch::Kind;

use crate::cli::{edit_config, end, files, gpt2, layerscope, path, refuse_all, result, tiny, words};
use crate::lens_cli::{llama, stories};
use crate::properties::fixture;

fn statements() -> String {
    path(fixture("probes/statements.csv"))
}

fn sweep(model: &str, data: &str, out: &Path, extra: &str) -> Command {
    let mut all = layerscope();
    all.args(["probe", "sweep", "--quiet", "--model", model, "--data", data, "--out"])
        .arg(out)
        .args(words(extra));
    all
}

fn run(command: &mut Command) -> Value {
    let ended = end(command.arg("--json"));
    assert_eq!(ended.code, Some(0), "{command:?}: {}", ended.err);
    result(&ended.out)
}

fn find<'a>(rows: &'a [MetricRow], subject: &str, layer: i32, metric: &str) -> &'a MetricRow {
    let same = |r: &&MetricRow| (r.subject.as_str(), r.layer, r.metric.as_str()) == (subject, layer, metric);
    rows.iter().find(same).unwrap_or_else(|| panic!("no {metric} of {subject} at layer {layer}"))
}

fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = files(dir);
    files.remove(Path::new("manifest.json")).expect("a manifest");
    files
}

#[test]
fn a_label_that_no_token_tells_is_found_late_and_not_early() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let extra = "--group-column pair --kfold 4 --seeds 1 --mdl 1";
    let summary = run(&mut sweep(&gpt2(), &statements(), &out, extra));
    let rows = read_metrics(&out).unwrap();
    let accuracy = |layer| find(&rows, "logistic", layer, "accuracy");
    // Both orders of a pair hold the same tokens and end in the same one: the embedding and the bag of tokens know
    // nothing.
    assert!((accuracy(0).estimate - 0.5).abs() < 0.02, "{:?}", accuracy(0));
    assert!((find(&rows, "bag-of-tokens", -1, "accuracy").estimate - 0.5).abs() < 0.02);
    assert!((find(&rows, "majority", -1, "majority_accuracy").estimate - 0.5).abs() < 1e-9);
    assert!(accuracy(8).lower.unwrap() > 0.55, "{:?}", accuracy(8));
    assert!((find(&rows, "logistic", 8, "shuffled_accuracy").estimate - 0.5).abs() < 0.15);
    assert!(find(&rows, "logistic", 8, "compression").estimate > 1.0);
    assert_eq!((accuracy(8).n, accuracy(8).n_clusters), (560, 28), "every item is tested once");
    // Of the items of the fit too: three of four folds less their validation part, of the 28 pairs.
    let train = find(&rows, "logistic", 8, "train_accuracy");
    assert!(train.n > 3 * 560 / 2 && train.n < 3 * 560, "{train:?}");
    assert!((20..=28).contains(&train.n_clusters), "{train:?}");
    assert!(train.lower.unwrap() < train.estimate && train.estimate <= train.upper.unwrap(), "{train:?}");
    assert_eq!(find(&rows, "logistic", 0, "tied_with_best").estimate, 0.0);
    let best = summary["best"].as_array().unwrap().iter().find(|b| b["probe"] == "logistic").unwrap();
    assert!(best["layer"].as_u64().unwrap() >= 5, "{best}");
    assert!(
        best["corrected"].as_f64().unwrap()
            <= accuracy(best["layer"].as_u64().unwrap() as i32).estimate + 1e-9
    );
    // Every metric of the contract, and a saved probe that is the one measured.
    for metric in ["accuracy", "macro_f1", "auroc", "nll", "ece"] {
        find(&rows, "lda", 4, metric);
    }
    let probe =
        Weights::open_file(&out.join("probes/logistic.resid_pre.8.safetensors"), Kind::Double).unwrap();
    assert_eq!(probe.take_any("weight").unwrap().size(), [1, 128]);
    let config: Value =
        serde_json::from_slice(&std::fs::read(out.join("probes/logistic.resid_pre.8.json")).unwrap())
            .unwrap();
    assert_eq!(config["classes"], serde_json::json!(["man", "woman"]));
}

/// Words whose tag is a function of the word: selectivity is near zero for a probe that can memorise words.
#[test]
fn a_label_that_is_the_token_has_no_selectivity() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("words.conllu");
    let vocabulary =
        ["the", "cat", "dog", "house", "river", "king", "queen", "door", "garden", "book", "tree", "ship"];
    let mut text = String::new();
    for sentence in 0..120 {
        let _ = writeln!(text, "# newdoc id = d{sentence}");
        for place in 0..6 {
            // No two documents are equal: those would be one group.
            let word = (sentence * 7 + place * (5 + sentence / 12) + sentence * place) % vocabulary.len();
            let tag = ["A", "B"][word % 2];
            let _ = writeln!(text, "{}\t{}\t_\t{tag}\t_\t_\t_\t_\t_\t_", place + 1, vocabulary[word]);
        }
        text.push('\n');
    }
    std::fs::write(&data, text).unwrap();
    let out = dir.path().join("run");
    run(&mut sweep(&llama(), &path(data), &out, "--layers 0,2 --probe logistic --seeds 1 --mdl 0"));
    let rows = read_metrics(&out).unwrap();
    assert!(find(&rows, "token-identity", -1, "accuracy").estimate > 0.99);
    for layer in [0, 2] {
        assert!(find(&rows, "logistic", layer, "accuracy").estimate > 0.97);
        let selectivity = find(&rows, "logistic", layer, "selectivity").estimate;
        assert!(selectivity.abs() < 0.06, "layer {layer}: {selectivity}");
    }
}

#[test]
fn threads_batches_a_kill_and_an_export_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let extra =
        "--group-column pair --layers 0,4,8 --probe logistic,ridge,mean-diff,lda,centroid --seeds 2 --mdl 1";
    run(sweep(&gpt2(), &statements(), &at("a"), extra).args(["--threads", "1"]));
    run(sweep(&gpt2(), &statements(), &at("b"), extra).args(["--threads", "2"]));
    assert!(content(&at("a")) == content(&at("b")), "threads change the result");

    let mut child = sweep(&gpt2(), &statements(), &at("c"), extra).spawn().unwrap();
    while !at("c").join("features/done").exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    run(&mut sweep(&gpt2(), &statements(), &at("c"), extra));
    assert!(content(&at("a")) == content(&at("c")), "a killed sweep ends differently");

    // States of other batches differ by rounding; the numbers by no more than that can change.
    run(sweep(&gpt2(), &statements(), &at("d"), extra).args(["--batch-tokens", "64"]));
    same_numbers(&at("a"), &at("d"));

    let ended = end(layerscope()
        .args(words("export --quiet --hooks resid_pre --text-column text --model"))
        .arg(gpt2())
        .args(["--data".into(), statements(), "--out".into(), path(at("states"))]));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let mut cached = layerscope();
    cached.args(["probe", "sweep", "--quiet", "--activations"]).arg(at("states")).args([
        "--data",
        &statements(),
        "--out",
    ]);
    run(cached.arg(at("e")).args(words(extra)));
    same_numbers(&at("a"), &at("e"));
}

fn same_numbers(a: &Path, b: &Path) {
    let (a, b) = (read_metrics(a).unwrap(), read_metrics(b).unwrap());
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(&b) {
        assert_eq!((&a.subject, a.layer, &a.metric), (&b.subject, b.layer, &b.metric));
        // An item in a hundred may change sides.
        assert!((a.estimate - b.estimate).abs() < 0.03 * a.estimate.abs().max(1.0), "{a:?}\n{b:?}");
    }
}

#[test]
fn a_transfer_from_exports_is_that_of_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // Two sets of other pairs each, dealt out by the header's place.
    let text = std::fs::read_to_string(fixture("probes/statements.csv")).unwrap();
    let (header, rows) = text.split_once('\n').unwrap();
    let rows: Vec<&str> = rows.lines().collect();
    let mut sets = Vec::new();
    for (number, half) in rows.chunks(rows.len() / 2).take(2).enumerate() {
        let file = at(&format!("set{number}.csv"));
        std::fs::write(&file, format!("{header}\n{}\n", half.join("\n"))).unwrap();
        let export = at(&format!("states{number}"));
        let mut command = layerscope();
        command.args(words("export --quiet --hooks resid_pre --layers 2,6 --model")).arg(gpt2());
        let ended = end(command.arg("--data").arg(&file).arg("--out").arg(&export));
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        sets.push((path(file), path(export)));
    }
    let transfer = |out: &str, exports: &[&str]| {
        let mut args =
            words("probe transfer --quiet --group-column pair --layers 2,6 --probe mean-diff --model");
        args.extend([gpt2(), "--out".into(), path(at(out)), "--data".into()]);
        args.extend(sets.iter().map(|(data, _)| data.clone()));
        if !exports.is_empty() {
            args.push("--activations".into());
            args.extend(exports.iter().map(|export| (*export).to_owned()));
        }
        end(layerscope().args(args))
    };
    let exports: Vec<&str> = sets.iter().map(|(_, export)| export.as_str()).collect();
    for (out, exports) in [("model", &[][..]), ("states", &exports)] {
        let ended = transfer(out, exports);
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
    same_numbers(&at("model"), &at("states"));
    assert!(read_metrics(&at("states")).unwrap().len() > 8);
    // One of them, or in the other order: other texts.
    let one = transfer("none", &exports[..1]);
    assert!(one.code == Some(2) && one.err.contains("--activations: 1 of them, but 2 sets"), "{}", one.err);
    let swapped = transfer("none", &[exports[1], exports[0]]);
    assert!(swapped.code == Some(1) && swapped.err.contains("the export has"), "{}", swapped.err);
}

#[test]
fn grouped_data_without_a_group_column_warns() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a.csv");
    let mut text = "text,label,city\n".to_owned();
    for i in 0..60 {
        for copy in 0..4 {
            let _ = writeln!(
                text,
                "The old town of name{i} lies on the river number {i} near place{copy},{},{i}",
                i % 2
            );
        }
    }
    std::fs::write(&data, text).unwrap();
    let mut args =
        vec!["probe".to_owned(), "sweep".into(), "--model".into(), gpt2(), "--data".into(), path(data)];
    args.extend(words("--layers 0 --probe mean-diff --seeds 1 --out"));
    let with =
        |name: &str, more: &[&str]| end(layerscope().args(&args).arg(dir.path().join(name)).args(more));
    let alone = with("alone", &[]);
    assert!(alone.err.contains("warning: ") && alone.err.contains("--group-column"), "{}", alone.err);
    let grouped = with("grouped", &["--group-column", "city"]);
    assert!(!grouped.err.contains("--group-column"), "{}", grouped.err);
}

#[test]
fn numbers_are_regressed_and_what_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    let write = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        at(name)
    };
    let mut numbers = "text,label\n".to_owned();
    for i in 1..80 {
        let _ = writeln!(numbers, "{} said Alice number{i},{i}", "very ".repeat(i % 9));
    }
    let numbers = write("n.csv", &numbers);
    run(&mut sweep(&gpt2(), &numbers, Path::new(&at("r")), "--numbers --layers 0,8 --seeds 2"));
    let rows = read_metrics(Path::new(&at("r"))).unwrap();
    assert!(find(&rows, "ridge", 8, "r2").estimate < 1.0);
    let one = write("one.csv", "text,label\na,x\nb,x\nc,x\n");
    let few = write("few.csv", "text,label\na,x\nb,y\nc,x\n");
    let case = |data: &str, extra: &str, code: i32, says: &[&str]| {
        let mut args = words("probe sweep --model");
        args.extend([gpt2(), "--data".into(), data.into(), "--out".into(), at("none")]);
        args.extend(words(extra));
        (args, code, says.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    };
    refuse_all(&[
        case(&one, "", 2, &["\"x\"", "two classes"]),
        case(&few, "", 2, &["groups"]),
        case(&numbers, "--numbers --probe logistic", 2, &["--probe logistic", "numbers"]),
        case(&statements(), "--label-column labell", 2, &["labell", "label"]),
        case(&statements(), "--hooks nonsense", 2, &["nonsense"]),
        case(&statements(), "--layers 99", 2, &["99"]),
        case(&statements(), "--positions mean-piece", 2, &["mean-piece", "span"]),
    ]);
    assert!(!Path::new(&at("none")).exists());
}

/// Of every pair one text ends in "yes" and one in "no", and which of them does is the label: no text has it alone.
fn pairs(dir: &Path) -> PathBuf {
    let mut text = "text,negation,label\n".to_owned();
    for (i, who) in
        ["the king", "a queen", "my brother", "the cat", "an old man", "the Hatter"].iter().enumerate()
    {
        for (j, what) in
            ["went home", "sat down", "looked up", "laughed", "was tired", "ran away"].iter().enumerate()
        {
            let truth = (i * i + j * (i + 2)) % 5 < 2;
            let [a, b] = if truth { ["yes", "no"] } else { ["no", "yes"] };
            let _ = writeln!(
                text,
                "Did {who} say that she {what}? {a},Did {who} say that she {what}? {b},{truth}"
            );
        }
    }
    std::fs::write(dir.join("pairs.csv"), text).unwrap();
    dir.join("pairs.csv")
}

#[test]
fn a_direction_over_pairs_is_found_without_labels() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (path(pairs(dir.path())), dir.path().join("run"));
    let extra = "--negation-column negation --layers 0,8 --seeds 2 --mdl 0 --permutations 40";
    run(&mut sweep(&gpt2(), &data, &out, extra));
    let rows = read_metrics(&out).unwrap();
    for probe in ["ccs", "crc", "logistic"] {
        for layer in [0, 8] {
            assert_eq!(find(&rows, probe, layer, "accuracy").estimate, 1.0, "{probe} at layer {layer}");
            // 1 / 41 is the least that 40 permutations can give.
            let p = find(&rows, probe, layer, "p_value_corrected").estimate;
            assert!((1.0 / 41.0..0.1).contains(&p), "{probe} at layer {layer}: p = {p}");
        }
    }
    // Saved directions read both states: the first half the statement's, the second the negation's.
    let probe = Weights::open_file(&out.join("probes/ccs.resid_pre.8.safetensors"), Kind::Double).unwrap();
    assert_eq!(probe.take_any("weight").unwrap().size(), [1, 256]);

    std::fs::write(dir.path().join("gap.csv"), "text,negation,label\na b,,0\nc d,e f,1\ng h,i j,0\n")
        .unwrap();
    let case = |data: &str, extra: &str, says: &[&str]| {
        let mut args = words("probe sweep --model");
        args.extend([gpt2(), "--data".into(), data.into(), "--out".into(), path(dir.path().join("none"))]);
        args.extend(words(extra));
        (args, 2, says.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    };
    refuse_all(&[
        case(&path(dir.path().join("gap.csv")), "--negation-column negation", &["gap.csv", "one side"]),
        case(&data, "--probe ccs", &["--probe ccs", "2 classes"]),
        case(&data, "--negation-column nothing", &["nothing"]),
        case(&data, "--negation-column negation --positions all", &["--negation-column", "whole texts"]),
        case(&data, "--probe logistic --stream", &["--stream", "logistic"]),
    ]);
}

#[test]
fn permuted_labels_tell_what_is_there_from_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let extra = "--group-column pair --layers 0,8 --probe lda --seeds 1 --permutations 60";
    run(&mut sweep(&gpt2(), &statements(), &out, extra));
    let rows = read_metrics(&out).unwrap();
    let p = |layer, metric| find(&rows, "lda", layer, metric).estimate;
    // Layer 0 reads the same token for both labels: as good as any permutation. 1 / 61 is the least p.
    assert!(p(0, "p_value") > 0.2, "{}", p(0, "p_value"));
    assert!(p(8, "p_value") < 0.05, "{}", p(8, "p_value"));
    assert!(p(8, "p_value_corrected") >= p(8, "p_value"));
    assert!(p(0, "p_value_corrected") >= p(0, "p_value"));
}

#[test]
fn a_saved_probe_on_other_data_says_what_its_weights_say() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    run(&mut sweep(&gpt2(), &statements(), &at("fit"), "--group-column pair --layers 7,8 --seeds 1 --mdl 0"));
    let apply = |probe: &Path, data: &str, out: &str, extra: &str| {
        let mut command = layerscope();
        command.args(["probe", "apply", "--quiet", "--model", &gpt2(), "--data", data, "--probe"]).arg(probe);
        command.arg("--out").arg(at(out)).args(words(extra));
        command
    };
    run(&mut apply(&at("fit"), &statements(), "applied", "--group-column pair"));
    let rows = read_metrics(&at("applied")).unwrap();
    let accuracy = find(&rows, "logistic", 8, "accuracy");
    assert_eq!((accuracy.kind.as_str(), accuracy.n, accuracy.n_clusters), ("applied", 560, 28));
    assert!((find(&rows, "majority", -1, "majority_accuracy").estimate - 0.5).abs() < 1e-12);

    // By hand from the files: z = x · w + b, log-probabilities log σ(∓z), right where the larger is the label's.
    let weights =
        Weights::open_file(&at("fit/probes/logistic.resid_pre.8.safetensors"), Kind::Double).unwrap();
    let flat = |name: &str| Vec::<f64>::try_from(weights.take_any(name).unwrap().view([-1])).unwrap();
    let (w, b) = (flat("weight"), flat("bias")[0]);
    let npy = std::fs::read(at("applied/features/resid_pre.8.npy")).unwrap();
    let states: Vec<f64> = npy[npy.len() - 560 * 128 * 4..]
        .chunks_exact(4)
        .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
        .collect();
    let scores = scores(&at("applied/scores.parquet"));
    let mine: Vec<_> = scores.iter().filter(|s| (s.subject.as_str(), s.layer) == ("logistic", 8)).collect();
    assert_eq!(mine.len(), 560);
    let mut right = 0;
    for (row, x) in mine.iter().zip(states.chunks_exact(128)) {
        let z = x.iter().zip(&w).map(|(x, w)| x * w).sum::<f64>() + b;
        for (sign, score) in [1.0, -1.0].into_iter().zip(&row.scores) {
            assert!((score + (sign * z).exp().ln_1p()).abs() < 1e-6, "{z}: {:?}", row.scores);
        }
        assert_eq!(row.predicted, if z > 0.0 { "woman" } else { "man" });
        right += u32::from(row.predicted == row.label);
    }
    assert!((accuracy.estimate - f64::from(right) / 560.0).abs() < 1e-12);

    // A class that the probe does not know, no probe, another model.
    std::fs::write(at("child.csv"), "text,label\nthe child sat,child\nthe man sat,man\n").unwrap();
    let refused = |probe: &Path, data: &str, says: &[&str]| {
        let command = apply(probe, data, "none", "");
        let args = command.get_args().map(|a| a.to_string_lossy().into_owned());
        let args: Vec<String> = args.filter(|a| a != "--quiet").collect();
        (args, 2, says.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    };
    let mut other = refused(&at("fit"), &statements(), &["layer", "7"]);
    let model = other.0.iter().position(|a| *a == gpt2()).unwrap();
    other.0[model] = llama();
    refuse_all(&[
        refused(&at("fit"), &path(at("child.csv")), &["child", "man, woman"]),
        refused(&at("nowhere"), &statements(), &["nowhere"]),
        refused(dir.path(), &statements(), &["no saved probe"]),
        other,
    ]);
}

/// A row of `scores.parquet`.
struct Score {
    subject: String,
    layer: i32,
    label: String,
    predicted: String,
    scores: Vec<f64>,
}

fn scores(path: &Path) -> Vec<Score> {
    let file = Bytes::from(std::fs::read(path).unwrap());
    let batches = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let rows = |batch: RecordBatch| -> Vec<Score> {
        let text = |name: &str, i: usize| batch[name].as_string::<i32>().value(i).to_owned();
        let row = |i: usize| Score {
            subject: text("subject", i),
            layer: batch["layer"].as_primitive::<Int32Type>().value(i),
            label: text("label", i),
            predicted: text("predicted", i),
            scores: batch["scores"].as_list::<i32>().value(i).as_primitive::<Float64Type>().values().to_vec(),
        };
        (0..batch.num_rows()).map(row).collect()
    };
    batches.flat_map(|batch| rows(batch.unwrap())).collect()
}

#[test]
fn streamed_sums_give_what_states_on_disk_give() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let words = path(fixture("probes/words.conllu"));
    for (name, data, extra) in [
        (
            "words",
            &words,
            "--label-column Quoted --layers 0,4 --probe ridge,mean-diff,lda,centroid --seeds 2",
        ),
        ("texts", &statements(), "--group-column pair --layers 0,8 --probe ridge,lda --kfold 3 --seeds 1"),
    ] {
        let (disk, stream) = (at(name), at(&format!("{name}-streamed")));
        run(&mut sweep(&gpt2(), data, &disk, extra));
        run(sweep(&gpt2(), data, &stream, extra).args(["--stream", "--batch-tokens", "100"]));
        assert!(!stream.join("features").exists(), "states were written");
        let kinds = |dir: &Path| -> Vec<String> {
            read_metrics(dir)
                .unwrap()
                .into_iter()
                .map(|row| format!("{} {}", row.subject, row.metric))
                .collect()
        };
        assert_eq!(kinds(&disk), kinds(&stream));
        same_numbers(&disk, &stream);
    }
}

#[test]
fn the_law_says_what_a_regression_says() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("law");
    let mut command = layerscope();
    command.args(["probe", "law", "--quiet", "--model", &llama(), "--data", &stories(), "--out"]).arg(&out);
    let ended = end(command.args(words("--tokens 4000 --json")));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("in-sample and held-out residuals disagree"), "{}", ended.err);
    let rows = read_metrics(&out).unwrap();
    let golden: Value = serde_json::from_slice(
        &std::fs::read(fixture("probes/law_golden.json"))
            .expect("fixtures/probes/make_law_golden.py writes it"),
    )
    .unwrap();
    for (layer, expected) in golden["pr"].as_array().unwrap().iter().enumerate() {
        for (control, expected) in expected.as_object().unwrap() {
            for (place, metric) in ["pr", "pr_held_out"].into_iter().enumerate() {
                let got = find(&rows, control, layer as i32, metric).estimate;
                let want = expected[place].as_f64().unwrap();
                assert!(
                    (got - want).abs() < 2e-3 * want,
                    "{control} {metric} at layer {layer}: {got}, numpy {want}"
                );
            }
        }
    }
    // Few documents are held out of 4000 tokens, and numbers of those alone have a reason; all others have an interval.
    for row in &rows {
        let alone = row.metric.ends_with("_held_out");
        assert!(row.lower.is_some() != alone && row.reason.is_some() == alone, "{row:?}");
        let inside = |(lower, upper)| (lower..=upper).contains(&row.estimate) && lower < upper;
        assert!(row.lower.zip(row.upper).is_none_or(inside), "{row:?}");
    }
    for control in ["next", "next-shuffled", "current"] {
        // Every document held out once is no better than in sample, and the tenth held out is a part of it.
        for layer in 0..=6 {
            let of = |metric| find(&rows, control, layer, metric);
            let (fitted, every) = (of("pr"), of("pr_cross_validated"));
            assert!(
                every.estimate > fitted.estimate && every.n == fitted.n + of("pr_held_out").n,
                "{every:?}"
            );
        }
    }
    let rho = |subject| find(&rows, subject, 6, "law_rho_cross_validated").estimate;
    let less = find(&rows, "next", 6, "law_rho_less_shuffled_cross_validated");
    assert!((less.estimate - (rho("next") - rho("next-shuffled"))).abs() < 1e-12 && less.lower.is_some());
    let pearson = find(&rows, "next", 6, "law_pearson").estimate;
    assert!((pearson - golden["pearson"].as_f64().unwrap()).abs() < 1e-2, "{pearson}");
}

/// The decay is a line through layers 1 to L: of one or two there is none, and residuals all the same.
#[test]
fn a_law_on_few_layers_has_residuals_and_says_that_no_decay_is_fitted() {
    let (dir, model) = (tempfile::tempdir().unwrap(), tiny("gpt2"));
    let line = |doc: usize| {
        let words: Vec<String> =
            (0..50).map(|i| format!("w{}", (doc * 7 + i * i * 3 + i / 7) % 61)).collect();
        serde_json::json!({ "text": words.join(" ") }).to_string()
    };
    let data = dir.path().join("d.jsonl");
    std::fs::write(&data, (0..30).map(line).collect::<Vec<_>>().join("\n")).unwrap();
    for layers in [2, 1] {
        edit_config(model.path(), "n_layer", layers.into());
        let out = dir.path().join(layers.to_string());
        let law = |json: &str| {
            let mut command = layerscope();
            command
                .args(["probe", "law", "--model"])
                .arg(model.path())
                .arg("--data")
                .arg(&data)
                .arg("--out")
                .arg(&out);
            let ended = end(command.args(["--force", json]));
            assert_eq!(ended.code, Some(0), "{}", ended.err);
            ended
        };
        let told = law("--json");
        assert_eq!(result(&told.out)["rho_held_out"], Value::Null);
        let says = format!(
            "no decay is fitted: the model has {layers} layer{}, the line is through three or more",
            if layers == 1 { "" } else { "s" }
        );
        assert_eq!(told.err.lines().filter(|line| *line == says).count(), 1, "{}", told.err);
        let rows = read_metrics(&out).unwrap();
        assert!(rows.iter().all(|r| !r.metric.starts_with("law_") && r.estimate.is_finite()));
        for layer in 0..=layers {
            assert!(find(&rows, "next", layer, "pr_held_out").estimate > 0.0);
            assert!(find(&rows, "next:shared", layer, "pr_held_out").estimate > 0.0);
        }
        std::fs::remove_dir_all(&out).unwrap();
        let shown = law("--quiet").out;
        assert!(!shown.contains("NaN") && !shown.contains("decay per layer"), "{shown}");
    }
}

#[test]
fn a_probe_on_its_own_set_and_layer_is_the_sweeps() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // The other set is the first with its labels turned round: what is right on one is wrong on the other.
    let text = std::fs::read_to_string(statements()).unwrap();
    let turned: Vec<String> = text
        .lines()
        .map(|line| line.replace(",woman,", ",?,").replace(",man,", ",woman,").replace(",?,", ",man,"))
        .collect();
    assert_ne!(turned.join("\n"), text.trim_end());
    std::fs::write(at("turned.csv"), turned.join("\n")).unwrap();
    let mut command = layerscope();
    command
        .args(["probe", "transfer", "--quiet", "--model", &gpt2(), "--data", &statements()])
        .arg(at("turned.csv"));
    command.arg("--out").arg(at("t")).args(words("--group-column pair --layers 0,7,8"));
    run(&mut command);
    run(&mut sweep(
        &gpt2(),
        &statements(),
        &at("s"),
        "--group-column pair --layers 0,7,8 --probe logistic --seeds 1 --mdl 0",
    ));
    let (rows, sweep) = (read_metrics(&at("t")).unwrap(), read_metrics(&at("s")).unwrap());
    for layer in [0, 7, 8] {
        let own = find(&sweep, "logistic", layer, "accuracy").estimate;
        let within = find(&rows, "logistic:statements>statements", layer, "accuracy").estimate;
        assert!((own - within).abs() < 1e-12, "layer {layer}: {own} and {within}");
        let diagonal = |r: &&MetricRow| {
            r.subject == "logistic:statements" && r.layer == layer && r.source_layer == Some(layer)
        };
        assert_eq!(rows.iter().find(diagonal).unwrap().estimate, within);
        let across = find(&rows, "logistic:statements>turned", layer, "accuracy").estimate;
        // The same items are tested, each with the other label: what was right is wrong.
        assert!((across - (1.0 - own)).abs() < 1e-12, "layer {layer}: {across} where {own} is right at home");
    }
    assert!(find(&rows, "logistic:statements>statements", 8, "accuracy").estimate > 0.6);
    assert_eq!(rows.iter().filter(|r| r.kind == RowKind::ProbeTransfer).count(), 2 * 3 * 3);
}
