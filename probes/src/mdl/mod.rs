//! Minimum description length: how short a code a probe makes of the labels (Voita & Titov 2020, "Information-theoretic
//! probing with minimum description length"), the online or prequential code.
//!
//! The labels are sent in blocks. The first costs log2 K bits a row; every later one is coded with a probe fitted to
//! all blocks before it. `L = t_1 log2 K - Σ_i Σ_{t_i < t <= t_{i+1}} log2 p_i(y_t | x_t)`; compression is
//! `n log2 K / L`. A probe that needs many rows to become good has a long code, however good it is in the end.
//!
//! - **Penalty.** Every row is coded with the mean of the probabilities that probes of all penalties give it, each
//!   weighed by how likely it has made the rows already sent; half of the weight is shared out evenly again at every
//!   block (fixed share: Herbster & Warmuth 1998, "Tracking the best expert"). No label is used before it is sent, and
//!   the code is hardly longer than that of the best penalty, whereas the one that was best so far often is not the
//!   next.
//! - **Control.** Labels that mean nothing are no shorter to send than log2 K bits each, and in this code longer:
//!   probes of few rows learn what is not there, and the first blocks say how often each class occurs.
//!   [`shuffled_codes`] measures it.

use ndarray::Array2;

use crate::draw::{Purpose, shuffled};
use crate::groups::Groups;
use crate::{Error, Labels, Permutations};

#[cfg(test)]
mod tests;

const PURPOSE: &Purpose = b"layerscope/mdl-row-order";

/// Where blocks end, as shares of the rows.
pub const PORTIONS: [f64; 11] = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0];

/// How many shuffles are drawn for each that is wanted, at most.
const TRIES: u64 = 20;

/// How many bits the labels cost, sent in one order.
#[derive(Debug, Clone, PartialEq)]
pub struct CodeLength {
    /// Bits of each row, `(n,)`. Their mean m with its interval gives that of the compression:
    /// `bootstrap.mean(&bits)?.map(|m| log2_classes / m)`.
    pub bits: Vec<f64>,
    /// Rows that cost log2 K: those before the first fit.
    pub uniform_rows: usize,
    /// log2 of the number of classes.
    pub log2_classes: f64,
}

impl CodeLength {
    /// The uniform code's length over this one's: 1 when nothing is known about the labels, below it when what was
    /// learnt is wrong.
    pub fn compression(&self) -> f64 {
        self.bits.len() as f64 * self.log2_classes / self.bits.iter().sum::<f64>()
    }
}

/// Labels to be sent, with what is known of their rows.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The class of each row, `(n,)`.
    pub y: &'a [u32],
    /// Number of classes.
    pub n_classes: usize,
    /// Rows of one group are sent together, `(n,)`.
    pub groups: &'a [u64],
    /// Of the orders, and of shuffled labels.
    pub seed: u64,
}

/// The code length of a message in order number `order`. Groups come in an order drawn from (seed, group, order), and
/// blocks end with the first group that reaches a portion ([`PORTIONS`]): a probe never codes a group it was fitted to.
///
/// `fit(y, rows, block)` fits to `rows` of the labels `y` with every penalty and returns log-probabilities (nats) of
/// the rows `block` from each, `(block, n_classes)`, always as many. It is called only when `rows` has every class;
/// until then rows cost log2 K each, and so they do in a portion too small to hold a group. Several blocks that end
/// with one group are one.
///
/// # Errors
/// What `fit` returns; [`Error::Length`], [`Error::Empty`] (no row or no penalty), [`Error::TooFewClasses`],
/// [`Error::NoSuchClass`], [`Error::LacksClass`]; [`Error::Length`] or [`Error::Width`] for log-probabilities of
/// another shape, [`Error::NotProbabilities`], and [`Error::NotFinite`] for a true class of probability 0.
pub fn online_code<E: From<Error>>(
    message: &Message<'_>,
    order: u64,
    fit: &mut impl FnMut(&[u32], &[usize], &[usize]) -> Result<Vec<Array2<f64>>, E>,
) -> Result<CodeLength, E> {
    message.check()?;
    let &Message { y, n_classes, groups, seed } = message;
    let (rows, ends) = blocks(&Groups::new(groups), seed, order);
    let log2_classes = (n_classes as f64).log2();
    let mut code = CodeLength { bits: vec![log2_classes; y.len()], uniform_rows: 0, log2_classes };
    let (mut mixture, mut start): (Mixture, usize) = (Mixture::default(), 0);
    for end in ends {
        let (before, block) = (&rows[..start], &rows[start..end]);
        start = end;
        if !message.has_every_class(before) {
            code.uniform_rows += block.len();
            continue;
        }
        let costs = fit(y, before, block)?
            .iter()
            .map(|probs| message.bits(block, probs))
            .collect::<Result<Vec<_>, _>>()?;
        mixture.share(costs.len());
        for (place, row) in block.iter().enumerate() {
            let bits = mixture.send(costs.iter().map(|costs| costs[place]));
            let bits = bits.ok_or(Error::Empty)?;
            if !bits.is_finite() {
                return Err(Error::NotFinite { row: *row }.into());
            }
            code.bits[*row] = bits;
        }
    }
    Ok(code)
}

