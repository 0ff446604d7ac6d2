//! Labels of every file format, missing ones and rare ones, from the outside.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use layerscope::{
    results::run::{Manifest, MetricRow, read_metrics},
    sources::labelled::{LabelValues, LabelledOptions, LabelledSet},
};
use serde_json::{Value, json};

use crate::cli::{end, gpt2, layerscope, path, result, words};
use crate::properties::fixture;

fn table(format: &str) -> PathBuf {
    fixture("probes/labels").join(format!("table.{format}"))
}

/// The class of every row that has one.
fn classes(file: &Path, column: &str, keep_missing: bool) -> BTreeMap<u64, String> {
    let label_column = Some(column.to_owned());
    let options = LabelledOptions { label_column, keep_missing, ..Default::default() };
    let set = LabelledSet::open(&[file.to_owned()], &options).unwrap();
    let LabelValues::Classes { y, names } = &set.labels else { panic!("classes") };
    set.texts.iter().zip(y).map(|(text, class)| (text.doc_id, names[*class as usize].clone())).collect()
}

/// Rows that share a class here share one there.
fn same_partition(a: &BTreeMap<u64, String>, b: &BTreeMap<u64, String>) -> bool {
    let (mut forth, mut back) = (BTreeMap::new(), BTreeMap::new());
    a.keys().eq(b.keys())
        && a.values()
            .zip(b.values())
            .all(|(a, b)| *forth.entry(a).or_insert(b) == b && *back.entry(b).or_insert(a) == a)
}

/// `fixtures/probes/make_labels.py`: the classes that pandas reads from the CSV are those of every format.
#[test]
fn one_table_has_the_same_classes_in_every_format_and_in_pandas() {
    let expected: BTreeMap<String, Vec<Option<String>>> =
        serde_json::from_slice(&std::fs::read(fixture("probes/labels/expected.json")).unwrap()).unwrap();
    assert_eq!(expected.len(), 14);
    for (column, values) in &expected {
        let pandas: BTreeMap<u64, String> =
            (0..).zip(values).filter_map(|(row, value)| Some((row, value.clone()?))).collect();
        let csv = classes(&table("csv"), column, false);
        assert!(same_partition(&csv, &pandas), "{column}: {csv:?}, pandas {pandas:?}");
        for format in ["jsonl", "parquet"] {
            let narrow = column == "narrow" && format == "jsonl"; // pandas writes ten digits of an f32 to JSON
            let other = classes(&table(format), column, false);
            assert!(
                other == csv || narrow && same_partition(&other, &csv),
                "{column}, {format}: {other:?} {csv:?}"
            );
        }
    }
    let names = |column: &str, keep| {
        let mut names: Vec<String> = classes(&table("csv"), column, keep).into_values().collect();
        names.sort();
        names.dedup();
        names.join(" ")
    };
    assert_eq!(
        (names("boolean_gaps", false), names("whole_gaps", false)),
        ("false true".into(), "0 1".into())
    );
    assert_eq!(names("numbers_and_words", false), "1 1.0 True x");
    assert_eq!((names("digits", false), names("narrow", false)), ("1 10 2".into(), "0.1 0.2 1".into()));
    assert_eq!(names("missing_words", false), "a b c");
    assert_eq!(names("missing_words", true), "N/A NA None a b c nan null");
}

fn probe(command: &str, out: &Path, extra: &str) -> (Value, String) {
    let mut all = layerscope();
    all.args(["probe", command, "--json", "--model", &gpt2(), "--out"]).arg(out).args(words(extra));
    let ended = end(&mut all);
    assert_eq!(ended.code, Some(0), "{all:?}: {}", ended.err);
    (result(&ended.out), ended.err)
}

fn refused(command: &str, dir: &Path, extra: &str) -> String {
    let mut all = layerscope();
    all.args(["probe", command, "--quiet", "--model", &gpt2(), "--out"]).arg(dir.join("none"));
    let ended = end(all.args(words(extra)));
    assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{ended:?}");
    ended.err
}

