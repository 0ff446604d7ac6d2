//! What the answer loses when thoughts are replaced.

use layerscope_lenses::{Ask, Read, Readout, Teacher};
use tch::Tensor;

use super::{Case, Embeddings, Feedback, Replacements, ThinkError, answers, ends, rollout_from};
use crate::{
    intervene::generate::Settings,
    model::Model,
    results::run::{MetricRow, RowKind, Subject},
    results::statistics::{Intervals, Tally},
};

/// A prompt that has been thought through.
#[derive(Debug, Clone)]
pub struct Thinker {
    /// Its number.
    pub prompt: usize,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Where each thought stands: the token the model would have said.
    pub here: Vec<u32>,
    /// As many tokens of plain decoding.
    pub plain: Vec<u32>,
    /// What it answers after its thoughts.
    pub answer: Vec<u32>,
}

/// What one case does to one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// What was replaced, and by what.
    pub case: Case,
    /// KL(true ‖ replaced) of the answer's first token, nats.
    pub kl: f64,
    /// Whether that token is the same.
    pub agrees: bool,
    /// `-log p` of the true answer's tokens, fed one by one, above what it is with the true thoughts; mean, nats.
    pub surprisal_increase: f64,
    /// KL(true ‖ replaced) along the true answer; mean, nats.
    pub kl_answer: f64,
    /// The answer then, where all thoughts are replaced or left out.
    pub answer: Option<Vec<u32>>,
}

/// Columns of a case: KL, agreement, same answer (of the first token), surprisal, KL (of every token of the answer).
const WIDTH: usize = 5;
/// Count groups: prompts, and tokens of answers.
const FIRST: usize = 0;
const ANSWER: usize = 1;

/// Cases being compared, and the sums so far.
#[derive(Debug)]
pub struct Effects<'a> {
    readout: &'a Readout,
    embeddings: &'a Embeddings,
    replacements: &'a Replacements,
    feedback: Feedback,
    cases: Vec<Case>,
    settings: Settings,
    tally: Tally,
}

