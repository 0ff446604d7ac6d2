//! Blocks in another order, and what becomes of the prediction: every schedule against the model as it is, in one pass.
//!
//! The stream that enters a block, and the one that leaves the last, is read out by the logit lens, and by others, as
//! in [`evaluate`](crate::lens::evaluate); the teacher is always the model as it is. So the row of layer L is the
//! prediction under the schedule itself, and the rows below say what later blocks repair.

mod parse;
mod sets;

use layerscope_lenses::{Lens, Readout};
pub use parse::parse;
pub use sets::{deletions, painters};
use tch::{Kind, Tensor};

use crate::{
    hook::{Capture, HookPoint, Selection},
    lens::evaluate::{EvalError, Evaluation, Metric},
    model::{Model, ModelError, Schedule},
    results::run::{MetricRow, Parts, RowKind},
    results::statistics::Intervals,
    sources::text::Window,
    states::States,
};

/// A schedule that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// Not the grammar, or not this model's blocks.
    #[error("schedule `{schedule}`: {reason}")]
    Syntax {
        /// The schedule.
        schedule: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A schedule under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// As it was written, or as its set names it.
    pub name: String,
    /// What runs.
    pub schedule: Schedule,
}

/// Schedules being compared, and the sums so far.
pub struct Comparison<'a> {
    schedules: &'a [Named],
    points: &'a [Vec<HookPoint>],
    evaluations: Vec<Evaluation<'a>>,
    n_layers: usize,
}

/// Where each schedule is read: the stream entering those of `layers` that it runs, and the one that leaves the last
/// block.
pub fn points(schedules: &[Named], layers: &[usize], n_layers: usize) -> Vec<Vec<HookPoint>> {
    let of = |named: &Named| {
        let run: Vec<usize> = named.schedule.blocks().collect();
        let read = layers.iter().filter(|layer| run.contains(layer)).copied();
        read.chain([n_layers]).map(HookPoint::resid_pre).collect()
    };
    schedules.iter().map(of).collect()
}

impl<'a> Comparison<'a> {
    /// `points` are those of [`points`]. One of the lenses is the logit lens, which gives the prediction at layer L.
    ///
    /// # Errors
    /// When the columns do not fit.
    pub fn new(
        readout: &'a Readout,
        (lenses, kinds): (&'a [Box<dyn Lens>], &'a [RowKind]),
        schedules: &'a [Named],
        points: &'a [Vec<HookPoint>],
        n_layers: usize,
        intervals: Intervals,
    ) -> Result<Self, EvalError> {
        let new = |points: &'a Vec<HookPoint>| {
            Evaluation::new(readout, lenses, kinds, points, n_layers, intervals, false)
        };
        let evaluations = points.iter().map(new).collect::<Result<_, _>>()?;
        Ok(Self { schedules, points, evaluations, n_layers })
    }

    /// Runs windows of one length through every schedule. `clusters` gives, per row, what it counts as in place of its
    /// document.
    ///
    /// # Errors
    /// When the model cannot run, or a state is not finite (named by schedule, hook and document).
    pub fn add(
        &mut self,
        model: &Model,
        windows: &[&Window],
        clusters: Option<&[u64]>,
    ) -> Result<(), EvalError> {
        let mut states = States::of(model, &[], windows)?;
        let ids = Tensor::from_slice(&states.ids).view([windows.len() as i64, -1]);
        for ((named, points), evaluation) in self.schedules.iter().zip(self.points).zip(&mut self.evaluations)
        {
            states.layers = streams(model, named, points, &ids)?;
            evaluation.add(&states, clusters, &mut |_, _, _| Ok(()))?;
        }
        Ok(())
    }

    /// As [`Evaluation::add_text`], for every schedule.
    ///
    /// # Errors
    /// When a sum is not finite.
    pub fn add_text(&mut self, windows: &[Window], clusters: Option<&[u64]>) -> Result<(), EvalError> {
        self.evaluations.iter_mut().try_for_each(|evaluation| evaluation.add_text(windows, clusters))
    }

    /// Every number with its interval, under the schedule's name, of other lenses than the logit lens under
    /// `SCHEDULE|LENS`; the model as it is comes last.
    pub fn finish(&mut self) -> Vec<MetricRow> {
        let (mut rows, mut own) = (Vec::new(), Vec::new());
        for (named, evaluation) in self.schedules.iter().zip(&mut self.evaluations) {
            let (model, of): (Vec<_>, Vec<_>) =
                evaluation.finish().into_iter().partition(|row| row.kind == RowKind::Model);
            own = model;
            // Prediction depth and early exit are of a stream whose layers are the model's.
            let known = |row: &MetricRow| Metric::ALL.iter().any(|metric| metric.name() == row.metric);
            let of = of.into_iter().filter(known);
            let skipped = named.schedule.left_out();
            rows.extend(of.map(|row| {
                let of = (row.kind != RowKind::Logit).then(|| row.subject.to_string());
                let end = of.is_none() && row.layer as usize == self.n_layers;
                let subject = Parts::Scheduled { of, schedule: named.name.clone(), skipped }.into();
                MetricRow { subject, kind: if end { RowKind::Schedule } else { row.kind }, ..row }
            }));
        }
        rows.extend(own);
        rows
    }
}

/// The streams at `points`, `[rows, d_model]` f32 each.
fn streams(
    model: &Model,
    named: &Named,
    points: &[HookPoint],
    ids: &Tensor,
) -> Result<Vec<Tensor>, ModelError> {
    let _no_grad = tch::no_grad_guard();
    let mut capture = Capture::new(points.iter().copied().collect::<Selection>());
    model.forward_along(ids, &named.schedule, None, &mut capture)?;
    let rows = |point: &HookPoint| {
        let missing = || ModelError::Input(format!("schedule {}: {point} was not computed", named.name));
        let stream = capture.get(*point).ok_or_else(missing)?;
        let rows = stream.f_to_kind(Kind::Float)?.f_reshape([-1, model.spec().d_model as i64])?;
        if rows.f_sum(Kind::Double)?.double_value(&[]).is_finite() {
            return Ok(rows);
        }
        Err(ModelError::Input(format!("schedule {}: {point} is not finite", named.name)))
    };
    points.iter().map(rows).collect()
}
