//! Layer × position heat maps: how much of the clean run's answer one activation brings back.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::{
    PatchError,
    restore::{Restore, points},
};
use crate::{
    hook::{BlockHook, HookPoint},
    model::{Model, ModelError},
    results::draw::normal,
    states::check_stream,
    watch::Underway,
};

/// What is measured at the last position, with its unit: `logit(answer) - logit(foil)`, the answer's probability, and
/// KL(clean ‖ patched).
pub const MEASURES: [(&str, &str); 3] = [("logit_diff", "logits"), ("probability", "share"), ("kl", "nats")];

/// The three measures.
type Values = [f64; MEASURES.len()];

/// Which run gets the other's activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Clean activations into the corrupted run: what is enough to bring the answer back.
    Denoise,
    /// Corrupted activations into the clean run: what is needed to keep it.
    Noise,
}

/// A clean and a corrupted prompt of one length.
#[derive(Debug)]
pub struct Experiment<'a> {
    /// The network.
    pub model: &'a Model,
    /// How much of the vocabulary can be said.
    pub vocab: usize,
    /// `[1, seq]`.
    pub clean: Tensor,
    /// `[1, seq]`.
    pub corrupted: Tensor,
    /// What is added to the corrupted run's embeddings: `[samples, seq, d_model]`; every number is a mean over samples.
    pub noise: Option<Tensor>,
    /// Which run is patched.
    pub direction: Direction,
    /// The token that the clean prompt calls for; none: what the model says.
    pub answer: Option<i64>,
    /// The token it is compared with; none: what the model says of the corrupted prompt, or the clean prompt's second
    /// choice where that is the answer.
    pub foil: Option<i64>,
    /// About how many tokens go through the network at once.
    pub batch_tokens: usize,
}

/// The two runs without a patch.
#[derive(Debug)]
pub struct Levels {
    /// The token asked for.
    pub answer: i64,
    /// The token it is compared with.
    pub foil: i64,
    /// The clean run's measures; its KL is 0.
    pub clean: Values,
    /// The corrupted run's, the mean over samples.
    pub corrupted: Values,
    /// The clean run's log-probabilities, `[1, vocab]`.
    log: Tensor,
    /// What is put into the other run, by point: `[1 or samples, seq, d_model]`.
    donors: BTreeMap<HookPoint, Tensor>,
}

impl Levels {
    /// A measure on the scale where the corrupted run is 0 and the clean one is 1; none where the two hardly differ (by
    /// less than 1e-6).
    pub fn effect(&self, measure: usize, value: f64) -> Option<f64> {
        let (clean, corrupted) = (self.clean[measure], self.corrupted[measure]);
        ((clean - corrupted).abs() > 1e-6).then(|| (value - corrupted) / (clean - corrupted))
    }
}

/// The measures at every layer and position of one hook.
#[derive(Debug)]
pub struct Map {
    /// What was patched.
    pub hook: BlockHook,
    /// Per layer its number and its measures by position.
    pub layers: Vec<(usize, Vec<Values>)>,
}

