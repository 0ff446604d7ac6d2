//! Latent steering vectors: what has to be added to a layer's stream for the model to say a given sentence (Subramani
//! et al. 2022,
//! 2205.05124).

use std::{collections::BTreeMap, ops::ControlFlow};

use tch::{Device, Kind, Tensor};

use super::{Direction, SteerError};
use crate::{
    hook::{HookPoint, Tap, TapError},
    intervene::adamw::AdamW,
    intervene::generate::{Prompt, Settings, TapSteps, generate},
    model::{Model, ModelError, wide},
    results::run::{MetricRow, Parts, RowKind, Subject, over},
    results::statistics::{Estimate, Intervals},
    watch::Underway,
};

/// The control's number among random directions, which a sweep's do not reach.
const CONTROL: usize = i32::MAX as usize;

/// How a vector is learnt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// Steps of `AdamW`, without decay.
    pub steps: usize,
    /// Its rate, where a coordinate of the layer's stream is typically 1.
    pub rate: f64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self { steps: 300, rate: 0.1 }
    }
}

/// A sentence and where to push.
#[derive(Debug)]
pub struct Sentence<'a> {
    /// What it is called in results.
    pub name: &'a str,
    /// Its tokens, the first of which is given and the others are to be said.
    pub ids: &'a [u32],
    /// Layers, each with a vector of its own.
    pub layers: &'a [usize],
    /// Mean length of the stream, by layer from 0 on.
    pub lengths: &'a [f64],
}

/// Vectors that were learnt, and what they do.
#[derive(Debug)]
pub struct Learnt {
    /// `[layers, d_model]`, f64 on the CPU: what is added at every position.
    pub vectors: Tensor,
    /// Mean `-log p` of the sentence's tokens with each, nats.
    pub ce: Vec<f64>,
    /// Tokens that the model says by itself at their place, greedily from the first token on, as a share.
    pub recovered: Vec<f64>,
}

/// One vector per row of the batch, each at the layer of its row.
struct Pushes(BTreeMap<HookPoint, Tensor>);

impl Tap for Pushes {
    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        match self.0.get(&point) {
            Some(push) => value.f_add(push).map_err(|error| TapError::edit(point, &error)),
            None => Ok(value),
        }
    }

    fn wants(&self, point: HookPoint) -> bool {
        self.0.contains_key(&point)
    }
}

