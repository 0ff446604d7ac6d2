//! `export`: what is read back is what the model computed.

use std::path::Path;

use layerscope::{
    hook::{Capture, HookPoint, Selection},
    model::Model,
    sources::text::{BosPolicy, Tokenizer},
    states::store::ActivationStore,
};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

use super::{files, fixture, gpt2, path, result, run, succeed, succeed_with, tiny, words};

const HOOKS: [&str; 4] =
    ["blocks.1.hook_resid_pre", "blocks.0.attn.hook_z", "blocks.2.mlp.hook_post", "ln_final.hook_scale"];

/// Documents of the corpus: one longer than three windows of 16, an empty one, short ones.
fn documents() -> [String; 5] {
    let long = "Alice was beginning to get very tired of sitting by her sister on the bank. ".repeat(4);
    [
        long,
        String::new(),
        "Hello.".into(),
        "Down the rabbit-hole, down, down, down.".into(),
        "The end of it.".into(),
    ]
}

fn corpus() -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.jsonl");
    let lines: Vec<_> = documents().iter().map(|text| json!({ "text": text }).to_string()).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let file = path(file);
    (dir, file)
}

fn export(data: &str, out: &Path, extra: &str) -> Value {
    let args = [
        words("export --quiet --json --seq-len 16 --model"),
        vec![gpt2(), "--data".into(), data.into(), "--out".into(), path(out)],
        words(extra),
    ];
    result(&succeed(&args.concat()))
}

/// Whether position `.0` of a document of `.1` tokens is wanted.
type Wanted<'a> = &'a dyn Fn(u32, u32) -> bool;

struct Direct {
    model: Model,
    tokenizer: Tokenizer,
}

impl Direct {
    fn new() -> Self {
        let dir = fixture("gpt2-alice-8l");
        let model = Model::load(&dir, Kind::Float, Device::Cpu, |_, _| ()).unwrap();
        Self { model, tokenizer: Tokenizer::load(&dir, BosPolicy::Auto).unwrap() }
    }

    /// Every token of the corpus: document, position, id, and the window it is in.
    fn rows(&self) -> Vec<(u64, u32, u32)> {
        // An empty document still begins with BOS.
        let ids = documents().map(|text| self.tokenizer.encode(&text).unwrap());
        let rows = ids
            .iter()
            .zip(0..)
            .flat_map(|(ids, doc)| ids.iter().zip(0..).map(move |(id, pos)| (doc, pos, *id)));
        rows.collect()
    }

    /// What `hook` sees of each of those, in windows of `seq`, as rows.
    fn values(&self, hook: &str, seq: usize) -> Vec<Vec<f32>> {
        let point = HookPoint::parse(hook).unwrap();
        let mut out = Vec::new();
        for doc in 0..documents().len() as u64 {
            let ids: Vec<i64> = self.rows().iter().filter(|r| r.0 == doc).map(|r| i64::from(r.2)).collect();
            for window in ids.chunks(seq) {
                let mut capture = Capture::new([point].into_iter().collect::<Selection>());
                self.model.forward(&Tensor::from_slice(window).unsqueeze(0), &mut capture).unwrap();
                let value = capture.get(point).unwrap().reshape([window.len() as i64, -1]);
                out.extend(Vec::<Vec<f32>>::try_from(value).unwrap());
            }
        }
        out
    }
}

