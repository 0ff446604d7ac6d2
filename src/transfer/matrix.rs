//! The matrix: sums over documents for every translator on every state, corrected and not, and for shared lenses.

use std::collections::BTreeMap;

use layerscope_lenses::{Affine, Ask, Error, LayerIndex, Lens, Readout, Teacher};
use tch::Tensor;

use super::geometry::{Layers, Mean};
use crate::{
    evaluate::EvalError,
    run::MetricRow,
    score::{Estimate, Resamples, Scores, Tally},
    states::States,
};

/// What may be done to a state of one layer before the lens of another reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correction {
    /// The mean of the lens's layer in place of the state's.
    Shift,
    /// Its mean and covariance.
    Moments,
    /// Its mean, and the rotation that fits best (Procrustes).
    Rotation,
}

impl Correction {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Shift, Self::Moments, Self::Rotation];

    /// Name in `metrics.parquet`, behind the lens's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shift => "shift",
            Self::Moments => "moments",
            Self::Rotation => "rotation",
        }
    }
}

/// Who reads.
pub struct Subjects<'a> {
    /// The lens whose matrix is measured.
    pub lens: &'a dyn Lens,
    /// Lenses that read each layer's own state only: logit, shared rungs, their control, a twin with another seed.
    pub others: &'a [Box<dyn Lens>],
}

/// Sums of one (lens, state) cell at one batch, per row.
struct Cell {
    kl: Vec<f64>,
    ce: Vec<f64>,
    agrees: Vec<f64>,
    native: Vec<f64>,
}

/// The sums.
pub struct Transfer<'a> {
    readout: &'a Readout,
    subjects: Subjects<'a>,
    layers: Vec<LayerIndex>,
    /// Maps by correction, lens layer, state layer.
    corrections: BTreeMap<(usize, usize, usize), Affine>,
    mean: &'a Mean,
    tally: Tally,
}

/// Columns of a cell: KL, agreement, KL from the state's own lens (all positions), CE (positions with a next token).
const WIDTH: usize = 4;

impl<'a> Transfer<'a> {
    /// For `layers`; with corrections from `geometry`.
    ///
    /// # Errors
    /// When a correction cannot be made.
    pub fn new(
        readout: &'a Readout,
        subjects: Subjects<'a>,
        layers: &[LayerIndex],
        geometry: Option<&Layers>,
        mean: &'a Mean,
        resamples: Resamples,
    ) -> Result<Self, EvalError> {
        let mut corrections = BTreeMap::new();
        for (c, kind) in Correction::ALL.into_iter().enumerate() {
            let Some(geometry) = geometry else { break };
            for (i, &to) in layers.iter().enumerate() {
                for (j, &from) in layers.iter().enumerate().filter(|(j, _)| *j != i) {
                    let failed = |source| EvalError::Lens { lens: kind.name().into(), layer: from, source };
                    corrections.insert((c, i, j), geometry.correction(kind, from, to).map_err(failed)?);
                }
            }
        }
        let l = layers.len();
        let matrices = 1 + if corrections.is_empty() { 0 } else { Correction::ALL.len() };
        let cells = matrices * l * l + subjects.others.len() * l;
        let columns = (0..cells).flat_map(|_| [0, 0, 0, 1]).chain([0]).collect();
        let tally = Tally::new(columns, 2, resamples)?;
        Ok(Self { readout, subjects, layers: layers.to_vec(), corrections, mean, tally })
    }

    fn cell(&self, matrix: usize, i: usize, j: usize) -> usize {
        (matrix * self.layers.len() + i) * self.layers.len() + j
    }

    fn matrices(&self) -> usize {
        if self.corrections.is_empty() { 1 } else { 1 + Correction::ALL.len() }
    }

    fn other(&self, other: usize, j: usize) -> usize {
        self.matrices() * self.layers.len() * self.layers.len() + other * self.layers.len() + j
    }

    fn constant(&self) -> usize {
        WIDTH * self.other(self.subjects.others.len(), 0)
    }