impl Experiment<'_> {
    /// Runs both prompts and keeps what `hooks` need.
    ///
    /// # Errors
    /// When the prompts differ in length, a token or the noise does not fit, or a hook is not there.
    pub fn levels(&self, hooks: &[BlockHook]) -> Result<Levels, PatchError> {
        let (clean, corrupted) = (self.clean.size()[1], self.corrupted.size()[1]);
        if clean != corrupted {
            return Err(PatchError::Lengths { clean, corrupted });
        }
        for token in [self.answer, self.foil].into_iter().flatten() {
            if token < 0 || token >= self.vocab as i64 {
                let (got, last) = (token.unsigned_abs() as usize, self.vocab - 1);
                return Err(PatchError::Outside { what: "token", got, last });
            }
        }
        let _no_grad = tch::no_grad_guard();
        let all: Vec<HookPoint> =
            hooks.iter().flat_map(|h| self.layers_of(*h).map(|l| HookPoint::Block(l, *h))).collect();
        let donate = |direction| if self.direction == direction { all.as_slice() } else { &[] };
        let (clean, from_clean) =
            self.run(&self.clean, None, BTreeMap::new(), None, donate(Direction::Denoise))?;
        let ids = self.corrupted.expand([self.samples(), -1], false);
        let (corrupted, from_corrupted) =
            self.run(&ids, self.noise.as_ref(), BTreeMap::new(), None, donate(Direction::Noise))?;
        let (logits, other) = (self.logits(&clean)?, self.logits(&corrupted)?);
        let top = logits.f_topk(2.min(self.vocab as i64), -1, true, true)?.1;
        let answer = self.answer.unwrap_or_else(|| top.int64_value(&[0, 0]));
        let said = other.f_mean_dim(0, false, Kind::Double)?.f_argmax(-1, false)?.int64_value(&[]);
        let second =
            (0..top.size()[1]).map(|i| top.int64_value(&[0, i])).find(|t| *t != answer).unwrap_or(answer);
        let foil = self.foil.unwrap_or(if said == answer { second } else { said });
        let donors = if self.direction == Direction::Denoise { from_clean } else { from_corrupted };
        let log = logits.f_log_softmax(-1, Kind::Double)?;
        let mut levels =
            Levels { answer, foil, clean: Values::default(), corrupted: Values::default(), log, donors };
        levels.clean = mean(&self.measure(&clean, &levels)?);
        levels.corrupted = mean(&self.measure(&corrupted, &levels)?);
        Ok(levels)
    }

    /// The layers that a hook has: of the stream also the one after the last block.
    pub fn layers_of(&self, hook: BlockHook) -> std::ops::Range<usize> {
        0..self.model.spec().n_layers + usize::from(hook == BlockHook::ResidPre)
    }

    /// Patches every position by itself at every one of `layers` (those the hook has). Attention and MLP outputs are
    /// patched over `window` layers around each. `stage` counts layers.
    ///
    /// # Errors
    /// What the network says, or [`PatchError::Interrupted`].
    pub fn map(
        &self,
        levels: &Levels,
        hook: BlockHook,
        layers: &[usize],
        window: usize,
        stage: &Underway<'_>,
    ) -> Result<Map, PatchError> {
        let places: Vec<Vec<i64>> = (0..self.clean.size()[1]).map(|p| vec![p]).collect();
        let mut map = Map { hook, layers: Vec::new() };
        for &layer in layers.iter().filter(|l| self.layers_of(hook).contains(l)) {
            let points = points(hook, layer, window, self.model.spec().n_layers);
            map.layers.push((layer, self.patch(levels, &points, &places)?));
            stage.done(1)?;
        }
        Ok(map)
    }

    /// The measures when `points` are patched at each of `places` (sets of positions), a number per set.
    ///
    /// # Errors
    /// When a point was not kept by [`Experiment::levels`], or what the network says.
    pub fn patch(
        &self,
        levels: &Levels,
        points: &[HookPoint],
        places: &[Vec<i64>],
    ) -> Result<Vec<Values>, PatchError> {
        let _no_grad = tch::no_grad_guard();
        let (samples, seq) = (self.samples(), self.clean.size()[1]);
        let denoise = self.direction == Direction::Denoise;
        let at_once = (self.batch_tokens as i64 / (seq * samples)).max(1) as usize;
        let mut all = Vec::new();
        for sets in places.chunks(at_once) {
            // Sets one after the other, each with all samples.
            let repeat = |t: &Tensor| t.repeat([sets.len() as i64, 1, 1]);
            let mask = mask(sets, samples, seq).to_device(self.model.device());
            let base = if denoise { &self.corrupted } else { &self.clean };
            let ids = base.expand([sets.len() as i64 * samples, -1], false);
            let noise = self.noise.as_ref().filter(|_| denoise).map(repeat);
            let donor = |point: &HookPoint| {
                let found = levels.donors.get(point);
                let found = found.ok_or_else(|| ModelError::Input(format!("{point} was not kept")))?;
                let wide = found.size()[0] > 1;
                Ok((*point, if wide { repeat(found) } else { found.shallow_clone() }))
            };
            let donors = points.iter().map(donor).collect::<Result<BTreeMap<_, _>, ModelError>>()?;
            let donors = donors.iter().map(|(point, t)| (*point, t)).collect();
            let (last, _) = self.run(&ids, noise.as_ref(), donors, Some(&mask), &[])?;
            let values = self.measure(&last, levels)?;
            all.extend(values.chunks(samples as usize).map(mean));
        }
        Ok(all)
    }

    fn samples(&self) -> i64 {
        self.noise.as_ref().map_or(1, |noise| noise.size()[0])
    }

    /// The last state of every row, and what was to be kept.
    fn run(
        &self,
        ids: &Tensor,
        noise: Option<&Tensor>,
        donors: BTreeMap<HookPoint, &Tensor>,
        mask: Option<&Tensor>,
        keep: &[HookPoint],
    ) -> Result<(Tensor, BTreeMap<HookPoint, Tensor>), PatchError> {
        let end = HookPoint::resid_pre(self.model.spec().n_layers);
        let mut tap = Restore { noise, donors, mask, keep, kept: BTreeMap::new(), end, last: None };
        let _none = self.model.forward(ids, &mut tap)?;
        let last = tap.last.ok_or_else(|| ModelError::Input("the last layer was not computed".into()))?;
        match keep.iter().find(|point| !tap.kept.contains_key(point)) {
            Some(point) => Err(ModelError::Input(format!("this model has no {point}")).into()),
            None => Ok((last, tap.kept)),
        }
    }

    /// Logits `[rows, vocab]`.
    fn logits(&self, last: &Tensor) -> Result<Tensor, PatchError> {
        Ok(self.model.unembed().logits(last)?.f_narrow(-1, 0, self.vocab as i64)?.f_to_kind(Kind::Double)?)
    }

    /// The measures of every row.
    fn measure(&self, last: &Tensor, levels: &Levels) -> Result<Vec<Values>, PatchError> {
        let logits = self.logits(last)?;
        let log = logits.f_log_softmax(-1, Kind::Double)?;
        let of = |t: &Tensor, token: i64| t.select(-1, token);
        let difference = of(&logits, levels.answer) - of(&logits, levels.foil);
        let probability = of(&log, levels.answer).exp();
        let kl = (levels.log.exp() * (&levels.log - log)).f_sum_dim_intlist(-1, false, None::<Kind>)?;
        let all = Tensor::f_stack(&[difference, probability, kl], -1)?.to_device(Device::Cpu).contiguous();
        let flat = Vec::<f64>::try_from(all.view([-1]))?;
        if flat.iter().any(|x| !x.is_finite()) {
            // Where a prompt by itself overflows, its layer and position are named.
            check_stream(self.model, &self.clean)?;
            check_stream(self.model, &self.corrupted)?;
            let what = "the logits of the last position are not finite".to_owned();
            return Err(ModelError::Input(what).into());
        }
        Ok(flat.chunks(MEASURES.len()).map(|v| [v[0], v[1], v[2]]).collect())
    }
}

