//! The second half of the documents: every direction removed, from the lens's state and from the model's.

use layerscope_lenses::{Ask, LayerIndex, Lens, Readout, Teacher};
use tch::{Kind, Tensor};

use super::{
    CausalError, Energy, Plan, Removal,
    align::{Change, alignment},
    remove, replay,
};
use crate::{
    hook::HookPoint,
    model::{Model, ModelError},
    results::draw::{derangement, draw},
    results::run::RowKind,
    results::statistics::{Intervals, Tally},
    sources::text::Window,
    states::States,
    watch::Underway,
};

/// Where the numbers of one layer stand. Of every direction the effect on the model, then on each lens that reads the
/// layer; after all directions, per lens, the alignment and that with another token's stimulus.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    pub(super) lenses: usize,
    pub(super) directions: usize,
}

impl Places {
    pub(super) fn of(plan: &Plan) -> Self {
        Self { lenses: plan.lenses.len(), directions: plan.directions() }
    }

    pub(super) fn effect(self, direction: usize) -> usize {
        direction * (1 + self.lenses)
    }

    /// `lens` is a place among those that read the layer.
    pub(super) fn energy(self, direction: usize, lens: usize) -> usize {
        self.effect(direction) + 1 + lens
    }

    pub(super) fn alignment(self, lens: usize) -> usize {
        self.effect(self.directions) + 2 * lens
    }

    pub(super) fn shuffled(self, lens: usize) -> usize {
        self.alignment(lens) + 1
    }

    /// Count group by column: every position, or those where an alignment is defined.
    fn groups(self) -> Vec<usize> {
        std::iter::repeat_n(0, self.effect(self.directions)).chain(1..=2 * self.lenses).collect()
    }
}

/// What is being measured, and the sums so far.
pub struct Measurement<'a> {
    pub(super) readout: &'a Readout,
    pub(super) lenses: &'a [Box<dyn Lens>],
    pub(super) kinds: &'a [RowKind],
    pub(super) plans: &'a [Plan],
    pub(super) removal: Removal,
    pub(super) tallies: Vec<Tally>,
}

/// One batch: the model as it is.
struct Batch<'b> {
    model: &'b Model,
    states: &'b States,
    ids: Tensor,
    teacher: Teacher,
}

impl<'a> Measurement<'a> {
    /// `kinds` says what each lens is: `logit`, `tuned` …
    ///
    /// # Errors
    /// When the columns do not fit.
    pub fn new(
        readout: &'a Readout,
        (lenses, kinds): (&'a [Box<dyn Lens>], &'a [RowKind]),
        plans: &'a [Plan],
        removal: Removal,
        intervals: Intervals,
    ) -> Result<Self, CausalError> {
        let tally = |plan| {
            let places = Places::of(plan);
            Tally::new(places.groups(), 1 + 2 * places.lenses, intervals)
        };
        let tallies = plans.iter().map(tally).collect::<Result<_, _>>()?;
        Ok(Self { readout, lenses, kinds, plans, removal, tallies })
    }

    /// Runs windows of one length as they are and without every direction. `clusters` gives, per row, what it counts as
    /// in place of its document; `stage` counts passes of them.
    ///
    /// # Errors
    /// When the model cannot run, a state is not finite (named by hook and document).
    pub fn add(
        &mut self,
        model: &Model,
        windows: &[&Window],
        clusters: Option<&[u64]>,
        stage: &Underway<'_>,
    ) -> Result<(), CausalError> {
        let point = |plan: &Plan| HookPoint::resid_pre(plan.layer());
        let points: Vec<HookPoint> = self.plans.iter().map(point).collect();
        let states = States::of(model, &points, windows)?;
        let ids = Tensor::from_slice(&states.ids).view([windows.len() as i64, -1]);
        let teacher = Teacher::of(self.readout, &states.last)?;
        let batch = Batch { model, states: &states, ids, teacher };
        let docs = clusters.unwrap_or(&states.docs);
        for place in 0..self.plans.len() {
            let columns = self.layer(&batch, place, stage)?;
            take(&mut self.tallies[place], &columns, docs, Places::of(&self.plans[place]))?;
        }
        Ok(())
    }

