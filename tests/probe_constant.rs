//! Probes of states that do not vary: a row that says so, with the numbers of the labels alone.

use std::fmt::Write as _;

use layerscope::{
    probe::{CellKey, Estimator, Extras, Options, Protocol, Target, Task, rounds, run_cell},
    probes::{majority, score::Classified},
    results::run::read_metrics,
    sources::labelled::Unit,
};
use ndarray::Array2;

use crate::cli::{end, layerscope, path, words};
use crate::lens_cli::llama;

const CLASSIFIERS: [Estimator; 5] =
    [Estimator::Logistic, Estimator::Ridge, Estimator::MeanDiff, Estimator::Lda, Estimator::Centroid];

/// `n` items, most of class 1, then of class 0, few of others, of words that repeat.
fn task(n: usize, names: &[&str]) -> Task {
    let class = |i: usize| match i % 9 {
        0..=4 => 1,
        8 if names.len() > 2 => 2 + (i / 9) % (names.len() - 2),
        _ => 0,
    };
    let y = (0..n).map(|i| class(i) as u32).collect();
    Task {
        target: Target::Classes { y, names: names.iter().map(|name| (*name).to_owned()).collect() },
        groups: (0..n as u64).collect(),
        types: Some((0..n as u64).map(|i| i % 7).collect()),
        windows: (0..n as u32).collect(),
        unit: Unit::Word,
    }
}

