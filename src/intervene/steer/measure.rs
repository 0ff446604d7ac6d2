//! Every setting against the model as it is, in one pass over the text.

use layerscope_lenses::{Ask, Readout, Teacher};
use tch::{Kind, Tensor};

use super::{Direction, Setting, SteerError, control::control, response::lines};
use crate::{
    hook::HookPoint,
    lens::causal::replay,
    model::Model,
    results::run::{MetricRow, Parts, RowKind},
    results::statistics::{Estimate, Intervals, Tally},
    sources::text::Window,
    states::States,
    watch::Underway,
};

/// Columns of a setting: KL, agreement, cross-entropy, logit difference.
pub(super) const WIDTH: usize = 4;
/// Place of the logit difference among them.
pub(super) const DIFFERENCE: usize = 3;
/// Count groups: positions, and those whose next token is known.
const ALL: usize = 0;
const NEXT: usize = 1;

/// The tokens whose logits are subtracted: `logit(toward) - logit(away)`, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contrast {
    /// Goes up.
    pub toward: i64,
    /// Goes down.
    pub away: i64,
}

/// Settings being compared, and the sums so far.
pub struct Sweep<'a> {
    readout: &'a Readout,
    directions: &'a [Direction],
    settings: &'a [Setting],
    /// Mean length of the stream by layer.
    lengths: &'a [f64],
    contrast: Option<Contrast>,
    /// Layers that are pushed, ascending.
    layers: Vec<usize>,
    tally: Tally,
}

