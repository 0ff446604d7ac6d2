//! Texts with their labels, read from files and held in memory (states are not).

use super::dropped::{Dropped, Raw, RawText};
use super::error::LabelledError;
use super::fold::fold;
use super::joined::join;
use super::label::LabelValues;
use super::{table, words};
use crate::sources::chat::{Chats, TurnSelector};
use crate::sources::text::{Format, TextError};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a label belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A text.
    Text,
    /// A span of a text, one a text.
    Span,
    /// A word of a sentence.
    Word,
}

/// How to read labelled data.
#[derive(Clone, Debug, Default)]
pub struct LabelledOptions {
    /// The text column, `text` by default.
    pub text_column: Option<String>,
    /// The label column, `label` by default. In CoNLL-U `UPOS` (the default), `XPOS`, `DEPREL`, or a key of FEATS or
    /// MISC such as `Number`.
    pub label_column: Option<String>,
    /// Rows of equal value here belong together. CoNLL-U has its documents.
    pub group_column: Option<String>,
    /// Columns with the first character of a span and the one behind its last: characters as Python counts them
    /// (Unicode scalar values) from 0, not bytes.
    pub span_columns: Option<(String, String)>,
    /// Labels are numbers to regress on, not classes.
    pub numbers: bool,
    /// A missing label is an error, not left out and counted.
    pub strict: bool,
    /// Labels such as `NA`, `None` or `null` are classes by these names. Without this they are missing, as pandas reads
    /// them. An empty value is missing in either case. In CoNLL-U `_` alone is.
    pub keep_missing: bool,
    /// What makes texts of chats; without it a chat is refused.
    pub chats: Option<Arc<Chats>>,
    /// Of chats, the message that labels are about: the last one that is selected.
    pub turn: Option<TurnSelector>,
}

/// A text with at least one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledText {
    /// Number in reading order, from 0 across all files, rows left out included: the `doc_id` that an export of the
    /// same files has.
    pub doc_id: u64,
    /// File and line (row for Parquet).
    pub place: String,
    /// The text, not empty.
    pub text: String,
    /// Whether it is a chat as its template renders it.
    pub chat: bool,
    /// Its group.
    pub group: u32,
    /// What is labelled, as a range of [`LabelledSet::targets`]: one for a text or a span, the labelled words of a
    /// sentence.
    pub targets: Range<usize>,
}

/// What a label says something about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referent {
    /// Bytes of the text; nothing where the label is the whole text's.
    pub span: Option<Range<usize>>,
    /// The word, or the span's text: the type of the control task.
    pub form: Option<String>,
}

/// Labelled texts.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledSet {
    /// In reading order.
    pub texts: Vec<LabelledText>,
    /// Of all texts, in order.
    pub targets: Vec<Referent>,
    /// A label per target.
    pub labels: LabelValues,
    /// Names of the groups.
    pub groups: Vec<String>,
    /// What the groups are, in words.
    pub grouping: String,
    /// What a label belongs to.
    pub unit: Unit,
    /// What was left out.
    pub dropped: Dropped,
}

const KNOWN: &str = ".csv, .tsv, .jsonl, .json, .parquet, .conllu";

impl LabelledSet {
    /// Reads every file.
    ///
    /// Without a group column (or a value in it) a text is its own group, together with every text that differs only in
    /// case and space. So it is with sentences outside documents. Groups that share a text are joined.
    ///
    /// # Errors
    /// The first problem found, by file and line; see [`LabelledError`].
    pub fn open(paths: &[PathBuf], options: &LabelledOptions) -> Result<Self, LabelledError> {
        let mut unit = None;
        let mut raw = Raw::default();
        for path in paths {
            let conllu = is_conllu(path)?;
            let spans = options.span_columns.is_some() || options.turn.is_some();
            let found = match (conllu, spans) {
                (true, _) => Unit::Word,
                (false, true) => Unit::Span,
                (false, false) => Unit::Text,
            };
            if *unit.get_or_insert(found) != found {
                return Err(LabelledError::Mixed(path.clone()));
            }
            if conllu {
                words::read(path, options, &mut raw)?;
            } else {
                table::read(path, options, &mut raw)?;
            }
        }
        let unit = unit.ok_or(TextError::NoInput)?;
        if raw.texts.is_empty() {
            let inputs: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            let left_out = one_line(&raw.dropped);
            return Err(LabelledError::NothingLabelled { inputs: inputs.join(", "), left_out });
        }
        let grouping = match (&options.group_column, unit) {
            (Some(column), _) => format!("groups of equal {column:?}"),
            (None, Unit::Word) => "groups (documents, or sentences outside one)".into(),
            (None, _) => "groups (no group column: texts equal up to case and space)".into(),
        };
        Self::assemble(raw, unit, grouping, options.numbers)
    }

    fn assemble(raw: Raw, unit: Unit, grouping: String, numbers: bool) -> Result<Self, LabelledError> {
        let Raw { texts: raw, dropped, .. } = raw;
        let written =
            raw.iter().flat_map(|text| text.targets.iter().map(|(_, label)| (&**label, &*text.place)));
        let labels = LabelValues::parse(written, numbers)?;
        let mut groups = Groups::default();
        let (mut texts, mut targets) = (Vec::with_capacity(raw.len()), Vec::new());
        for text in raw {
            let group = groups.of(&text);
            let start = targets.len();
            targets.extend(text.targets.into_iter().map(|(target, _)| target));
            let targets = start..targets.len();
            let RawText { doc_id, place, text, chat, .. } = text;
            texts.push(LabelledText { doc_id, place, text, chat, group, targets });
        }
        let mut groups = groups.names;
        let grouping = match join(&mut texts, &mut groups, unit) {
            0 => grouping,
            n => format!("{grouping}, {n} of them joined to others that share a text"),
        };
        Ok(Self { texts, targets, labels, groups, grouping, unit, dropped })
    }