impl<'a> Effects<'a> {
    /// `feedback` and `settings` are those of the true thoughts and answers.
    ///
    /// # Errors
    /// When the columns do not fit.
    pub fn new(
        readout: &'a Readout,
        embeddings: &'a Embeddings,
        (replacements, feedback): (&'a Replacements, Feedback),
        cases: Vec<Case>,
        settings: Settings,
        intervals: Intervals,
    ) -> Result<Self, ThinkError> {
        // The true thoughts come first, as a case that changes nothing: their KL column holds the entropy.
        let columns = (0..=cases.len()).flat_map(|_| [FIRST, FIRST, FIRST, ANSWER, ANSWER]).collect();
        let tally = Tally::new(columns, 2, intervals)?;
        Ok(Self { readout, embeddings, replacements, feedback, cases, settings, tally })
    }

    /// Runs prompts of one length under every case. Returns each prompt's effects, case by case.
    ///
    /// # Errors
    /// When the model cannot run, or a case needs other prompts and there are none.
    pub fn add(&mut self, model: &Model, batch: &[&Thinker]) -> Result<Vec<Vec<Effect>>, ThinkError> {
        let questions = Questions::new(batch)?;
        let own: Vec<&Tensor> = batch.iter().map(|thinker| self.replacements.own(thinker.prompt)).collect();
        let own = Tensor::f_stack(&own, 0)?;
        let n = self.readout.normalize(&questions.ends(model, &own)?)?;
        let mut read = self
            .readout
            .sweep(&n, Ask { expectation: true, tokens: &[&questions.tokens], marginal: None })?;
        let (entropy, ce, first) = (read.entropy(), read.ce(0), read.argmax.clone());
        let teacher = Teacher::new(n, &mut read)?;
        let mut sums: Vec<Vec<f64>> = (0..batch.len())
            .map(|row| vec![entropy[questions.first(row)], 1.0, 1.0, questions.sum(row, &ce), 0.0])
            .collect();
        let mut effects: Vec<Vec<Effect>> = vec![Vec::new(); batch.len()];
        for &case in &self.cases {
            let fed = self.fed(model, case, batch, &questions.ids)?;
            let n = self.readout.normalize(&questions.ends(model, &fed)?)?;
            let read = self.readout.sweep(&n, Ask { tokens: &[&questions.tokens], ..Ask::default() })?;
            let kl = teacher.kl(self.readout, &n, &read.lse)?;
            let answer = self.answer(model, case, &questions, &fed)?;
            for (row, thinker) in batch.iter().enumerate() {
                let at = questions.first(row);
                let answer = answer.as_ref().map(|answer| answer[row].clone());
                let effect = effect(case, &questions, row, (&kl, &read, &ce, &first), answer);
                let same = effect.answer.as_ref().is_some_and(|answer| *answer == thinker.answer);
                let flag = |b: bool| f64::from(u8::from(b));
                sums[row].extend([
                    kl[at],
                    flag(effect.agrees),
                    flag(same),
                    questions.sum(row, &read.ce(0)),
                    questions.sum(row, &kl),
                ]);
                effects[row].push(effect);
            }
        }
        for (thinker, sums) in batch.iter().zip(&sums) {
            self.tally.add(thinker.prompt as u64, sums, &[1.0, thinker.answer.len() as f64])?;
        }
        Ok(effects)
    }

    /// The vectors of a case, `[rows, k, d_model]`.
    fn fed(&self, model: &Model, case: Case, batch: &[&Thinker], ids: &Tensor) -> Result<Tensor, ThinkError> {
        let row = |thinker: &&Thinker| {
            // In place of all thoughts the model's own tokens are those of plain decoding.
            let tokens = if matches!(case, Case::All(_)) { &thinker.plain } else { &thinker.here };
            let tokens: Vec<i64> = tokens.iter().map(|id| i64::from(*id)).collect();
            let greedy = self.embeddings.lookup(&Tensor::from_slice(&tokens))?;
            self.replacements.of(case, thinker.prompt, &greedy)
        };
        let given = Tensor::f_stack(&batch.iter().map(row).collect::<Result<Vec<_>, _>>()?, 0)?;
        if matches!(case, Case::Anew(..)) {
            return Ok(rollout_from(model, ids, &given, &self.feedback, self.settings.cache)?.thoughts);
        }
        Ok(given)
    }

    /// The answers of a case in which no thought is left.
    fn answer(
        &self,
        model: &Model,
        case: Case,
        questions: &Questions,
        fed: &Tensor,
    ) -> Result<Option<Vec<Vec<u32>>>, ThinkError> {
        if !case.is_whole() {
            return Ok(None);
        }
        let answer = answers(model, &questions.ids, fed, &self.settings)?;
        Ok(Some(answer.into_iter().map(|answer| answer.tokens).collect()))
    }

    /// Every number with its interval over prompts. Subjects are the cases, and `thoughts` for the model with its own.
    pub fn finish(&mut self, layer: usize) -> Vec<MetricRow> {
        let cases = self.cases.clone();
        let scores = self.tally.scores();
        let row = |subject: Subject, kind: RowKind, metric: &str, unit: &str, number| MetricRow {
            subject,
            kind,
            hook: "embed".into(),
            layer: layer as i32,
            ..MetricRow::of(metric, unit, number)
        };
        let own = |metric, unit, column| {
            row("thoughts".into(), RowKind::Model, metric, unit, scores.estimate(column))
        };
        let mut rows = vec![own("entropy", "nats", 0), own("surprisal", "nats", 3)];
        for (i, case) in cases.iter().enumerate() {
            let column = |metric: usize| (i + 1) * WIDTH + metric;
            let of = |metric, unit, number| row(case.subject(), RowKind::Replacement, metric, unit, number);
            rows.extend([
                of("kl", "nats", scores.estimate(column(0))),
                of("agreement", "share", scores.share(column(1))),
                of("surprisal_increase", "nats", scores.contrast(|mean| mean(column(3)) - mean(3))),
                of("kl_answer", "nats", scores.estimate(column(4))),
            ]);
            if case.is_whole() {
                rows.push(of("same_answer", "share", scores.share(column(2))));
            }
        }
        rows
    }
}

/// A batch's prompts and true answers as tensors; answers that are shorter than others are filled up, and the filling
/// is left out.
struct Questions {
    /// `[rows, P]`.
    ids: Tensor,
    /// All but the last token of each answer, `[rows, N - 1]`.
    fed: Tensor,
    /// Answers row after row, -1 where filled up.
    tokens: Vec<i64>,
    /// N.
    width: usize,
    lengths: Vec<usize>,
}

impl Questions {
    fn new(batch: &[&Thinker]) -> Result<Self, ThinkError> {
        let width = batch.iter().map(|t| t.answer.len()).max().unwrap_or(1).max(1);
        let rows = batch.len() as i64;
        let matrix = |flat: &[i64]| Tensor::from_slice(flat).f_view([rows, -1]);
        let ids: Vec<i64> = batch.iter().flat_map(|t| &t.ids).map(|id| i64::from(*id)).collect();
        let filled = |t: &&Thinker| -> Vec<i64> {
            t.answer.iter().map(|id| i64::from(*id)).chain(std::iter::repeat(-1)).take(width).collect()
        };
        let tokens: Vec<i64> = batch.iter().flat_map(filled).collect();
        let fed = matrix(&tokens)?.f_narrow(1, 0, width as i64 - 1)?.f_clamp_min(0)?;
        let lengths = batch.iter().map(|t| t.answer.len()).collect();
        Ok(Self { ids: matrix(&ids)?, fed, tokens, width, lengths })
    }

    /// States that predict the answers' tokens, `[rows · N, d_model]`.
    fn ends(&self, model: &Model, vectors: &Tensor) -> Result<Tensor, ThinkError> {
        let ends = ends(model, &self.ids, vectors, &self.fed)?;
        Ok(ends.f_flatten(0, 1)?)
    }

    /// The place of a row's first token.
    fn first(&self, row: usize) -> usize {
        row * self.width
    }

    /// Over a row's answer.
    fn sum(&self, row: usize, values: &[f64]) -> f64 {
        values[self.first(row)..][..self.lengths[row]].iter().sum()
    }
}

/// One row of a case against the true thoughts: their cross-entropies and likeliest tokens.
fn effect(
    case: Case,
    questions: &Questions,
    row: usize,
    (kl, read, ce, first): (&[f64], &Read, &[f64], &[i64]),
    answer: Option<Vec<u32>>,
) -> Effect {
    let (at, n) = (questions.first(row), questions.lengths[row].max(1) as f64);
    Effect {
        case,
        kl: kl[at],
        agrees: read.argmax[at] == first[at],
        surprisal_increase: (questions.sum(row, &read.ce(0)) - questions.sum(row, ce)) / n,
        kl_answer: questions.sum(row, kl) / n,
        answer,
    }
}
