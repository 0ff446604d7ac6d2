//! Leaks that are planted from the outside: every one is named with its counts, and refused if asked to.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use layerscope::{
    results::run::Manifest,
    sources::leakage::{FITTED_ON, Leakage},
};
use serde_json::json;

use crate::cli::{Ended, end, gpt2, layerscope, path, result, words};
use crate::properties::fixture;

/// Texts of the bundled stories, from the first that is asked for.
fn stories(skip: usize, n: usize) -> Vec<String> {
    let all = std::fs::read_to_string(fixture("stories.jsonl")).unwrap();
    let text = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["text"].as_str().unwrap().to_owned()
    };
    all.lines().skip(skip).take(n).map(text).collect()
}

fn jsonl(path: &Path, texts: &[String]) {
    let lines: Vec<String> = texts.iter().map(|text| json!({ "text": text }).to_string()).collect();
    std::fs::write(path, lines.join("\n")).unwrap();
}

fn command(words_of: &str, data: &[&Path], out: &Path, extra: &str) -> Command {
    let mut all = layerscope();
    all.args(words(words_of)).args(["--threads", "1", "--model", &gpt2(), "--data"]).args(data);
    all.arg("--out").arg(out).args(words(extra));
    all
}

fn run(command: &mut Command) -> Ended {
    let ended = end(command);
    assert_eq!(ended.code, Some(0), "{command:?}: {}", ended.err);
    ended
}

/// What the manifest of a run says.
fn leakage(run: &Path) -> Vec<Leakage> {
    Manifest::read(run).unwrap().unwrap().leakage
}

/// Equal documents, near ones and documents in all.
fn counts(one: &Leakage) -> (u64, u64, u64) {
    let overlap = one.overlap.unwrap_or_else(|| panic!("{one} was not compared"));
    (overlap.identical, overlap.near, overlap.documents)
}

/// A lens fitted on these documents.
fn fit(data: &Path, out: &Path) -> Ended {
    run(&mut command("lens fit --kind linear --layers 4", &[data], out, ""))
}

#[test]
fn what_a_lens_was_fitted_on_is_found_in_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (seen, other) = (stories(0, 16), stories(16, 16));
    jsonl(&at("fit.jsonl"), &seen);
    fit(&at("fit.jsonl"), &at("lens"));
    let mut shuffled = seen.clone();
    shuffled.reverse();
    let halves: Vec<String> =
        seen.iter().map(|text| text[..text.floor_char_boundary(text.len() / 2)].to_owned()).collect();
    let cases: [(&str, Vec<String>, (u64, u64, u64)); 7] = [
        ("identical", seen.clone(), (16, 0, 16)),
        ("part", seen[7..12].to_vec(), (5, 0, 5)),
        ("one more", [seen.clone(), other[..1].to_vec()].concat(), (16, 0, 17)),
        ("shuffled", shuffled, (16, 0, 16)),
        ("halves", halves, (0, 16, 16)),
        ("one of many", [other[1..].to_vec(), seen[3..4].to_vec()].concat(), (1, 0, 16)),
        ("none", other.clone(), (0, 0, 16)),
    ];
    let lens = format!("--lens {}", path(at("lens")));
    for (name, texts, expected) in &cases {
        jsonl(&at("eval.jsonl"), texts);
        let out = at(name);
        let ended = run(&mut command("lens eval --layers 4", &[&at("eval.jsonl")], &out, &lens));
        let found = leakage(&out);
        assert_eq!((found.len(), counts(&found[0])), (1, *expected), "{name}: {}", ended.err);
        let says = format!(
            "{} has seen this text: {} of {} documents equal",
            path(at("lens")),
            expected.0,
            expected.2
        );
        let warned = ended.err.lines().any(|line| line.starts_with("warning: ") && line.contains(&says));
        assert_eq!((warned, found[0].leaks()), (*name != "none", *name != "none"), "{name}: {}", ended.err);
        let strict = end(&mut command(
            "lens eval --layers 4 --strict-leakage",
            &[&at("eval.jsonl")],
            &at("strict"),
            &format!("{lens} --force"),
        ));
        assert_eq!(strict.code, Some(if *name == "none" { 0 } else { 3 }), "{name}: {}", strict.err);
        assert_eq!(strict.err.contains("--strict-leakage refuses this"), *name != "none");
    }
    assert!(
        !at("strict").join("manifest.json").exists() || leakage(&at("strict")).iter().all(|one| !one.leaks())
    );
    // The transfer says the same.
    let tuned = at("tuned");
    let short = "lens fit --kind tuned --tokens 3000 --step-tokens 256 --batch-tokens 512";
    run(&mut command(short, &[&at("fit.jsonl")], &tuned, ""));
    let transfer = "lens transfer --layers 2,4 --no-corrections --replicates 20 --tokens 3000";
    run(&mut command(transfer, &[&at("fit.jsonl")], &at("transfer"), &format!("--lens {}", path(&tuned))));
    let found = &leakage(&at("transfer"))[0];
    assert!(found.leaks() && counts(found).0 == counts(found).2, "{found}");
}

