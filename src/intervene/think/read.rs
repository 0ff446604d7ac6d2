//! What a thought looks like: to lenses, beside the embeddings, and to the model that reads it next.

use layerscope_lenses::{
    LayerIndex, Lens,
    stats::{Readings, readings},
};
use tch::Tensor;

use super::{
    Embeddings, Rollout, ThinkError,
    embeddings::{cosines, lengths},
};
use crate::{
    model::Model,
    results::run::{MetricRow, Parts, RowKind, Subject},
    results::statistics::{Intervals, Tally},
};

/// A distribution over next tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// The likeliest tokens with their probabilities.
    pub top: Vec<(u32, f64)>,
    /// Its entropy, nats.
    pub entropy: f64,
}

/// What a lens reads in the state that a thought was made of.
#[derive(Debug, Clone, PartialEq)]
pub struct LensRead {
    /// The lens's name.
    pub lens: String,
    /// How many tokens ahead it reads.
    pub horizon: usize,
    /// What it reads.
    pub read: Read,
}

/// One thought of one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Thought {
    /// From 1.
    pub step: usize,
    /// Its length.
    pub norm: f64,
    /// Share of the embeddings that are no longer.
    pub percentile: f64,
    /// Embeddings of largest cosine, with it.
    pub nearest: Vec<(u32, f64)>,
    /// Cosine with the thought before.
    pub previous: Option<f64>,
    /// The token that the model would have said here, and the cosine with its embedding.
    pub greedy: (u32, f64),
    /// The state through lenses.
    pub lenses: Vec<LensRead>,
    /// The model's prediction after it was fed.
    pub after: Read,
}

