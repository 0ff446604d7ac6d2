//! Times the fits of `benches/probe_sweep.py`: `probe_speed FOLDER LAYERS N D K KIND TOLERANCE THREADS ROUNDS L2...`.
//!
//! FOLDER has `x` `(layers, n, d)` in f32 and `y` `(n,)` in u32, little-endian without a header. KIND is
//!
//! - `logistic` or `ridge`: one call z-scores and fits every layer at every λ, a layer to a thread at a time
//! - `gemm`: the matrix products of the logistic fits and nothing else, in f32 into buffers that exist: of each layer
//!   the Gram matrix (half of it, in f64), the change of coordinates, and two products for each pass the optimiser took
//!
//! Prints one JSON object: median seconds of a call, seconds by layer, passes over the rows, and writes the
//! coefficients `(layers, l2, k, d + 1)`, bias last, to `FOLDER/coef` in f64.

use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use faer::linalg::matmul::{matmul, triangular};
use faer::{Accum, Mat, Par};
use layerscope_probes::{Labelled, Labels, Linear, Logistic, Ridge, Spectrum, Whitened};
use ndarray::{ArrayView2, ArrayView3};
use rayon::prelude::*;

type Boxed = Box<dyn Error + Send + Sync>;

/// Probes of one layer, and passes over its rows.
type Layer = (Vec<Linear>, usize);

struct Work<'a> {
    y: &'a [u32],
    k: usize,
    tolerance: f64,
    l2: Vec<f64>,
}

impl Work<'_> {
    fn logistic(&self, x: ArrayView2<'_, f32>) -> Result<Layer, Boxed> {
        let rows = Whitened::new(x, true)?;
        let labels = Labels::Classes { y: self.y, n_classes: self.k };
        let probes =
            Logistic { tolerance: self.tolerance, ..Logistic::default() }.path(&rows, &labels, &self.l2)?;
        if let Some(probe) = probes.iter().find(|p| !p.convergence.converged) {
            return Err(format!("not converged: {:?}", probe.convergence).into());
        }
        let passes = probes.iter().map(|p| p.convergence.evaluations).sum();
        Ok((probes.into_iter().map(|p| p.linear).collect(), passes))
    }

    fn ridge(&self, x: ArrayView2<'_, f32>) -> Result<Layer, Boxed> {
        let spectrum = Spectrum::of_rows(x, true)?;
        let data = Labelled { x: x.view(), y: Labels::Classes { y: self.y, n_classes: self.k } };
        Ok((Ridge::path(&spectrum, &data, &self.l2)?, 1))
    }

    fn gemm(&self, n: usize, d: usize, passes: usize) {
        let k = if self.k == 2 { 1 } else { self.k };
        let x = Mat::<f32>::from_fn(d, n, |i, j| ((i * 31 + j * 17) % 101) as f32 * 0.01);
        let (x, wide) = (x.transpose(), Mat::<f64>::full(256.min(n), d, 0.5));
        let (mut gram, map, mut z) =
            (Mat::<f64>::zeros(d, d), Mat::<f32>::full(d, d, 0.1), Mat::<f32>::zeros(d, n));
        let (w, mut out, mut sum) =
            (Mat::<f32>::full(d, k, 0.1), Mat::<f32>::zeros(k, n), Mat::<f32>::zeros(d, k));
        let full = triangular::BlockStructure::Rectangular;
        for from in (0..n).step_by(256) {
            let block = wide.subrows(0, 256.min(n - from));
            let half = triangular::BlockStructure::TriangularLower;
            triangular::matmul(
                &mut gram,
                half,
                Accum::Add,
                block.transpose(),
                full,
                block,
                full,
                1.0,
                Par::Seq,
            );
        }
        matmul(z.transpose_mut(), Accum::Replace, x, &map, 1.0, Par::Seq);
        for _ in 0..passes {
            for from in (0..n).step_by(256) {
                let m = 256.min(n - from);
                let block = x.subrows(from, m);
                matmul(out.subcols_mut(from, m).transpose_mut(), Accum::Replace, block, &w, 1.0, Par::Seq);
                matmul(
                    &mut sum,
                    Accum::Add,
                    block.transpose(),
                    out.subcols(from, m).transpose(),
                    1.0,
                    Par::Seq,
                );
            }
        }
    }
}

#[allow(clippy::print_stdout)]
/// Fits one layer.
type FitLayer<'a> = dyn Fn(usize, ArrayView2<'_, f32>) -> Result<Layer, Boxed> + Sync + 'a;

fn main() -> Result<(), Boxed> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, layers, n, d, k, kind, tolerance, threads, rounds, l2 @ ..] = &args[..] else {
        return Err("FOLDER LAYERS N D K KIND TOLERANCE THREADS ROUNDS L2...".into());
    };
    let folder = Path::new(folder);
    let (layers, n, d): (usize, usize, usize) = (layers.parse()?, n.parse()?, d.parse()?);
    let x: Vec<f32> = words(&folder.join("x"))?.map(f32::from_le_bytes).collect();
    let y: Vec<u32> = words(&folder.join("y"))?.map(u32::from_le_bytes).collect();
    let x = ArrayView3::from_shape((layers, n, d), &x)?;
    let l2 = l2.iter().map(|v| v.parse()).collect::<Result<Vec<f64>, _>>()?;
    let work = Work { y: &y, k: k.parse()?, tolerance: tolerance.parse()?, l2 };
    rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    let by_layer = |fit: &FitLayer<'_>| {
        let each = |i: usize| fit(i, x.index_axis(ndarray::Axis(0), i));
        (0..layers).into_par_iter().with_max_len(1).map(each).collect::<Result<Vec<Layer>, Boxed>>()
    };
    let mut found = match kind.as_str() {
        "logistic" | "gemm" => by_layer(&|_, x| work.logistic(x))?,
        "ridge" => by_layer(&|_, x| work.ridge(x))?,
        other => return Err(format!("no kind {other}").into()),
    };
    let passes: Vec<usize> = found.iter().map(|(_, passes)| *passes).collect();
    let mut seconds = Vec::new();
    for _ in 0..rounds.parse()? {
        let start = Instant::now();
        found = by_layer(&|i, x| match kind.as_str() {
            "logistic" => work.logistic(x),
            "ridge" => work.ridge(x),
            _ => {
                work.gemm(n, d, passes[i]);
                Ok((Vec::new(), passes[i]))
            }
        })?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let coefficients = found.iter().flat_map(|(probes, _)| probes).flat_map(|p| {
        p.weights
            .outer_iter()
            .zip(&p.bias)
            .flat_map(|(w, b)| w.iter().copied().chain([*b]).collect::<Vec<_>>())
    });
    std::fs::write(folder.join("coef"), coefficients.flat_map(f64::to_le_bytes).collect::<Vec<_>>())?;
    writeln!(
        std::io::stdout(),
        "{{\"seconds\": {:.5}, \"passes\": {passes:?}}}",
        seconds[seconds.len() / 2]
    )?;
    Ok(())
}

fn words(path: &Path) -> Result<impl Iterator<Item = [u8; 4]>, Boxed> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (words, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(format!("{}: not a whole number of words", path.display()).into());
    }
    let words: Vec<[u8; 4]> = words.into();
    Ok(words.into_iter())
}
