//! Rows of record batches, as Parquet and Arrow give them: a column of strings (or of bytes that are UTF-8) and the
//! scalar columns asked for.

use super::super::guard::{one_line, quietly};
use super::{Columns, RecordCell, Row, Rows, TextError, check_first};
use ::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use ::arrow::compute::cast;
use ::arrow::datatypes::{DataType, Fields, Float64Type, Int64Type};
use ::arrow::error::ArrowError;
use serde_json::Value;

/// Rows decoded at a time: documents can be long.
pub(super) const BATCH_ROWS: usize = 64;

/// Batches as they come; the libraries panic on some damaged files.
pub(super) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// The columns asked for: their places in the file, their names and the types they are read as, the text first.
pub(super) struct Chosen {
    pub(super) places: Vec<usize>,
    typed: Vec<(String, DataType)>,
}

struct Columnar {
    name: String,
    format: &'static str,
    batches: Batches,
    /// What is left of a batch larger than [`BATCH_ROWS`].
    rest: Option<RecordBatch>,
    /// The text column of the batch, then the others.
    batch: Vec<ArrayRef>,
    chosen: Chosen,
    /// Next row of the batch.
    next: usize,
    /// Rows of the file already given out.
    done: u64,
}

/// Runs a library on a file; a panic is an error like any other.
pub(super) fn attempt<T, E: std::fmt::Display>(
    name: &str,
    format: &'static str,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, TextError> {
    let bad = |message| TextError::Columnar { place: name.into(), format, message };
    quietly(work).map_err(bad)?.map_err(|error| bad(one_line(&error.to_string())))
}

impl Chosen {
    /// Finds the columns asked for among `fields`.
    pub(super) fn of(name: &str, fields: &Fields, columns: &Columns) -> Result<Self, TextError> {
        let (mut places, mut typed) = (Vec::new(), Vec::new());
        let text = columns.text_among(|name| fields.iter().any(|field| field.name() == name)).to_owned();
        for column in std::iter::once(&text).chain(&columns.others) {
            let (place, column) = (name.to_owned(), column.clone());
            let Some(index) = fields.iter().position(|field| *field.name() == column) else {
                let present = fields.iter().map(|field| field.name().clone()).collect();
                return Err(TextError::NoColumn { place, column, present });
            };
            let found = fields[index].data_type();
            if typed.is_empty() && columns.chats && is_chat(found) {
                places.push(index);
                typed.push((column, found.clone()));
                continue;
            }
            let wide = widest(found);
            if typed.is_empty() && !matches!(wide, Some(DataType::Utf8 | DataType::Binary)) {
                return Err(TextError::NotText { place, column, found: found.to_string() });
            }
            let Some(wide) = wide else {
                return Err(TextError::NotScalar { place, column, found: found.to_string() });
            };
            places.push(index);
            typed.push((column, wide));
        }
        Ok(Self { places, typed })
    }
}

/// Whether a column has lists of messages.
fn is_chat(found: &DataType) -> bool {
    match found {
        DataType::List(item) | DataType::LargeList(item) => {
            matches!(item.data_type(), DataType::Struct(fields) if fields.iter().any(|field| field.name() == "role"))
        }
        _ => false,
    }
}