    /// Every column of a layer, a number per row each; NaN where there is none.
    fn layer(
        &self,
        batch: &Batch<'_>,
        place: usize,
        stage: &Underway<'_>,
    ) -> Result<Vec<Vec<f64>>, CausalError> {
        let plan = &self.plans[place];
        let own = &batch.states.layers[place];
        let stand_in = plan.ground.stand_in_for(self.removal, batch.states, own)?;
        let layer = LayerIndex(plan.layer());
        let energy = |place: &usize| {
            let lens = self.lenses[*place].as_ref();
            let named = |source| CausalError::Lens { lens: lens.name().to_owned(), layer, source };
            Energy::new(self.readout, (lens, layer), own, &stand_in).map_err(named)
        };
        let energies = plan.lenses.iter().map(energy).collect::<Result<Vec<_>, _>>()?;
        let mut columns = Vec::new();
        for set in &plan.sets {
            for i in 0..set.len() as i64 {
                let direction = set.vectors.f_narrow(0, i, 1)?.f_to_device(own.device())?;
                let n = self.without(batch, plan.layer(), &remove(own, &direction, &stand_in)?)?;
                let read = self.readout.sweep(&n, Ask::default())?;
                columns.push(batch.teacher.kl(self.readout, &n, &read.lse)?);
                for energy in &energies {
                    columns.push(energy.rows(&direction).map_err(|e| energy.failed(e))?);
                }
                stage.done(1)?;
            }
        }
        let donors = plan.ground.stand_in_for(Removal::Resample, batch.states, own)?;
        let treated = remove(own, &plan.subspace, &donors)?;
        let after = self.without(batch, plan.layer(), &treated)?;
        let response = Change { before: &batch.teacher.n, after: &after };
        let reads = energies.iter().map(|e| e.read(&treated).map_err(|error| e.failed(error)));
        let reads = reads.collect::<Result<Vec<_>, _>>()?;
        let stimuli = energies.iter().zip(&reads).map(|(e, after)| Change { before: e.control(), after });
        let stimuli: Vec<Change<'_>> = stimuli.collect();
        let partners = partners(batch.states, plan.ground.seed);
        columns.extend(alignment(self.readout, response, &stimuli, &partners)?.into_iter().flatten());
        stage.done(1)?;
        Ok(columns)
    }

    /// Normalised final states when `stream` enters block `layer`.
    fn without(&self, batch: &Batch<'_>, layer: usize, stream: &Tensor) -> Result<Tensor, CausalError> {
        let last = replay(batch.model, &batch.ids, layer, stream)?;
        if !last.f_sum(Kind::Double)?.double_value(&[]).is_finite() {
            let message = format!("without a direction of layer {layer} the model's output is not finite");
            return Err(ModelError::Input(message).into());
        }
        Ok(self.readout.normalize(&last)?)
    }
}

/// For every row another one of its window, -1 where there is none: a derangement that no batch changes.
fn partners(states: &States, seed: u64) -> Vec<i64> {
    let (mut all, mut start) = (Vec::with_capacity(states.rows()), 0);
    for &len in &states.runs {
        let own = draw(seed, states.docs[start], u64::from(states.pos[start]));
        match derangement(own, len) {
            Some(order) => all.extend(order.into_iter().map(|i| (start + i) as i64)),
            None => all.resize(start + len, -1),
        }
        start += len;
    }
    all
}

/// Adds columns to the sums of what their rows count as.
fn take(tally: &mut Tally, columns: &[Vec<f64>], docs: &[u64], places: Places) -> Result<(), CausalError> {
    let first = places.alignment(0);
    let mut start = 0;
    for run in docs.chunk_by(|a, b| a == b) {
        let rows = start..start + run.len();
        let known = |column: &Vec<f64>| -> Vec<f64> {
            column[rows.clone()].iter().copied().filter(|x| !x.is_nan()).collect()
        };
        let (plain, aligned) = columns.split_at(first);
        let mut sums: Vec<f64> = plain.iter().map(|column| column[rows.clone()].iter().sum()).collect();
        let mut counts = vec![run.len() as f64];
        for column in aligned {
            let known = known(column);
            sums.push(known.iter().sum());
            counts.push(known.len() as f64);
        }
        tally.add(run[0], &sums, &counts)?;
        start = rows.end;
    }
    Ok(())
}
