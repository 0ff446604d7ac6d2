//! The online code of the logistic probe, and its control.

use layerscope_probes::{
    CodeLength, Error, Labels, Message, Probe as _, Standardise, online_code, shuffled_codes,
};
use ndarray::{Array2, ArrayView2, Axis};

use super::super::{Estimator, Options, Target, Task, estimator::Prepared, task::pick};

/// Bits per item of the online code of Voita and Titov (2020).
#[derive(Debug, Clone)]
pub struct Code {
    /// Of the labels, `(orders, n)`.
    pub bits: Array2<f64>,
    /// Of shuffled ones, another shuffle in each order, `(orders, n)`; fewer where shuffles lose a class.
    pub shuffled: Array2<f64>,
}

/// The code of the labels in `orders` orders, and of shuffled ones; none of numbers.
pub(super) fn code(
    x: ArrayView2<'_, f32>,
    task: &Task,
    options: &Options,
    orders: usize,
    seed: u64,
) -> Result<Option<Code>, Error> {
    let Target::Classes { y, names } = &task.target else { return Ok(None) };
    let n_classes = names.len();
    if Standardise::of_rows(x)?.is_constant() {
        // Nothing can be learnt from them: every label costs what it costs without them.
        let bits = Array2::from_elem((orders, y.len()), (n_classes as f64).log2());
        return Ok(Some(Code { shuffled: bits.clone(), bits }));
    }
    // The largest first: each start from the one before.
    let mut penalties = options.l2.clone();
    penalties.sort_by(|a, b| b.total_cmp(a));
    let mut fit = |y: &[u32], before: &[usize], block: &[usize]| -> Result<Vec<Array2<f64>>, Error> {
        let own = pick(y, before);
        let prepared = Prepared::new(x.select(Axis(0), before), options);
        let labels = Labels::Classes { y: &own, n_classes };
        let block = x.select(Axis(0), block);
        let fitted = prepared.fit(Estimator::Logistic, &labels, &penalties)?;
        fitted.iter().map(|fitted| fitted.linear.scores(block.view())).collect()
    };
    let message = Message { y, n_classes, groups: &task.groups, seed };
    let orders = orders as u64;
    let own =
        (0..orders).map(|order| online_code(&message, order, &mut fit)).collect::<Result<Vec<_>, _>>()?;
    let shuffled = shuffled_codes(&message, orders, &mut fit)?;
    let stacked = |codes: Vec<CodeLength>| {
        let shape = (codes.len(), y.len());
        Array2::from_shape_fn(shape, |(order, row)| codes[order].bits[row])
    };
    Ok(Some(Code { bits: stacked(own), shuffled: stacked(shuffled) }))
}
