//! How fast shards are written and read: `store_throughput DIR [ROWS [WIDTH [COLUMNS [FORMAT]]]]`, threads by
//! `RAYON_NUM_THREADS`.
//!
//! Leaves one export per format and dtype in DIR, so that `benches/store_pyarrow.py DIR` writes the very same numbers.

#![allow(clippy::print_stdout)] // its output is the table

use std::path::PathBuf;
use std::time::Instant;

use layerscope::results::run::{Counts, Manifest};
use layerscope::states::store::{ActDtype, ActivationStore, Column, Format, Layout, StoreError, StoreWriter};

/// Gaussian-like numbers with a scale per dimension, as in a residual stream.
fn activations(rows: usize, width: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 24) as f32
    };
    let scale: Vec<f32> = (0..width).map(|_| (3.0 * uniform() - 1.5).exp()).collect();
    (0..rows * width).map(|i| scale[i % width] * ((0..6).map(|_| uniform()).sum::<f32>() - 3.0)).collect()
}

/// Seconds that all threads of this process spent on a core (Linux), so that other load on the machine does not count.
fn cpu() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let on_core = |t: std::fs::DirEntry| {
        let text = std::fs::read_to_string(t.path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0)
    };
    tasks.map(on_core).sum::<f64>() / 1e9
}

/// Wall-clock and core seconds of `work`.
fn timed<T>(times: &mut Vec<(f64, f64)>, work: impl FnOnce() -> T) -> T {
    let (wall, core) = (Instant::now(), cpu());
    let out = work();
    times.push((wall.elapsed().as_secs_f64(), cpu() - core));
    out
}

/// `MB/s by the clock (MB/s per core)`.
fn rate(mb: f64, times: &[(f64, f64)]) -> String {
    let median = |mut t: Vec<f64>| {
        t.sort_by(f64::total_cmp);
        t[t.len() / 2]
    };
    let wall = median(times.iter().map(|t| t.0).collect());
    let core = median(times.iter().map(|t| t.1).collect());
    format!("{:5.0} ({:5.0})", mb / wall, mb / core)
}

#[allow(clippy::print_stdout, reason = "a bench prints its table")]
fn main() -> Result<(), StoreError> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| "store-throughput".into()));
    let mut number = |default: usize| args.next().and_then(|a| a.parse().ok()).unwrap_or(default);
    let (rows, width, n_columns) = (number(40_000), number(768), number(2));
    let values = activations(rows, width);
    let only = args.next();
    let formats = [Format::Parquet, Format::Arrow, Format::Npy, Format::Safetensors];
    for format in formats.into_iter().filter(|f| only.as_deref().is_none_or(|only| only == f.extension())) {
        for dtype in [ActDtype::F32, ActDtype::F16] {
            measure(&dir, &values, rows, width, n_columns, format, dtype)?;
        }
    }
    Ok(())
}

fn measure(
    dir: &std::path::Path,
    values: &[f32],
    rows: usize,
    width: usize,
    n_columns: usize,
    format: Format,
    dtype: ActDtype,
) -> Result<(), StoreError> {
    let column = |layer| Column { hook: "resid_pre".into(), point: String::new(), layer, width };
    let columns: Vec<Column> = (0..n_columns as u32).map(column).collect();
    let layout = Layout { columns, dtype, format, shard_rows: rows as u64, planned_rows: Some(rows as u64) };
    let out = dir.join(format!("{}-{}", format.extension(), dtype.name()));
    let mut writer = StoreWriter::start(&out, Manifest::new("export"), layout, true)?;
    let mut buffer = writer.buffer();
    let (mut put, mut write, mut read) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        for row in 0..rows as u64 {
            buffer.push_row(row, row / 500, (row % 500) as u32, (row * 7919 % 50_257) as u32)?;
        }
        timed(&mut put, || (0..n_columns).try_for_each(|column| buffer.put(column, 0, values)))?;
        timed(&mut write, || writer.write(0, &mut buffer, &|id| format!("t{id}")))?;
    }
    let disk: u64 = writer.done().values().flat_map(|m| &m.files).map(|f| f.bytes).sum();
    writer.finish(Counts { rows: rows as u64, ..Counts::default() }, None)?;
    let store = ActivationStore::open(&out)?;
    for _ in 0..3 {
        timed(&mut read, || (0..n_columns).try_for_each(|i| store.matrix("resid_pre", i as u32).map(drop)))?;
    }
    let raw = (rows * width * n_columns * dtype.size()) as f64 / 1e6;
    println!(
        "{:12} {} put {}  write {}  read {}  MB/s (per core)  {:5.1} % of raw",
        format.extension(),
        dtype.name(),
        rate(raw, &put),
        rate(raw, &write),
        rate(raw, &read),
        disk as f64 / raw / 1e4
    );
    Ok(())
}
