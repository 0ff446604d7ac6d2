//! Thinking: every prompt's thoughts and answer first, then the answers without them.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::anyhow;
use layerscope::{
    intervene::generate::{Generated, Settings, same_length},
    intervene::think::{
        Case, Effect, Effects, Embeddings, Feedback, Replacements, Rescale, Rollout, Thinker, Thought,
        answers, read, rollout, thought_rows,
    },
    lenses::{Lens, Precision, Readout},
    model::Model,
    results::run::MetricRow,
    results::statistics::Estimate,
};
use tch::Tensor;

use super::{ThinkArgs, args::RescaleArg, found::Found, job::Job, load};
use crate::cli::{exit::Failure, interrupt::on_interrupt, output::Output, session::Session};

/// A prompt after its thoughts.
struct Kept {
    thinker: Thinker,
    /// `[K, d_model]`.
    vectors: Tensor,
    thoughts: Vec<Thought>,
    ended: bool,
}

impl ThinkArgs {
    pub(super) fn think(
        &self,
        job: &Job,
        asked: &[load::Asked],
        session: &Session,
        output: Output,
    ) -> Result<Found, Failure> {
        let stop = on_interrupt()?;
        let model = session.load(output)?;
        let lenses = load::open(asked, &model, self.other_unembedding, output)?;
        let vocab = job.settings.vocab.unwrap_or(session.spec.vocab);
        let readout = Readout::new(model.unembed(), vocab, Precision::Exact, session.threads)?;
        let embeddings = Embeddings::of(&model, vocab)?;
        let rescale = match self.rescale {
            RescaleArg::None => Rescale::None,
            RescaleArg::Embedding => Rescale::To(embeddings.mean_norm()),
        };
        let feedback = Feedback { rescale, ..job.feedback };
        let batches = self.batches(job, session);
        let kept =
            self.thoughts(job, &batches, (&model, &embeddings), &feedback, &lenses.all, (output, &stop))?;
        let vectors = kept.iter().map(|kept| kept.vectors.shallow_clone()).collect();
        let replacements = Replacements::new(vectors, self.common.seed)?;
        let cases = if job.replacements.is_empty() {
            Vec::new()
        } else {
            Case::of(&job.replacements, feedback.steps)
        };
        let intervals = self.intervals.policy(self.common.seed);
        let (thinkers, thoughts, ended) = parts(kept);
        let mut effects = Effects::new(
            &readout,
            &embeddings,
            (&replacements, feedback),
            cases,
            job.settings.clone(),
            intervals,
        )?;
        let all = replaced(&mut effects, &model, &thinkers, &batches, (output, &stop))?;
        let mut rows = effects.finish(feedback.layer);
        let others = (0..thinkers.len()).map(|i| replacements.other(i)).collect();
        let layers = (feedback.layer, session.spec.n_layers);
        rows.extend(thought_rows(&thoughts, layers, embeddings.mean_norm(), intervals)?);
        rows.push(norm_row(&embeddings, vocab));
        Ok(Found { thinkers, ended, thoughts, effects: all, rows, others, embeddings })
    }

    /// Every prompt's thoughts and answer, prompts in their order.
    fn thoughts(
        &self,
        job: &Job,
        batches: &[Vec<usize>],
        model: (&Model, &Embeddings),
        feedback: &Feedback,
        lenses: &[Box<dyn Lens>],
        (output, stop): (Output, &AtomicBool),
    ) -> Result<Vec<Kept>, Failure> {
        let mut kept: Vec<Option<Kept>> = job.prompts.iter().map(|_| None).collect();
        let bar = output.bar("thinking", "prompts", Some(job.prompts.len() as u64));
        for batch in batches {
            go_on(stop)?;
            let found = self.batch(job, batch, model, feedback, lenses)?;
            batch.iter().zip(found).for_each(|(i, found)| kept[*i] = Some(found));
            bar.inc(batch.len() as u64);
        }
        bar.finish_and_clear();
        Ok(kept.into_iter().flatten().collect())
    }

