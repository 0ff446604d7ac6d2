//! Data files that are broken, empty or too long.

use std::path::Path;

use crate::cli::{gpt2, layerscope, path, refusal, refuse_all, succeed, words};

#[test]
fn every_bad_data_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let file = dir.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        path(file)
    };
    std::fs::create_dir(dir.path().join("folder.txt")).unwrap();
    let good = file("good.txt", b"Alice");
    let files: Vec<(String, Vec<&str>)> = vec![
        (file("empty.txt", b""), vec!["empty", "empty.txt"]),
        (
            file("empty.jsonl", b"{\"text\": \"\"}\n{\"text\": \"\"}\n"),
            vec!["all 2 documents are empty", "empty.jsonl"],
        ),
        (file("none.jsonl", b""), vec!["no document in", "none.jsonl"]),
        (path(dir.path().join("gone.txt")), vec!["gone.txt: no such file"]),
        (path(dir.path().join("folder.txt")), vec!["folder.txt: is a folder"]),
        (file("a.docx", b"x"), vec!["a.docx: unknown extension \"docx\""]),
        (file("utf8.txt", b"ab\xFF"), vec!["utf8.txt", "invalid UTF-8 at byte 2"]),
        (
            file("column.jsonl", b"{\"body\": \"x\"}"),
            vec!["column.jsonl:1", "no column \"text\"", "\"body\""],
        ),
        (
            file("line.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"b\"}\n{\"text\": "),
            vec!["line.jsonl:3: not JSON"],
        ),
        (file("a.parquet", b"PAR1 and no more"), vec!["a.parquet", "bad parquet"]),
    ];
    let out = path(dir.path().join("out"));
    let rows: Vec<_> = files
        .into_iter()
        .map(|(data, says)| {
            let args =
                ["export", "--model", &gpt2(), "--out", &out, "--data", &good, &data].map(str::to_owned);
            // Alone, since one good document is enough not to be empty.
            let args = args.into_iter().filter(|a| {
                !(a == &good && says.iter().any(|s| s.contains("empty") || s.contains("no document")))
            });
            // What is not there was named wrongly; what is there and damaged failed.
            let named = ["no such file", "is a folder", "unknown extension", "no column"];
            let code = if says.iter().any(|s| named.iter().any(|n| s.contains(n))) { 2 } else { 1 };
            (args.collect(), code, says.into_iter().map(str::to_owned).collect())
        })
        .collect();
    refuse_all(&rows);
    assert!(!Path::new(&out).exists(), "nothing is written before the data were seen");
}

#[test]
fn an_unreadable_file_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret.txt");
    std::fs::write(&secret, "x").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(&secret).is_ok() {
        eprintln!("skipped: this user may read everything");
        return;
    }
    let args = [
        "export",
        "--quiet",
        "--model",
        &gpt2(),
        "--data",
        &path(&secret),
        "--out",
        &path(dir.path().join("out")),
    ];
    assert_eq!(refusal(layerscope().args(args), 1, &["secret.txt: Permission denied"]), None);
}

#[test]
fn a_document_longer_than_the_context_is_cut_into_windows_but_not_viewed() {
    let dir = tempfile::tempdir().unwrap();
    let long = "Alice was beginning to get very tired. ".repeat(60);
    let file = dir.path().join("long.txt");
    std::fs::write(&file, &long).unwrap();
    let args = ["view", "--quiet", "--model", &gpt2(), "--text", &long];
    assert_eq!(refusal(layerscope().args(args), 2, &["the model's context is 256", "--tokens 256"]), None);
    let out = path(dir.path().join("out"));
    let mut args = words("export --quiet --hooks resid_pre --layers 8 --model");
    args.extend([gpt2(), "--data".into(), path(file), "--out".into(), out.clone()]);
    succeed(&args);
    let rows = layerscope::states::store::ActivationStore::open(Path::new(&out)).unwrap().rows().unwrap();
    assert!(rows.len() > 512 && rows.pos.iter().copied().eq(0..rows.len() as u32));
}
