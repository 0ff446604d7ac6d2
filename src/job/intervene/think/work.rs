//! Thinking: every prompt's thoughts and answer first, then the answers without them.

use tch::Tensor;

use super::{super::check_stopped, EmbeddingLengths, Rescaling, Think, Thoughts, plan::Plan};
use crate::{
    intervene::{
        generate::{Generated, Settings, same_length},
        think::{
            Case, Effect, Effects, Embeddings, Feedback, Replacements, Rescale, Rollout, Thinker, Thought,
            answers, read, rollout, thought_rows,
        },
    },
    job::{
        JobError, Session, Watch,
        lens::{LensRequest, open},
    },
    lenses::{Lens, Precision, Readout},
    model::Model,
    results::{
        run::{MetricRow, RowKind},
        statistics::Estimate,
    },
};

/// A prompt after its thoughts.
struct Kept {
    thinker: Thinker,
    /// `[K, d_model]`.
    vectors: Tensor,
    thoughts: Vec<Thought>,
    ended: bool,
}

/// What thinking needs.
pub(super) struct Work<'a> {
    job: &'a Think,
    plan: &'a Plan,
    model: &'a Model,
    lenses: Vec<Box<dyn Lens>>,
    embeddings: Embeddings,
    feedback: Feedback,
    /// Prompts of one length together, about `batch_tokens` at a time.
    batches: Vec<Vec<usize>>,
    watch: &'a dyn Watch,
}

