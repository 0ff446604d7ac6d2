//! The fast sweep: bf16 where that is good enough, and a sample of rows in f32 beside it, which says how good it is.
//!
//! Every decision is about one row and made from its own numbers: a row is not tried in bf16 when its logits are too
//! large for it, it is swept again when the correction finds it doubtful, and it is compared when its digits say so.

use tch::{Device, Tensor};

use super::{Ask, Precision, Read, Readout, ask::places};
use crate::Error;

/// A rounding to bf16 moves a number by at most this part of it.
const UNIT: f64 = 1.0 / 512.0;
/// Rows whose logits are expected to be off by more than this are not tried in bf16.
const TRIED: f64 = 1.0 / 32.0;
/// One row of so many is compared with an exact sweep.
const COMPARED: u32 = 256;
/// Fast sweeps are given up when the rows compared, this many at least, are off by more (root mean square, nats).
const BOUND: (u64, f64) = (32, 0.03);

/// What fast sweeps did, and what they were found to be off by.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Audit {
    /// Rows read.
    pub rows: u64,
    /// Rows among them that bf16 was not good enough for, swept in f32.
    pub exact: u64,
    /// Rows that were swept both ways, to compare.
    pub compared: u64,
    /// Summed differences of their `lse`, fast less exact, nats.
    sum: f64,
    /// Summed squares of them.
    squares: f64,
    /// The largest of them.
    pub largest: f64,
}

impl Audit {
    /// Mean of the differences, fast less exact, of the rows compared.
    pub fn mean(&self) -> f64 {
        self.sum / self.compared.max(1) as f64
    }

    /// Their root mean square.
    pub fn root_mean_square(&self) -> f64 {
        (self.squares / self.compared.max(1) as f64).sqrt()
    }

    fn compare(&mut self, fast: f64, exact: f64) {
        let difference = fast - exact;
        self.compared += 1;
        self.sum += difference;
        self.squares += difference * difference;
        self.largest = if difference.abs() > self.largest { difference.abs() } else { self.largest };
    }

    fn check(&self) -> Result<(), Error> {
        let off = self.root_mean_square();
        // A NaN is not within any bound.
        if self.compared < BOUND.0 || off <= BOUND.1 {
            return Ok(());
        }
        Err(Error::Imprecise { off, rows: self.compared, bound: BOUND.1 })
    }
}

/// How a row is read at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Fast,
    Both,
    Exact,
}

/// A sweep in one precision.
pub(super) type Pass<'a> = &'a dyn Fn(&Tensor, Ask<'_>, Precision) -> Result<Read, Error>;

/// A fast sweep of `n` by two kinds of `pass`.
pub(super) fn sweep(readout: &Readout, n: &Tensor, ask: Ask<'_>, pass: Pass<'_>) -> Result<Read, Error> {
    let ways = ways(readout, n)?;
    let tried: Vec<usize> = (0..ways.len()).filter(|row| ways[*row] != Way::Exact).collect();
    // Rows that are swept both ways count once in a marginal, by their exact sweep.
    let weights = ask.marginal.map(|weights| {
        let once = |(w, way): (&f32, &Way)| if *way == Way::Both { 0.0 } else { *w };
        weights.iter().zip(&ways).map(once).collect::<Vec<_>>()
    });
    let fast = part(n, Ask { marginal: weights.as_deref(), ..ask }, &tried, Precision::Fast, pass)?;
    let mut doubtful = vec![false; ways.len()];
    tried.iter().zip(&fast.doubtful).for_each(|(row, is)| doubtful[*row] = *is);
    let again: Vec<usize> = (0..ways.len()).filter(|row| ways[*row] != Way::Fast || doubtful[*row]).collect();
    let exact = part(n, ask, &again, Precision::Exact, pass)?;

    let mut audit = readout.audit.get();
    audit.rows += ways.len() as u64;
    for (row, lse) in again.iter().zip(&exact.lse) {
        match tried.binary_search(row) {
            Ok(place) if ways[*row] == Way::Both && !doubtful[*row] => audit.compare(fast.lse[place], *lse),
            _ => audit.exact += 1,
        }
    }
    readout.audit.set(audit);
    audit.check()?;
    if again.is_empty() {
        return Ok(fast);
    }
    let mut all = Read::blank(ways.len(), &exact)?;
    all.put(&tried, fast)?;
    all.put(&again, exact)?;
    Ok(all)
}

/// How each row is read: by how large its logits are (the products' errors grow with `Σ (n_i w_i)²`), and one of so
/// many for a comparison, drawn by its digits.
fn ways(readout: &Readout, n: &Tensor) -> Result<Vec<Way>, Error> {
    let Some(squares) = &readout.mean_squares else { return Ok(vec![Way::Exact; n.size()[0] as usize]) };
    let sizes = n.f_square()?.f_mv(squares)?.f_sqrt()?.f_mul_scalar(UNIT)?;
    let way = |size: f32| {
        let drawn = size.to_bits().wrapping_mul(0x9E37_79B1) >> 8;
        match (f64::from(size) <= TRIED, drawn.is_multiple_of(COMPARED)) {
            (false, _) => Way::Exact, // NaN too
            (true, true) => Way::Both,
            (true, false) => Way::Fast,
        }
    };
    Ok(Vec::<f32>::try_from(sizes.to_device(Device::Cpu))?.into_iter().map(way).collect())
}

/// A sweep of some rows.
fn part(n: &Tensor, ask: Ask<'_>, rows: &[usize], by: Precision, pass: Pass<'_>) -> Result<Read, Error> {
    if rows.len() as i64 == n.size()[0] {
        return pass(n, ask, by);
    }
    let tokens: Vec<Vec<i64>> =
        ask.tokens.iter().map(|list| rows.iter().map(|row| list[*row]).collect()).collect();
    let tokens: Vec<&[i64]> = tokens.iter().map(Vec::as_slice).collect();
    let weights = ask.marginal.map(|weights| rows.iter().map(|row| weights[*row]).collect::<Vec<_>>());
    let ask = Ask { tokens: &tokens, marginal: weights.as_deref(), expectation: ask.expectation };
    pass(&n.f_index_select(0, &places(rows).to_device(n.device()))?, ask, by)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Differences .5 and -.25: mean .125, root mean square √(.3125 / 2).
    #[test]
    fn an_audit_by_hand() {
        let mut audit = Audit::default();
        assert_eq!((audit.mean(), audit.root_mean_square()), (0.0, 0.0));
        audit.compare(1.5, 1.0);
        audit.compare(0.75, 1.0);
        assert_eq!((audit.compared, audit.mean(), audit.largest), (2, 0.125, 0.5));
        assert_eq!(audit.root_mean_square(), (0.3125f64 / 2.0).sqrt());
        // Off by .5 each time is beyond the bound, once there are enough to say so.
        for _ in 2..BOUND.0 {
            assert!(audit.check().is_ok());
            audit.compare(1.5, 1.0);
        }
        assert!(audit.check().is_err());
    }
}
