//! How labelled data and their states are read.

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    ended,
    labelled::{Labelled, Side},
};
use crate::{
    hook::HookPoint,
    job::{JobError, Session, Setting, Watch},
    probe::{Features, Kept, Task, extract},
    sources::{
        chat::{Chats, TemplateSettings, TurnSelector},
        labelled::{LabelPositions, LabelledOptions, LabelledSet, Plan, Unit, check},
        text::{Tokenizer, resolve_seq_len},
    },
};

/// How labels and states are read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct LabelSettings {
    /// Column of the text; by default `text`
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub text_column: Option<String>,
    /// Column of each text's negation: rows are pairs, the label says which of two classes the pair is of (a true
    /// statement, say), and probes read both states side by side
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub negation_column: Option<String>,
    /// Column of the label; by default `label`. In .conllu UPOS (the default), XPOS, DEPREL or a key such as Number
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub label_column: Option<String>,
    /// Rows of equal value here (an entity, a template, a document) stay on one side of every split
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub group_column: Option<String>,
    /// Columns with the first character of a span and the one behind its last
    #[cfg_attr(feature = "cli", arg(long, num_args = 2, value_names = ["START", "END"]))]
    pub span_columns: Option<Vec<String>>,
    /// Labels are numbers to regress on, not classes
    #[cfg_attr(feature = "cli", arg(long))]
    pub numbers: bool,
    /// A missing label is an error, not left out and counted
    #[cfg_attr(feature = "cli", arg(long))]
    pub strict: bool,
    /// Labels such as NA, None, nan and null are classes by these names, not missing as pandas reads them
    #[cfg_attr(feature = "cli", arg(long))]
    pub keep_missing_labels: bool,
    /// Tokens whose state is read; by default `last` of a text, `last-piece` of a word or span
    #[cfg_attr(feature = "cli", arg(long, value_enum, value_name = "POSITIONS"))]
    pub positions: Option<LabelPositions>,
    /// Of chats, the message that labels are about: a role (its last message) or turn:N; --positions are then those of
    /// a span
    #[cfg_attr(feature = "cli", arg(long, value_name = "ROLE|turn:N", conflicts_with = "span_columns"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnSelector>,
    /// How chats become text.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub template: TemplateSettings,
    /// Longest text in tokens; by default the model's context
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub seq_len: Option<usize>,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub batch_tokens: Option<NonZeroUsize>,
}

impl LabelSettings {
    /// Whether rows are pairs of a text and its negation.
    pub fn paired(&self) -> bool {
        self.negation_column.is_some()
    }

    /// Whether a column says what belongs together.
    pub fn grouped(&self) -> bool {
        self.group_column.is_some()
    }

    /// Most tokens in a forward pass.
    pub fn batch_tokens(&self, session: &Session) -> usize {
        session.batch_tokens(self.batch_tokens)
    }

    /// Reads, checks and plans; says what it found.
    pub(super) fn read(
        &self,
        data: &[PathBuf],
        session: &Session,
        tokenizer: &Tokenizer,
        watch: &dyn Watch,
    ) -> Result<Labelled, JobError> {
        let context = resolve_seq_len(self.seq_len, session.spec.n_ctx).map_err(JobError::usage)?;
        let chats = Arc::new(Chats::new(session.path(), &self.template));
        let side = |text_column: Option<&String>| -> Result<Side, JobError> {
            let options = LabelledOptions { chats: Some(Arc::clone(&chats)), ..self.options(text_column)? };
            let set = LabelledSet::open(data, &options).map_err(JobError::usage)?;
            watch.note(&check(&set).map_err(JobError::usage)?.to_string());
            let positions = LabelPositions::resolve(self.positions, set.unit).map_err(JobError::usage)?;
            let plan = Plan::new(&set, tokenizer, positions, context).map_err(JobError::usage)?;
            watch.note(&plan.to_string());
            Ok(Side { set, plan })
        };
        let mut sides = vec![side(self.text_column.as_ref())?];
        if self.paired() {
            sides.push(side(self.negation_column.as_ref())?);
            same_rows(&sides[0], &sides[1])?;
        }
        let task = Task::of(&sides[0].plan, sides[0].set.unit);
        Ok(Labelled { sides, task, rare: None, chat: chats.identity() })
    }