    /// Prompts of one length together, about `--batch-tokens` at a time.
    fn batches(&self, job: &Job, session: &Session) -> Vec<Vec<usize>> {
        let ids: Vec<Vec<u32>> = job.prompts.iter().map(|prompt| prompt.ids.clone()).collect();
        let tokens = session.batch_tokens(self.batch_tokens);
        let more = job.feedback.steps + job.settings.max_new_tokens;
        let cut = |group: Vec<usize>| {
            let rows = (tokens / (ids[group[0]].len() + more)).max(1);
            group.chunks(rows).map(<[usize]>::to_vec).collect::<Vec<_>>()
        };
        same_length(&ids).into_iter().flat_map(cut).collect()
    }

    fn batch(
        &self,
        job: &Job,
        batch: &[usize],
        (model, embeddings): (&Model, &Embeddings),
        feedback: &Feedback,
        lenses: &[Box<dyn Lens>],
    ) -> Result<Vec<Kept>, Failure> {
        let flat: Vec<i64> =
            batch.iter().flat_map(|i| &job.prompts[*i].ids).map(|id| i64::from(*id)).collect();
        let ids = Tensor::from_slice(&flat).view([batch.len() as i64, -1]);
        let out: Rollout = rollout(model, &ids, feedback, job.settings.cache)?;
        let said = answers(model, &ids, &out.thoughts, &job.settings)?;
        let plain = if feedback.steps == 0 {
            vec![Vec::new(); batch.len()]
        } else {
            let none = out.thoughts.narrow(1, 0, 0);
            let settings =
                Settings { stop: Vec::new(), max_new_tokens: feedback.steps, ..job.settings.clone() };
            let plain = answers(model, &ids, &none, &settings)?;
            plain.into_iter().map(|said: Generated| said.tokens).collect()
        };
        let thoughts = read(model, embeddings, (&out, feedback.layer), lenses, self.top_k.get())?;
        let (mut said, mut plain, mut thoughts) = (said.into_iter(), plain.into_iter(), thoughts.into_iter());
        let mut kept = Vec::with_capacity(batch.len());
        for (&prompt, vectors) in batch.iter().zip(out.thoughts.unbind(0)) {
            let (Some(said), Some(plain), Some(thoughts)) = (said.next(), plain.next(), thoughts.next())
            else {
                break; // all have a row per prompt
            };
            let here = thoughts.iter().map(|thought| thought.greedy.0).collect();
            let ids = job.prompts[prompt].ids.clone();
            let thinker = Thinker { prompt, ids, here, plain, answer: said.tokens };
            kept.push(Kept { thinker, vectors, thoughts, ended: said.ended });
        }
        Ok(kept)
    }
}

/// Prompts and answers, thoughts, and whether the answer ended.
fn parts(kept: Vec<Kept>) -> (Vec<Thinker>, Vec<Vec<Thought>>, Vec<bool>) {
    let mut parts = (Vec::new(), Vec::new(), Vec::new());
    for Kept { thinker, thoughts, ended, .. } in kept {
        parts.0.push(thinker);
        parts.1.push(thoughts);
        parts.2.push(ended);
    }
    parts
}

/// Every prompt's answer under every case, prompts in their order.
fn replaced(
    effects: &mut Effects<'_>,
    model: &Model,
    thinkers: &[Thinker],
    batches: &[Vec<usize>],
    (output, stop): (Output, &AtomicBool),
) -> Result<Vec<Vec<Effect>>, Failure> {
    let mut all: Vec<Vec<Effect>> = vec![Vec::new(); thinkers.len()];
    let bar = output.bar("replacing", "prompts", Some(thinkers.len() as u64));
    for batch in batches {
        go_on(stop)?;
        let some: Vec<&Thinker> = batch.iter().map(|i| &thinkers[*i]).collect();
        let found = effects.add(model, &some)?;
        batch.iter().zip(found).for_each(|(i, found)| all[*i] = found);
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(all)
}

pub(super) fn go_on(stop: &AtomicBool) -> Result<(), Failure> {
    if stop.load(Ordering::Relaxed) {
        return Err(Failure::interrupted(anyhow!("interrupted; repeat the command to start over")));
    }
    Ok(())
}

/// The mean length of embeddings, to hold thoughts' against.
fn norm_row(embeddings: &Embeddings, vocab: usize) -> MetricRow {
    let number = Estimate::alone(embeddings.mean_norm(), "the whole embedding matrix", vocab as u64);
    MetricRow {
        subject: "embeddings".into(),
        kind: "model".into(),
        hook: "embed".into(),
        ..MetricRow::of("norm", "length", number)
    }
}
