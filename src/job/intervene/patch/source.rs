//! Sources: texts whose states are read.

use serde::Deserialize;
use tch::{Kind, Tensor};

use super::Patch;
use crate::{
    hook::{Capture, HookPoint},
    intervene::patch::Inspected,
    job::{JobError, SetTo, Setting, lines::Lines, read_stdin},
    lenses::{Ask, LayerIndex, Lens, Readout, Teacher},
    model::Model,
    results::{
        run::{MetricRow, RowKind},
        statistics::Estimate,
    },
    sources::text::Tokenizer,
    states::check_prompt,
};

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The text.
    pub source: String,
}

impl Patch {
    /// The sources in tokens, of the file or of the command line.
    pub(super) fn sources(
        &self,
        lines: Option<&Lines<Line>>,
        tokenizer: &Tokenizer,
        context: usize,
    ) -> Result<Vec<Texts>, JobError> {
        let one = |text: &str| -> Result<Texts, JobError> {
            let ids: Vec<i64> = tokenizer.encode(text)?.into_iter().map(i64::from).collect();
            Ok(Texts { positions: self.positions(ids.len(), context)?, ids })
        };
        match (lines, self.source.as_deref()) {
            (Some(lines), _) => {
                lines.all.iter().map(|(place, line)| one(&line.source).map_err(|e| e.at(place))).collect()
            }
            (None, Some("-")) => Ok(vec![one(&read_stdin()?)?]),
            (None, source) => Ok(vec![one(source.unwrap_or_default())?]),
        }
    }

    fn positions(&self, n: usize, context: usize) -> Result<Vec<i64>, JobError> {
        if n == 0 || n > context {
            return Err(JobError::usage(format!(
                "{} gives {n} tokens; the model takes 1 to {context}",
                Setting("source")
            )));
        }
        match self.position.as_str() {
            "last" => Ok(vec![n as i64 - 1]),
            "all" => Ok((0..n as i64).collect()),
            text => match text.parse::<usize>() {
                Ok(p) if p < n => Ok(vec![p as i64]),
                _ => Err(JobError::usage(format!(
                    "{}: give 0 to {}, last or all",
                    SetTo("position", text),
                    n - 1
                ))),
            },
        }
    }
}

/// A source in tokens, and which of its states are read.
pub(super) struct Texts {
    pub(super) ids: Vec<i64>,
    pub(super) positions: Vec<i64>,
}

/// The source, as the model reads it.
pub(super) struct Source {
    /// Stream entering every block, and leaving the last: `[positions, d_model]` of the positions asked for.
    states: Vec<Tensor>,
    /// What the model itself says there.
    teacher: Teacher,
    next: Vec<i64>,
}

impl Source {
    pub(super) fn read(
        model: &Model,
        readout: &Readout,
        Texts { ids, positions }: &Texts,
    ) -> Result<Self, JobError> {
        let last = model.spec().n_layers;
        let mut capture = Capture::new((0..=last).map(HookPoint::resid_pre).collect());
        let _none = model.forward(&Tensor::from_slice(ids).view([1, -1]), &mut capture)?;
        let index = Tensor::from_slice(positions).to_device(model.device());
        let state = |layer| -> Result<Tensor, JobError> {
            let kept = capture
                .get(HookPoint::resid_pre(layer))
                .ok_or_else(|| JobError::failed(format!("no layer {layer}")))?;
            check_prompt(&kept.select(0, 0), HookPoint::resid_pre(layer))?;
            Ok(kept.select(0, 0).f_index_select(0, &index)?)
        };
        let states = (0..=last).map(state).collect::<Result<Vec<_>, _>>()?;
        let teacher = Teacher::of(readout, &states[last].to_kind(Kind::Float))?;
        let next = readout.sweep(&teacher.n, Ask::default())?.argmax;
        Ok(Self { states, teacher, next })
    }

    /// The states of a layer, through a lens's map where there is one.
    pub(super) fn mapped(&self, lens: Option<&dyn Lens>, layer: usize) -> Result<Tensor, JobError> {
        let states = &self.states[layer];
        Ok(match lens {
            Some(lens) => lens.transform(LayerIndex(layer), &states.to_kind(Kind::Float))?,
            None => states.shallow_clone(),
        })
    }

    /// The first token of the answers against what the model itself says at the source's positions.
    pub(super) fn rows(
        &self,
        readout: &Readout,
        subject: &str,
        (layer, to): (usize, usize),
        inspected: &[Inspected],
    ) -> Result<Vec<MetricRow>, JobError> {
        let first: Vec<&Tensor> = inspected.iter().map(|s| &s.first).collect();
        let n = readout.normalize(&Tensor::f_stack(&first, 0)?)?;
        let read = readout.sweep(&n, Ask::default())?;
        let kl = self.teacher.kl(readout, &n, &read.lse)?;
        let sure = readout.token_logits(&self.teacher.n, &read.argmax)?;
        let hit = read.argmax.iter().zip(&self.next).map(|(a, b)| f64::from(u8::from(a == b))).collect();
        let surprisal = self.teacher.lse.iter().zip(&sure).map(|(lse, z)| lse - z).collect();
        let row = |(metric, unit, values): (&str, &str, Vec<f64>)| {
            let estimate = values.iter().sum::<f64>() / values.len() as f64;
            let one = Estimate::alone(estimate, "one pair of prompts", values.len() as u64);
            MetricRow {
                subject: subject.into(),
                kind: RowKind::Patchscope,
                hook: "resid_pre".into(),
                layer: to as i32,
                source_layer: Some(layer as i32),
                ..MetricRow::of(metric, unit, one)
            }
        };
        let metrics =
            [("precision_at_1", "share", hit), ("surprisal", "nats", surprisal), ("kl", "nats", kl)];
        Ok(metrics.into_iter().map(row).collect())
    }
}
