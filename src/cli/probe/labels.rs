//! Labelled data on the command line: what is read, and its states.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::anyhow;
use clap::Args;
use layerscope::{
    hook::{HookPoint, Selection},
    model::{hook_points, width},
    probe::{Features, Kept, RareRule, Round, Task, Treatment, extract},
    sources::labelled::{LabelledOptions, LabelledSet, Plan, Positions, Unit, check},
    sources::leakage::FittedOn,
    sources::text::{Tokenizer, resolve_seq_len},
};
use serde_json::{Value, json};

use super::{
    super::{args::Layers, exit::Failure, output::Output, session::Session},
    ended,
};

/// How labels and states are read.
#[derive(Debug, Args)]
pub(super) struct LabelArgs {
    /// Column of the text; by default `text`
    #[arg(long, value_name = "NAME")]
    text_column: Option<String>,
    /// Column of each text's negation: rows are pairs, the label says which of two classes the pair is of (a true statement,
    /// say), and probes read both states side by side
    #[arg(long, value_name = "NAME")]
    negation_column: Option<String>,
    /// Column of the label; by default `label`. In .conllu UPOS (the default), XPOS, DEPREL or a key such as Number
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    /// Rows of equal value here (an entity, a template, a document) stay on one side of every split
    #[arg(long, value_name = "NAME")]
    group_column: Option<String>,
    /// Columns with the first character of a span and the one behind its last
    #[arg(long, num_args = 2, value_names = ["START", "END"])]
    span_columns: Option<Vec<String>>,
    /// Labels are numbers to regress on, not classes
    #[arg(long)]
    numbers: bool,
    /// A missing label is an error, not left out and counted
    #[arg(long)]
    strict: bool,
    /// Labels such as NA, None, nan and null are classes by these names, not missing as pandas reads them
    #[arg(long)]
    keep_missing_labels: bool,
    /// Tokens whose state is read; by default `last` of a text, `last-piece` of a word or span
    #[arg(long, value_enum, value_name = "POSITIONS")]
    pub(super) positions: Option<Positions>,
    /// Longest text in tokens; by default the model's context
    #[arg(long, value_name = "N")]
    seq_len: Option<usize>,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[arg(long, value_name = "N")]
    batch_tokens: Option<NonZeroUsize>,
}

/// What is done about rare classes.
#[derive(Debug, Args)]
pub(super) struct RareArgs {
    /// Fewest labels of a class; a class must be in as many groups as the splits need in any case
    #[arg(long, default_value_t = 1, value_name = "N")]
    min_class_size: usize,
    /// What becomes of rarer classes, which are named
    #[arg(long, value_enum, default_value_t = Treatment::Drop, value_name = "WHAT")]
    rare: Treatment,
}

/// Where states are read.
#[derive(Debug, Args)]
pub(super) struct PointArgs {
    /// Hooks: names, short names (`resid_pre`: every layer) or globs (`blocks.*.hook_mlp_out`)
    #[arg(long, num_args = 1.., default_value = "resid_pre", value_name = "GLOB")]
    hooks: Vec<String>,
    /// Only these layers, such as 0,4,8-12
    #[arg(long, value_name = "LAYERS")]
    layers: Option<Layers>,
}

/// Labelled texts, ready to be read from a model.
pub(super) struct Labelled {
    /// The texts; of pairs the statements, then their negations.
    pub(super) sides: Vec<Side>,
    pub(super) task: Task,
    /// Classes that were too rare.
    pub(super) rare: Option<Kept>,
}

pub(super) struct Side {
    pub(super) set: LabelledSet,
    pub(super) plan: Plan,
}

impl PointArgs {
    /// The hook points that have a state per token.
    pub(super) fn resolve(&self, session: &Session) -> Result<Vec<HookPoint>, Failure> {
        let layers = self.layers.as_ref().map(|l| l.0.as_slice());
        let all = Selection::new(&self.hooks, layers, &hook_points(&session.spec)).map_err(Failure::usage)?;
        let points: Vec<HookPoint> = all.iter().filter(|p| width(&session.spec, *p).is_some()).collect();
        if points.is_empty() {
            return Err(Failure::usage(anyhow!("--hooks: none has a state per token")));
        }
        Ok(points)
    }
}

