//! Fitting lenses on a corpus: windows through the model, every translator one step per batch of tokens.
//!
//! Several fits (rungs of the ladder, horizons of a future lens) can share one pass over the text: each is a
//! [`FitTarget`]. What a step uses depends on its number and the seed alone, so that a checkpoint continues to the same
//! last bit.

mod log;
mod residuals;
mod split;

use std::ops::Range;

use layerscope_lenses::{
    Affine, Readout, Teacher,
    fit::{Fitter, Rows},
};
pub use log::{FitLog, LogRow, write_log};
pub use residuals::{Exported, Hidden, Residuals, windows};
pub use split::{Split, split};
use tch::Tensor;

use crate::{
    hook::HookPoint,
    model::ModelError,
    sources::text::Window,
    states::States,
    watch::{Stopped, Underway},
};

/// A fit that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// Not enough text.
    #[error(
        "{tokens} tokens to fit on are too few: {need} are needed for one step; give more text or a smaller --step-tokens"
    )]
    TooFew {
        /// Tokens there are.
        tokens: usize,
        /// Tokens of a step.
        need: usize,
    },
    /// Nothing to hold out.
    #[error("the text has one window only: nothing can be held out to choose the best translators by")]
    NothingHeldOut,
    /// The model cannot run, or a state is not finite.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An export cannot be read.
    #[error(transparent)]
    Store(Box<crate::states::store::StoreError>),
    /// A translator cannot be fitted.
    #[error("{target}, step {step}: {source}")]
    Lens {
        /// Which fit.
        target: String,
        /// The step of the fit, from 0.
        step: usize,
        /// What the part below said; it is the cause of this error.
        source: layerscope_lenses::Error,
    },
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Run(#[from] crate::results::run::RunError),
    /// Somebody asked to stop.
    #[error("interrupted; repeat the command to go on")]
    Interrupted(#[from] Stopped),
}

impl From<crate::states::store::StoreError> for FitError {
    fn from(error: crate::states::store::StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

/// One fit: what it is called, how far ahead it reads, and its translators.
#[derive(Debug)]
pub struct FitTarget {
    /// Name in the log, such as `tuned` or `horizon 2`.
    pub name: String,
    /// Tokens ahead; 1 is the next token.
    pub horizon: usize,
    /// The translators.
    pub fitter: Fitter,
    /// A closed form to try before the first step.
    pub init: Option<ClosedForm>,
}

/// A closed form.
#[derive(Debug)]
pub enum ClosedForm {
    /// A translator per layer, where layers are independent.
    Layers(Vec<Affine>),
    /// The shared map of a rung.
    Shared(Affine),
}

/// How a fit tells how far it is.
pub trait FitWatch {
    /// `tokens` more tokens were fitted on.
    fn advance(&mut self, tokens: usize);
    /// Held-out losses per layer after `step` steps.
    fn validated(&mut self, target: &str, step: usize, losses: &[f64]);
    /// Called between steps with everything a checkpoint needs; whether to stop.
    ///
    /// # Errors
    /// When a checkpoint cannot be written.
    fn between(&mut self, targets: &[FitTarget], log: &FitLog) -> Result<bool, FitError>;
}

/// What runs.
pub struct Fit<'a> {
    /// Where states come from.
    pub residuals: &'a dyn Residuals,
    /// The model's unembedding.
    pub readout: &'a Readout,
    /// The hook point of every layer, ascending.
    pub points: &'a [HookPoint],
    /// The text.
    pub windows: &'a [Window],
    /// Which of it is for what.
    pub split: &'a Split,
    /// Tokens of a step, at least.
    pub step_tokens: usize,
    /// Most tokens in a forward pass.
    pub batch_tokens: usize,
}

impl Fit<'_> {
    /// The windows of every step: consecutive ones in fitting order, until there are `step_tokens` tokens. What is left
    /// at the end and fills less than half a step is not used.
    ///
    /// # Errors
    /// [`FitError::TooFew`].
    pub fn steps(&self) -> Result<Vec<Range<usize>>, FitError> {
        let (mut steps, mut start, mut tokens) = (Vec::new(), 0, 0);
        for (i, window) in self.split.train.iter().enumerate() {
            tokens += self.windows[*window].ids.len();
            if tokens >= self.step_tokens {
                steps.push(start..i + 1);
                (start, tokens) = (i + 1, 0);
            }
        }
        if 2 * tokens >= self.step_tokens {
            steps.push(start..self.split.train.len());
        }
        if steps.is_empty() {
            return Err(FitError::TooFew { tokens, need: self.step_tokens });
        }
        Ok(steps)
    }

    /// Runs every target to its end, validating at the start, at the end and eight times on the way.
    ///
    /// # Errors
    /// See [`FitError`].
    pub fn run(
        &self,
        targets: &mut [FitTarget],
        log: &mut FitLog,
        watch: &mut dyn FitWatch,
    ) -> Result<(), FitError> {
        let fits = targets.iter().any(|t| t.fitter.recipe().steps > 0);
        let steps = if fits { self.steps()? } else { Vec::new() };
        if self.split.held_out.is_empty() {
            return Err(FitError::NothingHeldOut);
        }
        let every = steps.len().div_ceil(8).max(1);
        let first = targets.iter().map(|t| t.fitter.steps_done()).max().unwrap_or(0);
        watch.advance(self.tokens_of(&steps[..first]));
        if first == 0 && log.rows().is_empty() {
            self.begin(targets, log, watch)?;
        }
        for (k, step) in steps.iter().enumerate().skip(first) {
            if watch.between(targets, log)? {
                return Err(Stopped.into());
            }
            if targets.iter().all(|t| t.fitter.is_done()) {
                break;
            }
            self.step(targets, log, k, step)?;
            watch.advance(self.tokens(step));
            if (k + 1).is_multiple_of(every) || k + 1 == steps.len() {
                self.validate(targets, log, watch, k + 1)?;
            }
        }
        Ok(())
    }

    /// Validates the identity and the closed forms; every layer (of a shared rung all together) begins from the better,
    /// and a target without steps keeps its closed form.
    fn begin(
        &self,
        targets: &mut [FitTarget],
        log: &mut FitLog,
        watch: &mut dyn FitWatch,
    ) -> Result<(), FitError> {
        self.validate(targets, log, watch, 0)?;
        let mut begun = Vec::new();
        for (place, target) in targets.iter_mut().enumerate() {
            let before = target.fitter.best_mean();
            match target.init.take() {
                Some(ClosedForm::Layers(maps)) => {
                    target.fitter.start_from(maps);
                    begun.push((place, before, None));
                }
                Some(ClosedForm::Shared(map)) => {
                    begun.push((place, before, Some(target.fitter.start_shared(map))));
                }
                None => {}
            }
        }
        if !begun.is_empty() {
            self.validate(targets, log, watch, 0)?;
        }
        for (place, before, identity) in begun {
            let fitter = &mut targets[place].fitter;
            match identity {
                Some(identity) if fitter.best_mean() >= before => drop(fitter.start_shared(identity)),
                None if fitter.recipe().steps > 0 => fitter.start_from_best(),
                _ => {}
            }
        }
        Ok(())
    }

    /// Tokens of some steps.
    pub fn tokens_of(&self, steps: &[Range<usize>]) -> usize {
        steps.iter().map(|step| self.tokens(step)).sum()
    }

    fn tokens(&self, step: &Range<usize>) -> usize {
        self.split.train[step.clone()].iter().map(|i| self.windows[*i].ids.len()).sum()
    }

    fn step(
        &self,
        targets: &mut [FitTarget],
        log: &mut FitLog,
        k: usize,
        step: &Range<usize>,
    ) -> Result<(), FitError> {
        let mut add = |states: &States| {
            self.rows(targets, states, k, |_, target, layer, rows| {
                target.fitter.add(self.readout, layer, rows)
            })
        };
        // A stop waits for the end of the step, which a checkpoint can be made of.
        self.each_batch(&self.split.train[step.clone()], &Underway::unwatched(), &mut add)?;
        for target in targets.iter_mut() {
            let named = |source| FitError::Lens { target: target.name.clone(), step: k, source };
            let losses = target.fitter.step().map_err(named)?;
            log.trained(k + 1, &target.name, target.horizon, &losses);
        }
        Ok(())
    }

    fn validate(
        &self,
        targets: &mut [FitTarget],
        log: &mut FitLog,
        watch: &mut dyn FitWatch,
        step: usize,
    ) -> Result<(), FitError> {
        let mut sums = vec![vec![(0.0, 0.0); self.points.len()]; targets.len()];
        let mut add = |states: &States| {
            self.rows(targets, states, step, |place, target, layer, rows| {
                let (sum, n) = target.fitter.held_out(self.readout, layer, rows)?;
                let cell: &mut (f64, f64) = &mut sums[place][layer];
                *cell = (cell.0 + sum, cell.1 + n);
                Ok(())
            })
        };
        self.each_batch(&self.split.held_out, &Underway::unwatched(), &mut add)?;
        for (target, sums) in targets.iter_mut().zip(&sums) {
            let losses: Vec<f64> = sums.iter().map(|(sum, n)| sum / n.max(1.0)).collect();
            let named = |source| FitError::Lens { target: target.name.clone(), step, source };
            target.fitter.validate(&losses).map_err(named)?;
            log.validated(step, &target.name, target.horizon, &losses);
            watch.validated(&target.name, step, &losses);
        }
        Ok(())
    }

    /// Hands `f` the rows of every target (by its place) and layer.
    fn rows(
        &self,
        targets: &mut [FitTarget],
        states: &States,
        step: usize,
        mut f: impl FnMut(usize, &mut FitTarget, usize, &Rows<'_>) -> Result<(), layerscope_lenses::Error>,
    ) -> Result<(), FitError> {
        let failed = |target: &str, source| FitError::Lens { target: target.to_owned(), step, source };
        let teacher = Teacher::of(self.readout, &states.last).map_err(|e| failed("the model", e))?;
        for (place, target) in targets.iter_mut().enumerate() {
            let name = target.name.clone();
            let ahead = states.ahead(target.horizon);
            if ahead.rows.is_empty() {
                continue; // every run is shorter than the horizon
            }
            let shifted = if target.horizon == 1 {
                None
            } else {
                Some(teacher.select(&ahead.teacher).map_err(|e| failed(&name, e))?)
            };
            let index = Tensor::from_slice(&ahead.rows).to_device(states.last.device());
            for (layer, all) in states.layers.iter().enumerate() {
                let some = match shifted {
                    Some(_) => all.f_index_select(0, &index).map_err(ModelError::from)?,
                    None => all.shallow_clone(),
                };
                let rows = Rows {
                    states: &some,
                    teacher: shifted.as_ref().unwrap_or(&teacher),
                    next: &ahead.tokens,
                };
                f(place, target, layer, &rows).map_err(|e| failed(&format!("{name}, layer {layer}"), e))?;
            }
        }
        Ok(())
    }

    /// States of `windows`, about `batch_tokens` rows at a time; `stage` counts tokens.
    ///
    /// # Errors
    /// Those of the residuals' source and of `f`.
    pub fn each_batch(
        &self,
        windows: &[usize],
        stage: &Underway<'_>,
        f: &mut dyn FnMut(&States) -> Result<(), FitError>,
    ) -> Result<(), FitError> {
        let windows: Vec<&Window> = windows.iter().map(|i| &self.windows[*i]).collect();
        self.residuals.each(self.points, (&windows, self.batch_tokens), stage, f)
    }
}
