//! The matrix: sums over documents for every translator on every state, corrected and not, and for lenses that read
//! each layer's own state.

use std::collections::BTreeMap;

use layerscope_lenses::{Affine, Ask, Error, LayerIndex, Lens, Readout, Teacher};
use tch::Tensor;

use super::{
    Constants, Correction, Corrections, Mean,
    places::{Places, WIDTH},
};
use crate::{
    lens::evaluate::EvalError,
    results::statistics::{Intervals, Tally},
    states::States,
};

/// Who reads.
pub struct Subjects<'a> {
    /// The lens whose matrix is measured.
    pub lens: &'a dyn Lens,
    /// Lenses that read each layer's own state only: logit, shared rungs, their control, a twin with another seed.
    pub others: &'a [Box<dyn Lens>],
}

/// The sums.
pub struct Transfer<'a> {
    readout: &'a Readout,
    pub(super) subjects: Subjects<'a>,
    pub(super) layers: Vec<LayerIndex>,
    /// Maps by correction, lens layer, state layer.
    corrections: BTreeMap<(usize, usize, usize), Affine>,
    pub(super) constants: Constants,
    pub(super) places: Places,
    pub(super) tally: Tally,
}

/// Sums of one (lens, state) cell at one batch, per row.
struct RowSums {
    kl: Vec<f64>,
    ce: Vec<f64>,
    agrees: Vec<f64>,
    native: Vec<f64>,
}

/// What readings of a batch are compared with.
struct Compared {
    model: Teacher,
    /// The model's entropy, per row.
    entropy: Vec<f64>,
    /// The model's first tokens.
    finals: Vec<i64>,
    /// The true next tokens; -1 at the end of a run.
    next: Vec<i64>,
}

/// A batch's sums and counts by cluster.
struct Sums<'a> {
    of: BTreeMap<u64, (Vec<f64>, Vec<f64>)>,
    clusters: &'a [u64],
}

impl<'a> Sums<'a> {
    fn new(clusters: &'a [u64], next: &[i64], columns: usize) -> Self {
        let mut of = BTreeMap::new();
        for (cluster, next) in clusters.iter().zip(next) {
            let (_, counts) = of.entry(*cluster).or_insert_with(|| (vec![0.0; columns], vec![0.0; 2]));
            counts[0] += 1.0;
            counts[1] += f64::from(u8::from(*next >= 0));
        }
        Self { of, clusters }
    }

    fn put(&mut self, first: usize, cell: &RowSums, next: &[i64]) {
        for (row, cluster) in self.clusters.iter().enumerate() {
            let Some((sums, _)) = self.of.get_mut(cluster) else { continue };
            let sums = &mut sums[first..][..WIDTH];
            sums[0] += cell.kl[row];
            sums[1] += cell.agrees[row];
            sums[2] += cell.native[row];
            sums[3] += if next[row] >= 0 { cell.ce[row] } else { 0.0 };
        }
    }
}

impl<'a> Transfer<'a> {
    /// For `layers`, with corrections where there are any.
    ///
    /// # Errors
    /// When a correction is missing.
    pub fn new(
        readout: &'a Readout,
        subjects: Subjects<'a>,
        layers: &[LayerIndex],
        corrections: Option<Corrections>,
        mean: &Mean,
        intervals: Intervals,
    ) -> Result<Self, EvalError> {
        let mut maps = BTreeMap::new();
        let matrices = 1 + if corrections.is_some() { Correction::ALL.len() } else { 0 };
        if let Some(mut corrections) = corrections {
            for (c, kind) in Correction::ALL.into_iter().enumerate() {
                for (i, &to) in layers.iter().enumerate() {
                    for (j, &from) in layers.iter().enumerate().filter(|(j, _)| *j != i) {
                        maps.insert((c, i, j), corrections.take(kind, from, to)?);
                    }
                }
            }
        }
        let (constants, readers) = (mean.constants(), subjects.others.len());
        let places = Places { layers: layers.len(), matrices, readers, constants: constants.len() };
        let tally = Tally::new(places.groups(), 2, intervals)?;
        Ok(Self { readout, subjects, layers: layers.to_vec(), corrections: maps, constants, places, tally })
    }

    /// Adds a batch of states of all layers.
    ///
    /// # Errors
    /// See [`EvalError`].
    pub fn add(&mut self, states: &States, clusters: &[u64]) -> Result<(), EvalError> {
        let target = self.target(states).map_err(EvalError::Teacher)?;
        let mut sums = Sums::new(clusters, &target.next, self.places.constant() + self.places.constants);
        for (j, &layer) in self.layers.iter().enumerate() {
            self.column(j, layer, &states.layers[j], &target, &mut sums)?;
        }
        self.constants(&target, &states.runs, &mut sums)?;
        for (cluster, (sums, counts)) in sums.of {
            self.tally.add(cluster, &sums, &counts)?;
        }
        Ok(())
    }