    /// The text that a target belongs to, by its place in [`texts`](Self::texts).
    pub fn text_of(&self, target: usize) -> usize {
        self.texts.partition_point(|text| text.targets.end <= target)
    }
}

/// Numbers groups in the order they are met. A name and a text never make the same group.
#[derive(Default)]
struct Groups {
    ids: HashMap<(bool, String), u32>,
    names: Vec<String>,
}

impl Groups {
    fn of(&mut self, text: &RawText) -> u32 {
        let key = text.group.as_ref().map_or_else(|| (false, fold(&text.text)), |name| (true, name.clone()));
        let next = self.names.len() as u32;
        let id = *self.ids.entry(key).or_insert(next);
        if id == next {
            self.names.push(text.group.clone().unwrap_or_else(|| text.place.clone()));
        }
        id
    }
}

fn is_conllu(path: &Path) -> Result<bool, TextError> {
    let found = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match Format::of(path) {
        _ if found == "conllu" => Ok(true),
        Err(TextError::UnknownExtension { .. }) | Ok(Format::Txt) => {
            Err(TextError::UnknownExtension { path: path.into(), found, known: KNOWN })
        }
        Ok(_) => Ok(false),
        Err(error) => Err(error),
    }
}

/// `: what was left out`, on the line of an error.
pub(super) fn one_line(left_out: &impl fmt::Display) -> String {
    let text = left_out.to_string();
    let words: Vec<_> = text.split_whitespace().collect();
    if words.is_empty() { String::new() } else { format!(": {}", words.join(" ")) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Reads one file of this name and content.
    pub(in crate::sources::labelled) fn open(
        name: &str,
        content: &str,
        options: &LabelledOptions,
    ) -> Result<LabelledSet, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let set = LabelledSet::open(&[path], options);
        let here = format!("{}/", dir.path().display());
        set.map_err(|error| error.to_string().replace(&here, "")).map(|mut set| {
            for text in &mut set.texts {
                text.place = text.place.replace(&here, "");
            }
            let dropped = &mut set.dropped;
            let words = [&mut dropped.without_key, &mut dropped.unaligned, &mut dropped.contracted];
            let missing = dropped.missing.values_mut();
            for noted in words.into_iter().chain([&mut dropped.unlabelled, &mut dropped.empty]).chain(missing)
            {
                noted.first = noted.first.take().map(|first| first.replace(&here, ""));
            }
            set
        })
    }

    #[test]
    fn texts_that_repeat_share_a_group() {
        let csv = "text,label\nThe  cat.,0\nthe cat.,1\nA dog.,1\n";
        let set = open("a.csv", csv, &LabelledOptions::default()).unwrap();
        assert_eq!(set.texts.iter().map(|text| text.group).collect::<Vec<_>>(), [0, 0, 1]);
        assert_eq!(set.groups.len(), 2);
    }

    #[test]
    fn groups_by_column_and_rows_without_one() {
        let csv = "text,label,city\na,0,x\nb,1,y\nc,0, x\nd,1,\nx,1,\n";
        let options = LabelledOptions { group_column: Some("city".into()), ..Default::default() };
        let set = open("a.csv", csv, &options).unwrap();
        assert_eq!(set.texts.iter().map(|text| text.group).collect::<Vec<_>>(), [0, 1, 0, 2, 3]);
        assert_eq!(set.groups[..2], ["x", "y"]);
        assert_eq!(set.text_of(0), 0);
        assert_eq!(set.text_of(4), 4);
        let set = open("a.csv", "text,label\nx,\na,0\n,1\nb,1\n", &LabelledOptions::default()).unwrap();
        assert_eq!(set.texts.iter().map(|text| text.doc_id).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn files_that_hold_nothing() {
        let none = LabelledOptions::default();
        let error = |name, content| open(name, content, &none).unwrap_err();
        assert!(error("a.txt", "x").ends_with("known are .csv, .tsv, .jsonl, .json, .parquet, .conllu"));
        assert!(error("a", "x").contains("unknown extension \"\""));
        let left_out = "left out 1 without a label (first a.csv:2), 1 without text (first a.csv:3)";
        let got = error("a.csv", "text,label\nx,\n ,1\n");
        assert_eq!(got, format!("no labelled text in a.csv: {left_out}"));
        assert_eq!(error("a.jsonl", ""), "no labelled text in a.jsonl");
        assert_eq!(LabelledSet::open(&[], &none).unwrap_err().to_string(), "no data file given");
    }

    #[test]
    fn words_and_texts_do_not_mix() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("a.csv"), dir.path().join("b.conllu")];
        std::fs::write(&paths[0], "text,label\na,b\n").unwrap();
        std::fs::write(&paths[1], "").unwrap();
        let error = LabelledSet::open(&paths, &LabelledOptions::default()).unwrap_err();
        assert!(matches!(error, LabelledError::Mixed(_)), "{error}");
    }
}