impl<'a> Sweep<'a> {
    /// `lengths` has an entry per layer, 0 to L ([`Sweep::lengths`]).
    ///
    /// # Errors
    /// When the columns do not fit.
    pub fn new(
        readout: &'a Readout,
        directions: &'a [Direction],
        settings: &'a [Setting],
        lengths: &'a [f64],
        contrast: Option<Contrast>,
        intervals: Intervals,
    ) -> Result<Self, SteerError> {
        // The model as it is comes first, as a setting of strength 0.
        let columns = (0..=settings.len()).flat_map(|_| [ALL, ALL, NEXT, ALL]).collect();
        let tally = Tally::new(columns, 2, intervals)?;
        let mut layers: Vec<usize> = settings.iter().map(|setting| setting.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        Ok(Self { readout, directions, settings, lengths, contrast, layers, tally })
    }

    /// Mean length of the stream at every layer, without the first position of each window, which often holds a sink of
    /// many times the others' length. `stage` counts tokens.
    ///
    /// # Errors
    /// As [`States::each`].
    pub fn lengths(
        model: &Model,
        windows: &[&Window],
        rows: usize,
        stage: &Underway<'_>,
    ) -> Result<Vec<f64>, SteerError> {
        let points: Vec<HookPoint> = (0..=model.spec().n_layers).map(HookPoint::resid_pre).collect();
        let (mut sums, mut n) = (vec![0.0; points.len()], 0.0_f64);
        States::each::<SteerError>(model, &points, (windows, rows), stage, |states, _| {
            let first = states.pos.iter().map(|pos| f64::from(u8::from(*pos > 0)));
            let weights = Tensor::from_slice(&first.collect::<Vec<_>>());
            let weights = weights.to_device(states.last.device());
            for (sum, rows) in sums.iter_mut().zip(&states.layers) {
                let lengths = rows.norm_scalaropt_dim(2.0, [-1_i64].as_slice(), false).to_kind(Kind::Double);
                *sum += (lengths * &weights).sum(Kind::Double).double_value(&[]);
            }
            n += weights.sum(Kind::Double).double_value(&[]);
            Ok(())
        })?;
        Ok(sums.into_iter().map(|sum| sum / n.max(1.0)).collect())
    }

    /// Runs windows of one length as they are and under every setting. `clusters` gives, per row, what it counts as in
    /// place of its document; `stage` counts settings. Blocks below the layer that is pushed run once.
    ///
    /// # Errors
    /// When the model cannot run, a state is not finite (named by setting, or by hook and document).
    pub fn add(
        &mut self,
        model: &Model,
        windows: &[&Window],
        clusters: Option<&[u64]>,
        stage: &Underway<'_>,
    ) -> Result<(), SteerError> {
        let points: Vec<HookPoint> = self.layers.iter().map(|layer| HookPoint::resid_pre(*layer)).collect();
        let states = States::of(model, &points, windows)?;
        let next = states.ahead(1).tokens;
        let n = self.readout.normalize(&states.last)?;
        let ask = Ask { expectation: true, tokens: &[&next], marginal: None };
        let mut read = self.readout.sweep_exactly(&n, ask)?;
        let (ce, finals) = (read.ce(0), read.argmax.clone());
        let mut columns: Vec<Vec<f64>> =
            vec![vec![0.0; next.len()], vec![1.0; next.len()], ce, self.difference(&n)?];
        let teacher = Teacher::new(n, &mut read)?;
        let ids = Tensor::from_slice(&states.ids).view([windows.len() as i64, -1]);
        for setting in self.settings {
            let n = self.readout.normalize(&self.steered(model, *setting, (&ids, &states))?)?;
            let read = self.readout.sweep(&n, Ask { tokens: &[&next], ..Ask::default() })?;
            let same = read.argmax.iter().zip(&finals).map(|(a, b)| f64::from(u8::from(a == b)));
            columns.extend([
                teacher.kl(self.readout, &n, &read.lse)?,
                same.collect(),
                read.ce(0),
                self.difference(&n)?,
            ]);
            stage.done(1)?;
        }
        self.take(&columns, &next, clusters.unwrap_or(&states.docs))
    }

    /// Adds rows to the sums of what they count as.
    fn take(&mut self, columns: &[Vec<f64>], next: &[i64], docs: &[u64]) -> Result<(), SteerError> {
        let mut start = 0;
        for run in docs.chunk_by(|a, b| a == b) {
            let rows = start..start + run.len();
            let known = |row: &usize| next[*row] >= 0;
            let sum = |(place, column): (usize, &Vec<f64>)| -> f64 {
                let needs_next = place % WIDTH == 2;
                rows.clone().filter(|row| !needs_next || known(row)).map(|row| column[row]).sum()
            };
            let sums: Vec<f64> = columns.iter().enumerate().map(sum).collect();
            let counts = [run.len() as f64, rows.clone().filter(known).count() as f64];
            self.tally.add(run[0], &sums, &counts)?;
            start = rows.end;
        }
        Ok(())
    }

    /// The stream that leaves the last block under a setting, `[rows, d_model]` f32.
    fn steered(&self, model: &Model, setting: Setting, of: (&Tensor, &States)) -> Result<Tensor, SteerError> {
        let direction = &self.directions[setting.direction];
        let missing = |reason: &str| SteerError::Direction {
            name: direction.name.clone(),
            layer: setting.layer,
            reason: reason.to_owned(),
        };
        let unit = direction.at(setting.layer).ok_or_else(|| missing("it has no vector here"))?;
        let push = unit * (setting.strength * self.lengths[setting.layer]);
        let (ids, states) = of;
        let own =
            self.layers.iter().position(|layer| *layer == setting.layer).map(|place| &states.layers[place]);
        let own = own.ok_or_else(|| missing("its states were not kept"))?;
        // In the model's own number type, as an edit of the stream would be; states in f32 hold it without loss.
        let push = push.f_to_kind(model.kind())?.f_to_device(own.device())?;
        let stream = own.f_to_kind(model.kind())?.f_add(&push)?;
        let rows = replay(model, ids, setting.layer, &stream)?;
        if rows.sum(Kind::Double).double_value(&[]).is_finite() {
            return Ok(rows);
        }
        Err(missing(&format!("with strength {} the model's output is not finite", setting.strength)))
    }

    /// The logit difference of every row; zeros when none is asked for.
    fn difference(&self, n: &Tensor) -> Result<Vec<f64>, SteerError> {
        let rows = n.size()[0] as usize;
        let Some(Contrast { toward, away }) = self.contrast else { return Ok(vec![0.0; rows]) };
        let toward = self.readout.token_logits(n, &vec![toward; rows])?;
        let away = self.readout.token_logits(n, &vec![away; rows])?;
        Ok(toward.iter().zip(away).map(|(a, b)| a - b).collect())
    }

    /// Every number with its interval: of each setting under `NAME@+0.5`, of each direction and layer the line through
    /// its responses, of the random directions together and of the others' places among them, and of the model as it
    /// is.
    pub fn finish(&mut self) -> Vec<MetricRow> {
        let (directions, settings, contrast) = (self.directions, self.settings, self.contrast.is_some());
        let lengths = self.lengths;
        let end = lengths.len().saturating_sub(1);
        let scores = self.tally.scores();
        let mut rows = Vec::new();
        for (place, setting) in settings.iter().enumerate() {
            let column = |metric: usize| (place + 1) * WIDTH + metric;
            let of = &directions[setting.direction];
            let row = |metric: &str, unit: &str, number: Estimate| MetricRow {
                subject: Parts::Pushed { of: of.name.clone(), strength: setting.strength }.into(),
                kind: if of.random { RowKind::SteerRandom } else { RowKind::Steer },
                hook: "resid_pre".into(),
                layer: setting.layer as i32,
                ..MetricRow::of(metric, unit, number)
            };
            let less_own = |metric: usize| scores.contrast(|mean| mean(column(metric)) - mean(metric));
            rows.extend([
                row("kl", "nats", scores.estimate(column(0))),
                row("agreement", "share", scores.share(column(1))),
                row("ce", "nats", scores.estimate(column(2))),
                row("ce_increase", "nats", less_own(2)),
            ]);
            if contrast {
                rows.push(row("response", "nats", less_own(DIFFERENCE)));
            }
        }
        if contrast {
            rows.extend(lines(directions, settings, scores));
        }
        rows.extend(control(directions, settings, contrast, scores));
        let own = |layer: usize, metric: &str, unit: &str, number: Estimate| MetricRow {
            subject: "model".into(),
            kind: RowKind::Model,
            hook: "resid_pre".into(),
            layer: layer as i32,
            ..MetricRow::of(metric, unit, number)
        };
        rows.push(own(end, "ce", "nats", scores.estimate(2)));
        if contrast {
            rows.push(own(end, "logit_difference", "nats", scores.estimate(DIFFERENCE)));
        }
        rows.extend(lengths.iter().enumerate().map(|(layer, length)| {
            let number = Estimate::alone(*length, "a scale", 0);
            own(layer, "stream_length", "length", number)
        }));
        rows
    }
}