/// The type that a column of single values is read as; nothing for lists, times and the like.
fn widest(found: &DataType) -> Option<DataType> {
    match found {
        DataType::Dictionary(_, values) => widest(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => Some(DataType::Utf8),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Some(DataType::Binary),
        DataType::Boolean => Some(DataType::Boolean),
        found if found.is_integer() => Some(DataType::Int64),
        found if found.is_floating() => Some(DataType::Float64),
        DataType::Decimal128(..) => Some(DataType::Float64),
        _ => None,
    }
}

/// The rows of batches, numbered from 1. A null is an empty text.
pub(super) fn rows(
    name: String,
    format: &'static str,
    batches: Batches,
    chosen: Chosen,
) -> Result<Rows, TextError> {
    let (batch, rest) = (Vec::new(), None);
    check_first(Columnar { name, format, batches, rest, batch, chosen, next: 0, done: 0 })
}

impl Iterator for Columnar {
    type Item = Result<Row, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.batch.first().is_none_or(|text| self.next >= text.len()) {
            match self.refill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        self.next += 1;
        self.done += 1;
        Some(self.row(self.next - 1))
    }
}

impl Columnar {
    fn row(&self, row: usize) -> Result<Row, TextError> {
        let place = format!("{}:{}", self.name, self.done);
        let chat = self.chosen.typed.first().is_some_and(|(_, kind)| is_chat(kind));
        let mut cells = self.batch.iter().zip(&self.chosen.typed).map(|(column, (name, _))| {
            cell(column, row).map_err(|offset| TextError::InvalidUtf8 {
                place: format!("{place}: column {name:?}"),
                offset,
                within: "value",
            })
        });
        let text = match cells.next().transpose()? {
            Some(RecordCell::Text(text)) => text,
            _ => String::new(),
        };
        let cells = cells.collect::<Result<_, _>>()?;
        Ok(Row { place, text, chat: chat && !self.batch[0].is_null(row), cells })
    }

    /// Decodes more rows; false when there are none.
    fn refill(&mut self) -> Result<bool, TextError> {
        let place = format!("{}:{}", self.name, self.done + 1);
        let whole = match self.rest.take() {
            Some(rest) => rest,
            None => match attempt(&place, self.format, || self.batches.next().transpose())? {
                Some(batch) => batch,
                None => return Ok(false),
            },
        };
        let rows = whole.num_rows().min(BATCH_ROWS);
        if rows < whole.num_rows() {
            self.rest = Some(whole.slice(rows, whole.num_rows() - rows));
        }
        self.next = 0;
        self.batch = attempt(&place, self.format, || self.decode(&whole.slice(0, rows)))?;
        Ok(true)
    }

    /// The columns of a batch, in the order asked for, as their widest types.
    fn decode(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, String> {
        let column = |(name, kind): &(String, DataType)| {
            let column = batch.column_by_name(name).ok_or_else(|| format!("column {name:?} is gone"))?;
            if is_chat(kind) {
                return Ok(column.clone());
            }
            let wide = cast(column, kind).map_err(|error| error.to_string())?;
            // A cast makes null of what does not fit.
            if wide.logical_null_count() > column.logical_null_count() {
                return Err(format!("column {name:?} has a value beyond {kind}"));
            }
            Ok(wide)
        };
        self.chosen.typed.iter().map(column).collect()
    }
}

/// A value of lists and structures as JSON. Nulls in structures are left out: a table has every key in every message.
fn nested(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    let list = |items: ArrayRef| (0..items.len()).map(|i| nested(&items, i)).collect();
    match column.data_type() {
        DataType::List(_) => list(column.as_list::<i32>().value(row)),
        DataType::LargeList(_) => list(column.as_list::<i64>().value(row)),
        DataType::Struct(_) => {
            let fields = column.as_struct();
            let pairs = fields.column_names().into_iter().zip(fields.columns());
            let pairs = pairs.map(|(name, column)| (name.to_owned(), nested(column, row)));
            Value::Object(pairs.filter(|(_, value)| !value.is_null()).collect())
        }
        found => match widest(found).and_then(|kind| cast(column, &kind).ok()).map(|wide| cell(&wide, row)) {
            Some(Ok(RecordCell::Text(text))) => text.into(),
            Some(Ok(RecordCell::Integer(n))) => n.into(),
            Some(Ok(RecordCell::Number(x))) => x.into(),
            Some(Ok(RecordCell::Bool(b))) => b.into(),
            _ => Value::Null,
        },
    }
}

/// A value, or the byte where it stops being UTF-8.
fn cell(column: &ArrayRef, row: usize) -> Result<RecordCell, u64> {
    if column.is_null(row) {
        return Ok(RecordCell::Missing);
    }
    Ok(match column.data_type() {
        DataType::Boolean => RecordCell::Bool(column.as_boolean().value(row)),
        DataType::Int64 => RecordCell::Integer(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => RecordCell::Number(column.as_primitive::<Float64Type>().value(row)),
        DataType::Binary => {
            let bytes = column.as_binary::<i32>().value(row);
            let text = std::str::from_utf8(bytes).map_err(|error| error.valid_up_to() as u64)?;
            RecordCell::Text(text.to_owned())
        }
        DataType::List(_) | DataType::LargeList(_) => {
            RecordCell::Text(serde_json::json!({ "messages": nested(column, row) }).to_string())
        }
        _ => RecordCell::Text(column.as_string::<i32>().value(row).to_owned()),
    })
}