impl RareArgs {
    pub(super) fn rule(&self) -> RareRule {
        RareRule { min: self.min_class_size, how: self.rare }
    }
}

impl LabelArgs {
    pub(super) fn paired(&self) -> bool {
        self.negation_column.is_some()
    }

    pub(super) fn grouped(&self) -> bool {
        self.group_column.is_some()
    }

    /// Reads, checks and plans; says what it found.
    pub(super) fn read(
        &self,
        data: &[PathBuf],
        session: &Session,
        tokenizer: &Tokenizer,
        output: Output,
    ) -> Result<Labelled, Failure> {
        let context = resolve_seq_len(self.seq_len, session.spec.n_ctx).map_err(Failure::usage)?;
        let side = |text_column: Option<&String>| -> Result<Side, Failure> {
            let options = LabelledOptions {
                text_column: text_column.cloned(),
                label_column: self.label_column.clone(),
                group_column: self.group_column.clone(),
                span_columns: self.span_columns.as_ref().map(|names| (names[0].clone(), names[1].clone())),
                numbers: self.numbers,
                strict: self.strict,
                keep_missing: self.keep_missing_labels,
            };
            let set = LabelledSet::open(data, &options).map_err(Failure::usage)?;
            output.note(check(&set).map_err(Failure::usage)?.to_string());
            let positions = Positions::resolve(self.positions, set.unit).map_err(Failure::usage)?;
            let plan = Plan::new(&set, tokenizer, positions, context).map_err(Failure::usage)?;
            output.note(plan.to_string());
            Ok(Side { set, plan })
        };
        let mut sides = vec![side(self.text_column.as_ref())?];
        if self.paired() {
            sides.push(side(self.negation_column.as_ref())?);
            same_rows(&sides[0], &sides[1]).map_err(Failure::usage)?;
        }
        let task = Task::of(&sides[0].plan, sides[0].set.unit);
        Ok(Labelled { sides, task, rare: None })
    }

    pub(super) fn batch_tokens(&self, session: &Session) -> usize {
        session.batch_tokens(self.batch_tokens)
    }

    /// What a manifest says of it.
    pub(super) fn config(&self, labelled: &Labelled, points: &[HookPoint]) -> Vec<(&'static str, Value)> {
        let Side { set, plan } = &labelled.sides[0];
        vec![
            ("unit", json!(format!("{:?}", set.unit).to_lowercase())),
            ("positions", json!(plan.positions.to_string())),
            ("text_column", json!(self.text_column)),
            ("negation_column", json!(self.negation_column)),
            ("label_column", json!(self.label_column)),
            ("group_column", json!(self.group_column)),
            ("span_columns", json!(self.span_columns)),
            ("numbers", json!(self.numbers)),
            ("keep_missing_labels", json!(self.keep_missing_labels)),
            ("missing_labels", missing(set)),
            ("rare_classes", json!(labelled.rare.as_ref().map(Kept::facts))),
            ("hooks", json!(points.iter().map(ToString::to_string).collect::<Vec<_>>())),
            ("seq_len", json!(self.seq_len)),
            ("batch_tokens", json!(self.batch_tokens)),
        ]
    }

    /// Runs the model over every set whose states are not there yet.
    pub(super) fn states(
        &self,
        session: &Session,
        sets: &[(&[Features], &Labelled)],
        stop: &AtomicBool,
        output: Output,
    ) -> Result<(), Failure> {
        let all = sets.iter().flat_map(|(features, labelled)| features.iter().zip(&labelled.sides));
        let missing: Vec<_> = all.filter(|(features, _)| !features.complete()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let model = session.load(output)?;
        let tokens: usize =
            missing.iter().flat_map(|(_, side)| &side.plan.windows).map(|w| w.ids.len()).sum();
        let bar = output.bar("running the model", "tokens", Some(tokens as u64));
        let batch = self.batch_tokens(session);
        for (features, side) in missing {
            let done = extract(features, &model, &side.plan, batch, &mut |tokens| {
                bar.inc(tokens as u64);
                stop.load(Ordering::Relaxed)
            });
            done.map_err(ended)?;
        }
        bar.finish_and_clear();
        Ok(())
    }
}

/// How many labels were missing, by the word that says so; `""` where there is none.
fn missing(set: &LabelledSet) -> Value {
    let words = set.dropped.missing.iter().map(|(word, noted)| (*word, noted.count));
    let empty = Some(("", set.dropped.unlabelled.count)).filter(|(_, n)| *n > 0);
    words.chain(empty).map(|(word, n)| (word.to_owned(), json!(n))).collect::<serde_json::Map<_, _>>().into()
}

impl Labelled {
    /// Takes rare classes out of everything that is read, and says which.
    pub(super) fn without(&mut self, rare: Option<Kept>, output: Output) {
        let Some(kept) = rare else { return };
        output.note(kept.to_string());
        self.regroup(&kept.to, &kept.names);
        self.rare = Some(kept);
    }

