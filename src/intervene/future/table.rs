//! Every method at every layer and horizon, with its controls, over the same contexts.

use std::collections::{BTreeMap, BTreeSet};

use layerscope_lenses::{Affine, LayerIndex, Lens, Readout};
use tch::Tensor;

use super::{
    FutureError, METRICS, Prompt, Sources,
    contexts::derangement,
    free::free,
    score::{Scored, Truth},
    sources::{mean_rows, rows_of},
    transplant,
};
use crate::{
    lens::evaluate::Baselines,
    lens::subject_of,
    model::Model,
    results::run::{MetricRow, Parts, RowKind, Subject},
    results::statistics::{Intervals, Scores, Tally},
    sources::text::Window,
};

/// Whose state goes into the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// The context's own.
    Own,
    /// Nobody's: the prompt runs as it is.
    None,
    /// The mean over all contexts.
    Mean,
    /// That of a context of another document, by a derangement.
    Shuffled,
    /// The context's own, but what is fed is what the prompt said itself: its greedy continuation.
    Free,
}

impl Control {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Own, Self::None, Self::Mean, Self::Shuffled, Self::Free];

    /// What it is called; the context's own state goes without saying.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Own => None,
            Self::None => Some("none"),
            Self::Mean => Some("mean"),
            Self::Shuffled => Some("shuffled"),
            Self::Free => Some("free"),
        }
    }

    /// A prompt given the states of this control.
    fn subject(self, prompt: &str) -> Subject {
        match self.name() {
            None => prompt.into(),
            Some(name) => {
                Parts::Variant { of: prompt.to_owned(), prompt: None, variant: Some(name.to_owned()) }.into()
            }
        }
    }
}

/// What the numbers of a prompt are called.
#[derive(Debug, Clone, Copy)]
pub struct PromptName<'a> {
    /// The lens, or `fixed`.
    pub of: &'a str,
    /// Which of several prompts it is, from 1, where each is reported by itself as well.
    pub number: Option<usize>,
    /// A fixed prompt or a learned one.
    pub kind: RowKind,
}

/// Whose numbers.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    subject: Subject,
    kind: RowKind,
    layer: usize,
    horizon: usize,
}

/// The readings so far. Rows are the contexts of [`Sources`].
pub struct Table<'a> {
    model: &'a Model,
    readout: &'a Readout,
    sources: &'a Sources,
    truths: Vec<Truth>,
    shuffled: Vec<i64>,
    batch_tokens: usize,
    readings: Vec<(Key, Vec<Scored>)>,
}

/// Scores by horizon.
type ByHorizon = BTreeMap<usize, Vec<Scored>>;

impl<'a> Table<'a> {
    /// A table without readings. The seed decides who gets whose state.
    ///
    /// # Errors
    /// When one document has more than half of the contexts: then nothing can be shuffled.
    pub fn new(
        model: &'a Model,
        readout: &'a Readout,
        sources: &'a Sources,
        seed: u64,
        batch_tokens: usize,
    ) -> Result<Self, FutureError> {
        let truth = |(k, last): (usize, &Tensor)| Truth::of(readout, last, sources.targets(k + 1));
        Ok(Self {
            model,
            readout,
            sources,
            truths: sources.last.iter().enumerate().map(truth).collect::<Result<_, _>>()?,
            shuffled: derangement(&sources.docs, seed)?,
            batch_tokens,
            readings: Vec::new(),
        })
    }

    /// Longest sequence of the model.
    pub fn context(&self) -> usize {
        self.model.spec().n_ctx
    }

    /// Reads the states with a lens, at every layer that both have: blind, since it sees nothing of what comes between.
    ///
    /// # Errors
    /// When the lens does not fit the states.
    pub fn lens(&mut self, lens: &dyn Lens, kind: RowKind) -> Result<(), FutureError> {
        let horizon = lens.horizon().0;
        let Some(truth) = self.truths.get(horizon - 1) else { return Ok(()) };
        for (&layer, states) in &self.sources.states {
            if lens.reads(LayerIndex(layer)) {
                let states = states.to_kind(self.readout.weight().kind());
                let scored = truth.score(self.readout, &lens.transform(LayerIndex(layer), &states)?)?;
                let subject = subject_of(lens);
                self.readings.push((Key { subject, kind, layer, horizon }, scored));
            }
        }
        Ok(())
    }