/// `tolerance` is relative to the row's largest number.
fn assert_rows(what: &str, store: &ActivationStore, column: usize, expected: &[Vec<f32>], tolerance: f32) {
    let column = &store.columns()[column];
    let matrix = store.matrix(&column.hook, column.layer).unwrap();
    assert_eq!(matrix.nrows(), expected.len(), "{what}");
    for (row, expected) in matrix.rows().into_iter().zip(expected) {
        let scale = expected.iter().fold(0_f32, |m, x| m.max(x.abs()));
        let error = row.iter().zip(expected).fold(0_f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(
            row.len() == expected.len() && error <= tolerance * scale,
            "{what} {}: {error} of {scale}",
            column.hook
        );
    }
}

#[test]
fn every_format_and_type_reads_back() {
    let direct = Direct::new();
    let (dir, data) = corpus();
    let rows = direct.rows();
    let expected: Vec<_> = HOOKS.iter().map(|hook| direct.values(hook, 16)).collect();
    for format in ["parquet", "arrow", "npy", "safetensors"] {
        for (dtype, tolerance) in [("f32", 2e-5), ("f16", 6e-4)] {
            let out = dir.path().join(format!("{format}-{dtype}"));
            let hooks = HOOKS.join(" ");
            let result =
                export(&data, &out, &format!("--format {format} --act-dtype {dtype} --hooks {hooks}"));
            assert_eq!(result["rows"], rows.len(), "{result}");
            assert_eq!((&result["documents"], &result["empty_documents"]), (&json!(5), &json!(1)));
            let store = ActivationStore::open(&out).unwrap();
            let ids = store.rows().unwrap();
            let got: Vec<_> = (0..ids.len()).map(|i| (ids.doc_id[i], ids.pos[i], ids.token_id[i])).collect();
            assert_eq!(got, rows, "documents and positions go on over windows");
            assert!(ids.row_id.iter().copied().eq(0..rows.len() as u64));
            let texts = store.token_texts().unwrap();
            assert!(texts.iter().zip(&rows).all(|(text, row)| *text == direct.tokenizer.piece(row.2).text));
            for (i, column) in store.columns().iter().enumerate() {
                let which = HOOKS.iter().position(|hook| *hook == column.point).unwrap();
                assert_rows(&format!("{format} {dtype}"), &store, i, &expected[which], tolerance);
            }
        }
    }
}

#[test]
fn positions_by_hand() {
    let direct = Direct::new();
    let (dir, data) = corpus();
    let rows = direct.rows();
    let all = direct.values(HOOKS[0], 16);
    let len = |doc| rows.iter().filter(|r| r.0 == doc).count() as u32;
    let cases: [(&str, Wanted<'_>); 5] = [
        ("last", &|pos, len| pos + 1 == len),
        ("first", &|pos, _| pos == 0),
        ("2:5", &|pos, _| (2..5).contains(&pos)),
        ("-3:-1", &|pos, len| pos + 3 >= len && pos + 1 < len),
        ("stride:7", &|pos, _| pos % 7 == 0),
    ];
    for (positions, wanted) in cases {
        let out = dir.path().join(positions.replace(':', "_"));
        export(&data, &out, &format!("--hooks {} --positions={positions}", HOOKS[0]));
        let store = ActivationStore::open(&out).unwrap();
        let kept: Vec<usize> = (0..rows.len()).filter(|&i| wanted(rows[i].1, len(rows[i].0))).collect();
        let ids = store.rows().unwrap();
        let got: Vec<_> = (0..ids.len()).map(|i| (ids.doc_id[i], ids.pos[i], ids.token_id[i])).collect();
        assert_eq!(got, kept.iter().map(|&i| rows[i]).collect::<Vec<_>>(), "{positions}");
        let expected: Vec<_> = kept.iter().map(|&i| all[i].clone()).collect();
        assert_rows(positions, &store, 0, &expected, 2e-5);
    }
}

#[test]
fn small_shards_hold_the_same_rows() {
    let (dir, data) = corpus();
    let hooks = "--hooks resid_pre mlp_post";
    let [whole, cut] = ["whole", "cut"].map(|name| dir.path().join(name));
    // 9 · 128 + 8 · 512 numbers of 4 bytes: 21 kB a row, 49 rows in a megabyte, windows of 16.
    export(&data, &whole, hooks);
    let planned = export(&data, &cut, &format!("{hooks} --shard-mb 1 --dry-run"));
    assert!(!cut.exists(), "a dry run writes nothing");
    let done = export(&data, &cut, &format!("{hooks} --shard-mb 1"));
    for field in ["rows", "shards", "tokens", "documents", "columns"] {
        assert_eq!(planned[field], done[field], "{field}");
    }
    let [whole, cut] = [whole, cut].map(|dir| ActivationStore::open(&dir).unwrap());
    assert!(cut.shard_numbers().len() >= 2 && whole.shard_numbers().len() == 1);
    assert_eq!(done["shards"], cut.shard_numbers().len());
    assert_eq!(whole.rows().unwrap().token_id, cut.rows().unwrap().token_id);
    for (i, column) in whole.columns().iter().enumerate() {
        let rows = whole.matrix(&column.hook, column.layer).unwrap();
        let rows: Vec<Vec<f32>> = rows.rows().into_iter().map(|row| row.to_vec()).collect();
        assert_rows("cut", &cut, i, &rows, 2e-5);
    }
    let disk: u64 = files(&dir.path().join("cut")).values().map(|bytes| bytes.len() as u64).sum();
    assert!(disk <= planned["disk_bytes"].as_u64().unwrap(), "{disk} of {planned}");
}

#[test]
fn packed_windows_know_their_documents() {
    let direct = Direct::new();
    let (dir, data) = corpus();
    let out = dir.path().join("packed");
    export(&data, &out, &format!("--pack --hooks {}", HOOKS[0]));
    let store = ActivationStore::open(&out).unwrap();
    let ids = store.rows().unwrap();
    // EOS + document, and again; the last unfinished window is dropped.
    let mut expected = Vec::new();
    for (doc, text) in documents().iter().enumerate() {
        let tokenizer = Tokenizer::load(&fixture("gpt2-alice-8l"), BosPolicy::Never).unwrap();
        let tokens = [vec![0], tokenizer.encode(text).unwrap()].concat();
        expected.extend(tokens.into_iter().zip(0_u32..).map(|(id, pos)| (doc as u64, pos, id)));
    }
    expected.truncate(expected.len() / 16 * 16);
    let got: Vec<_> = (0..ids.len()).map(|i| (ids.doc_id[i], ids.pos[i], ids.token_id[i])).collect();
    assert_eq!(got, expected);
    let point = HookPoint::parse(HOOKS[0]).unwrap();
    let mut values = Vec::new();
    for window in expected.chunks(16) {
        let tokens: Vec<i64> = window.iter().map(|t| i64::from(t.2)).collect();
        let mut capture = Capture::new([point].into_iter().collect::<Selection>());
        direct.model.forward(&Tensor::from_slice(&tokens).unsqueeze(0), &mut capture).unwrap();
        values.extend(Vec::<Vec<f32>>::try_from(capture.get(point).unwrap().squeeze_dim(0)).unwrap());
    }
    assert_rows("packed", &store, 0, &values, 2e-5);
}

#[test]
fn stdin_is_a_file_like_any_other() {
    let (dir, data) = corpus();
    let [piped, read] = ["piped", "read"].map(|name| dir.path().join(name));
    let (model, out) = (gpt2(), path(&piped));
    let args =
        ["export", "--quiet", "--seq-len", "16", "--model", &model, "--data", "-", "--stdin-format", "jsonl"];
    let args = [&args[..], &["--hooks", "resid_pre", "--layers", "0,8", "--out", &out]].concat();
    let said = succeed_with(&args, &std::fs::read(&data).unwrap());
    assert!(said.contains("rows × 2 columns in 1 shard\n"), "{said}");
    export(&data, &read, "--hooks resid_pre --layers 0,8");
    let [mut piped, mut read] = [piped, read].map(|dir| files(&dir));
    // The manifest and the markers that quote its job name the data file.
    for store in [&mut piped, &mut read] {
        store.retain(|path, _| {
            !path.ends_with("manifest.json") && path.extension().is_none_or(|e| e != "done")
        });
    }
    assert_eq!(piped.keys().collect::<Vec<_>>(), read.keys().collect::<Vec<_>>());
    assert_eq!(piped.len(), 3);
    assert!(piped == read);
}

#[test]
fn a_repeated_export_has_nothing_to_do_and_another_is_refused() {
    let (dir, data) = corpus();
    let out = dir.path().join("out");
    export(&data, &out, "--hooks resid_pre --layers 0");
    let before = files(&out);
    let again = run(&[
        words("export --seq-len 16 --hooks resid_pre --layers 0 --model"),
        vec![gpt2(), "--data".into(), data.clone(), "--out".into(), path(&out)],
    ]
    .concat());
    assert!(again.code == Some(0) && again.err.contains("complete already"), "{again:?}");
    assert!(files(&out) == before);
    export(&data, &out, "--hooks resid_pre --layers 1 --force");
    assert_eq!(ActivationStore::open(&out).unwrap().columns()[0].layer, 1);
}

#[test]
fn a_nan_activation_is_named() {
    // Finite weights whose products are not; alternating, so that their own sum is.
    let model = tiny("llama");
    let file = model.path().join("model.safetensors");
    super::rewrite(&file, &file, |tensors| {
        for (name, size) in [("up_proj", 1e6_f32), ("down_proj", 1e34)] {
            let (dtype, _, data) = tensors.get_mut(&format!("model.layers.1.mlp.{name}.weight")).unwrap();
            assert_eq!(*dtype, safetensors::Dtype::F32);
            for (i, number) in data.chunks_exact_mut(4).enumerate() {
                number.copy_from_slice(&(if i % 2 == 0 { size } else { -size }).to_le_bytes());
            }
        }
    });
    let text = model.path().join("a.txt");
    std::fs::write(&text, "w1 w2 w3").unwrap();
    let out = model.path().join("out");
    let args = ["export", "--model", &path(model.path()), "--data", &path(text), "--out", &path(out)];
    let wrong = super::refusal(
        super::layerscope().args(args).arg("--quiet"),
        1,
        &["activation is", "layer 2", "document 0", "position"],
    );
    assert_eq!(wrong, None);
}