fn mean(values: &[Values]) -> Values {
    let mut sum = Values::default();
    for value in values {
        sum.iter_mut().zip(value).for_each(|(a, b)| *a += b);
    }
    sum.map(|x| x / values.len() as f64)
}

/// `[sets · samples, seq, 1]`: true at the positions of every set.
fn mask(sets: &[Vec<i64>], samples: i64, seq: i64) -> Tensor {
    let row = |set: &Vec<i64>| (0..seq).map(|p| set.contains(&p)).collect::<Vec<bool>>();
    let all: Vec<bool> = sets.iter().flat_map(|set| row(set).repeat(samples as usize)).collect();
    Tensor::from_slice(&all).view([-1, seq, 1])
}

/// Causal tracing's corruption: normal noise on the embeddings at `places`, `scale` times the standard deviation of the
/// numbers of those embeddings; `[samples, seq, d_model]`, drawn from the seed.
///
/// # Errors
/// When a position is not there, or the network fails.
pub fn noise(
    model: &Model,
    ids: &Tensor,
    places: &[i64],
    scale: f64,
    samples: usize,
    seed: u64,
) -> Result<Tensor, PatchError> {
    let (seq, d) = (ids.size()[1], model.spec().d_model as i64);
    if let Some(bad) = places.iter().find(|p| **p < 0 || **p >= seq) {
        let (got, last) = (bad.unsigned_abs() as usize, seq as usize - 1);
        return Err(PatchError::Outside { what: "position", got, last });
    }
    let mut capture = crate::hook::Capture::new([HookPoint::Embed].into_iter().collect());
    let _none = model.forward(ids, &mut capture)?;
    let embedded = capture.get(HookPoint::Embed).ok_or_else(|| ModelError::Input("no embeddings".into()))?;
    let index = Tensor::from_slice(places).to_device(model.device());
    let std = embedded.f_index_select(1, &index)?.f_to_kind(Kind::Double)?.std(true).double_value(&[]);
    let n = samples as i64 * seq * d;
    let numbers: Vec<f64> = (0..n)
        .map(|i| if places.contains(&(i / d % seq)) { scale * std * normal(seed, 1, i as u64) } else { 0.0 })
        .collect();
    Ok(Tensor::from_slice(&numbers).view([-1, seq, d]).to_kind(model.kind()).to_device(model.device()))
}

#[cfg(test)]
mod tests;