    /// Reads the states of `layer` with a linear map straight to the logits of `horizon` (`W_U` times a map to
    /// normalised states). Blind.
    ///
    /// # Errors
    /// When the layer was not kept, or the map does not fit the states.
    pub fn vocab(
        &mut self,
        subject: &str,
        (layer, horizon): (usize, usize),
        map: &Affine,
    ) -> Result<(), FutureError> {
        let (Some(truth), Some(states)) = (self.truths.get(horizon - 1), self.sources.states.get(&layer))
        else {
            return Ok(());
        };
        let scored = truth.score_normalized(self.readout, &map.forward(states)?)?;
        let key = Key { subject: subject.into(), kind: RowKind::FutureVocab, layer, horizon };
        self.readings.push((key, scored));
        Ok(())
    }

    /// Puts the states of each of `layers` into a prompt, as `controls` say, and reads at `horizons`. Several calls
    /// with one subject are averaged row by row; the context's own states are recorded under the prompt's number as
    /// well.
    ///
    /// # Errors
    /// When a layer was not kept, or what the network says.
    pub fn prompt(
        &mut self,
        name: PromptName<'_>,
        prompt: &Prompt,
        layers: &[usize],
        horizons: &[usize],
        controls: &[Control],
    ) -> Result<(), FutureError> {
        let last = self.model.spec().n_layers;
        // Without a transplant all layers are one.
        let none =
            controls.contains(&Control::None).then(|| self.fed(prompt, last, None, horizons)).transpose()?;
        for &layer in layers {
            let own = self.sources.states.get(&layer).ok_or(FutureError::NoLayer { layer, last })?;
            for &control in controls {
                let all = match control {
                    Control::Own => self.fed(prompt, layer, Some(own), horizons)?,
                    Control::None => none.clone().unwrap_or_default(),
                    Control::Mean => self.fed(prompt, layer, Some(&mean_rows(own)?), horizons)?,
                    Control::Shuffled => {
                        self.fed(prompt, layer, Some(&rows_of(own, &self.shuffled)?), horizons)?
                    }
                    Control::Free => self.free(prompt, layer, own, horizons)?,
                };
                for (horizon, scored) in all {
                    let key = |subject| Key { subject, kind: name.kind, layer, horizon };
                    if let (Some(number), Control::Own) = (name.number, control) {
                        let of = name.of.to_owned();
                        let own = Parts::Variant { of, prompt: Some(number), variant: None };
                        self.readings.push((key(own.into()), scored.clone()));
                    }
                    self.readings.push((key(control.subject(name.of)), scored));
                }
            }
        }
        Ok(())
    }

    /// Fed the model's own tokens: one pass for all horizons.
    fn fed(
        &self,
        prompt: &Prompt,
        layer: usize,
        state: Option<&Tensor>,
        horizons: &[usize],
    ) -> Result<ByHorizon, FutureError> {
        let most = horizons.iter().copied().max().unwrap_or(1);
        let out = self.run(prompt, layer, state, &self.sources.fed(most))?;
        let score =
            |k: &usize| Ok((*k, self.truths[k - 1].score(self.readout, &out.select(1, *k as i64 - 1))?));
        horizons.iter().map(score).collect()
    }

    /// Fed what it says itself.
    fn free(
        &self,
        prompt: &Prompt,
        layer: usize,
        state: &Tensor,
        horizons: &[usize],
    ) -> Result<ByHorizon, FutureError> {
        let most = horizons.iter().copied().max().unwrap_or(1);
        let said = free(self.model, self.readout.vocab(), prompt, layer, state, most, self.batch_tokens)?;
        let score = |k: &usize| Ok((*k, self.truths[k - 1].score(self.readout, &said[k - 1].state)?));
        horizons.iter().map(score).collect()
    }

    /// [`transplant`] in batches.
    fn run(
        &self,
        prompt: &Prompt,
        layer: usize,
        state: Option<&Tensor>,
        fed: &Tensor,
    ) -> Result<Tensor, FutureError> {
        let _no_grad = tch::no_grad_guard();
        let (rows, length) = (self.sources.rows() as i64, prompt.tokens() + fed.size()[1]);
        let at_once = (self.batch_tokens as i64 / length).max(1);
        let mut parts = Vec::new();
        for start in (0..rows).step_by(at_once as usize) {
            let part = |t: &Tensor| t.narrow(0, start, at_once.min(rows - start));
            parts.push(transplant(self.model, prompt, layer, state.map(part).as_ref(), &part(fed))?);
        }
        Ok(Tensor::f_cat(&parts, 0)?)
    }