    /// Adds a batch of states of all layers.
    ///
    /// # Errors
    /// See [`EvalError`].
    pub fn add(&mut self, states: &States, clusters: &[u64]) -> Result<(), EvalError> {
        let next = states.ahead(1).tokens;
        let n = self.readout.normalize(&states.last).map_err(EvalError::Teacher)?;
        let ask = Ask { expectation: true, ..Ask::default() };
        let mut read = self.readout.sweep(&n, ask).map_err(EvalError::Teacher)?;
        let (finals, entropy) = (read.argmax.clone(), read.entropy());
        let model = Teacher::new(n, &mut read).map_err(EvalError::Teacher)?;
        let mut sums: BTreeMap<u64, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
        let width = self.constant() + 1;
        for (cluster, next) in clusters.iter().zip(&next) {
            let (_, counts) = sums.entry(*cluster).or_insert_with(|| (vec![0.0; width], vec![0.0; 2]));
            counts[0] += 1.0;
            counts[1] += f64::from(u8::from(*next >= 0));
        }
        let mut put = |place: usize, cell: &Cell| {
            for (row, cluster) in clusters.iter().enumerate() {
                let Some((sums, _)) = sums.get_mut(cluster) else { continue };
                let sums = &mut sums[WIDTH * place..][..WIDTH];
                sums[0] += cell.kl[row];
                sums[1] += cell.agrees[row];
                sums[2] += cell.native[row];
                sums[3] += if next[row] >= 0 { cell.ce[row] } else { 0.0 };
            }
        };
        let target = Target { model: &model, finals: &finals, next: &next };
        for (j, &from) in self.layers.iter().enumerate() {
            let state = &states.layers[j];
            let failed = |lens: &str| {
                let lens = lens.to_owned();
                move |source| EvalError::Lens { lens, layer: from, source }
            };
            let lens = self.subjects.lens;
            let own = lens.transform(from, state).map_err(failed(lens.name()))?;
            let (cell, native) = self.read(&own, &target, None, true).map_err(failed(lens.name()))?;
            put(self.cell(0, j, j), &cell);
            for matrix in 1..self.matrices() {
                put(self.cell(matrix, j, j), &cell); // no correction on the diagonal
            }
            for (i, &to) in self.layers.iter().enumerate().filter(|(i, _)| *i != j) {
                let read = |state: &Tensor| {
                    let x = lens.transform(to, state)?;
                    Ok(self.read(&x, &target, native.as_ref(), false)?.0)
                };
                put(self.cell(0, i, j), &read(state).map_err(failed(lens.name()))?);
                for matrix in 1..self.matrices() {
                    let map = &self.corrections[&(matrix - 1, i, j)];
                    let corrected = map.forward(state).and_then(|s| read(&s)).map_err(failed(lens.name()))?;
                    put(self.cell(matrix, i, j), &corrected);
                }
            }
            for (place, other) in self.subjects.others.iter().enumerate() {
                let x = other.transform(from, state).map_err(failed(other.name()))?;
                let (cell, _) =
                    self.read(&x, &target, native.as_ref(), false).map_err(failed(other.name()))?;
                put(self.other(place, j), &cell);
            }
        }
        self.constants(&model, &entropy, states, clusters, &mut sums)?;
        for (cluster, (sums, counts)) in sums {
            self.tally.add(cluster, &sums, &counts)?;
        }
        Ok(())
    }

    /// Reads a state of the last layer against the model and, if there is one, against the state's own lens.
    fn read(
        &self,
        x: &Tensor,
        target: &Target<'_>,
        native: Option<&Teacher>,
        own: bool,
    ) -> Result<(Cell, Option<Teacher>), Error> {
        let n = self.readout.normalize(x)?;
        let ask = Ask { expectation: own, tokens: &[target.next], marginal: None };
        let mut read = self.readout.sweep(&n, ask)?;
        let kl = target.model.kl(self.readout, &n, &read.lse)?;
        let native = match native {
            Some(native) => native.kl(self.readout, &n, &read.lse)?,
            None => vec![0.0; kl.len()],
        };
        let agrees =
            read.argmax.iter().zip(target.finals).map(|(a, b)| f64::from(u8::from(a == b))).collect();
        let ce = read.ce(0);
        let teacher = if own { Some(Teacher::new(n, &mut read)?) } else { None };
        Ok((Cell { kl, ce, agrees, native }, teacher))
    }

    /// The constant predictor's KL, document part by document part.
    fn constants(
        &self,
        model: &Teacher,
        entropy: &[f64],
        states: &States,
        clusters: &[u64],
        sums: &mut BTreeMap<u64, (Vec<f64>, Vec<f64>)>,
    ) -> Result<(), EvalError> {
        let mut start = 0;
        for &len in &states.runs {
            let n =
                model.n.f_narrow(0, start as i64, len as i64).map_err(|e| EvalError::Teacher(e.into()))?;
            let ask = Ask { marginal: Some(&vec![1.0; len]), ..Ask::default() };
            let read = self.readout.sweep(&n, ask).map_err(EvalError::Teacher)?;
            let entropy: f64 = entropy[start..start + len].iter().sum();
            if let Some((sums, _)) = sums.get_mut(&clusters[start]) {
                sums[self.constant()] += self.mean.kl(&read.marginal.unwrap_or_default(), entropy);
            }
            start += len;
        }
        Ok(())
    }

