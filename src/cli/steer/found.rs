//! Directions that the model itself is asked for: what pairs of texts differ in, and what makes it say a sentence.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use clap::Args;
use layerscope::{
    intervene::steer::{Direction, Pairs, Recipe, Sentence, SteerError, over_sentences},
    lens::evaluate::EvalError,
    model::Model,
    results::hash::sha256_file,
    results::run::MetricRow,
    results::statistics::Intervals,
    sources::text::Tokenizer,
    states::write_tensors,
};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::super::{exit::Failure, output::Output};

/// The file of what was found, `NAME.LAYER [d_model]`: a sentence's vectors as they were learnt, differences as long as they are.
pub(super) const DIRECTIONS: &str = "directions.safetensors";

#[derive(Debug, Args)]
pub(super) struct FoundArgs {
    /// Texts with the columns positive and negative (csv, tsv, jsonl, json, parquet): directions by mean difference and by PCA of
    /// the differences, at the last token
    #[arg(long, value_name = "FILE")]
    pub(super) pairs: Option<PathBuf>,
    /// Learn, by gradients, the vector that makes the model say this; repeat for several
    #[arg(long, value_name = "TEXT")]
    pub(super) sentence: Vec<String>,
    /// Steps of learning
    #[arg(long, default_value_t = Recipe::default().steps, value_name = "N")]
    sentence_steps: usize,
    /// Rate of learning, in typical coordinates of the layer's stream
    #[arg(long, default_value_t = Recipe::default().rate, value_name = "X")]
    sentence_rate: f64,
}

/// What is asked of the model, checked before weights are read.
pub(super) struct Asked {
    pairs: Option<(Pairs, String)>,
    /// Names and tokens.
    sentences: Vec<(String, Vec<u32>)>,
    recipe: Recipe,
}

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) directions: Vec<Direction>,
    pub(super) rows: Vec<MetricRow>,
    vectors: BTreeMap<String, Tensor>,
}

impl Found {
    fn take(
        &mut self,
        name: &str,
        vectors: impl IntoIterator<Item = (usize, Tensor)>,
        d_model: usize,
    ) -> Result<(), SteerError> {
        let vectors: Vec<(usize, Tensor)> = vectors.into_iter().collect();
        for (layer, vector) in &vectors {
            self.vectors.insert(format!("{name}.{layer}"), vector.to_kind(Kind::Float));
        }
        self.directions.push(Direction::new(name, vectors, d_model)?);
        Ok(())
    }

    /// Writes [`DIRECTIONS`], where something was found.
    pub(super) fn write(&self, out: &Path) -> Result<(), Failure> {
        if !self.vectors.is_empty() {
            write_tensors(&out.join(DIRECTIONS), &self.vectors)?;
        }
        Ok(())
    }
}

impl FoundArgs {
    pub(super) fn is_nothing(&self) -> bool {
        self.pairs.is_none() && self.sentence.is_empty()
    }

    pub(super) fn read(&self, tokenizer: &Tokenizer, n_ctx: usize) -> anyhow::Result<Asked> {
        let recipe = Recipe { steps: self.sentence_steps, rate: self.sentence_rate };
        anyhow::ensure!(recipe.rate > 0.0 && recipe.rate.is_finite(), "--sentence-rate must be above 0");
        let pairs = self.pairs.as_ref();
        let pairs =
            pairs.map(|path| anyhow::Ok((Pairs::open(path)?, sha256_file(path, &|_| ())?))).transpose()?;
        let one = self.sentence.len() == 1;
        let sentence = |(i, text): (usize, &String)| {
            let ids = tokenizer.encode(text)?;
            let (n, name) = (ids.len(), if one { "sentence".into() } else { format!("sentence-{}", i + 1) });
            anyhow::ensure!(n >= 2, "--sentence {text:?}: nothing to say after the first token");
            anyhow::ensure!(n <= n_ctx, "--sentence has {n} tokens, the model's context is {n_ctx}");
            Ok((name, ids))
        };
        let sentences = self.sentence.iter().enumerate().map(sentence).collect::<anyhow::Result<_>>()?;
        Ok(Asked { pairs, sentences, recipe })
    }
}

impl Asked {
    pub(super) fn is_nothing(&self) -> bool {
        self.pairs.is_none() && self.sentences.is_empty()
    }

    /// What its directions will be called.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let pairs: &[&str] = if self.pairs.is_some() { &["mean-difference", "pca"] } else { &[] };
        pairs.iter().copied().chain(self.sentences.iter().map(|(name, _)| name.as_str()))
    }

    /// For the manifest; what is not asked for is not there.
    pub(super) fn record(&self, texts: &[String]) -> Value {
        let sentences = (!texts.is_empty()).then(|| {
            json!({
                "texts": texts, "steps": self.recipe.steps, "rate": self.recipe.rate,
            })
        });
        json!({ "pairs": self.pairs.as_ref().map(|(_, sha256)| sha256), "sentences": sentences })
    }

    /// Asks the model. `lengths` are the stream's, by layer from 0 on.
    pub(super) fn find(
        &self,
        model: &Model,
        tokenizer: &Tokenizer,
        (layers, lengths): (&[usize], &[f64]),
        (batch_tokens, intervals, seed): (usize, Intervals, u64),
        (stop, output): (&AtomicBool, Output),
    ) -> Result<Found, Failure> {
        let mut found = Found::default();
        let d_model = model.spec().d_model;
        if let Some((pairs, _)) = &self.pairs {
            let bar = output.bar("pairs", "texts", Some(2 * pairs.texts.len() as u64));
            let all = pairs.differences(model, tokenizer, layers, batch_tokens, |n| bar.inc(n as u64))?;
            bar.finish_and_clear();
            // Where all states are alike (layer 0 at a last token that never changes) there is nothing to point along.
            let (there, gone): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|at| at.mean.norm().double_value(&[]) > 0.0);
            if !gone.is_empty() {
                let gone: Vec<String> = gone.iter().map(|at| at.layer.to_string()).collect();
                output.warn(format!(
                    "the pairs do not differ at layer {}; no direction there",
                    gone.join(", ")
                ));
            }
            found.take(
                "mean-difference",
                there.iter().map(|at| (at.layer, at.mean.shallow_clone())),
                d_model,
            )?;
            found.take("pca", there.iter().map(|at| (at.layer, at.pca.shallow_clone())), d_model)?;
            for at in there {
                found.rows.extend(at.rows(intervals)?);
            }
        }
        let mut each: Vec<Vec<MetricRow>> = Vec::new();
        for (name, ids) in &self.sentences {
            let sentence = Sentence { name, ids, layers, lengths };
            let bar = output.bar("learning", "steps", Some(self.recipe.steps as u64));
            let mut watch = |_: f64| {
                bar.inc(1);
                stop.load(Ordering::Relaxed)
            };
            let learnt = sentence.learn(model, self.recipe, &mut watch).map_err(|error| match error {
                SteerError::Interrupted => Failure::interrupted(EvalError::Interrupted),
                error => error.into(),
            })?;
            bar.finish_and_clear();
            let control = sentence.measure(model, &sentence.random(&learnt, seed))?;
            found.take(name, layers.iter().copied().zip(learnt.vectors.unbind(0)), d_model)?;
            each.push(sentence.rows(&learnt, &control));
        }
        found.rows.extend(over_sentences(each.clone(), intervals)?);
        found.rows.extend(each.into_iter().flatten());
        Ok(found)
    }
}
