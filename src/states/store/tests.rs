//! The store as a whole: round trips, kills between any two file operations, damage, refusals.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use half::f16;
use serde_json::json;

use super::*;
use crate::results::run::{Counts, Manifest, ModelRecord, fault};

const ROWS: u64 = 11;
const SHARD_ROWS: u64 = 4;

fn layout(format: Format, dtype: ActDtype) -> Layout {
    let column = |hook: &str, layer, width| Column {
        hook: hook.into(),
        point: format!("blocks.{layer}.hook_{hook}"),
        layer,
        width,
    };
    let columns = vec![column("resid_pre", 0, 5), column("resid_pre", 10, 5), column("mlp_post", 0, 9)];
    Layout { columns, dtype, format, shard_rows: SHARD_ROWS, planned_rows: Some(ROWS) }
}

fn manifest() -> Manifest {
    let mut m = Manifest::new("export");
    m.config = json!({ "positions": "all", "hooks": ["resid_pre", "mlp_post"] });
    m.model =
        Some(ModelRecord { path: "m".into(), family: "gpt2".into(), sha256: "ab".repeat(32), stored: None });
    m
}

/// Exact in f16 and bf16.
fn value(column: usize, row: u64, i: usize) -> f32 {
    (row as f32 - 3.0) * 0.25 + column as f32 * 8.0 + i as f32
}

fn text(id: u32) -> String {
    format!(" tok{id}\n\u{e9}")
}

/// Puts rows `from..to` into a buffer.
fn fill(buffer: &mut ShardBuffer, columns: &[Column], from: u64, to: u64) -> Result<(), StoreError> {
    for row in from..to {
        buffer.push_row(row, row / 6, (row % 6) as u32, (row * 7 % 5) as u32)?;
    }
    for (c, column) in columns.iter().enumerate() {
        let values: Vec<f32> =
            (from..to).flat_map(|row| (0..column.width).map(move |i| value(c, row, i))).collect();
        // In two parts, the later first: order of arrival does not matter.
        let half = (to - from) as usize / 2;
        buffer.put(c, half, &values[half * column.width..])?;
        buffer.put(c, 0, &values[..half * column.width])?;
    }
    Ok(())
}

/// What the export command does: skip whole shards, write the others, finish.
fn export(dir: &Path, layout: &Layout) -> Result<(), StoreError> {
    let mut writer = StoreWriter::start(dir, manifest(), layout.clone(), false)?;
    let mut buffer = writer.buffer();
    for shard in (0..ROWS.div_ceil(SHARD_ROWS)).filter(|k| !writer.is_done(*k)).collect::<Vec<_>>() {
        fill(&mut buffer, &layout.columns, shard * SHARD_ROWS, ROWS.min((shard + 1) * SHARD_ROWS))?;
        writer.write(shard, &mut buffer, &text)?;
    }
    if writer.is_complete() {
        return Ok(());
    }
    writer.finish(Counts { rows: ROWS, ..Counts::default() }, None).map(|_| ())
}

/// Every file of a folder with its bytes.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(root).unwrap().to_path_buf(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn round_trip_in_every_format_and_dtype() {
    for format in [Format::Parquet, Format::Arrow, Format::Npy, Format::Safetensors] {
        for dtype in [ActDtype::F32, ActDtype::F16, ActDtype::Bf16] {
            let tmp = tempfile::tempdir().unwrap();
            let layout = layout(format, dtype);
            if !format.holds(dtype) {
                let refused = export(tmp.path(), &layout).unwrap_err().to_string();
                assert!(refused.contains("has no bf16; it is of safetensors and parquet"), "{refused}");
                continue;
            }
            export(tmp.path(), &layout).unwrap();
            let store = ActivationStore::open(tmp.path()).unwrap();
            for (c, column) in layout.columns.iter().enumerate() {
                let m = store.matrix(&column.hook, column.layer).unwrap();
                assert_eq!(m.dim(), (ROWS as usize, column.width));
                for ((row, i), x) in m.indexed_iter() {
                    assert_eq!(*x, value(c, row as u64, i), "{format:?} {dtype:?} {row} {i}");
                }
                let parts: Vec<Shard> =
                    store.shards(&column.hook, column.layer).unwrap().map(Result::unwrap).collect();
                assert_eq!(parts.iter().map(|p| p.act.nrows()).collect::<Vec<_>>(), [4, 4, 3]);
                assert_eq!(parts[2].act.row(1), m.row(9));
                assert_eq!(parts[2].ids.row_id, [8, 9, 10]);
            }
            let rows = store.rows().unwrap();
            assert_eq!(rows.row_id, (0..ROWS).collect::<Vec<_>>());
            assert_eq!((rows.doc_id[5], rows.doc_id[6], rows.pos[5], rows.pos[6]), (0, 1, 5, 0));
            assert_eq!(store.token_texts().unwrap()[2], text(4));
        }
    }
}