    /// Every number with its interval.
    pub fn rows(&mut self, hook: &str) -> Vec<MetricRow> {
        let l = self.layers.len();
        let (layers, matrices) = (self.layers.clone(), self.matrices());
        let name = self.subjects.lens.name().to_owned();
        let others: Vec<String> = self.subjects.others.iter().map(|o| o.name().to_owned()).collect();
        let (cell, other) = (
            |m: usize, i: usize, j: usize| WIDTH * ((m * l + i) * l + j),
            |o: usize, j: usize| WIDTH * (matrices * l * l + o * l + j),
        );
        let scores = self.tally.scores();
        let mut rows = Vec::new();
        let mut push =
            |subject: &str, kind: &str, j: usize, i: Option<usize>, metric: &str, unit: &str, e: Estimate| {
                rows.push(MetricRow {
                    subject: subject.into(),
                    kind: kind.into(),
                    hook: hook.into(),
                    layer: layers[j].0 as i32,
                    source_layer: i.map(|i| layers[i].0 as i32),
                    horizon: 1,
                    metric: metric.into(),
                    unit: unit.into(),
                    estimate: e.estimate,
                    lower: e.lower,
                    upper: e.upper,
                    n: e.n as i64,
                    n_clusters: e.n_clusters as i64,
                });
            };
        for m in 0..matrices {
            let (subject, kind) = match m.checked_sub(1) {
                None => (name.clone(), "transfer"),
                Some(c) => (format!("{name}+{}", Correction::ALL[c].name()), "transfer-corrected"),
            };
            for i in 0..l {
                for j in 0..l {
                    let place = cell(m, i, j);
                    let plain = [
                        ("kl", "nats", 0),
                        ("agreement", "share", 1),
                        ("kl_native", "nats", 2),
                        ("ce", "nats", 3),
                    ];
                    for (metric, unit, offset) in plain {
                        push(&subject, kind, j, Some(i), metric, unit, scores.estimate(place + offset));
                    }
                    let against =
                        |k: usize| scores.contrast(|mean| mean(place + 3) - mean(cell(m, k, k) + 3));
                    push(&subject, kind, j, Some(i), "penalty_state", "nats", against(j));
                    push(&subject, kind, j, Some(i), "penalty_lens", "nats", against(i));
                }
            }
        }
        for (o, other_name) in others.iter().enumerate() {
            for j in 0..l {
                for (metric, unit, offset) in [
                    ("kl", "nats", 0),
                    ("agreement", "share", 1),
                    ("kl_native", "nats", 2),
                    ("ce", "nats", 3),
                ] {
                    push(other_name, "reader", j, None, metric, unit, scores.estimate(other(o, j) + offset));
                }
            }
        }
        let constant = scores.estimate(WIDTH * (matrices * l * l + others.len() * l));
        push("constant", "baseline", l - 1, None, "kl", "nats", constant);
        rows
    }

    /// How much of the gap to the constant predictor a lens that reads all layers leaves open: per layer
    /// `G = (KL_S - KL_T) / (KL_const - KL_T)`, and over all layers the ratio of means. `S` is the reader `other`.
    pub fn sharing(&mut self, other: usize) -> (Vec<Estimate>, Estimate) {
        let l = self.layers.len();
        let constant = self.constant();
        let pairs: Vec<(usize, usize)> =
            (0..l).map(|j| (WIDTH * self.other(other, j), WIDTH * self.cell(0, j, j))).collect();
        let scores = self.tally.scores();
        let one = |(s, t): &(usize, usize)| scores.contrast(|m| (m(*s) - m(*t)) / (m(constant) - m(*t)));
        let all = scores.contrast(|m| {
            let gap: f64 = pairs.iter().map(|(s, t)| m(*s) - m(*t)).sum();
            let room: f64 = pairs.iter().map(|(_, t)| m(constant) - m(*t)).sum();
            gap / room
        });
        (pairs.iter().map(one).collect(), all)
    }

    /// Paired means over all layers: `Σ (KL_a - KL_T)` of two readers, for the sharing index `1 - gap_a / gap_b`.
    pub fn index(&mut self, shared: usize, rotated: usize) -> Estimate {
        let l = self.layers.len();
        let own: Vec<usize> = (0..l).map(|j| WIDTH * self.cell(0, j, j)).collect();
        let (a, b): (Vec<usize>, Vec<usize>) =
            (0..l).map(|j| (WIDTH * self.other(shared, j), WIDTH * self.other(rotated, j))).unzip();
        let gap = |m: &dyn Fn(usize) -> f64, of: &[usize]| -> f64 {
            of.iter().zip(&own).map(|(s, t)| m(*s) - m(*t)).sum()
        };
        self.tally.scores().contrast(|m| 1.0 - gap(m, &a) / gap(m, &b))
    }

    /// The scores themselves, and the first column of a cell of the plain matrix.
    pub fn scores(&mut self) -> (&Scores, usize) {
        (self.tally.scores(), self.layers.len())
    }
}

/// What a reading is compared with.
struct Target<'a> {
    model: &'a Teacher,
    finals: &'a [i64],
    next: &'a [i64],
}