    fn target(&self, states: &States) -> Result<Compared, Error> {
        let n = self.readout.normalize(&states.last)?;
        let mut read = self.readout.sweep_exactly(&n, Ask { expectation: true, ..Ask::default() })?;
        let (finals, entropy) = (read.argmax.clone(), read.entropy());
        let model = Teacher::new(n, &mut read)?;
        Ok(Compared { model, entropy, finals, next: states.ahead(1).tokens })
    }

    /// Every translator, and every other lens, on the states of one layer.
    fn column(
        &self,
        j: usize,
        layer: LayerIndex,
        state: &Tensor,
        target: &Compared,
        sums: &mut Sums<'_>,
    ) -> Result<(), EvalError> {
        let failed = |lens: &dyn Lens| {
            let lens = lens.name().to_owned();
            move |source| EvalError::Lens { lens, layer, source }
        };
        let (lens, at, next) = (self.subjects.lens, self.places, target.next.as_slice());
        let own = lens.transform(layer, state).map_err(failed(lens))?;
        let (cell, native) = self.read(&own, target, None, true).map_err(failed(lens))?;
        for matrix in 0..at.matrices {
            sums.put(at.cell(matrix, j, j), &cell, next); // no correction on the diagonal
        }
        for (i, &to) in self.layers.iter().enumerate().filter(|(i, _)| *i != j) {
            let read = |state: &Tensor| -> Result<RowSums, Error> {
                let x = lens.transform(to, state)?;
                Ok(self.read(&x, target, native.as_ref(), false)?.0)
            };
            sums.put(at.cell(0, i, j), &read(state).map_err(failed(lens))?, next);
            for matrix in 1..at.matrices {
                let map = &self.corrections[&(matrix - 1, i, j)];
                let corrected = map.forward(state).and_then(|s| read(&s)).map_err(failed(lens))?;
                sums.put(at.cell(matrix, i, j), &corrected, next);
            }
        }
        for (place, other) in self.subjects.others.iter().enumerate() {
            let other = other.as_ref();
            let x = other.transform(layer, state).map_err(failed(other))?;
            let (cell, _) = self.read(&x, target, native.as_ref(), false).map_err(failed(other))?;
            sums.put(at.reader(place, j), &cell, next);
        }
        Ok(())
    }

    /// Reads a state of the last layer against the model and, if there is one, against the state's own lens.
    fn read(
        &self,
        x: &Tensor,
        target: &Compared,
        native: Option<&Teacher>,
        own: bool,
    ) -> Result<(RowSums, Option<Teacher>), Error> {
        let n = self.readout.normalize(x)?;
        let ask = Ask { expectation: own, tokens: &[target.next.as_slice()], marginal: None };
        let mut read =
            if own { self.readout.sweep_exactly(&n, ask)? } else { self.readout.sweep(&n, ask)? };
        let kl = target.model.kl(self.readout, &n, &read.lse)?;
        let native = match native {
            Some(native) => native.kl(self.readout, &n, &read.lse)?,
            None => vec![0.0; kl.len()],
        };
        let agrees =
            read.argmax.iter().zip(&target.finals).map(|(a, b)| f64::from(u8::from(a == b))).collect();
        let ce = read.ce(0);
        let teacher = if own { Some(Teacher::new(n, &mut read)?) } else { None };
        Ok((RowSums { kl, ce, agrees, native }, teacher))
    }

    /// The constant predictors' KL, document part by document part.
    fn constants(&self, target: &Compared, runs: &[usize], sums: &mut Sums<'_>) -> Result<(), EvalError> {
        let (clusters, mut start) = (sums.clusters, 0);
        for &len in runs {
            let n = target.model.n.f_narrow(0, start as i64, len as i64);
            let n = n.map_err(|e| EvalError::Teacher(e.into()))?;
            let ask = Ask { marginal: Some(&vec![1.0; len]), ..Ask::default() };
            let read = self.readout.sweep(&n, ask).map_err(EvalError::Teacher)?;
            let entropy: f64 = target.entropy[start..start + len].iter().sum();
            if let Some((sums, _)) = sums.of.get_mut(&clusters[start]) {
                let kl = self.constants.kl(&read.marginal.unwrap_or_default(), entropy);
                sums[self.places.constant()..].iter_mut().zip(kl).for_each(|(sum, kl)| *sum += kl);
            }
            start += len;
        }
        Ok(())
    }
}