/// Several pages and row groups, widths with and without remainder, random numbers: the hand-made leaf against the
/// crate's reader.
#[test]
fn parquet_pages_and_row_groups() {
    for (width, rows, dtype) in [
        (1, 3_000_000, ActDtype::F32),
        (769, 7000, ActDtype::F32),
        (1000, 10_000, ActDtype::F16),
        (700_000, 3, ActDtype::F32),
    ] {
        let tmp = tempfile::tempdir().unwrap();
        let columns = vec![Column { hook: "z".into(), point: String::new(), layer: 0, width }];
        let layout =
            Layout { columns, dtype, format: Format::Parquet, shard_rows: rows, planned_rows: Some(rows) };
        let mut state = 1_u64;
        let values: Vec<f32> = (0..rows as usize * width)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as f32 / 4096.0 - 2048.0
            })
            .collect();
        let mut writer = StoreWriter::start(tmp.path(), manifest(), layout, false).unwrap();
        let mut buffer = writer.buffer();
        for row in 0..rows {
            buffer.push_row(row, row / 100, (row % 100) as u32, 3).unwrap();
        }
        buffer.put(0, 0, &values).unwrap();
        writer.write(0, &mut buffer, &text).unwrap();
        writer.finish(Counts { rows, ..Counts::default() }, None).unwrap();
        let matrix = ActivationStore::open(tmp.path()).unwrap().matrix("z", 0).unwrap();
        let expected = |x: &f32| if dtype == ActDtype::F16 { f16::from_f32(*x).to_f32() } else { *x };
        assert!(matrix.iter().zip(&values).all(|(a, b)| *a == expected(b)), "{width} {rows}");
    }
}

#[test]
fn killed_between_any_two_operations_resumes_to_the_same_bytes() {
    let tmp = tempfile::tempdir().unwrap();
    let layout = layout(Format::Parquet, ActDtype::F32);
    export(&tmp.path().join("whole"), &layout).unwrap();
    let expected = snapshot(&tmp.path().join("whole"));
    assert_eq!(expected.len(), 1 + 3 * 5);
    let (mut after, mut resumed) = (0, 0);
    loop {
        let dir = tmp.path().join(format!("killed{after}"));
        fs::create_dir(&dir).unwrap();
        fault::plan(&dir, after, ErrorKind::Other);
        let outcome = export(&dir, &layout);
        let killed = fault::clear(&dir);
        assert_eq!(outcome.is_err(), killed, "{after}: {outcome:?}");
        if !killed {
            break;
        }
        assert!(
            ActivationStore::open(&dir).is_err() || snapshot(&dir) == expected,
            "{after}: passes for whole"
        );
        // A second kill, during the resumption, every third time.
        if after % 3 == 0 {
            fault::plan(&dir, after / 2, ErrorKind::Other);
            let _killed_again = export(&dir, &layout);
            fault::clear(&dir);
        }
        export(&dir, &layout).unwrap();
        assert_eq!(snapshot(&dir), expected, "killed after {after} operations");
        fs::remove_dir_all(dir).unwrap();
        (after, resumed) = (after + 1, resumed + 1);
    }
    assert!(resumed > 100, "{resumed}");
}

#[test]
fn damage_is_named_and_repaired_by_repeating() {
    let tmp = tempfile::tempdir().unwrap();
    let (dir, layout) = (tmp.path(), layout(Format::Safetensors, ActDtype::F16));
    export(dir, &layout).unwrap();
    let expected = snapshot(dir);
    let act = dir.join("acts/hook=resid_pre/layer=10/shard=1.safetensors");
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    };
    flip(&act);
    let store = ActivationStore::open(dir).unwrap();
    let message = store.matrix("resid_pre", 10).unwrap_err().to_string();
    assert!(message.contains("layer=10/shard=1.safetensors is damaged: checksum"), "{message}");
    store.matrix("resid_pre", 0).unwrap();
    fs::write(&act, "short").unwrap();
    let message = store.matrix("resid_pre", 10).unwrap_err().to_string();
    assert!(message.contains("5 bytes, expected"), "{message}");
    let message = ActivationStore::open(dir).unwrap_err().to_string();
    assert!(message.contains("layer=10/shard=1.safetensors is missing or truncated"), "{message}");
    fs::write(dir.join("shards/2.done"), "{\"shard\":2").unwrap();
    fs::remove_file(dir.join("tokens/shard=0.parquet")).unwrap();
    fs::write(dir.join("acts/my notes.txt"), "keep").unwrap();
    export(dir, &layout).unwrap();
    assert_eq!(fs::read_to_string(dir.join("acts/my notes.txt")).unwrap(), "keep");
    fs::remove_file(dir.join("acts/my notes.txt")).unwrap();
    assert_eq!(snapshot(dir), expected);
}