#[test]
fn a_book_is_found_in_parts_and_with_its_lines_shuffled() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let lines = |texts: &[String]| -> Vec<String> {
        let words: Vec<String> = texts.join(" ").split_whitespace().map(str::to_owned).collect();
        words.chunks(12).map(|words| words.join(" ")).collect()
    };
    let (book, other) = (lines(&stories(0, 16)), lines(&stories(16, 16)));
    let write = |name: &str, lines: &[String]| std::fs::write(at(name), lines.join("\n") + "\n").unwrap();
    write("book.txt", &book);
    fit(&at("book.txt"), &at("lens"));
    let mut shuffled = book.clone();
    shuffled.sort();
    let tenth = [&other[..], &book[100..100 + other.len() / 9]].concat();
    // Equal, near, and the least and greatest share of the tokens.
    let cases = [
        ("part", book[50..90].to_vec(), (0, 1), 0.95, 1.0),
        ("one line more", [book.clone(), other[..1].to_vec()].concat(), (0, 1), 0.97, 1.0),
        ("shuffled", shuffled, (0, 1), 0.9, 1.0),
        ("tenth", tenth, (0, 0), 0.06, 0.14),
        ("none", other.clone(), (0, 0), 0.0, 0.0),
    ];
    for (name, lines, expected, least, greatest) in cases {
        write("eval.txt", &lines);
        let out = at(name);
        let extra = format!("--lens {}", path(at("lens")));
        let ended = run(&mut command("lens eval --layers 4", &[&at("eval.txt")], &out, &extra));
        let found = leakage(&out).remove(0);
        let overlap = found.overlap.unwrap();
        let share = overlap.seen_rows as f64 / overlap.rows as f64;
        assert_eq!(
            (overlap.identical, overlap.near, overlap.documents),
            (expected.0, expected.1, 1),
            "{name}"
        );
        assert!((least..=greatest).contains(&share), "{name}: {share}");
        assert_eq!(ended.err.contains("warning: "), name != "none", "{name}: {}", ended.err);
        let page = at("page");
        run(layerscope().args(["report", "--quiet", "--force"]).arg(&out).arg("--out").arg(&page));
        let page = std::fs::read_to_string(page.join("report.html")).unwrap();
        assert_eq!(page.contains("has seen this text: "), name != "none", "{name}");
    }
}

#[test]
fn copies_in_one_corpus_stay_on_one_side() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let once = stories(0, 20);
    let six: Vec<String> = (0..6).flat_map(|_| once.clone()).collect();
    jsonl(&at("six.jsonl"), &six);
    let ended = fit(&at("six.jsonl"), &at("lens"));
    let says = "2 of 20 documents held out; 100 documents equal an earlier one: ";
    assert!(ended.err.contains(says), "{}", ended.err);
    assert_eq!(leakage(&at("lens")), [], "{}", ended.err);
    // The copies change nothing that is measured on held-out text: every document of the fit weighs six times as much.
    jsonl(&at("once.jsonl"), &once);
    let held_out = |data: &str, out: &str| {
        let ended =
            run(command("lens fit --kind linear --layers 4 --json", &[&at(data)], &at(out), "")
                .arg("--quiet"));
        result(&ended.out)["held_out"]["linear"][0].as_f64().unwrap()
    };
    let (with, without) = (held_out("six.jsonl", "a"), held_out("once.jsonl", "b"));
    assert!((with / without - 1.0).abs() < 1e-3, "{with} for {without}");
    let ended = run(&mut command("probe law --strict-leakage", &[&at("six.jsonl")], &at("law"), ""));
    assert!(ended.err.contains(says), "{}", ended.err);
    let extra = format!("--lens {}", path(at("lens")));
    let ended = run(&mut command("lens eval --layers 4", &[&at("six.jsonl")], &at("eval"), &extra));
    assert_eq!(counts(&leakage(&at("eval"))[0]), (120, 0, 120));
    assert!(ended.err.contains("100 documents equal an earlier one: intervals"), "{}", ended.err);
    // Nearly equal ones no split keeps together: they are named, and refused.
    let near: Vec<String> =
        (0..6).flat_map(|i| once.iter().map(move |text| format!("{i} {text} {i}."))).collect();
    jsonl(&at("near.jsonl"), &near);
    let ended = run(&mut command("probe law", &[&at("near.jsonl")], &at("near"), ""));
    assert!(
        ended.err.contains("warning: the regression has seen its held-out text: 0 of 12 documents"),
        "{}",
        ended.err
    );
    assert_eq!(counts(&leakage(&at("near"))[0]), (0, 12, 12));
    let strict = end(&mut command("probe law --strict-leakage", &[&at("near.jsonl")], &at("strict"), ""));
    assert_eq!(strict.code, Some(3), "{}", strict.err);
    let ended = fit(&at("near.jsonl"), &at("near-lens"));
    assert!(ended.err.contains("warning: the fit has seen its held-out text: 0 of 12"), "{}", ended.err);
}

