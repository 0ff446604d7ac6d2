//! The runner's side of `benches/forward.py`: loads a model folder, then times one pass per line of standard input.
//!
//! A line is `BATCH SEQ states|logits [FILE]`; the answer is one line of JSON. With FILE, what was captured is written
//! there as safetensors.

use std::{
    fs,
    io::{self, BufRead, Write},
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use layerscope::{
    hook::{BlockHook, Capture, HookPoint, Selection},
    model::Model,
};
use serde_json::json;
use tch::{Device, Kind, Tensor};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    // `cargo bench` adds `--bench`; there is nothing to time without a model.
    let [_, dir, threads] = &args[..] else { return say("usage: forward MODEL_DIR THREADS; see forward.py") };
    tch::set_num_threads(threads.parse()?);
    let started = Instant::now();
    let model = Model::load(Path::new(dir), Kind::Float, Device::Cpu, |_, _| ())?;
    say(&json!({ "seconds": started.elapsed().as_secs_f64(), "peak_mib": peak_mib()? }).to_string())?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        ensure!(words.len() >= 3, "expected BATCH SEQ MODE, got `{line}`");
        let ids = ids(words[0].parse()?, words[1].parse()?, model.spec().vocab as i64);
        let pass = pass(&model, &ids, words[2] == "logits")?;
        if let Some(file) = words.get(3) {
            Tensor::write_safetensors(&pass.kept, file)?;
        }
        say(&pass.report.to_string())?;
    }
    Ok(())
}

/// Token ids that `forward.py` can make too.
fn ids(batch: i64, seq: i64, vocab: i64) -> Tensor {
    (Tensor::arange(batch * seq, (Kind::Int64, Device::Cpu)) * 7919 + 13).remainder(vocab).view([batch, seq])
}

struct Timed {
    report: serde_json::Value,
    kept: Vec<(String, Tensor)>,
}

/// One pass that keeps the residual stream of every layer.
fn pass(model: &Model, ids: &Tensor, logits: bool) -> Result<Timed> {
    let layers = model.spec().n_layers;
    let points = (0..=layers).map(|i| HookPoint::Block(i, BlockHook::ResidPre));
    let mut capture = Capture::new(points.collect::<Selection>());
    if logits {
        capture = capture.run_on();
    }
    fs::write("/proc/self/clear_refs", "5").context("resetting VmHWM")?;
    let (cpu, faults) = usage()?;
    let started = Instant::now();
    let out = model.forward(ids, &mut capture)?;
    let seconds = started.elapsed().as_secs_f64();
    let (cpu_after, faults_after) = usage()?;
    let report = json!({
        "seconds": seconds, "cpu": cpu_after - cpu, "faults": faults_after - faults, "peak_mib": peak_mib()?,
    });
    let mut kept: Vec<_> = capture
        .into_inner()
        .into_iter()
        .enumerate()
        .map(|(i, (_, x))| (format!("resid_pre.{i}"), x))
        .collect();
    ensure!(kept.len() == layers + 1, "captured {} of {} layers", kept.len(), layers + 1);
    kept.extend(out.map(|x| ("logits".to_owned(), x)));
    Ok(Timed { report, kept })
}

fn say(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Seconds of processor time and minor page faults of this process so far.
fn usage() -> Result<(f64, u64)> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let field = |i: usize| -> Result<u64> { Ok(fields.get(i).context("/proc/self/stat is short")?.parse()?) };
    Ok(((field(11)? + field(12)?) as f64 / 100.0, field(7)?))
}

/// Largest resident size since the last reset.
fn peak_mib() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? / 1024.0)
}
