//! The loss of the model without some of its heads, beside its own.
//!
//! A head is taken away at `attn.hook_z`: what it gives the output projection becomes zero, or its mean over the text
//! ([`HeadMeans`]), at every position. Everything behind it is computed anew; the blocks before the head are not run
//! again, their stream is kept from the model's own pass.

use layerscope_lenses::{Ask, Readout};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{AttentionError, HeadMeans, HeadSet};
use crate::{
    hook::{BlockHook, Capture, HookPoint, Selection},
    intervene::edits::{Change, EditPositions, Edits, PlacedEdit},
    lens::causal::replay_under,
    model::{Model, ModelError},
    results::{
        run::{MetricRow, Parts, RowKind},
        statistics::{Estimate, Intervals, Scores, Tally},
    },
    sources::text::{Window, ids_of},
    states::not_finite,
};

/// What stands in place of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Ablation {
    /// Nothing
    Zero,
    /// What the head gives on average over the same text
    Mean,
}

impl Ablation {
    /// Its name in `metrics.parquet`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Mean => "mean",
        }
    }
}

/// Sums of cross-entropy and hits of the model, then of the model without each set of heads.
const PER_SET: usize = 2;

/// Losses so far.
pub struct Ablations<'a> {
    readout: &'a Readout,
    ablation: Ablation,
    sets: &'a [HeadSet],
    /// One per set.
    edits: Vec<Edits>,
    /// Layers at which a set begins, ascending.
    starts: Vec<usize>,
    n_layers: usize,
    tally: Tally,
}

/// Per token, the next one where it lies in the same window; -1 at its end.
pub fn next_tokens(window: &Window) -> Vec<i64> {
    window.ids.iter().skip(1).map(|id| i64::from(*id)).chain([-1]).collect()
}

