//! Directions that the model itself is asked for: what pairs of texts differ in, and what makes it say a sentence.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::{
    intervene::steer::{Differences, Direction, Pairs, Recipe, Sentence, SteerError, over_sentences},
    job::{BoxError, JobError, SetTo, Setting, Watch},
    model::Model,
    results::{hash::sha256_file, run::MetricRow, statistics::Intervals},
    sources::text::Tokenizer,
    states::write_tensors,
};

/// The file of what was found, `NAME.LAYER [d_model]`: a sentence's vectors as they were learnt, differences as long as
/// they are.
pub(super) const DIRECTIONS: &str = "directions.safetensors";

/// What the model itself is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct FoundSettings {
    /// Texts with the columns positive and negative (csv, tsv, jsonl, json, parquet): directions by mean difference and
    /// by PCA of the differences, at the last token
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub pairs: Option<PathBuf>,
    /// Learn, by gradients, the vector that makes the model say this; repeat for several
    #[cfg_attr(feature = "cli", arg(long, value_name = "TEXT"))]
    pub sentence: Vec<String>,
    /// Steps of learning
    #[cfg_attr(feature = "cli", arg(long, default_value_t = Recipe::default().steps, value_name = "N"))]
    pub sentence_steps: usize,
    /// Rate of learning, in typical coordinates of the layer's stream
    #[cfg_attr(feature = "cli", arg(long, default_value_t = Recipe::default().rate, value_name = "X"))]
    pub sentence_rate: f64,
}

impl Default for FoundSettings {
    fn default() -> Self {
        let Recipe { steps, rate } = Recipe::default();
        Self { pairs: None, sentence: Vec::new(), sentence_steps: steps, sentence_rate: rate }
    }
}

/// What is asked of the model, checked before weights are read.
pub(super) struct Sought {
    pairs: Option<(Pairs, String)>,
    /// Names and tokens.
    sentences: Vec<(String, Vec<u32>)>,
    recipe: Recipe,
}

/// Who is asked, and where.
pub(super) struct Asking<'a> {
    pub(super) model: &'a Model,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) layers: &'a [usize],
    /// Mean lengths of the stream, by layer from 0 on.
    pub(super) lengths: &'a [f64],
    pub(super) batch_tokens: usize,
    pub(super) intervals: Intervals,
    pub(super) seed: u64,
    pub(super) watch: &'a dyn Watch,
}

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) directions: Vec<Direction>,
    pub(super) rows: Vec<MetricRow>,
    vectors: BTreeMap<String, Tensor>,
}

impl FoundSettings {
    pub(super) fn is_nothing(&self) -> bool {
        self.pairs.is_none() && self.sentence.is_empty()
    }

    pub(super) fn read(&self, tokenizer: &Tokenizer, n_ctx: usize) -> Result<Sought, BoxError> {
        let recipe = Recipe { steps: self.sentence_steps, rate: self.sentence_rate };
        if !(recipe.rate > 0.0 && recipe.rate.is_finite()) {
            return Err(format!("{} must be above 0", Setting("sentence_rate")).into());
        }
        let pairs = match &self.pairs {
            Some(path) => Some((Pairs::open(path)?, sha256_file(path, &|_| ())?)),
            None => None,
        };
        let one = self.sentence.len() == 1;
        let sentence = |(i, text): (usize, &String)| -> Result<(String, Vec<u32>), BoxError> {
            let ids = tokenizer.encode(text)?;
            let (n, name) = (ids.len(), if one { "sentence".into() } else { format!("sentence-{}", i + 1) });
            if n < 2 {
                let sentence = SetTo("sentence", format!("{text:?}"));
                return Err(format!("{sentence}: nothing to say after the first token").into());
            }
            if n > n_ctx {
                let sentence = Setting("sentence");
                return Err(format!("{sentence} has {n} tokens, the model's context is {n_ctx}").into());
            }
            Ok((name, ids))
        };
        let sentences = self.sentence.iter().enumerate().map(sentence).collect::<Result<_, _>>()?;
        Ok(Sought { pairs, sentences, recipe })
    }
}

impl Sought {
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

    /// Asks the model.
    pub(super) fn find(&self, of: &Asking<'_>) -> Result<Found, JobError> {
        let mut found = Found::default();
        if let Some((pairs, _)) = &self.pairs {
            found.take_differences(differences(pairs, of)?, of)?;
        }
        let mut each: Vec<Vec<MetricRow>> = Vec::new();
        for (name, ids) in &self.sentences {
            let sentence = Sentence { name, ids, layers: of.layers, lengths: of.lengths };
            let stage = of.watch.begin("learning", "steps", Some(self.recipe.steps as u64));
            let learnt = sentence.learn(of.model, self.recipe, &stage)?;
            drop(stage);
            let control = sentence.measure(of.model, &sentence.random(&learnt, of.seed))?;
            let vectors = of.layers.iter().copied().zip(learnt.vectors.unbind(0));
            found.take(name, vectors, of.model.spec().d_model)?;
            each.push(sentence.rows(&learnt, &control));
        }
        found.rows.extend(over_sentences(each.clone(), of.intervals)?);
        found.rows.extend(each.into_iter().flatten());
        Ok(found)
    }
}

/// What the pairs differ in, by layer, where they do.
fn differences(pairs: &Pairs, of: &Asking<'_>) -> Result<Vec<Differences>, JobError> {
    let stage = of.watch.begin("pairs", "tokens", None);
    let all = pairs.differences(of.model, of.tokenizer, of.layers, of.batch_tokens, &stage)?;
    drop(stage);
    // Where all states are alike (layer 0 at a last token that never changes) there is nothing to point along.
    let (there, gone): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|at| at.mean.norm().double_value(&[]) > 0.0);
    if !gone.is_empty() {
        let gone: Vec<String> = gone.iter().map(|at| at.layer.to_string()).collect();
        of.watch.warn(&format!("the pairs do not differ at layer {}; no direction there", gone.join(", ")));
    }
    Ok(there)
}

impl Found {
    fn take_differences(&mut self, all: Vec<Differences>, of: &Asking<'_>) -> Result<(), JobError> {
        let d_model = of.model.spec().d_model;
        let mean = all.iter().map(|at| (at.layer, at.mean.shallow_clone()));
        self.take("mean-difference", mean, d_model)?;
        self.take("pca", all.iter().map(|at| (at.layer, at.pca.shallow_clone())), d_model)?;
        for at in all {
            self.rows.extend(at.rows(of.intervals)?);
        }
        Ok(())
    }

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
    pub(super) fn write(&self, out: &Path) -> Result<(), JobError> {
        if !self.vectors.is_empty() {
            write_tensors(&out.join(DIRECTIONS), &self.vectors)?;
        }
        Ok(())
    }
}