    /// Every number with its interval over documents, the baselines counted on `contexts`, and of prompts that were
    /// shuffled the `information` in the state: precision at 1 above the shuffled control, and KL below it.
    ///
    /// # Errors
    /// When a number is not finite.
    pub fn rows(&self, contexts: &[Window], intervals: Intervals) -> Result<Vec<MetricRow>, FutureError> {
        let mut all = self.baselines(contexts);
        let guesses = all.len();
        for (key, scored) in &self.readings {
            match all.iter_mut().find(|(known, ..)| known == key) {
                Some((_, sums, n)) => {
                    sums.iter_mut()
                        .zip(scored)
                        .for_each(|(a, b)| a.iter_mut().zip(b).for_each(|(a, b)| *a += b));
                    *n += 1.0;
                }
                None => all.push((key.clone(), scored.clone(), 1.0)),
            }
        }
        let mut tally = Tally::new(vec![0; all.len() * METRICS.len()], 1, intervals)?;
        for doc in self.sources.docs.iter().collect::<BTreeSet<_>>() {
            let mine: Vec<usize> =
                (0..self.sources.rows()).filter(|i| self.sources.docs[*i] == *doc).collect();
            let column = |(_, scored, n): &(Key, Vec<Scored>, f64), m: usize| -> f64 {
                mine.iter().map(|i| scored[*i][m]).sum::<f64>() / n
            };
            let sums: Vec<f64> =
                all.iter().flat_map(|one| (0..METRICS.len()).map(move |m| column(one, m))).collect();
            tally.add(*doc, &sums, &[mine.len() as f64])?;
        }
        let keys: Vec<Key> = all.into_iter().map(|(key, ..)| key).collect();
        Ok(to_rows(&keys, guesses, tally.scores()))
    }

    /// Unigram, bigram and skip-gram, counted on the contexts' own tokens; only precision at 1 means anything of them.
    fn baselines(&self, contexts: &[Window]) -> Vec<(Key, Vec<Scored>, f64)> {
        let horizons = self.truths.len();
        let counts = Baselines::count(contexts.iter(), horizons, self.readout.vocab());
        let targets: Vec<Vec<i64>> = (1..=horizons).map(|k| self.sources.targets(k)).collect();
        let mut all = Vec::new();
        for k in 1..=horizons {
            let guess = |i: usize| {
                let here = self.sources.ends[i][1];
                let before = if k == 1 { here } else { targets[k - 2][i] as u32 };
                counts.guesses(self.sources.docs[i], here, before, k)
            };
            for (b, subject) in ["unigram", "bigram", "skipgram"].into_iter().enumerate() {
                let right = |i: usize| guess(i)[b].map(i64::from) == Some(targets[k - 1][i]);
                let scored =
                    (0..self.sources.rows()).map(|i| [f64::from(u8::from(right(i))), 0., 0., 0., 0.]);
                let key = Key { subject: subject.into(), kind: RowKind::Baseline, layer: 0, horizon: k };
                all.push((key, scored.collect(), 1.0));
            }
        }
        all
    }
}

/// From sums to rows; the first `guesses` keys are baselines.
fn to_rows(keys: &[Key], guesses: usize, scores: &Scores) -> Vec<MetricRow> {
    let mut rows = Vec::new();
    let column = |place: usize, metric: usize| place * METRICS.len() + metric;
    for (place, key) in keys.iter().enumerate() {
        let row = |metric: &str, unit: &str, estimate| MetricRow {
            subject: key.subject.clone(),
            kind: key.kind,
            hook: if place < guesses { "tokens" } else { "resid_pre" }.into(),
            layer: key.layer as i32,
            horizon: key.horizon as i32,
            ..MetricRow::of(metric, unit, estimate)
        };
        let metrics = if place < guesses { &METRICS[..1] } else { &METRICS[..] };
        for (m, (metric, unit)) in metrics.iter().enumerate() {
            rows.push(row(metric, unit, scores.in_unit(column(place, m), unit)));
        }
        let shuffled = Key { subject: Control::Shuffled.subject(&key.subject), ..key.clone() };
        if let Some(other) = keys.iter().position(|k| *k == shuffled) {
            let precision = scores.contrast(|mean| mean(column(place, 0)) - mean(column(other, 0)));
            let kl = scores.contrast(|mean| mean(column(other, 4)) - mean(column(place, 4)));
            rows.push(row("information", "share", precision));
            rows.push(row("information", "nats", kl));
        }
    }
    rows
}
