//! The same texts in every data format, through the command line.

use std::path::Path;

use layerscope::{results::hash::sha256_file, results::run::Manifest, states::store::ActivationStore};

use crate::cli::{end, fixture, gpt2, layerscope, path, refuse_all, succeed, tiny, words};

/// Exports layer 0 of the bundled model; rows as (document, position, token).
fn rows(data: &[String], out: &Path) -> Vec<(u64, u32, u32)> {
    let mut args = words("export --quiet --layers 0 --hooks resid_pre --model");
    args.extend([gpt2(), "--out".into(), path(out), "--data".into()]);
    args.extend_from_slice(data);
    succeed(&args);
    let rows = ActivationStore::open(out).unwrap().rows().unwrap();
    (0..rows.len()).map(|i| (rows.doc_id[i], rows.pos[i], rows.token_id[i])).collect()
}

#[test]
fn every_format_gives_the_same_tokens_and_its_own_hash() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| path(fixture("text/formats").join(name));
    let expected = rows(&[file("plain.jsonl")], &dir.path().join("plain.jsonl"));
    assert!(expected.len() > 30 && expected.last().unwrap().0 == 5);
    for name in [
        "cr.csv",
        "plain.tsv.zst",
        "lines.json",
        "list.json.gz",
        "brotli.parquet",
        "binary.parquet",
        "lz4.feather",
    ] {
        let out = dir.path().join(name);
        assert_eq!(rows(&[file(name)], &out), expected, "{name}");
        let manifest = Manifest::read(&out).unwrap().unwrap();
        let on_disk = Path::new(&manifest.data[0].path);
        assert_eq!(manifest.data[0].sha256, sha256_file(on_disk, &|_| ()).unwrap(), "{name}");
        assert_eq!(manifest.data[0].bytes, std::fs::metadata(on_disk).unwrap().len(), "{name}");
    }
    // A folder is its shards, and they are what is recorded.
    let out = dir.path().join("shards");
    assert_eq!(rows(&[file("shards")], &out), expected);
    let manifest = Manifest::read(&out).unwrap().unwrap();
    let names: Vec<_> = manifest.data.iter().map(|data| data.path.clone()).collect();
    assert_eq!(names, [file("shards/data-00000-of-00002.arrow"), file("shards/data-00001-of-00002.arrow")]);
}

#[test]
fn texts_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let file = dir.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        path(file)
    };
    let out = path(dir.path().join("out"));
    let ends = |code: i32, data: String, says: &[&str]| {
        let args = ["export", "--model", &gpt2(), "--out", &out, "--layers", "0", "--data", &data]
            .map(str::to_owned);
        (args.to_vec(), code, says.iter().map(|says| (*says).to_owned()).collect::<Vec<_>>())
    };
    let export = |data: String, says: &[&str]| ends(1, data, says);
    let missing = |data: String, says: &[&str]| ends(2, data, says); // a setting names what is not there
    let zip = |name: &str| std::fs::read(fixture("text/formats").join(name)).unwrap();
    refuse_all(&[
        export(
            file("unbalanced.csv", b"id,text\n1,\"open quote\n2,two\n3,three\n"),
            &["unbalanced.csv:2: bad csv: the quote that opens here never closes"],
        ),
        export(
            file(
                "wide.csv",
                "text\na\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>().as_slice(),
            ),
            &["UTF-16"],
        ),
        export(
            file("cut.jsonl.gz", &zip("plain.jsonl.gz")[..100]),
            &["cut.jsonl.gz: the gzip data end too early"],
        ),
        export(file("cut.tsv.zst", &zip("plain.tsv.zst")[..100]), &["cut.tsv.zst: ", "zstd data"]),
        export(
            file("gzip.csv", &zip("plain.csv.gz")),
            &["gzip.csv: is gzip, which its name does not say: call it .gz"],
        ),
        missing(
            file("messages.jsonl", b"{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}"),
            &["messages.jsonl:1: ", "no chat template"],
        ),
        export(
            file("surrogate.jsonl", b"{\"text\":\"ok\"}\n{\"text\":\"cut \\ud83d\"}\n"),
            &["surrogate.jsonl:2: column \"text\" must be text, got a lone surrogate (\\ud83d)"],
        ),
    ]);
}

#[test]
fn texts_given_as_arguments() {
    let model = gpt2();
    let row = |args: &[&str], says: &[&str]| {
        let args = [args, &["--model", &model]].concat().into_iter().map(str::to_owned).collect();
        (args, 2, says.iter().map(|says| (*says).to_owned()).collect::<Vec<_>>())
    };
    let trace = ["trace", "--clean", "Alice said that", "--corrupted", "Bill said that"];
    let long = "Alice was beginning to get very tired. ".repeat(60);
    let says = "\"she\" is not one token but 2: \"s\", \"he\" (did you mean \" she\"?)";
    refuse_all(&[
        row(&["view", "--text", ""], &["--text is empty"]),
        row(
            &["view", "--text", "a", "--text", &long],
            &["--text \"Alice was beginning to get very tired. A\" … gives"],
        ),
        row(
            &["generate", "--text", "a", "--text", &long],
            &["--text \"Alice was beginning to get very tired. A\" … gives"],
        ),
        row(&[&trace[..], &["--answer", "she"]].concat(), &[says]),
        row(&[&trace[..], &["--foil", "she"]].concat(), &[says]),
    ]);
}

#[test]
fn a_pair_that_is_too_long_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = dir.path().join("pairs.csv");
    let long = "w1 ".repeat(300);
    std::fs::write(&pairs, format!("positive,negative\nw1,w2\nw3,w4\nw5,{long}\n")).unwrap();
    let model = tiny("gpt2");
    let data = dir.path().join("a.jsonl");
    std::fs::write(&data, "{\"text\": \"w1 w2 w3\"}\n").unwrap();
    let args = [
        "steer",
        "--quiet",
        "--model",
        &path(model.path()),
        "--data",
        &path(&data),
        "--pairs",
        &path(&pairs),
    ];
    let ended = end(layerscope().args(args).args(["--out", &path(dir.path().join("out"))]));
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let says = "pair 3: \"w1 w1 w1 w1 w1 w1 w1 w1 w1 w1 w1 w1 w1 w\" … has ";
    assert!(ended.err.contains(says), "{}", ended.err);
}