#[test]
fn every_format_refuses_every_truncation_and_other_shapes() {
    for format in [Format::Parquet, Format::Arrow, Format::Npy, Format::Safetensors] {
        let tmp = tempfile::tempdir().unwrap();
        export(tmp.path(), &layout(format, ActDtype::F32)).unwrap();
        let path = layout(format, ActDtype::F32).columns[0].path(0, format);
        let bytes = fs::read(tmp.path().join(path)).unwrap();
        let mut out = vec![0.0; 20];
        format::read(format, bytes.clone().into(), 5, ActDtype::F32, &mut out).unwrap();
        for (width, dtype, room) in [(4, ActDtype::F32, 20), (5, ActDtype::F16, 20), (5, ActDtype::F32, 15)] {
            let read = format::read(format, bytes.clone().into(), width, dtype, &mut out[..room]);
            let says = read.unwrap_err().to_string();
            let of = ["schema", "shape", "expected", "dtype", "more rows", "columns", "type", "numbers"];
            assert!(of.iter().any(|word| says.contains(word)), "{format:?} {width} {dtype:?} {room}: {says}");
        }
        for len in 0..bytes.len() {
            let part = bytes[..len].to_vec().into();
            assert!(
                format::read(format, part, 5, ActDtype::F32, &mut out).is_err(),
                "{format:?} cut at {len}"
            );
        }
    }
}

#[test]
fn unfinished_and_foreign_folders_are_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let layout = layout(Format::Npy, ActDtype::F32);
    let message = ActivationStore::open(tmp.path()).unwrap_err().to_string();
    assert!(message.contains("no manifest.json"), "{message}");
    let mut writer = StoreWriter::start(tmp.path(), manifest(), layout.clone(), false).unwrap();
    let mut buffer = writer.buffer();
    fill(&mut buffer, &layout.columns, 0, 4).unwrap();
    writer.write(0, &mut buffer, &text).unwrap();
    assert!(matches!(
        writer.finish(Counts { rows: ROWS, ..Counts::default() }, None),
        Err(StoreError::Unfinished { .. })
    ));
    let message = ActivationStore::open(tmp.path()).unwrap_err().to_string();
    assert!(message.contains("unfinished: 1 of 3 shards; repeat the export command to finish"), "{message}");
    let part = ActivationStore::open_finished_part(tmp.path()).unwrap();
    assert_eq!(part.matrix("mlp_post", 0).unwrap().dim(), (4, 9));
    let message = part.matrix("mlp_out", 0).unwrap_err().to_string();
    assert!(message.contains("it has resid_pre 0, resid_pre 10, mlp_post 0"), "{message}");
    let mut other = layout.clone();
    other.dtype = ActDtype::F16;
    let message = StoreWriter::start(tmp.path(), manifest(), other.clone(), false).unwrap_err().to_string();
    assert!(message.contains("layout.dtype was \"f32\", is now \"f16\""), "{message}");
    let forced = StoreWriter::start(tmp.path(), manifest(), other, true).unwrap();
    assert!(forced.done().is_empty() && !tmp.path().join("acts").exists());
}

#[test]
fn a_full_disk_names_the_file() {
    let tmp = tempfile::tempdir().unwrap();
    for format in [Format::Parquet, Format::Arrow, Format::Npy, Format::Safetensors] {
        let dir = tmp.path().join(format.extension());
        fs::create_dir(&dir).unwrap();
        for after in [20, 30, 45] {
            fault::plan(&dir, after, ErrorKind::StorageFull);
            let outcome = export(&dir, &layout(format, ActDtype::F32));
            assert!(fault::clear(&dir));
            let message = outcome.unwrap_err().to_string();
            assert!(message.starts_with("no space left on device while writing"), "{message}");
            assert!(message.contains("MB free)") && message.contains(format.extension()), "{message}");
        }
        export(&dir, &layout(format, ActDtype::F32)).unwrap();
    }
}