#[test]
fn a_probe_of_one_format_reads_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let file = |format: &str| path(table(format));
    for column in ["whole", "boolean_gaps"] {
        let fit = format!(
            "--label-column {column} --layers 0 --seeds 1 --mdl 0 --probe lda --data {}",
            file("csv")
        );
        probe("sweep", &at(column), &fit);
        let mut found = Vec::new();
        for format in ["csv", "jsonl", "parquet"] {
            let out = at(&format!("{column}-{format}"));
            let data =
                format!("--label-column {column} --probe {} --data {}", path(at(column)), file(format));
            probe("apply", &out, &data);
            found.push(read_metrics(&out).unwrap());
        }
        assert_eq!((&found[1], &found[2]), (&found[0], &found[0]), "{column}");
    }
    // Sets of two formats have the same classes.
    std::fs::copy(table("parquet"), at("other.parquet")).unwrap();
    let both =
        format!("--label-column whole --layers 0 --data {} {}", file("csv"), path(at("other.parquet")));
    probe("transfer", &at("t"), &both);
    // A probe saved when classes were spelled as in the file knows them under their spelling now.
    let facts = at("whole/probes/lda.resid_pre.0.json");
    let mut old: Value = serde_json::from_slice(&std::fs::read(&facts).unwrap()).unwrap();
    assert_eq!(old["classes"], json!(["0", "1", "2"]));
    old["classes"] = json!(["0.0", "1.0", "2.0"]);
    std::fs::create_dir(at("old")).unwrap();
    std::fs::write(at("old/lda.resid_pre.0.json"), old.to_string()).unwrap();
    std::fs::copy(at("whole/probes/lda.resid_pre.0.safetensors"), at("old/lda.resid_pre.0.safetensors"))
        .unwrap();
    let data = format!("--label-column whole --probe {} --data {}", path(at("old")), file("jsonl"));
    probe("apply", &at("again"), &data);
    let estimates =
        |dir: &str| -> Vec<f64> { read_metrics(&at(dir)).unwrap().iter().map(|r| r.estimate).collect() };
    assert_eq!(estimates("again"), estimates("whole-jsonl"));
}

#[test]
fn missing_labels_are_counted_by_name_and_can_be_classes() {
    let dir = tempfile::tempdir().unwrap();
    let extra = format!(
        "--label-column missing_words --layers 0 --seeds 1 --mdl 0 --probe centroid --kfold 3 --data {}",
        path(table("csv"))
    );
    let (_, said) = probe("sweep", &dir.path().join("a"), &extra);
    assert!(said.contains("3 labelled \"NA\" (first"), "{said}");
    assert!(said.contains("3 labelled \"null\"") && said.contains("--keep-missing-labels"), "{said}");
    let config = Manifest::read(&dir.path().join("a")).unwrap().unwrap().config;
    let missing = json!({ "": 2, "N/A": 2, "NA": 3, "None": 3, "nan": 3, "null": 3 });
    assert_eq!(config["missing_labels"], missing);
    // a and b three times each; c is in two groups and so too rare.
    let rows = read_metrics(&dir.path().join("a")).unwrap();
    assert_eq!(accuracy(&rows, "centroid").n, 6);
    let strict = refused("sweep", dir.path(), &format!("--strict {extra}"));
    assert!(
        strict.contains("table.csv:3: \"missing_words\" is \"NA\", which is read as missing"),
        "{strict}"
    );
    let (_, said) = probe("sweep", &dir.path().join("b"), &format!("--keep-missing-labels {extra}"));
    assert!(said.contains("\"NA\" 3") && said.contains("2 without a label"), "{said}");
}

fn accuracy<'a>(rows: &'a [MetricRow], subject: &str) -> &'a MetricRow {
    rows.iter().find(|r| r.subject == subject && r.metric == "accuracy").unwrap()
}

/// Two common classes, and two that no split can have in every part.
fn with_rare(dir: &Path) -> PathBuf {
    let mut text = "text,tag,city\n".to_owned();
    for i in 0..40 {
        let tag = match i {
            3 => "FW",
            8 | 9 => "LS",
            _ => ["NN", "VB"][i % 2],
        };
        let _ = writeln!(text, "the {} saw number{i},{tag},{}", ["cat", "dog", "king"][i % 3], i / 2);
    }
    std::fs::write(dir.join("rare.csv"), text).unwrap();
    dir.join("rare.csv")
}

