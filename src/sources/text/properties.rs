//! Properties of readers and windows, on inputs that nobody thought of.

use super::reader::{Columns, Format, RecordCell, Row, open_file};
use super::window::tests::cut;
use super::{BosPolicy, Tokenizer};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use std::path::{Path, PathBuf};

fn read(path: &Path, others: &[&str]) -> Result<Vec<Row>, String> {
    let others = others.iter().map(|name| (*name).to_owned()).collect();
    let columns = Columns { text: "text".into(), others, chats: false };
    let format = Format::of(path).map_err(|error| error.to_string())?;
    let rows = open_file(path, format, &columns).map_err(|error| error.to_string())?;
    rows.map(|row| row.map_err(|error| error.to_string())).collect()
}

fn formats() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/text/formats")
}

/// Every file of `fixtures/text/formats` holds the rows of its expected.json.
#[test]
fn every_format_gives_the_same_documents() {
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(formats().join("expected.json")).unwrap()).unwrap();
    let expected: Vec<(String, String)> = expected["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["text"].as_str().unwrap().to_owned(), row["n"].to_string()))
        .collect();
    let mut seen = 0;
    for entry in formats().read_dir().unwrap() {
        let path = entry.unwrap().path();
        let skipped = ["make.py", "expected.json", "shards"];
        if skipped.contains(&path.file_name().unwrap().to_str().unwrap()) {
            continue;
        }
        let rows = read(&path, &["n"]).unwrap_or_else(|error| panic!("{error}"));
        let got: Vec<_> = rows.into_iter().map(|row| (row.text, row.cells[0].name().unwrap())).collect();
        assert_eq!(got, expected, "{}", path.display());
        seen += 1;
    }
    assert_eq!(seen, 30);
    let shards = super::data_files(&[formats().join("shards")]).unwrap();
    let rows = shards.iter().flat_map(|path| read(path, &["n"]).unwrap());
    let got: Vec<_> = rows.map(|row| (row.text, row.cells[0].name().unwrap())).collect();
    assert_eq!(got, expected);
}

/// Any text that a CSV can hold.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a\", \n\r\t'é]{0,12}", any::<String>().prop_map(|text| text.replace('\0', "")),]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_csv_writer_wrote_comes_back(rows in vec((text(), text()), 0..8), crlf: bool, always: bool) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        let mut writer = csv::WriterBuilder::new();
        writer.terminator(if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') });
        writer.quote_style(if always { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary });
        let mut writer = writer.from_path(&path).unwrap();
        writer.write_record(["other", "text"]).unwrap();
        for (text, other) in &rows {
            writer.write_record([other, text]).unwrap();
        }
        writer.flush().unwrap();
        let got = read(&path, &["other"]).unwrap();
        let got: Vec<_> = got.into_iter().map(|row| (row.text, row.cells)).collect();
        let expected: Vec<_> = rows.into_iter().map(|(text, other)| (text, vec![RecordCell::Text(other)])).collect();
        prop_assert_eq!(got, expected);
    }

    /// Where both read a text, ours and the `csv` crate read the same.
    #[test]
    fn records_are_those_of_the_csv_crate(text in "[a\", \n\r]{0,40}") {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(&path, format!("text,n\n{text}")).unwrap();
        if let Ok(ours) = read(&path, &["n"]) {
            let mut reader = csv::Reader::from_path(&path).unwrap();
            let theirs: Vec<_> = reader.records().map(Result::unwrap).collect();
            let theirs: Vec<_> = theirs.iter().map(|row| (row[0].to_owned(), vec![RecordCell::Text(row[1].into())])).collect();
            let ours: Vec<_> = ours.into_iter().map(|row| (row.text, row.cells)).collect();
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn what_a_json_writer_wrote_comes_back(rows in vec((any::<String>(), any::<i64>()), 0..8), list: bool) {
        let dir = tempfile::tempdir().unwrap();
        let objects: Vec<_> = rows.iter().map(|(text, n)| json!({ "n": n, "text": text, "x": [text, { "y": text }] })).collect();
        let lines = objects.iter().map(|object| object.to_string() + "\n").collect::<Vec<_>>().concat();
        let (name, content) = if list { ("a.json", json!(objects).to_string()) } else { ("a.jsonl", lines) };
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let got = read(&path, &["n"]).unwrap();
        let got: Vec<_> = got.into_iter().map(|row| (row.text, row.cells)).collect();
        let expected: Vec<_> = rows.into_iter().map(|(text, n)| (text, vec![RecordCell::Integer(n)])).collect();
        prop_assert_eq!(got, expected);
    }

    /// Documents or one error on one line that names the file, whatever the bytes are.
    #[test]
    fn arbitrary_bytes_are_never_a_panic(bytes in vec(any::<u8>(), 0..200), start in 0..6_usize) {
        let starts: [&[u8]; 6] = [b"", b"text\n\"", b"{\"text\":", b"PAR1", b"ARROW1\0\0", b"\xFF\xFF\xFF\xFF"];
        let dir = tempfile::tempdir().unwrap();
        for extension in ["txt", "jsonl", "ndjson", "json", "csv", "tsv", "parquet", "arrow", "feather", "csv.gz", "json.zst"] {
            let path = dir.path().join(format!("a.{extension}"));
            std::fs::write(&path, [starts[start], &bytes].concat()).unwrap();
            if let Err(error) = read(&path, &[]) {
                prop_assert!(error.contains(&format!("a.{extension}")) && !error.contains('\n'), "{}", error);
            }
        }
    }

    /// The same of whole files with some bytes changed.
    #[test]
    fn damaged_files_are_never_a_panic(file in 0..30_usize, damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut files: Vec<_> = formats().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.is_file() && Format::of(path).is_ok());
        files.sort();
        let file = &files[file % files.len()];
        let mut bytes = std::fs::read(file).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(file.file_name().unwrap());
        std::fs::write(&path, bytes).unwrap();
        if let Err(error) = read(&path, &["n"]) {
            prop_assert!(error.contains(&*path.to_string_lossy()) && !error.contains('\n'), "{}", error);
        }
    }

    /// Windows put together are the documents, each in windows of its own.
    #[test]
    fn windows_put_together_are_the_documents(texts in vec(".{0,20}", 1..6), seq_len in 1..9_usize) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/text/byte_level_bos");
        let tokenizer = Tokenizer::load(&folder, BosPolicy::Auto).unwrap();
        prop_assume!(texts.iter().any(|text| !text.is_empty()));
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (windows, stats) = cut(&texts, &tokenizer, seq_len, None, false).unwrap();
        for (id, text) in texts.iter().enumerate() {
            let mine = windows.iter().filter(|window| window.segments[0].doc_id == id as u64);
            let ids: Vec<u32> = mine.clone().flat_map(|window| window.ids.clone()).collect();
            prop_assert_eq!(ids, tokenizer.encode(text).unwrap());
            prop_assert!(mine.rev().skip(1).all(|window| window.ids.len() == seq_len));
        }
        prop_assert_eq!(stats.documents, texts.len() as u64);
    }
}