    /// Gives every item the class `to[c]` in place of c, or leaves it out.
    pub(super) fn regroup(&mut self, to: &[Option<u32>], names: &[String]) {
        self.sides.iter_mut().for_each(|side| side.plan.regroup(to, names));
        self.task = Task::of(&self.sides[0].plan, self.sides[0].set.unit);
    }

    /// Where the states of every side are in the run directory.
    pub(super) fn features(&self, run: &Path, session: &Session, points: &[HookPoint]) -> Vec<Features> {
        let folders = [run.to_owned(), run.join("negations")];
        let one = |dir: &PathBuf| Features::new(dir, &session.spec, points, self.task.len());
        folders[..self.sides.len()].iter().map(one).collect()
    }

    /// Tokens of every window for a bag of tokens; those of a negation count as others than the statement's.
    pub(super) fn tokens(&self, vocab: usize) -> Vec<Vec<u32>> {
        let windows = self.sides.iter().map(|side| &side.plan.windows);
        let mut all = vec![Vec::new(); self.sides[0].plan.windows.len()];
        for (number, windows) in windows.enumerate() {
            for (bag, window) in all.iter_mut().zip(windows) {
                bag.extend(window.ids.iter().map(|id| id + (number * vocab) as u32));
            }
        }
        all
    }

    /// The texts of these items, a pair's both together, each with the number of its items.
    pub(super) fn texts(&self, items: impl IntoIterator<Item = usize>) -> Vec<(String, u64)> {
        let mut of_text = BTreeMap::new();
        for item in items {
            let texts: Vec<u32> = self.sides.iter().map(|side| side.plan.items[item].text).collect();
            *of_text.entry(texts).or_insert(0) += 1;
        }
        let whole = |texts: &Vec<u32>| {
            let texts = self.sides.iter().zip(texts).map(|(side, i)| &*side.set.texts[*i as usize].text);
            texts.collect::<Vec<&str>>().join("\n")
        };
        of_text.iter().map(|(texts, items)| (whole(texts), *items)).collect()
    }

    /// What a probe of this split is fitted on: its penalty is chosen on the validation part.
    pub(super) fn fitted_on(&self, round: &Round) -> FittedOn {
        let texts = self.texts(round.train.iter().chain(&round.validation).copied());
        FittedOn::of_texts(texts.iter().map(|(text, _)| text.as_str()))
    }

    /// Texts and tokens.
    pub(super) fn size(&self) -> (u64, u64) {
        let windows = || self.sides.iter().flat_map(|side| &side.plan.windows);
        (windows().count() as u64, windows().map(|w| w.ids.len() as u64).sum())
    }
}

/// Both texts of every pair must have been read, with one item each.
fn same_rows(statements: &Side, negations: &Side) -> anyhow::Result<()> {
    if statements.set.unit != Unit::Text || statements.plan.positions == Positions::All {
        return Err(anyhow!("--negation-column: pairs are whole texts, read at last, first or mean"));
    }
    let rows = |side: &Side| -> Vec<u64> {
        side.plan.items.iter().map(|item| side.set.texts[item.text as usize].doc_id).collect()
    };
    let (a, b) = (rows(statements), rows(negations));
    let lost = |from: &Side, here: &[u64], there: &[u64]| {
        let row = here.iter().find(|row| there.binary_search(row).is_err())?;
        let text = from.set.texts.iter().find(|text| text.doc_id == *row)?;
        Some(anyhow!("--negation-column: {} can be read on one side of the pair only", text.place))
    };
    lost(statements, &a, &b).or_else(|| lost(negations, &b, &a)).map_or(Ok(()), Err)
}
