//! Our side of `benches/lens_eval.py` and `benches/transfer.py`: `lens_race eval|transfer INPUTS.safetensors [LENSES]`.
//!
//! Reads the states, head and translators that the script wrote, computes the same numbers with the readout, and ends
//! with one line of JSON: `{"seconds", "rows", "metrics"}`; seconds are the median of five calls after a warm-up.

use std::{path::Path, time::Instant};

use layerscope::{
    lenses::{Affine, Ask, Norm, NormKind, Precision, Readout, Teacher, Unembed},
    model::Weights,
};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

type Failed = Box<dyn std::error::Error>;

/// What the script wrote.
struct Inputs {
    readout: Readout,
    /// `[rows, d]` per layer.
    states: Vec<Tensor>,
    last: Tensor,
    /// The next token of each row, -1 at the end of a sequence.
    next: Vec<i64>,
    maps: Vec<Affine>,
}

impl Inputs {
    fn read(path: &Path, threads: usize) -> Result<Self, Failed> {
        let file = Weights::open_file(path, Kind::Float)?;
        let bytes = std::fs::read(path)?;
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)?;
        let meta = header.metadata().clone().unwrap_or_default();
        let take = |name: &str| file.take_any(name);
        let states = take("states")?; // [L, batch, seq, d]
        let (layers, d) = (states.size()[0], states.size()[3]);
        let ids = take("ids")?;
        let seq = ids.size()[1];
        let ids = Vec::<i64>::try_from(ids.to_kind(Kind::Int64).view([-1]))?;
        let next = (0..ids.len()).map(|i| if (i as i64 + 1) % seq == 0 { -1 } else { ids[i + 1] });
        let kind = if meta.get("norm").is_some_and(|n| n == "rms") { NormKind::Rms } else { NormKind::Layer };
        let bias = if file.has("norm.bias") { Some(take("norm.bias")?) } else { None };
        let eps = meta.get("eps").map_or(Ok(1e-5), |e| e.parse())?;
        let norm = Norm::new(kind, Some(take("norm.weight")?), bias, eps);
        let unembed = Unembed::new(norm, take("unembed")?, None, None)?;
        let readout = Readout::new(&unembed, unembed.vocab(), Precision::Exact, threads)?;
        let map =
            |i: i64| Ok(Affine::new(take(&format!("layer.{i}.weight"))?, take(&format!("layer.{i}.bias"))?)?);
        Ok(Self {
            states: (0..layers).map(|i| states.get(i).view([-1, d]).contiguous()).collect(),
            last: take("final")?.view([-1, d]),
            next: next.collect(),
            maps: (0..layers).map(map).collect::<Result<_, Failed>>()?,
            readout,
        })
    }

    /// ce, entropy and KL of the logit and the tuned lens by layer.
    fn eval(&self, names: &[&str]) -> Result<Value, Failed> {
        let teacher = Teacher::of(&self.readout, &self.last)?;
        let mut metrics = json!({});
        for name in names {
            let mut lens = [Vec::new(), Vec::new(), Vec::new()];
            for (state, map) in self.states.iter().zip(&self.maps) {
                let x = if *name == "tuned" { map.forward(state)? } else { state.shallow_clone() };
                let n = self.readout.normalize(&x)?;
                let read = self.readout.sweep(&n, Ask { tokens: &[&self.next], ..Ask::default() })?;
                lens[0].push(mean(&read.ce(0)));
                lens[1].push(mean(&read.entropy()));
                lens[2].push(mean(&teacher.kl(&self.readout, &n, &read.lse)?));
            }
            metrics[*name] = json!({ "ce": lens[0], "entropy": lens[1], "kl": lens[2] });
        }
        Ok(metrics)
    }

    /// ce of translator i on state j, and KL of the state's own translator from it.
    fn transfer(&self) -> Result<Value, Failed> {
        let layers = self.states.len();
        let (mut ce, mut kl) = (vec![vec![0.0; layers]; layers], vec![vec![0.0; layers]; layers]);
        for (j, state) in self.states.iter().enumerate() {
            let n = self.readout.normalize(&self.maps[j].forward(state)?)?;
            let ask = Ask { expectation: true, tokens: &[&self.next], marginal: None };
            let mut read = self.readout.sweep(&n, ask)?;
            ce[j][j] = mean(&read.ce(0));
            let own = Teacher::new(n, &mut read)?;
            for i in (0..layers).filter(|i| *i != j) {
                let n = self.readout.normalize(&self.maps[i].forward(state)?)?;
                let read = self.readout.sweep(&n, Ask { tokens: &[&self.next], ..Ask::default() })?;
                ce[i][j] = mean(&read.ce(0));
                kl[i][j] = mean(&own.kl(&self.readout, &n, &read.lse)?);
            }
        }
        Ok(json!({ "tuned": { "ce": ce, "kl": kl } }))
    }
}

/// The mean of the numbers that are there.
fn mean(values: &[f64]) -> f64 {
    let there: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    there.iter().sum::<f64>() / there.len() as f64
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Failed> {
    let args: Vec<String> = std::env::args().collect();
    let [_, what, path, rest @ ..] = args.as_slice() else {
        return Err("eval|transfer INPUTS [LENSES]".into());
    };
    let threads = std::env::var("OMP_NUM_THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let threads = layerscope::sources::device::set_threads((threads > 0).then_some(threads));
    let _no_grad = tch::no_grad_guard();
    let inputs = Inputs::read(Path::new(path), threads)?;
    let names = rest.first().map_or("logit,tuned", String::as_str);
    let names: Vec<&str> = names.split(',').collect();
    let call = || if what == "transfer" { inputs.transfer() } else { inputs.eval(&names) };
    let metrics = call()?;
    let mut seconds = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        call()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    println!("{}", json!({ "seconds": seconds[2], "rows": inputs.last.size()[0], "metrics": metrics }));
    Ok(())
}