impl Sentence<'_> {
    /// Learns a vector for every layer, all in one batch: rows of a batch do not see each other. The same sentence
    /// gives the same vectors. `stage` counts steps.
    ///
    /// # Errors
    /// [`SteerError::Sentence`]: fewer than two tokens, or a loss that is not finite; [`SteerError::Interrupted`]; what
    /// the network says.
    pub fn learn(&self, model: &Model, recipe: Recipe, stage: &Underway<'_>) -> Result<Learnt, SteerError> {
        if self.ids.len() < 2 {
            return Err(self.wrong("it needs a token to say after the first".into()));
        }
        let kind = wide(model.kind());
        let size = [self.layers.len() as i64, model.spec().d_model as i64];
        let mut units = Tensor::zeros(size, (kind, model.device()));
        let mut optimizer = AdamW::new(recipe.rate, 0.0, &units);
        for _ in 0..recipe.steps {
            let (loss, gradient) = self.gradient(model, &units)?;
            if !loss.is_finite() {
                return Err(self.wrong("the loss is not finite".into()));
            }
            units = tch::no_grad(|| optimizer.step(&units, &gradient))?;
            stage.say(format!("loss {:.3}", loss / self.layers.len() as f64));
            stage.done(1)?;
        }
        self.measure(model, &self.scaled(&units).to_device(Device::Cpu).to_kind(Kind::Double))
    }

    /// What `vectors [layers, d_model]` do.
    ///
    /// # Errors
    /// What the network says.
    pub fn measure(&self, model: &Model, vectors: &Tensor) -> Result<Learnt, SteerError> {
        let _no_grad = tch::no_grad_guard();
        let ce = Vec::<f64>::try_from(self.losses(model, vectors)?.to_kind(Kind::Double))?;
        let prompts: Vec<Prompt> =
            (0..self.layers.len()).map(|index| Prompt { index, ids: self.ids[..1].to_vec() }).collect();
        let settings = Settings { tap_steps: TapSteps::All, ..Settings::greedy(self.ids.len() - 1) };
        let mut pushes = self.pushes(model, vectors);
        let said = generate(model, &prompts, &settings, &mut pushes, &mut |_| ControlFlow::Continue(()))?;
        let hits = |tokens: &[u32]| tokens.iter().zip(&self.ids[1..]).filter(|(a, b)| a == b).count();
        let share = |hits: usize| hits as f64 / (self.ids.len() - 1) as f64;
        let recovered = said.iter().map(|row| share(hits(&row.tokens))).collect();
        Ok(Learnt { vectors: vectors.copy(), ce, recovered })
    }

    /// Directions drawn evenly, each as long as the vector of its layer: the control, `[layers, d_model]`.
    pub fn random(&self, learnt: &Learnt, seed: u64) -> Tensor {
        let d_model = learnt.vectors.size()[1] as usize;
        let direction = Direction::random(CONTROL, self.layers, d_model, seed);
        let rows: Vec<Tensor> =
            self.layers.iter().filter_map(|l| direction.at(*l)).map(Tensor::shallow_clone).collect();
        Tensor::stack(&rows, 0) * learnt.lengths().unsqueeze(1)
    }

    /// What `units [layers, d_model]` stand for: a coordinate of 1 is as large as one of the layer's stream typically
    /// is.
    fn scaled(&self, units: &Tensor) -> Tensor {
        let root = (units.size()[1] as f64).sqrt();
        let scales: Vec<f64> = self.layers.iter().map(|layer| self.lengths[*layer] / root).collect();
        units * Tensor::from_slice(&scales).to_kind(units.kind()).to_device(units.device()).unsqueeze(1)
    }

    /// Summed loss, and its gradient in the vectors' units.
    pub(super) fn gradient(&self, model: &Model, units: &Tensor) -> Result<(f64, Tensor), SteerError> {
        tch::with_grad(|| {
            let leaf = units.detach().set_requires_grad(true);
            let loss = self.losses(model, &self.scaled(&leaf))?.f_sum(None::<Kind>)?;
            let mut found = Tensor::f_run_backward(&[&loss], &[&leaf], false, false)?;
            Ok((loss.double_value(&[]), found.remove(0)))
        })
    }

    /// Mean `-log p` of the tokens after the first, `[layers]`.
    pub(super) fn losses(&self, model: &Model, vectors: &Tensor) -> Result<Tensor, SteerError> {
        let ids: Vec<i64> = self.ids.iter().map(|id| i64::from(*id)).collect();
        let (rows, n) = (self.layers.len() as i64, ids.len() as i64);
        let ids = Tensor::from_slice(&ids).unsqueeze(0).f_expand([rows, n], false)?;
        let logits = model.forward_recorded(&ids, &mut self.pushes(model, vectors))?;
        let logits = logits.ok_or_else(|| ModelError::Input("no logits".into()))?;
        let kind = wide(logits.kind());
        let log = logits.f_narrow(1, 0, n - 1)?.f_log_softmax(-1, kind)?;
        let next = ids.f_narrow(1, 1, n - 1)?.to_device(log.device()).f_unsqueeze(-1)?;
        Ok(-log.f_gather(-1, &next, false)?.f_squeeze_dim(-1)?.f_mean_dim([1_i64].as_slice(), false, kind)?)
    }

    fn pushes(&self, model: &Model, vectors: &Tensor) -> Pushes {
        let vectors = vectors.to_device(model.device()).to_kind(model.kind());
        let rows = self.layers.len() as i64;
        let push = |(row, layer): (usize, &usize)| {
            let mine = Tensor::zeros([rows, 1, 1], (model.kind(), model.device()));
            let _ = mine.get(row as i64).fill_(1.0);
            (HookPoint::resid_pre(*layer), mine * vectors.get(row as i64))
        };
        Pushes(self.layers.iter().enumerate().map(push).collect())
    }

    fn wrong(&self, reason: String) -> SteerError {
        SteerError::Sentence { name: self.name.to_owned(), reason }
    }

    /// `ce`, `recovered` and `push_length` (in mean lengths of the stream) by layer, of what was learnt and of its
    /// control.
    pub fn rows(&self, learnt: &Learnt, control: &Learnt) -> Vec<MetricRow> {
        let twin = Parts::RandomTwin { of: self.name.to_owned() };
        let kinds = [
            (learnt, RowKind::SteerSentence, Subject::from(self.name)),
            (control, RowKind::SteerRandom, Subject::from(twin)),
        ];
        let of = |(learnt, kind, subject): (&Learnt, RowKind, Subject)| -> Vec<MetricRow> {
            let lengths = Vec::<f64>::try_from(learnt.lengths()).unwrap_or_default();
            let row = |place: usize, metric: &str, unit: &str, estimate: f64| {
                let n = self.ids.len() as u64 - 1;
                let alone = Estimate::alone(estimate, "one sentence", n);
                MetricRow {
                    subject: subject.clone(),
                    kind,
                    hook: "resid_pre".into(),
                    layer: self.layers[place] as i32,
                    ..MetricRow::of(metric, unit, alone)
                }
            };
            let all = |place: usize| {
                [
                    row(place, "sentence_ce", "nats", learnt.ce[place]),
                    row(place, "recovered", "share", learnt.recovered[place]),
                    row(place, "push_length", "length", lengths[place] / self.lengths[self.layers[place]]),
                ]
            };
            (0..self.layers.len()).flat_map(all).collect()
        };
        kinds.into_iter().flat_map(of).collect()
    }
}

impl Learnt {
    /// Of every vector, `[layers]`.
    fn lengths(&self) -> Tensor {
        self.vectors.norm_scalaropt_dim(2.0, [-1_i64].as_slice(), false)
    }
}

/// Means over sentences of their rows, with intervals over sentences: of subjects `sentences` and `sentences-random`.
/// Nothing of one sentence.
///
/// # Errors
/// A number that is not finite.
pub fn over_sentences(
    mut rows: Vec<Vec<MetricRow>>,
    intervals: Intervals,
) -> Result<Vec<MetricRow>, SteerError> {
    if rows.len() < 2 {
        return Ok(Vec::new());
    }
    for row in rows.iter_mut().flatten() {
        let of = "sentences".to_owned();
        row.subject = match row.kind {
            RowKind::SteerRandom => Parts::RandomTwin { of }.into(),
            _ => of.into(),
        };
    }
    Ok(over(&rows, intervals)?)
}