#[test]
fn rare_classes_are_left_out_or_grouped_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let data = path(with_rare(dir.path()));
    let own = |extra: &str| {
        format!(
            "--label-column tag --group-column city --layers 0 --seeds 2 --mdl 1 --probe lda,logistic --data {data} {extra}"
        )
    };
    let (_, said) = probe("sweep", &at("drop"), &own(""));
    let line = "rare       2 classes left out, a class needs 3 groups; --rare group keeps them as one: \
                \"FW\" (1 label in 1 group), \"LS\" (2 labels in 1 group)";
    assert!(said.contains(line), "{said}");
    let config = |name: &str| Manifest::read(&at(name)).unwrap().unwrap().config;
    assert_eq!(config("drop")["rare_classes"]["how"], "dropped");
    assert_eq!(config("drop")["rare_classes"]["classes"]["LS"], json!({ "labels": 2, "groups": 1 }));

    // The probe reads the whole file again without them, and names them.
    let (_, said) = probe(
        "apply",
        &at("applied"),
        &format!("--label-column tag --group-column city --probe {} --data {data}", path(at("drop"))),
    );
    assert!(said.contains("left out   3 of classes too rare to be fitted: \"FW\", \"LS\""), "{said}");
    assert_eq!(accuracy(&read_metrics(&at("applied")).unwrap(), "lda").n, 37);

    // FW and LS together are in two groups: still too rare; with every class below 19 labels they are three.
    let (_, said) = probe("sweep", &at("still"), &own("--rare group"));
    assert!(said.contains("2 classes left out"), "{said}");
    let three = std::fs::read_to_string(&data).unwrap().replace("number20,NN", "number20,FW");
    std::fs::write(at("three.csv"), three).unwrap();
    let extra = own("--rare group").replace(&data, &path(at("three.csv")));
    let (_, said) = probe("sweep", &at("group"), &extra);
    assert!(said.contains("2 classes together as \"(rare)\""), "{said}");
    let facts: Value =
        serde_json::from_slice(&std::fs::read(at("group/probes/lda.resid_pre.0.json")).unwrap()).unwrap();
    assert_eq!(facts["classes"], json!(["NN", "VB", "(rare)"]));
    assert_eq!(facts["rare"], json!({ "classes": ["FW", "LS"], "together": "(rare)" }));
    probe(
        "apply",
        &at("grouped"),
        &format!(
            "--label-column tag --group-column city --probe {} --data {}",
            path(at("group")),
            path(at("three.csv"))
        ),
    );
    assert_eq!(accuracy(&read_metrics(&at("grouped")).unwrap(), "lda").n, 40);

    // Folds need more; an own least size; and what is left is named when it is not enough.
    probe("sweep", &at("folds"), &own("--kfold 4"));
    assert_eq!(accuracy(&read_metrics(&at("folds")).unwrap(), "lda").n, 2 * 37);
    let error = refused("sweep", dir.path(), &own("--min-class-size 19"));
    assert!(error.contains("one class is left, \"NN\""), "{error}");
    assert!(
        error.contains("a class needs 19 labels and 3 groups; too rare: \"FW\" (1 label in 1 group)"),
        "{error}"
    );

    // What is rare in one set is left out of the others.
    let common = std::fs::read_to_string(&data).unwrap().replace(",FW,", ",NN,").replace(",LS,", ",NN,");
    std::fs::write(at("common.csv"), common).unwrap();
    let both = own("").replace(" --seeds 2 --mdl 1 --probe lda,logistic", " --probe lda");
    let both = both.replace(&data, &format!("{data} {}", path(at("common.csv"))));
    probe("transfer", &at("t"), &both);
    let rows = read_metrics(&at("t")).unwrap();
    assert!(rows.iter().any(|r| r.subject == "lda:rare>common" && r.metric == "accuracy"), "{rows:?}");
}
