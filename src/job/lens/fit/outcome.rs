//! What a fit found.

use std::collections::BTreeMap;

use super::{Fit, Plan};
use crate::{
    intervene::future::{PromptCell, Trained},
    lens::artifact::LensKind,
    lens::fit::FitLog,
    lenses::Jacobian,
};

/// What a fit found, by what it made.
#[derive(Debug, Clone, PartialEq)]
pub enum Fitted {
    /// Nothing: the folder held this very lens already.
    Complete,
    /// Translators.
    Translators(HeldOut),
    /// So many maps to the vocabulary.
    Maps(usize),
    /// Learned prompts, by layer and horizon.
    Prompts(Vec<Prompted>),
    /// Jacobians, by layer.
    Jacobians(Vec<Measured>),
}

/// Losses on held-out text, nats.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOut {
    /// The layers that the lens reads.
    pub layers: Vec<usize>,
    /// Of the logit lens, per layer.
    pub logit: Vec<Option<f64>>,
    /// Of every translator that is kept, per layer, by the names of what was fitted.
    pub targets: Vec<(String, Vec<f64>)>,
    /// Targets and layers that no step made better than what they began from, of fits whose layers are independent.
    pub stuck: Vec<(String, usize)>,
}

/// A learned prompt's KL from the model's own prediction, on held-out text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prompted {
    /// Whose states go into it.
    pub layer: usize,
    /// How many tokens ahead it reads.
    pub horizon: usize,
    /// Before training.
    pub before: f64,
    /// After it.
    pub after: f64,
}

/// A layer's Jacobian, and how well it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Whose states it is taken in.
    pub layer: usize,
    /// Prompts that the row with the fewest is a mean over.
    pub prompts: usize,
    /// Its norm, the root of the sum of squares.
    pub norm: f64,
    /// Its standard error in that norm, from the spread between prompts.
    pub error: Option<f64>,
    /// The cosine that a fit on as many other prompts would have with it.
    pub refit_cosine: Option<f64>,
}

impl Measured {
    pub(super) fn new(layer: usize, jacobian: &Jacobian) -> Self {
        Self {
            layer,
            prompts: jacobian.prompts.min().double_value(&[]) as usize,
            norm: jacobian.norm(),
            error: jacobian.error(),
            refit_cosine: jacobian.refit_cosine(),
        }
    }
}

impl Prompted {
    pub(super) fn new(cell: PromptCell, trained: &Trained) -> Self {
        let PromptCell { layer, horizon } = cell;
        Self { layer, horizon, before: trained.before, after: trained.after }
    }
}

impl HeldOut {
    pub(super) fn new(job: &Fit, plan: &Plan, log: &FitLog) -> Self {
        let mut names: Vec<&str> = Vec::new();
        for row in log.rows() {
            if !names.contains(&row.target.as_str()) {
                names.push(&row.target);
            }
        }
        let places = 0..plan.layers.len();
        let losses = |name: &str| places.clone().map(|place| kept(job, log, (name, place))).collect();
        let logit = |place| {
            let first = log.rows().iter().find(|r| r.layer == place && r.horizon == 1);
            first.and_then(|r| r.held_out)
        };
        Self {
            layers: plan.layers.iter().map(|l| l.0).collect(),
            logit: places.clone().map(logit).collect(),
            targets: names.iter().map(|name| ((*name).to_owned(), losses(name))).collect(),
            stuck: stuck(job, plan, log),
        }
    }
}

/// The loss of what is kept: a closed form as it is; of a fit, the best.
fn kept(job: &Fit, log: &FitLog, (name, place): (&str, usize)) -> f64 {
    let closed = job.kind == LensKind::Linear || (job.kind == LensKind::Future && !job.refine);
    let own = log.rows().iter().filter(|r| r.target == name && r.layer == place);
    let mut losses = own.filter_map(|r| r.held_out);
    if closed { losses.next_back().unwrap_or(f64::NAN) } else { losses.fold(f64::INFINITY, f64::min) }
}

/// Layers that ended where they began, of fits whose layers are independent.
fn stuck(job: &Fit, plan: &Plan, log: &FitLog) -> Vec<(String, usize)> {
    if !matches!(job.kind, LensKind::Tuned | LensKind::Future) {
        return Vec::new();
    }
    let mut best: BTreeMap<(&str, usize), [f64; 2]> = BTreeMap::new();
    for row in log.rows() {
        if let Some(loss) = row.held_out {
            let cell = best.entry((&row.target, row.layer)).or_insert([f64::INFINITY; 2]);
            let part = &mut cell[usize::from(row.step > 0)];
            *part = part.min(loss);
        }
    }
    let stuck = best.iter().filter(|(_, [start, steps])| steps.is_finite() && steps >= start);
    stuck.map(|((target, place), _)| ((*target).to_owned(), plan.layers[*place].0)).collect()
}