/// Probes of several penalties as one.
#[derive(Debug, Default)]
struct Mixture {
    /// log2 of each one's weight.
    weights: Vec<f64>,
}

impl Mixture {
    /// A new block: half of the weight is shared out evenly.
    fn share(&mut self, n: usize) {
        let even = 1.0 / n as f64;
        self.weights.resize(n, even.log2());
        self.weights.iter_mut().for_each(|weight| *weight = (0.5 * weight.exp2() + 0.5 * even).log2());
    }

    /// Bits of the next row, of which each penalty's probe needs `costs`. None without a penalty.
    fn send(&mut self, costs: impl Iterator<Item = f64>) -> Option<f64> {
        self.weights.iter_mut().zip(costs).for_each(|(weight, bits)| *weight -= bits);
        let largest = self.weights.iter().copied().reduce(f64::max)?;
        let sum = largest + self.weights.iter().map(|weight| (weight - largest).exp2()).sum::<f64>().log2();
        self.weights.iter_mut().for_each(|weight| *weight -= sum);
        Some(-sum)
    }
}

/// The code lengths of the message's labels shuffled, one in each of the orders 0, 1, … below `orders`: what a code of
/// labels that mean nothing costs. Shuffled as in permutation tests ([`Permutations`]), groups whole where each has one
/// label. Shuffles that lose a class (groups of other sizes exchange their labels) are drawn again; there are fewer
/// codes where that keeps happening.
///
/// # Errors
/// As [`online_code`].
pub fn shuffled_codes<E: From<Error>>(
    message: &Message<'_>,
    orders: u64,
    fit: &mut impl FnMut(&[u32], &[usize], &[usize]) -> Result<Vec<Array2<f64>>, E>,
) -> Result<Vec<CodeLength>, E> {
    message.check()?;
    let &Message { y, n_classes, groups, seed } = message;
    let shuffles = Permutations::new(&Labels::Classes { y, n_classes }, groups, seed)?;
    let all: Vec<usize> = (0..y.len()).collect();
    let labels = (0..orders * TRIES).map(|round| shuffles.labels(y, round));
    let whole = labels.filter(|y| Message { y, ..*message }.has_every_class(&all));
    let code = |(order, y): (u64, Vec<u32>)| online_code(&Message { y: &y, ..*message }, order, fit);
    (0..orders).zip(whole).map(code).collect()
}

impl Message<'_> {
    fn check(&self) -> Result<(), Error> {
        let &Self { y, n_classes, groups, .. } = self;
        if groups.len() != y.len() {
            return Err(Error::Length { rows: groups.len(), labels: y.len() });
        }
        if y.is_empty() {
            return Err(Error::Empty);
        }
        if n_classes < 2 {
            return Err(Error::TooFewClasses { got: n_classes });
        }
        if let Some((row, &class)) = y.iter().enumerate().find(|(_, class)| **class as usize >= n_classes) {
            return Err(Error::NoSuchClass { row, class, n_classes });
        }
        let all: Vec<usize> = (0..y.len()).collect();
        self.present(&all)
            .iter()
            .position(|present| !present)
            .map_or(Ok(()), |class| Err(Error::LacksClass { class: class.into() }))
    }

    /// Which classes these rows have.
    fn present(&self, rows: &[usize]) -> Vec<bool> {
        let mut present = vec![false; self.n_classes];
        for &row in rows {
            present[self.y[row] as usize] = true;
        }
        present
    }

    fn has_every_class(&self, rows: &[usize]) -> bool {
        self.present(rows).into_iter().all(|present| present)
    }

    /// Bits of each row of the block; infinite where the true class has probability 0.
    fn bits(&self, block: &[usize], log_probs: &Array2<f64>) -> Result<Vec<f64>, Error> {
        if log_probs.nrows() != block.len() {
            return Err(Error::Length { rows: log_probs.nrows(), labels: block.len() });
        }
        if log_probs.ncols() != self.n_classes {
            return Err(Error::Width { expected: self.n_classes, got: log_probs.ncols() });
        }
        let bits = |(log_probs, &row): (ndarray::ArrayView1<'_, f64>, &usize)| {
            let sum = log_probs.iter().map(|l| l.exp()).sum::<f64>();
            if sum.is_nan() || (sum - 1.0).abs() > 1e-6 {
                return Err(Error::NotProbabilities { row, sum });
            }
            Ok(-log_probs[self.y[row] as usize] / std::f64::consts::LN_2)
        };
        log_probs.outer_iter().zip(block).map(bits).collect()
    }
}

/// Rows in this order, and where blocks end.
fn blocks(groups: &Groups, seed: u64, order: u64) -> (Vec<usize>, Vec<usize>) {
    let of_group = groups.rows();
    let (mut rows, mut borders) = (Vec::with_capacity(groups.of_row.len()), Vec::new());
    for group in shuffled(seed, PURPOSE, order, &groups.ids) {
        rows.extend(&of_group[group]);
        borders.push(rows.len());
    }
    let reached = |portion: &f64| {
        let at_least = portion * rows.len() as f64;
        borders[borders.partition_point(|&border| (border as f64) < at_least).min(borders.len() - 1)]
    };
    let mut ends: Vec<usize> = PORTIONS.iter().map(reached).collect();
    ends.dedup();
    (rows, ends)
}
