//! Residuals of every layer and target: of all documents, and without each block of them.

use layerscope_probes::{
    Error, Linear, Moments, NoInterval, Residual, cross_validated,
    interval::{FEWEST, Interval, Spread, effective, jackknife},
    least_squares, residual,
};
use rayon::prelude::*;

use super::{Control, Law, SETS, Sides, decay::named};
use crate::probe::ProbeError;

/// Parts of the text each of which is held out once.
const FOLDS: usize = 5;

/// What one layer shows of one target.
#[derive(Debug, Clone, Copy)]
pub struct LawRow {
    /// The layer; L is behind the final norm.
    pub layer: usize,
    /// The target.
    pub control: Control,
    /// Of a regression of its own: on the rows of the fit.
    pub in_sample: f64,
    /// The same, adjusted for the number of directions.
    pub adjusted: f64,
    /// On held-out documents.
    pub held_out: f64,
    /// On every document, held out once: in five parts, of which the documents of `held_out` are one.
    pub cross_validated: f64,
    /// On held-out documents, by one regression for all layers.
    pub shared: f64,
    /// Rows of the fit and held out.
    pub n: [u64; 2],
}

/// Which documents a number rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Those of the fit.
    Fit,
    /// Those of the fit, and apart from them those held out.
    Both,
    /// All of them, each once held out.
    All,
}

/// All residuals.
#[derive(Debug)]
pub struct Residuals {
    /// Of all documents.
    pub rows: Vec<LawRow>,
    /// Documents of the fit and held out.
    pub documents: [usize; 2],
    /// The same rows without each block of the fit, and without each held-out one; none of those that cannot be solved
    /// without.
    without: [Vec<Option<Vec<LawRow>>>; 2],
    sides: Sides,
}

/// A block that is left out: its side and place.
type Without = Option<(usize, usize)>;

impl Law {
    /// Solves for every layer and target.
    ///
    /// # Errors
    /// When there is too little text, or ids do not vary.
    pub fn measure(&mut self) -> Result<Residuals, ProbeError> {
        self.moments.iter_mut().flatten().flatten().flatten().for_each(Moments::settle);
        let law = &*self;
        let mut measured = Residuals {
            rows: law.solved(None)?,
            documents: super::documents(&law.sides),
            without: [Vec::new(), Vec::new()],
            sides: law.sides.clone(),
        };
        // Fewer give no interval, whatever is left without each.
        if measured.n_eff(Over::All) >= FEWEST {
            let blocks = [0, 1].map(|side| (0..law.moments[0][side].len()).map(move |block| (side, block)));
            let solve = |without| law.solved(Some(without)).ok();
            measured.without =
                blocks.map(|side| side.collect::<Vec<_>>().into_par_iter().map(solve).collect());
        }
        Ok(measured)
    }

    /// Residuals of every layer and target, without a block.
    fn solved(&self, without: Without) -> Result<Vec<LawRow>, ProbeError> {
        let mut rows = Vec::new();
        for (set, controls) in SETS.iter().enumerate() {
            let shared =
                self.shared(set, without).map_err(ProbeError::at("one regression for all layers"))?;
            for layer in 0..self.moments.len() {
                let at = |error| named(error, layer, controls);
                let fit = self.sum(layer, 0, set, without).map_err(at)?;
                // The only block held out may be the one that is left out; that it was held out once needs no other.
                let nothing = without == Some((1, 0)) && self.moments[layer][1].len() == 1;
                let held = if nothing { None } else { Some(self.sum(layer, 1, set, without).map_err(at)?) };
                let own = Residual::of(&fit, held.as_ref().unwrap_or(&fit)).map_err(at)?;
                let shared = residual(&shared, held.as_ref().unwrap_or(&fit)).map_err(at)?;
                let folds = self.folds(layer, set, without, held).map_err(at)?;
                let folded = cross_validated(&folds).map_err(at)?;
                let unless = |value: f64| if nothing { f64::NAN } else { value };
                for (k, control) in controls.iter().enumerate() {
                    rows.push(LawRow {
                        layer,
                        control: *control,
                        in_sample: own.in_sample[k],
                        adjusted: own.adjusted[k],
                        held_out: unless(own.held_out[k]),
                        cross_validated: folded[k],
                        shared: unless(shared[k]),
                        n: [own.n, own.n_held_out],
                    });
                }
            }
        }
        Ok(rows)
    }

    /// The sums of one side of a layer.
    fn sum(&self, layer: usize, side: usize, set: usize, without: Without) -> Result<Moments, Error> {
        let blocks = self.moments[layer][side].iter().enumerate();
        merged(blocks.filter(|(block, _)| without != Some((side, *block))).map(|(_, sets)| &sets[set]))
    }

    /// The documents held out, and blocks of the fit in turn in one of four other parts.
    fn folds(
        &self,
        layer: usize,
        set: usize,
        without: Without,
        held: Option<Moments>,
    ) -> Result<Vec<Moments>, Error> {
        let mut folds: Vec<Moments> = held.into_iter().collect();
        for fold in 0..FOLDS - 1 {
            let blocks = self.moments[layer][0].iter().enumerate();
            let own = blocks.filter(|(block, _)| block % (FOLDS - 1) == fold && without != Some((0, *block)));
            let own: Vec<&Moments> = own.map(|(_, sets)| &sets[set]).collect();
            if !own.is_empty() {
                folds.push(merged(own.into_iter())?);
            }
        }
        Ok(folds)
    }

    /// The regression on the states of layers 1 to L together.
    fn shared(&self, set: usize, without: Without) -> Result<Linear, Error> {
        let mut all = self.sum(1, 0, set, without)?;
        for layer in 2..self.moments.len() {
            all.merge(&self.sum(layer, 0, set, without)?)?;
        }
        Ok(least_squares(&all)?.0)
    }
}

/// Of no sums there are no rows either.
fn merged<'a>(mut sums: impl Iterator<Item = &'a Moments>) -> Result<Moments, Error> {
    let mut all = sums.next().ok_or(Error::Few { expected: 1, got: 0 })?.clone();
    sums.try_for_each(|other| all.merge(other))?;
    Ok(all)
}

impl Residuals {
    /// Effective blocks behind a number.
    pub(super) fn n_eff(&self, over: Over) -> f64 {
        let (fit, held) = (&self.sides.fit, &self.sides.held_out);
        match over {
            Over::Fit => fit.n_eff(),
            Over::Both => fit.n_eff().min(held.n_eff()),
            Over::All => effective(fit.sizes().iter().chain(held.sizes()).copied()),
        }
    }

    /// The interval of a function of the residuals, by a delete-block jackknife: `f` sees the residuals without each
    /// block. Where the documents of the fit and those held out do different things, the variances over either are
    /// added.
    pub(super) fn interval(
        &self,
        over: Over,
        estimate: f64,
        f: &dyn Fn(&[LawRow]) -> f64,
    ) -> Result<Interval, NoInterval> {
        let value = |rows: &Option<Vec<LawRow>>| rows.as_deref().map_or(f64::NAN, f);
        let of = |sides: &[usize], n_eff: f64| -> Result<Spread, NoInterval> {
            let values: Vec<f64> =
                sides.iter().flat_map(|side| self.without[*side].iter().map(value)).collect();
            jackknife(&values, n_eff)
        };
        let (fit, held) = (self.sides.fit.n_eff(), self.sides.held_out.n_eff());
        let spread = match over {
            Over::Fit => of(&[0], fit)?,
            Over::Both => of(&[1], held)?.and(of(&[0], fit)?),
            Over::All => of(&[0, 1], self.n_eff(over))?,
        };
        spread.around(estimate)
    }
}