impl Work<'_> {
    /// Loads the model and lets it think.
    pub(super) fn of(
        job: &Think,
        plan: &Plan,
        requests: &[LensRequest],
        session: &Session,
        watch: &dyn Watch,
    ) -> Result<Thoughts, JobError> {
        let model = session.load(watch)?;
        let lenses = open(requests, model, job.other_unembedding, watch)?.all;
        let vocab = plan.settings.vocab.unwrap_or(session.spec.vocab);
        let readout = Readout::new(model.unembed(), vocab, Precision::Exact, session.threads)?;
        let embeddings = Embeddings::of(model, vocab)?;
        let rescale = match job.rescale {
            Rescaling::None => Rescale::None,
            Rescaling::Embedding => Rescale::To(embeddings.mean_norm()),
        };
        let feedback = Feedback { rescale, ..plan.feedback };
        let batches = batches(plan, session.batch_tokens(job.batch_tokens));
        Work { job, plan, model, lenses, embeddings, feedback, batches, watch }.found(&readout, vocab)
    }

    fn found(&self, readout: &Readout, vocab: usize) -> Result<Thoughts, JobError> {
        let (plan, embeddings, layer) = (self.plan, &self.embeddings, self.feedback.layer);
        let kept = self.thoughts()?;
        let vectors = kept.iter().map(|kept| kept.vectors.shallow_clone()).collect();
        let replacements = Replacements::new(vectors, self.job.seed)?;
        let cases = if plan.replacements.is_empty() {
            Vec::new()
        } else {
            Case::of(&plan.replacements, self.feedback.steps)
        };
        let intervals = self.job.intervals.policy(self.job.seed);
        let (thinkers, thoughts, ended) = parts(kept);
        let with = (&replacements, self.feedback);
        let mut effects = Effects::new(readout, embeddings, with, cases, plan.settings.clone(), intervals)?;
        let all = self.replaced(&mut effects, &thinkers)?;
        let mut rows = effects.finish(layer);
        let layers = (layer, self.model.spec().n_layers);
        rows.extend(thought_rows(&thoughts, layers, embeddings.mean_norm(), intervals)?);
        rows.push(norm_row(embeddings, vocab));
        Ok(Thoughts {
            others: (0..thinkers.len()).map(|i| replacements.other(i)).collect(),
            thinkers,
            ended,
            thoughts,
            effects: all,
            embeddings: EmbeddingLengths::of(embeddings),
            rows,
        })
    }

    /// Every prompt's thoughts and answer, prompts in their order.
    fn thoughts(&self) -> Result<Vec<Kept>, JobError> {
        let n = self.plan.prompts.len();
        let mut kept: Vec<Option<Kept>> = (0..n).map(|_| None).collect();
        let progress = self.watch.begin("thinking", "prompts", Some(n as u64));
        for batch in &self.batches {
            check_stopped(self.watch)?;
            let found = self.batch(batch)?;
            batch.iter().zip(found).for_each(|(i, found)| kept[*i] = Some(found));
            progress.inc(batch.len() as u64);
        }
        Ok(kept.into_iter().flatten().collect())
    }

    fn batch(&self, batch: &[usize]) -> Result<Vec<Kept>, JobError> {
        let (model, prompts) = (self.model, &self.plan.prompts);
        let flat: Vec<i64> = batch.iter().flat_map(|i| &prompts[*i].ids).map(|id| i64::from(*id)).collect();
        let ids = Tensor::from_slice(&flat).view([batch.len() as i64, -1]);
        let out: Rollout = rollout(model, &ids, &self.feedback, self.plan.settings.cache)?;
        let mut answers = answers(model, &ids, &out.thoughts, &self.plan.settings)?.into_iter();
        let mut plain = self.plain(&ids, &out)?.into_iter();
        let of = (&out, self.feedback.layer);
        let top_k = self.job.top_k.get();
        let mut thoughts = read(model, &self.embeddings, of, &self.lenses, top_k)?.into_iter();
        let mut kept = Vec::with_capacity(batch.len());
        for (&prompt, vectors) in batch.iter().zip(out.thoughts.unbind(0)) {
            let (Some(answer), Some(plain), Some(thoughts)) = (answers.next(), plain.next(), thoughts.next())
            else {
                break; // all have a row per prompt
            };
            let here = thoughts.iter().map(|thought| thought.greedy.0).collect();
            let ids = prompts[prompt].ids.clone();
            let thinker = Thinker { prompt, ids, here, plain, answer: answer.tokens };
            kept.push(Kept { thinker, vectors, thoughts, ended: answer.ended });
        }
        Ok(kept)
    }

    /// As many tokens of plain decoding as there are thoughts.
    fn plain(&self, ids: &Tensor, out: &Rollout) -> Result<Vec<Vec<u32>>, JobError> {
        let steps = self.feedback.steps;
        if steps == 0 {
            return Ok(vec![Vec::new(); ids.size()[0] as usize]);
        }
        let none = out.thoughts.narrow(1, 0, 0);
        let settings = Settings { stop: Vec::new(), max_new_tokens: steps, ..self.plan.settings.clone() };
        let plain = answers(self.model, ids, &none, &settings)?;
        Ok(plain.into_iter().map(|new: Generated| new.tokens).collect())
    }

    /// Every prompt's answer under every case, prompts in their order.
    fn replaced(
        &self,
        effects: &mut Effects<'_>,
        thinkers: &[Thinker],
    ) -> Result<Vec<Vec<Effect>>, JobError> {
        let mut all: Vec<Vec<Effect>> = vec![Vec::new(); thinkers.len()];
        let progress = self.watch.begin("replacing", "prompts", Some(thinkers.len() as u64));
        for batch in &self.batches {
            check_stopped(self.watch)?;
            let some: Vec<&Thinker> = batch.iter().map(|i| &thinkers[*i]).collect();
            let found = effects.add(self.model, &some)?;
            batch.iter().zip(found).for_each(|(i, found)| all[*i] = found);
            progress.inc(batch.len() as u64);
        }
        Ok(all)
    }
}

/// Prompts of one length together, at most about `tokens` with their thoughts and answers.
fn batches(plan: &Plan, tokens: usize) -> Vec<Vec<usize>> {
    let ids: Vec<Vec<u32>> = plan.prompts.iter().map(|prompt| prompt.ids.clone()).collect();
    let more = plan.feedback.steps + plan.settings.max_new_tokens;
    let cut = |group: Vec<usize>| {
        let rows = (tokens / (ids[group[0]].len() + more)).max(1);
        group.chunks(rows).map(<[usize]>::to_vec).collect::<Vec<_>>()
    };
    same_length(&ids).into_iter().flat_map(cut).collect()
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

/// The mean length of embeddings, to hold thoughts' against.
fn norm_row(embeddings: &Embeddings, vocab: usize) -> MetricRow {
    let number = Estimate::alone(embeddings.mean_norm(), "the whole embedding matrix", vocab as u64);
    MetricRow {
        subject: "embeddings".into(),
        kind: RowKind::Model,
        hook: "embed".into(),
        ..MetricRow::of("norm", "length", number)
    }
}
