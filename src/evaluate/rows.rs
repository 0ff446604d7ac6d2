//! From one batch's readouts to sums per document.

use std::collections::BTreeMap;

use layerscope_lenses::{Ask, Error, LayerIndex, Lens, Read, Readout, Teacher};
use tch::Tensor;

use super::{
    EvalError, Own,
    metric::{Group, Metric, group},
};
use crate::states::Ahead;

/// The model's own prediction as values per row.
pub(super) fn own(read: &mut Read, n: Tensor, next: &[i64]) -> Result<Own, EvalError> {
    let (entropy, ce) = (read.entropy(), read.ce(0));
    let (argmax, rank) = (read.argmax.clone(), read.tokens[0].rank.clone());
    let teacher = Teacher::new(n, read).map_err(EvalError::Teacher)?;
    Ok(Own { teacher, entropy, argmax, ce, rank, next: next.to_vec() })
}

/// Sums of every column per document, for one batch.
pub(super) struct Columns<'a> {
    docs: &'a [u64],
    cells: usize,
    /// Per document: sums by column, counts by group.
    sums: BTreeMap<u64, (Vec<f64>, BTreeMap<usize, f64>)>,
    /// Groups that a cell has filled already: cells of one horizon count the same positions.
    counted: Vec<usize>,
}

/// One cell's values at one row.
struct Values {
    row: usize,
    all: [f64; 5],
    known: Option<[f64; 7]>,
}

impl<'a> Columns<'a> {
    pub(super) fn new(docs: &'a [u64], cells: usize) -> Self {
        Self { docs, cells, sums: BTreeMap::new(), counted: Vec::new() }
    }

    /// The model itself; returns how many positions there are.
    pub(super) fn model(
        &mut self,
        place: usize,
        own: &Own,
        readout: &Readout,
        marginal: Option<&mut Vec<f64>>,
    ) -> Result<f64, EvalError> {
        let rows = own.next.len();
        let sure = readout.token_logits(&own.teacher.n, &own.argmax).map_err(EvalError::Teacher)?;
        let values = (0..rows).map(|row| {
            let rank = own.rank[row];
            let within = |k: i64| f64::from(u8::from(rank < k));
            let surprisal = own.teacher.lse[row] - sure[row];
            let known = (own.next[row] >= 0).then(|| {
                let hit = f64::from(u8::from(own.argmax[row] == own.next[row]));
                [own.ce[row], hit, rank as f64, within(1), within(5), within(10), surprisal]
            });
            Values { row, all: [own.entropy[row], 0.0, 1.0, 1.0, 1.0], known }
        });
        self.take(place, 1, values);
        if let Some(sum) = marginal {
            let weights = vec![1f32; rows];
            let ask = Ask { marginal: Some(&weights), ..Ask::default() };
            add(sum, readout.sweep(&own.teacher.n, ask).map_err(EvalError::Teacher)?.marginal);
        }
        Ok(rows as f64)
    }

    /// A lens at a layer; returns how many positions there are.
    #[allow(clippy::too_many_arguments)] // what a cell is made of
    pub(super) fn lens(
        &mut self,
        place: usize,
        lens: &dyn Lens,
        layer: LayerIndex,
        states: &Tensor,
        own: &Own,
        ahead: &Ahead,
        readout: &Readout,
        marginal: Option<&mut Vec<f64>>,
    ) -> Result<f64, Error> {
        let rows = ahead.rows.len();
        if rows == 0 {
            return Ok(0.0);
        }
        let next_token = lens.horizon().0 == 1;
        let selected;
        let (states, teacher) = if next_token {
            (states.shallow_clone(), &own.teacher)
        } else {
            selected = own.teacher.select(&ahead.teacher)?;
            let index = Tensor::from_slice(&ahead.rows).to_device(states.device());
            (states.f_index_select(0, &index)?, &selected)
        };
        let finals: Vec<i64> = ahead.teacher.iter().map(|row| own.argmax[*row as usize]).collect();
        let n = readout.normalize(&lens.transform(layer, &states)?)?;
        let weights = vec![1f32; rows];
        let tokens = [ahead.tokens.as_slice(), &finals];
        let ask =
            Ask { tokens: &tokens, marginal: marginal.is_some().then_some(&weights), expectation: false };
        let mut read = readout.sweep(&n, ask)?;
        let kl = teacher.kl(readout, &n, &read.lse)?;
        let under_model = readout.token_logits(&teacher.n, &read.argmax)?;
        let (entropy, ce) = (read.entropy(), read.ce(0));
        let values = (0..rows).map(|i| {
            let (rank, of_final) = (read.tokens[0].rank[i], read.tokens[1].rank[i]);
            let yes = |condition: bool| f64::from(u8::from(condition));
            let known = (ahead.tokens[i] >= 0).then(|| {
                let surprisal = teacher.lse[i] - under_model[i];
                let hit = yes(read.argmax[i] == ahead.tokens[i]);
                [ce[i], hit, rank as f64, yes(rank < 1), yes(rank < 5), yes(rank < 10), surprisal]
            });
            let agreement = yes(read.argmax[i] == finals[i]);
            let all = [entropy[i], kl[i], agreement, yes(of_final < 5), yes(of_final < 10)];
            Values { row: ahead.rows[i] as usize, all, known }
        });
        let values: Vec<Values> = values.collect();
        self.take(place, lens.horizon().0, values.into_iter());
        if let Some(sum) = marginal {
            add(sum, read.marginal.take());
        }
        Ok(rows as f64)
    }

    fn take(&mut self, place: usize, horizon: usize, values: impl Iterator<Item = Values>) {
        let count = !self.counted.contains(&horizon);
        if count {
            self.counted.push(horizon);
        }
        let (width, groups) = (Metric::ALL.len(), [group(horizon, Group::All), group(horizon, Group::Known)]);
        for value in values {
            let empty = || (vec![0.0; self.cells * width], BTreeMap::new());
            let (sums, counts) = self.sums.entry(self.docs[value.row]).or_insert_with(empty);
            let sums = &mut sums[place * width..(place + 1) * width];
            sums.iter_mut().zip(&value.all).for_each(|(sum, x)| *sum += x);
            if let Some(known) = &value.known {
                sums[5..].iter_mut().zip(known).for_each(|(sum, x)| *sum += x);
            }
            if count {
                *counts.entry(groups[0]).or_insert(0.0) += 1.0;
                *counts.entry(groups[1]).or_insert(0.0) += f64::from(u8::from(value.known.is_some()));
            }
        }
    }

    /// `(document, sums, counts)` of every document in the batch.
    pub(super) fn by_document(self, groups: usize) -> impl Iterator<Item = (u64, Vec<f64>, Vec<f64>)> {
        self.sums.into_iter().map(move |(doc, (sums, counts))| {
            let counts = (0..groups).map(|g| counts.get(&g).copied().unwrap_or(0.0)).collect();
            (doc, sums, counts)
        })
    }
}

fn add(sum: &mut [f64], part: Option<Vec<f64>>) {
    for (sum, part) in sum.iter_mut().zip(part.unwrap_or_default()) {
        *sum += part;
    }
}
