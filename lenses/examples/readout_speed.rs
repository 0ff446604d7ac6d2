//! Times sweeps of the readout beside the bare products they need: `readout_speed ROWS D VOCAB THREADS [ROUNDS]`.
//!
//! Prints one JSON object: seconds (medians) of a sweep without and with the expectation, and of the bare products.

use std::time::Instant;

use layerscope_lenses::{Ask, Norm, NormKind, Precision, Readout, Unembed};
use tch::{Device, Kind, Tensor};

fn median(rounds: usize, mut f: impl FnMut()) -> f64 {
    f();
    let mut seconds: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[rounds / 2]
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<i64> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let [rows, d, vocab, threads] = numbers[..4] else { return Err("ROWS D VOCAB THREADS [ROUNDS]".into()) };
    let rounds = numbers.get(4).map_or(5, |n| *n as usize);
    tch::set_num_threads(threads as i32);
    let _no_grad = tch::no_grad_guard();
    let cpu = (Kind::Float, Device::Cpu);
    let weight = Tensor::randn([vocab, d], cpu) * 0.05;
    let norm = Norm::new(NormKind::Layer, None, None, 1e-5);
    let unembed = Unembed::new(norm, weight.shallow_clone(), None, None)?;
    let readout = Readout::new(&unembed, vocab as usize, Precision::Exact, threads as usize)?;
    let n = readout.normalize(&Tensor::randn([rows, d], cpu))?;
    let ids: Vec<i64> = (0..rows).map(|i| (i * 7919) % vocab).collect();
    let plain = median(rounds, || drop(readout.sweep(&n, Ask { tokens: &[&ids, &ids], ..Ask::default() })));
    let full = median(rounds, || drop(readout.sweep(&n, Ask { expectation: true, ..Ask::default() })));
    let part = 512.min(rows);
    let out = Tensor::empty([part, vocab], cpu);
    let floor = median(rounds, || {
        for first in (0..rows).step_by(part as usize) {
            let n = n.narrow(0, first, part.min(rows - first));
            drop(n.f_mm_out(&out.narrow(0, 0, n.size()[0]), &weight.tr()));
        }
    });
    let gigaflops = 2e-9 * (rows * d * vocab) as f64 / floor;
    println!(
        "{{\"rows\": {rows}, \"sweep\": {plain:.4}, \"sweep_with_expectation\": {full:.4}, \"bare_product\": {floor:.4}, \
         \"floor_over_sweep\": {:.3}, \"two_floors_over_full\": {:.3}, \"gigaflops\": {gigaflops:.0}}}",
        floor / plain,
        2.0 * floor / full
    );
    Ok(())
}