impl<'a> Ablations<'a> {
    /// Without each of `sets`; `means` are those of the text, for [`Ablation::Mean`].
    ///
    /// # Errors
    /// Means that do not fit the model.
    pub fn new(
        model: &Model,
        readout: &'a Readout,
        (sets, ablation): (&'a [HeadSet], Ablation),
        means: &HeadMeans,
        intervals: Intervals,
    ) -> Result<Self, AttentionError> {
        let edits = sets.iter().map(|set| edits(model, set, ablation, means)).collect::<Result<_, _>>()?;
        let mut starts: Vec<usize> = sets.iter().map(HeadSet::layer).collect();
        starts.sort_unstable();
        starts.dedup();
        let tally = Tally::new(vec![0; PER_SET * (1 + sets.len())], 1, intervals)?;
        Ok(Self { readout, ablation, sets, edits, starts, n_layers: model.spec().n_layers, tally })
    }

    /// Runs windows of one length, each of one document, as they are and without each set. `next` gives, per window and
    /// token, the token to be predicted there, -1 where none counts.
    ///
    /// # Errors
    /// When the model cannot run, or its logits are not finite (named by heads and document).
    pub fn add(
        &mut self,
        model: &Model,
        windows: &[&Window],
        next: &[Vec<i64>],
        clusters: Option<&[u64]>,
    ) -> Result<(), AttentionError> {
        let _no_grad = tch::no_grad_guard();
        let ids = ids_of(windows);
        let end = HookPoint::resid_pre(model.spec().n_layers);
        let kept = self.starts.iter().map(|layer| HookPoint::resid_pre(*layer)).chain([end]);
        let mut capture = Capture::new(kept.collect::<Selection>());
        model.forward(&ids, &mut capture)?;
        let streams = capture.into_inner();
        let stream = |layer: usize| {
            let point = HookPoint::resid_pre(layer);
            streams.get(&point).ok_or_else(|| ModelError::Input(format!("{point} was not computed")))
        };
        let last = stream(model.spec().n_layers)?.f_to_kind(Kind::Float)?;
        let last = last.f_reshape([-1, model.spec().d_model as i64])?;
        let mut all = vec![self.losses(&last, windows, next, "as it is")?];
        for (set, edits) in self.sets.iter().zip(&self.edits) {
            let from = (set.layer(), stream(set.layer())?);
            let last = replay_under(model, &ids, from, &mut edits.tap())?;
            all.push(self.losses(&last, windows, next, &format!("without {}", set.label()))?);
        }
        for (i, window) in windows.iter().enumerate() {
            let count = next[i].iter().filter(|token| **token >= 0).count();
            let document = window.document();
            let cluster = clusters.map_or(document, |clusters| clusters[i]);
            let sums: Vec<f64> = all.iter().flat_map(|losses| losses[i]).collect();
            self.tally.add(cluster, &sums, &[count as f64])?;
        }
        Ok(())
    }

    /// Per window, the sums of cross-entropy and of hits over the tokens that count.
    fn losses(
        &self,
        last: &Tensor,
        windows: &[&Window],
        next: &[Vec<i64>],
        of: &str,
    ) -> Result<Vec<[f64; PER_SET]>, AttentionError> {
        let failed = |source| AttentionError::Readout { of: of.to_owned(), source };
        if let Some(row) = not_finite(last)? {
            let point = HookPoint::resid_pre(self.n_layers).to_string();
            let document = windows[row / windows[0].ids.len()].document();
            return Err(AttentionError::Stream { point, of: of.to_owned(), document });
        }
        let tokens: Vec<i64> = next.concat();
        let normalised = self.readout.normalize(last).map_err(failed)?;
        let ask = Ask { tokens: &[&tokens], ..Ask::default() };
        let read = self.readout.sweep(&normalised, ask).map_err(failed)?;
        let ce = read.ce(0);
        let mut start = 0;
        let mut found = Vec::with_capacity(windows.len());
        for (window, next) in windows.iter().zip(next) {
            let mut sums = [0.0; PER_SET];
            for (i, token) in next.iter().enumerate().filter(|(_, token)| **token >= 0) {
                sums[0] += ce[start + i];
                sums[1] += f64::from(u8::from(read.argmax[start + i] == *token));
            }
            if !sums[0].is_finite() {
                return Err(AttentionError::Loss { of: of.to_owned(), document: window.document() });
            }
            found.push(sums);
            start += next.len();
        }
        Ok(found)
    }

    /// The model's own losses at layer L, then those without each set, and how much worse they are, paired by
    /// document.
    pub fn finish(&mut self) -> Vec<MetricRow> {
        let scores = self.tally.scores();
        let mut rows = Vec::new();
        for (metric, unit, column) in [("ce", "nats", 0), ("accuracy", "share", 1)] {
            rows.push(MetricRow {
                subject: "model".into(),
                kind: RowKind::Model,
                hook: BlockHook::ResidPre.short_name().into(),
                layer: self.n_layers as i32,
                ..MetricRow::of(metric, unit, scores.in_unit(column, unit))
            });
        }
        for (place, set) in self.sets.iter().enumerate() {
            rows.extend(of_set(scores, set, self.ablation, PER_SET * (1 + place)));
        }
        rows.retain(|row| row.n > 0);
        rows
    }
}

/// The edits that take a set away.
fn edits(
    model: &Model,
    set: &HeadSet,
    ablation: Ablation,
    means: &HeadMeans,
) -> Result<Edits, AttentionError> {
    let mut placed = Vec::new();
    for (layer, heads) in set.by_layer() {
        let change = match ablation {
            Ablation::Zero => Change::Zero,
            Ablation::Mean => Change::Replace(means.of(layer, &heads, model.spec().d_head)?),
        };
        placed.push(PlacedEdit {
            points: [HookPoint::Block(layer, BlockHook::Z)].into_iter().collect(),
            heads: Some(heads),
            positions: EditPositions::All,
            change,
        });
    }
    Ok(Edits::new(placed, 0))
}

fn of_set(scores: &Scores, set: &HeadSet, ablation: Ablation, first: usize) -> Vec<MetricRow> {
    let without = Some(ablation.name().to_owned());
    let subject = match set.heads() {
        [(_, head)] => Parts::Head { head: *head, without },
        _ => Parts::Variant { of: set.label(), prompt: None, variant: without },
    };
    let row = |metric: &str, unit: &str, number: Estimate| MetricRow {
        subject: subject.clone().into(),
        kind: RowKind::HeadAblation,
        hook: BlockHook::Z.short_name().into(),
        layer: set.layer() as i32,
        ..MetricRow::of(metric, unit, number)
    };
    vec![
        row("ce", "nats", scores.estimate(first)),
        row("ce_increase", "nats", scores.contrast(|mean| mean(first) - mean(0))),
        row("accuracy", "share", scores.share(first + 1)),
        row("accuracy_drop", "share", scores.contrast(|mean| mean(1) - mean(first + 1))),
    ]
}