#[test]
fn every_estimator_size_and_option_knows_the_commonest_class_and_compresses_nothing() {
    let row = [0.3f32, -1e-3, 7.0, 0.0, 1e30, -1e-40];
    let mut seen = 0;
    for (n, names, kfold) in [
        (15, &["a", "b"][..], None),
        (40, &["a", "b", "c"], None),
        (40, &["a", "b"], Some(3)),
        (400, &["a", "b"], None),
        (800, &["a", "b"], None),
        (800, &["a", "b", "c", "d"], Some(2)),
    ] {
        let task = task(n, names);
        let x = Array2::from_shape_fn((n, row.len()), |(_, j)| row[j]);
        for (standardise, balanced, paired) in [
            (true, false, false),
            (false, false, false),
            (true, true, false),
            (false, true, true),
            (true, false, true),
        ] {
            let options = Options { l2: vec![0.1, 10.0], standardise, balanced, paired };
            let mut probes = CLASSIFIERS.to_vec();
            probes.extend([Estimator::Ccs, Estimator::Crc]);
            probes.retain(|e| e.suits(Some(names.len()), paired));
            for round in rounds(&task, Protocol { seed: 1, seeds: 1, kfold }).unwrap() {
                let key = CellKey { hook: "resid_pre".into(), layer: 0, seed: 1, fold: round.fold };
                let extras = Extras { draws: 2, mdl: 2, permutations: 3 };
                let cell = run_cell((&key, x.view()), &task, &round, &probes, &options, extras).unwrap();
                let Target::Classes { y, .. } = &task.target else { panic!("classes") };
                let (train, test): (Vec<u32>, Vec<u32>) =
                    (round.train.iter().map(|i| y[*i]).collect(), round.test.iter().map(|i| y[*i]).collect());
                let common = majority(&train, names.len()).unwrap();
                for (estimator, reading) in cell.readings {
                    let what = format!("{n} {names:?} {} {options:?}", estimator.name());
                    assert!(reading.constant && reading.scores.iter().all(|s| s.is_finite()), "{what}");
                    let found = Classified::new(reading.scores.view(), &test).unwrap();
                    assert!(found.predicted().iter().all(|class| *class == common), "{what}");
                    let right: Vec<f64> = train.iter().map(|y| f64::from(u8::from(*y == common))).collect();
                    assert_eq!(reading.train.into_raw_vec_and_offset().0, right, "{what}");
                    assert_eq!(
                        (reading.shuffled.dim(), reading.control.dim()),
                        ((2, test.len()), (2, test.len())),
                        "{what}"
                    );
                    // Of seven word types all may get one label, and there is no control task then.
                    assert!(reading.shuffled.iter().all(|o| [0.0, 1.0].contains(o)), "{what}");
                    assert!(reading.control.iter().all(|o| [0.0, 1.0].contains(o) || o.is_nan()), "{what}");
                    assert_eq!(reading.permuted.unwrap().len(), 4, "{what}");
                    if estimator == Estimator::Logistic {
                        let log2 = (names.len() as f64).log2();
                        let code = reading.code.unwrap();
                        let mut bits = code.bits.iter().chain(&code.shuffled);
                        assert!(
                            code.bits.dim() == (2, n) && bits.all(|b| *b == log2),
                            "{what}: compression is not 1"
                        );
                    }
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 200, "{seen}");
}

/// One state apart from all others, in training or in the test part alone: still numbers.
#[test]
fn nearly_constant_states_have_numbers() {
    let task = task(60, &["a", "b"]);
    for odd in 0..60 {
        let x = Array2::from_shape_fn((60, 3), |(i, j)| if i == odd && j == 1 { 1e30 } else { 0.1 });
        let round = &rounds(&task, Protocol { seed: 0, seeds: 1, kfold: None }).unwrap()[0];
        let key = CellKey { hook: "resid_pre".into(), layer: 0, seed: 0, fold: 0 };
        let options = Options { l2: vec![1.0], standardise: true, balanced: false, paired: false };
        let extras = Extras { draws: 1, mdl: 1, permutations: 1 };
        let cell = run_cell((&key, x.view()), &task, round, &CLASSIFIERS, &options, extras).unwrap();
        for (estimator, reading) in cell.readings {
            let code = reading.code.iter().flat_map(|code| code.bits.iter().chain(&code.shuffled));
            let numbers = reading.scores.iter().chain(code);
            assert!(numbers.into_iter().all(|s| s.is_finite()), "{odd} {}", estimator.name());
            assert_eq!(reading.constant, !round.train.contains(&odd), "{odd}");
        }
    }
}

/// Sentences that all end in the same token, read before any block of a model whose positions are rotary.
#[test]
fn the_row_says_that_states_are_constant() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut text = "text,label\n".to_owned();
    for i in 0..90 {
        let _ = writeln!(
            text,
            "the {} went to house number{i}.,{}",
            ["cat", "dog", "king"][i % 3],
            u8::from(i % 3 > 0)
        );
    }
    std::fs::write(at("same.csv"), text).unwrap();
    for (name, extra) in [
        ("disk", "--probe logistic,ridge,mean-diff,lda,centroid --mdl 2 --permutations 5 --seeds 2"),
        ("stream", "--probe ridge,mean-diff,lda,centroid --stream --seeds 2"),
        ("raw", "--probe logistic,lda --no-standardise --balanced --seeds 2"),
    ] {
        let mut command = layerscope();
        command.args([
            "probe",
            "sweep",
            "--model",
            &llama(),
            "--layers",
            "0",
            "--data",
            &path(at("same.csv")),
            "--out",
        ]);
        let ended = end(command.arg(at(name)).args(words(extra)));
        assert_eq!(ended.code, Some(0), "{extra}: {}", ended.err);
        assert!(ended.out.contains("layer 0: the states are constant"), "{}", ended.out);
        let rows = read_metrics(&at(name)).unwrap();
        let of = |subject: &str, metric: &str| {
            let found = rows.iter().find(|r| r.subject == subject && r.metric == metric);
            found.unwrap_or_else(|| panic!("no {metric} of {subject}")).estimate
        };
        let common = of("majority", "majority_accuracy");
        assert!((common - 2.0 / 3.0).abs() < 0.05, "{common}");
        for subject in
            ["logistic", "ridge", "mean-diff", "lda", "centroid"].iter().filter(|s| extra.contains(*s))
        {
            assert_eq!(
                (of(subject, "accuracy"), of(subject, "constant_states")),
                (common, 1.0),
                "{name} {subject}"
            );
            assert_eq!(of(subject, "auroc"), 0.5);
        }
        if extra.contains("logistic") {
            assert_eq!(of("logistic", "compression"), 1.0);
        }
    }
}