    fn options(&self, text_column: Option<&String>) -> Result<LabelledOptions, JobError> {
        let span_columns = match self.span_columns.as_deref() {
            None => None,
            Some([start, end]) => Some((start.clone(), end.clone())),
            Some(other) => {
                let wrong =
                    format!("a span has a column of its start and one of its end, not {}", other.len());
                return Err(JobError::setting("span_columns", wrong));
            }
        };
        Ok(LabelledOptions {
            text_column: text_column.cloned(),
            label_column: self.label_column.clone(),
            group_column: self.group_column.clone(),
            span_columns,
            numbers: self.numbers,
            strict: self.strict,
            keep_missing: self.keep_missing_labels,
            chats: None,
            turn: self.turn.clone(),
        })
    }

    /// What a manifest says of it.
    pub(super) fn config(&self, labelled: &Labelled, points: &[HookPoint]) -> Vec<(&'static str, Value)> {
        let Side { set, plan } = &labelled.sides[0];
        let mut config = vec![
            ("unit", json!(set.unit)),
            ("positions", json!(plan.positions)),
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
        ];
        config.extend(self.turn.as_ref().map(|turn| ("turn", json!(turn))));
        config.extend(labelled.chat.clone().map(|chat| ("chat", chat)));
        config
    }

    /// Runs the model over every set whose states are not there yet.
    pub(super) fn states(
        &self,
        session: &Session,
        sets: &[(&[Features], &Labelled)],
        watch: &dyn Watch,
    ) -> Result<(), JobError> {
        let all = sets.iter().flat_map(|(features, labelled)| features.iter().zip(&labelled.sides));
        let missing: Vec<_> = all.filter(|(features, _)| !features.complete()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let model = session.load(watch)?;
        let tokens: usize =
            missing.iter().flat_map(|(_, side)| &side.plan.windows).map(|w| w.ids.len()).sum();
        let stage = watch.begin("running the model", "tokens", Some(tokens as u64));
        let batch = self.batch_tokens(session);
        for (features, side) in missing {
            extract(features, model, &side.plan, batch, &stage).map_err(ended)?;
        }
        Ok(())
    }
}

/// How many labels were missing, by the word that says so; `""` where there is none.
fn missing(set: &LabelledSet) -> Value {
    let words = set.dropped.missing.iter().map(|(word, noted)| (*word, noted.count));
    let empty = Some(("", set.dropped.unlabelled.count)).filter(|(_, n)| *n > 0);
    words.chain(empty).map(|(word, n)| (word.to_owned(), json!(n))).collect::<serde_json::Map<_, _>>().into()
}

/// Both texts of every pair must have been read, with one item each.
fn same_rows(statements: &Side, negations: &Side) -> Result<(), JobError> {
    if statements.set.unit != Unit::Text || statements.plan.positions == LabelPositions::All {
        return Err(JobError::setting(
            "negation_column",
            "pairs are whole texts, read at last, first or mean",
        ));
    }
    let rows = |side: &Side| -> Vec<u64> {
        side.plan.items.iter().map(|item| side.set.texts[item.text as usize].doc_id).collect()
    };
    let (a, b) = (rows(statements), rows(negations));
    let lost = |from: &Side, here: &[u64], there: &[u64]| {
        let row = here.iter().find(|row| there.binary_search(row).is_err())?;
        let text = from.set.texts.iter().find(|text| text.doc_id == *row)?;
        Some(JobError::usage(format!(
            "{}: {} can be read on one side of the pair only",
            Setting("negation_column"),
            text.place
        )))
    };
    lost(statements, &a, &b).or_else(|| lost(negations, &b, &a)).map_or(Ok(()), Err)
}
