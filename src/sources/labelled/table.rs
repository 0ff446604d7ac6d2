//! Labelled rows of `.csv`, `.tsv`, `.jsonl`, `.json` and `.parquet`.

use super::dropped::{Raw, RawText};
use super::error::LabelledError;
use super::set::{LabelledOptions, Referent};
use super::spelling::{self, Missing};
use crate::sources::text::reader::{Columns, DEFAULT_COLUMN, RecordCell, Row, open_file};
use crate::sources::text::{Format, TextError};
use std::ops::Range;
use std::path::Path;

/// Reads a file's rows onto `raw`. What a column holds, and so how its values are spelled, is known behind the last
/// row.
pub(super) fn read(path: &Path, options: &LabelledOptions, raw: &mut Raw) -> Result<(), LabelledError> {
    let (first, mut labels, mut groups) = (raw.texts.len(), Vec::new(), Vec::new());
    let label = options.label_column.as_deref().unwrap_or("label");
    let text = options.text_column.as_deref().unwrap_or(DEFAULT_COLUMN);
    let (starts, ends) = options.span_columns.as_ref().map(|(start, end)| (start, end)).unzip();
    let others = [starts, ends, options.group_column.as_ref()].into_iter().flatten().cloned();
    let columns = Columns {
        text: text.into(),
        others: std::iter::once(label.into()).chain(others).collect(),
        chats: options.chats.is_some(),
    };
    for row in open_file(path, Format::of(path)?, &columns)? {
        let (mut row, doc_id) = (row?, raw.next_id());
        let all = std::mem::take(&mut row.cells);
        let mut cells = all.iter();
        let value = cells.next().unwrap_or(&RecordCell::Missing);
        if let Some(missing) = spelling::missing(value, options.keep_missing) {
            leave_out(missing, row.place, label, options.strict, raw)?;
            continue;
        }
        if row.text.trim().is_empty() {
            raw.dropped.empty.add(|| row.place);
            continue;
        }
        let turn = turn(&mut row, options)?;
        let span = match starts.zip(ends) {
            None => turn,
            Some((start, end)) => {
                let mut bound =
                    |column: &str| bound(cells.next().unwrap_or(&RecordCell::Missing), column, &row);
                Some(bytes(&row, bound(start)?..bound(end)?)?)
            }
        };
        let form = span.clone().map(|span| row.text[span].to_owned());
        labels.push(value.clone());
        groups.push(cells.next().cloned().unwrap_or(RecordCell::Missing));
        let targets = vec![(Referent { span, form }, String::new())];
        raw.texts.push(RawText {
            doc_id,
            place: row.place,
            text: row.text,
            chat: row.chat,
            group: None,
            targets,
        });
    }
    for (text, name) in raw.texts[first..].iter_mut().zip(spelling::names(&labels)) {
        text.targets.iter_mut().for_each(|(_, label)| label.clone_from(&name));
    }
    // A group may be called NA.
    let (places, groups): (Vec<usize>, Vec<RecordCell>) =
        (first..).zip(groups).filter(|(_, cell)| spelling::missing(cell, true).is_none()).unzip();
    for (place, name) in places.into_iter().zip(spelling::names(&groups)) {
        raw.texts[place].group = Some(name);
    }
    Ok(())
}

/// Puts the text of a chat into its row, and finds the message that its label is about.
fn turn(row: &mut Row, options: &LabelledOptions) -> Result<Option<Range<usize>>, LabelledError> {
    let chat = options.chats.as_ref().filter(|_| row.chat);
    let Some(chats) = chat else {
        return match &options.turn {
            Some(turn) => Err(LabelledError::NoTurn { place: row.place.clone(), turn: turn.to_string() }),
            None => Ok(None),
        };
    };
    let error = |source| TextError::Chat { place: row.place.clone(), source };
    let rendered = chats.render(&row.text).map_err(error)?;
    row.text = rendered.text;
    let Some(selector) = &options.turn else { return Ok(None) };
    let turn = selector.last_turn(&rendered.turns);
    let turn =
        turn.ok_or_else(|| LabelledError::NoTurn { place: row.place.clone(), turn: selector.to_string() })?;
    Ok(Some(turn.start..turn.end))
}

/// Counts a row without a label, by what stands in its place.
fn leave_out(
    missing: Missing,
    place: String,
    column: &str,
    strict: bool,
    raw: &mut Raw,
) -> Result<(), LabelledError> {
    let noted = match missing {
        Missing::Empty if strict => return Err(LabelledError::MissingLabel { place, column: column.into() }),
        Missing::Word(word) if strict => {
            return Err(LabelledError::MissingWord { place, column: column.into(), word });
        }
        Missing::Empty => &mut raw.dropped.unlabelled,
        Missing::Word(word) => raw.dropped.missing.entry(word).or_default(),
    };
    noted.add(|| place);
    Ok(())
}

/// A character's number.
fn bound(cell: &RecordCell, column: &str, row: &Row) -> Result<usize, LabelledError> {
    // pandas writes whole numbers of a column with gaps as 3.0.
    let value = (spelling::missing(cell, true).is_none())
        .then(|| spelling::names(std::slice::from_ref(cell)).remove(0));
    value.as_ref().and_then(|value| value.parse().ok()).ok_or_else(|| LabelledError::BadBound {
        place: row.place.clone(),
        column: column.into(),
        found: value.map_or_else(|| "nothing".into(), |value| format!("{value:?}")),
    })
}