/// Reads a rollout's thoughts, per row and step, keeping the `k` likeliest tokens. A lens reads the stream of `layer`,
/// the last layer's with horizon 1 as it is.
///
/// # Errors
/// When a lens cannot read the layer.
pub fn read(
    model: &Model,
    embeddings: &Embeddings,
    (rollout, layer): (&Rollout, usize),
    lenses: &[Box<dyn Lens>],
    k: usize,
) -> Result<Vec<Vec<Thought>>, ThinkError> {
    let _no_grad = tch::no_grad_guard();
    let (rows, steps, _) = rollout.thoughts.size3()?;
    let mut all: Vec<Vec<Thought>> = (0..rows).map(|_| Vec::new()).collect();
    let said = |state: &Tensor| said(model, embeddings, state, k);
    for step in 0..steps {
        let at = |t: &Tensor, step: i64| t.f_select(1, step);
        let (thought, state) = (at(&rollout.thoughts, step)?, at(&rollout.states, step)?);
        let (greedy, after) = (said(&at(&rollout.ends, step)?)?, said(&at(&rollout.ends, step + 1)?)?);
        let through = |lens: &dyn Lens| -> Result<Readings, ThinkError> {
            let itself = layer == model.spec().n_layers && lens.horizon().0 == 1;
            said(&if itself { state.shallow_clone() } else { lens.transform(LayerIndex(layer), &state)? })
        };
        let through = lenses.iter().map(|lens| through(lens.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let nearest = embeddings.nearest(&thought, k)?;
        let norms = Vec::<f64>::try_from(lengths(&thought)?.to_device(tch::Device::Cpu))?;
        let tokens: Vec<i64> = greedy.top_ids.iter().map(|ids| ids.first().copied().unwrap_or(0)).collect();
        let to_greedy = cosines(&thought, &embeddings.lookup(&Tensor::from_slice(&tokens))?)?;
        let before =
            if step > 0 { Some(cosines(&thought, &at(&rollout.thoughts, step - 1)?)?) } else { None };
        for (row, thoughts) in all.iter_mut().enumerate() {
            let of = |(lens, readings): (&dyn Lens, &Readings)| LensRead {
                lens: lens.name().to_owned(),
                horizon: lens.horizon().0,
                read: Read::of(readings, row),
            };
            thoughts.push(Thought {
                step: step as usize + 1,
                norm: norms[row],
                percentile: embeddings.percentile(norms[row]),
                nearest: nearest[row].clone(),
                previous: before.as_ref().map(|cosines| cosines[row]),
                greedy: (tokens[row] as u32, to_greedy[row]),
                lenses: lenses.iter().map(AsRef::as_ref).zip(&through).map(of).collect(),
                after: Read::of(&after, row),
            });
        }
    }
    Ok(all)
}

impl Read {
    fn of(readings: &Readings, row: usize) -> Self {
        let ids = readings.top_ids[row].iter().map(|id| *id as u32);
        Self {
            top: ids.zip(readings.top_probs[row].iter().copied()).collect(),
            entropy: readings.entropy[row],
        }
    }
}

/// The prediction of states of the last layer `[rows, d_model]`.
fn said(model: &Model, embeddings: &Embeddings, state: &Tensor, k: usize) -> Result<Readings, ThinkError> {
    let vocab = embeddings.vectors().size2()?.0;
    let logits = model.unembed().logits(&state.f_to_kind(model.kind())?)?.f_narrow(-1, 0, vocab)?;
    Ok(readings(&logits, &logits, &vec![-1; state.size2()?.0 as usize], k.max(1))?)
}

/// Means over prompts of every step's numbers, subject `thought@STEP` (and `LENS@STEP`), with intervals over prompts.
///
/// # Errors
/// When a number is not finite.
pub fn thought_rows(
    prompts: &[Vec<Thought>],
    (layer, n_layers): (usize, usize),
    mean_norm: f64,
    intervals: Intervals,
) -> Result<Vec<MetricRow>, ThinkError> {
    let Some(first) = prompts.first() else { return Ok(Vec::new()) };
    let names = |thought: &Thought| numbers(thought, mean_norm).into_iter().map(|(name, _)| name);
    let columns: Vec<Named> = first.iter().flat_map(names).collect();
    let mut tally = Tally::new(vec![0; columns.len()], 1, intervals)?;
    for (i, thoughts) in prompts.iter().enumerate() {
        let sums: Vec<f64> =
            thoughts.iter().flat_map(|t| numbers(t, mean_norm).into_iter().map(|(_, x)| x)).collect();
        tally.add(i as u64, &sums, &[1.0])?;
    }
    let scores = tally.scores();
    let row = |(i, name): (usize, Named)| MetricRow {
        subject: name.subject,
        kind: name.kind,
        hook: if name.after { "logits" } else { "resid_pre" }.into(),
        layer: if name.after { n_layers } else { layer } as i32,
        horizon: name.horizon,
        ..MetricRow::of(name.metric, name.unit, scores.estimate(i))
    };
    Ok(columns.into_iter().enumerate().map(row).collect())
}

/// Whose number of a thought it is.
struct Named {
    subject: Subject,
    kind: RowKind,
    metric: &'static str,
    unit: &'static str,
    horizon: i32,
    after: bool,
}

/// Every number of a thought; those of one step have one set of names.
fn numbers(thought: &Thought, mean_norm: f64) -> Vec<(Named, f64)> {
    let own = |metric, unit, value, after| {
        let subject = Parts::Step { of: "thought".into(), step: thought.step, anew: false }.into();
        (Named { subject, kind: RowKind::Thought, metric, unit, horizon: 1, after }, value)
    };
    let nearest = thought.nearest.first().map_or(0.0, |(_, cosine)| *cosine);
    let same = thought.nearest.first().is_some_and(|(id, _)| *id == thought.greedy.0);
    let mut all = vec![
        own("norm", "length", thought.norm, false),
        own("norm_ratio", "mean embedding", thought.norm / mean_norm, false),
        own("norm_percentile", "share", thought.percentile, false),
        own("cosine_nearest", "cosine", nearest, false),
        own("cosine_greedy", "cosine", thought.greedy.1, false),
        own("nearest_agreement", "share", f64::from(u8::from(same)), false),
        own("entropy", "nats", thought.after.entropy, true),
    ];
    all.extend(thought.previous.map(|cosine| own("cosine_previous", "cosine", cosine, false)));
    all.extend(thought.lenses.iter().map(|lens| {
        let subject = Parts::Step { of: lens.lens.clone(), step: thought.step, anew: false }.into();
        let horizon = lens.horizon as i32;
        let name =
            Named { subject, kind: RowKind::Lens, metric: "entropy", unit: "nats", horizon, after: false };
        (name, lens.read.entropy)
    }));
    all
}