#[test]
fn an_older_lens_says_that_it_cannot_be_compared() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    jsonl(&at("fit.jsonl"), &stories(0, 20));
    jsonl(&at("other.jsonl"), &stories(20, 5));
    fit(&at("fit.jsonl"), &at("lens"));
    let damaged = at("lens").join(FITTED_ON);
    let whole = std::fs::read(&damaged).unwrap();
    std::fs::write(&damaged, &whole[..whole.len() - 1]).unwrap();
    let extra = format!("--lens {}", path(at("lens")));
    let eval = |data: &str, out: &str, more: &str| {
        end(&mut command("lens eval --layers 4", &[&at(data)], &at(out), &format!("{extra} {more}")))
    };
    let ended = eval("other.jsonl", "a", "");
    assert!(ended.code == Some(1) && ended.err.contains("fitted_on.parquet is damaged"), "{}", ended.err);
    std::fs::remove_file(&damaged).unwrap();
    let ended = eval("other.jsonl", "a", "--strict-leakage");
    let says = "cannot be said: its folder has no record of the documents it was fitted on";
    assert!(ended.code == Some(0) && ended.err.contains(says), "{}", ended.err);
    let ended = eval("fit.jsonl", "b", "");
    assert!(
        ended.err.contains("warning: ") && ended.err.contains("its numbers here are in-sample"),
        "{}",
        ended.err
    );
    assert_eq!(eval("fit.jsonl", "c", "--strict-leakage").code, Some(3));
}

/// Texts with labels that mean nothing.
fn labelled(path: &Path, texts: &[String]) {
    let mut csv = String::from("text,label\n");
    for (i, text) in texts.iter().enumerate() {
        let text: String = text.split_whitespace().take(12).collect::<Vec<_>>().join(" ");
        let _ = writeln!(csv, "\"{}\",{}", text.replace('"', ""), ["a", "b"][i * i / 3 % 2]);
    }
    std::fs::write(path, csv).unwrap();
}

#[test]
fn a_probe_on_its_own_rows_and_sets_that_share_rows() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    let (own, other) = (stories(0, 100), stories(100, 50));
    labelled(&at("own.csv"), &own);
    labelled(&at("other.csv"), &other);
    labelled(&at("mixed.csv"), &[&other[..], &own[..50]].concat());
    let sweep = "probe sweep --layers 4 --probe logistic --seeds 1 --mdl 0 --replicates 20";
    run(&mut command(sweep, &[&at("own.csv")], &at("sweep"), ""));
    let apply = |data: &str, out: &str, more: &str| {
        let extra = format!("--replicates 20 --probe {} {more}", path(at("sweep")));
        end(&mut command("probe apply", &[&at(data)], &at(out), &extra))
    };
    let ended = apply("own.csv", "applied", "");
    let found = leakage(&at("applied"));
    assert_eq!(counts(&found[0]), (80, 0, 100), "training and validation: {}", ended.err);
    let says =
        "has seen these data: 80 of 100 texts equal to one it was fitted on; 80.0 % of the items (80 of 100)";
    assert!(
        ended.err.lines().any(|line| line.starts_with("warning: ") && line.contains(says)),
        "{}",
        ended.err
    );
    assert_eq!(apply("own.csv", "strict", "--strict-leakage").code, Some(3));
    let ended = apply("other.csv", "clean", "--strict-leakage");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(counts(&leakage(&at("clean"))[0]), (0, 0, 50));

    // Texts that differ by a word on both sides of the sweep's own split.
    let longer: Vec<String> = own.iter().map(|text| format!("Indeed {text}")).collect();
    labelled(&at("near.csv"), &[&own[..], &longer].concat());
    let ended = run(&mut command(sweep, &[&at("near.csv")], &at("near"), ""));
    assert!(ended.err.contains("held-out texts are nearly in an earlier part"), "{}", ended.err);
    let ended = end(&mut command(sweep, &[&at("near.csv")], &at("refused"), "--strict-leakage"));
    assert!(ended.code == Some(3) && ended.err.contains("--strict-leakage refuses this"), "{}", ended.err);
    assert!(!at("refused").exists());
    run(&mut command(sweep, &[&at("own.csv")], &at("strict-sweep"), "--strict-leakage"));

    let transfer = "probe transfer --layers 4 --replicates 20 --l2 1";
    let data = [at("own.csv"), at("mixed.csv")];
    let ended = run(&mut command(transfer, &[&data[0], &data[1]], &at("transfer"), ""));
    let found = leakage(&at("transfer"));
    assert_eq!(found.len(), 2, "{}", ended.err);
    for one in &found {
        let (identical, near, texts) = counts(one);
        assert!(one.leaks() && identical > 2 && near == 0 && texts == 20, "{one}");
        assert!(ended.err.contains(&format!("warning: {one}")), "{}", ended.err);
    }
    let strict = end(&mut command(transfer, &[&data[0], &data[1]], &at("strict"), "--strict-leakage"));
    assert!(strict.code == Some(3) && strict.err.contains("has seen the test part of"), "{}", strict.err);
    let other = at("other.csv");
    run(&mut command(transfer, &[&data[0], &other], &at("apart"), "--strict-leakage"));
    assert!(leakage(&at("apart")).iter().all(|one| !one.leaks()));
}