/// The bytes of a span of characters.
fn bytes(row: &Row, span: Range<usize>) -> Result<Range<usize>, LabelledError> {
    let byte = |n: usize| row.text.char_indices().map(|(at, _)| at).chain([row.text.len()]).nth(n);
    match (byte(span.start), byte(span.end)) {
        (Some(start), Some(end)) if start < end => Ok(start..end),
        _ => Err(LabelledError::BadSpan {
            place: row.place.clone(),
            start: span.start,
            end: span.end,
            len: row.text.chars().count(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::labelled::set::tests::open;
    use crate::sources::labelled::{LabelValues, LabelledSet, Unit};

    fn spans() -> LabelledOptions {
        let span_columns = Some(("start".into(), "end".into()));
        LabelledOptions { span_columns, ..Default::default() }
    }

    #[test]
    fn every_format_gives_the_same() {
        let options = LabelledOptions { group_column: Some("g".into()), ..Default::default() };
        let files = [
            ("a.csv", "label,text,g\n1,\"é, b\",x\n0,c,y\n"),
            ("a.tsv", "text\tg\tlabel\né, b\tx\t1\nc\ty\t0\n"),
            (
                "a.jsonl",
                "{\"text\":\"é, b\",\"label\":1,\"g\":\"x\"}\n{\"g\":\"y\",\"text\":\"c\",\"label\":0}",
            ),
            (
                "a.json",
                "[{\"text\":\"é, b\",\"label\":1,\"g\":\"x\"},{\"g\":\"y\",\"text\":\"c\",\"label\":0.0}]",
            ),
        ];
        for (name, content) in files {
            let set = open(name, content, &options).unwrap();
            let texts: Vec<_> = set.texts.iter().map(|text| (text.text.as_str(), text.group)).collect();
            assert_eq!(texts, [("é, b", 0), ("c", 1)], "{name}");
            let names = vec!["0".to_owned(), "1".to_owned()];
            assert_eq!(set.labels, LabelValues::Classes { y: vec![1, 0], names }, "{name}");
            assert_eq!((set.unit, &*set.groups[1]), (Unit::Text, "y"), "{name}");
        }
    }

    #[test]
    fn parquet_with_nulls_and_float_classes() {
        use arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray};
        use std::sync::Arc;
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let label: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None, Some(0.0)]));
        let group: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), Some(7), None]));
        let columns = [("label", label, true), ("text", text, true), ("g", group, true)];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let options = LabelledOptions { group_column: Some("g".into()), ..Default::default() };
        let set = LabelledSet::open(&[path], &options).unwrap();
        let names = vec!["0".to_owned(), "1".to_owned()];
        assert_eq!(set.labels, LabelValues::Classes { y: vec![1, 0], names });
        assert_eq!(set.texts.iter().map(|text| text.group).collect::<Vec<_>>(), [0, 1]);
        assert_eq!((set.groups[0].as_str(), set.dropped.unlabelled.count), ("7", 1));
        assert!(set.dropped.unlabelled.first.unwrap().ends_with("a.parquet:2"));
    }

    #[test]
    fn spans_count_characters() {
        // "🙂é日 x": the smile is 4 bytes, é 2, 日 3.
        let csv = "text,start,end,label\n🙂é日 x,0,1,a\n🙂é日 x,1,3,b\n🙂é日 x,4,5,a\n";
        let set = open("a.csv", csv, &spans()).unwrap();
        let spans: Vec<_> = set.targets.iter().map(|target| target.span.clone().unwrap()).collect();
        assert_eq!(spans, [0..4, 4..9, 10..11]);
        let forms: Vec<_> = set.targets.iter().map(|target| target.form.clone().unwrap()).collect();
        assert_eq!(forms, ["🙂", "é日", "x"]);
        assert_eq!(set.unit, Unit::Span);
    }

    #[test]
    fn bad_spans_and_labels_are_named() {
        let error =
            |row: &str| open("a.csv", &format!("text,start,end,label\n{row}\n"), &spans()).unwrap_err();
        let characters = "(characters, end exclusive) is not in a text of 2 characters";
        assert_eq!(error("éé,0,3,a"), format!("a.csv:2: span 0..3 {characters}"));
        assert_eq!(error("éé,1,1,a"), format!("a.csv:2: span 1..1 {characters}"));
        assert_eq!(error("éé,2,1,a"), format!("a.csv:2: span 2..1 {characters}"));
        assert!(error("éé,18446744073709551615,1,a").contains("span 18446744073709551615..1"));
        assert_eq!(error("éé,-1,1,a"), "a.csv:2: \"start\" must be a whole number from 0, got \"-1\"");
        assert_eq!(error("éé,0,,a"), "a.csv:2: \"end\" must be a whole number from 0, got nothing");
        let numbers = LabelledOptions { numbers: true, ..Default::default() };
        let error = open("a.csv", "text,label\nx,1\ny,warm\n", &numbers).unwrap_err();
        assert_eq!(error, "a.csv:3: label \"warm\" is not a finite number");
        let strict = LabelledOptions { strict: true, ..Default::default() };
        let error = open("a.csv", "text,label\nx,1\ny,\n", &strict).unwrap_err();
        assert_eq!(error, "a.csv:3: no \"label\" (--strict asks for a label in every row)");
        let error = open("a.csv", "sentence,label\nx,1\n", &strict).unwrap_err();
        assert_eq!(error, "a.csv: no column \"text\", columns here: \"sentence\", \"label\"");
    }
}
