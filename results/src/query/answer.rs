//! Rows that a statement gave, as text, CSV, JSON and Parquet.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray},
    datatypes::{Field, Schema as StoredSchema},
};
use polars::prelude::*;
use serde_json::{Map, Value, json};

/// Rows that a statement gave.
#[derive(Debug, Clone)]
pub struct Answer(pub(super) DataFrame);

impl Answer {
    /// How many rows.
    pub fn rows(&self) -> usize {
        self.0.height()
    }

    /// Names of the columns.
    pub fn columns(&self) -> Vec<String> {
        self.0.get_column_names().iter().map(ToString::to_string).collect()
    }

    /// A cell as it is shown; nothing for a null. Texts are as they are, numbers so that they are read back as they
    /// were, lists as JSON.
    pub fn cell(&self, row: usize, column: usize) -> Option<String> {
        match self.value(row, column) {
            Value::Null => None,
            Value::String(text) => Some(text),
            value => Some(value.to_string()),
        }
    }

    fn value(&self, row: usize, column: usize) -> Value {
        self.0.columns()[column].get(row).map_or(Value::Null, |value| json_of(&value))
    }

    /// CSV with a header.
    pub fn csv(&self) -> String {
        let mut out = csv::Writer::from_writer(Vec::new());
        let columns = self.columns();
        let cells =
            |row: usize| (0..columns.len()).map(move |column| self.cell(row, column).unwrap_or_default());
        let written = out.write_record(&columns);
        let written =
            written.and_then(|()| (0..self.rows()).try_for_each(|row| out.write_record(cells(row))));
        debug_assert!(written.is_ok(), "records of one length, written to memory");
        String::from_utf8(out.into_inner().unwrap_or_default()).unwrap_or_default()
    }

    /// A line of JSON per row.
    pub fn json_lines(&self) -> String {
        let columns = self.columns();
        let line = |row: usize| {
            let cells = columns.iter().enumerate().map(|(i, name)| (name.clone(), self.value(row, i)));
            Value::from(cells.collect::<Map<_, _>>()).to_string() + "\n"
        };
        (0..self.rows()).map(line).collect()
    }

    /// The same as Arrow columns: whole numbers, numbers, truth values and texts; lists are texts, as JSON.
    ///
    /// # Errors
    /// When two columns have one name.
    pub fn arrow(&self) -> Result<RecordBatch, arrow::error::ArrowError> {
        let columns: Vec<(Field, ArrayRef)> =
            self.columns().into_iter().enumerate().map(|(i, name)| self.arrow_column(i, name)).collect();
        let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
        RecordBatch::try_new(Arc::new(StoredSchema::new(fields)), arrays)
    }

    fn arrow_column(&self, column: usize, name: String) -> (Field, ArrayRef) {
        let kind = self.0.columns()[column].dtype();
        let values = || (0..self.rows()).map(|row| self.value(row, column));
        let array: ArrayRef = if kind.is_bool() {
            Arc::new(values().map(|v| v.as_bool()).collect::<BooleanArray>())
        } else if kind.is_integer() && *kind != DataType::UInt64 {
            Arc::new(values().map(|v| v.as_i64()).collect::<Int64Array>())
        } else if kind.is_primitive_numeric() {
            Arc::new(values().map(|v| v.as_f64()).collect::<Float64Array>())
        } else {
            Arc::new((0..self.rows()).map(|row| self.cell(row, column)).collect::<StringArray>())
        };
        (Field::new(name, array.data_type().clone(), true), array)
    }
}

/// A value as JSON; numbers that are not finite are null, which JSON has for them.
fn json_of(value: &AnyValue<'_>) -> Value {
    match value {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(x) => json!(x),
        AnyValue::String(text) => json!(text),
        AnyValue::StringOwned(text) => json!(text.as_str()),
        // By its shortest digits, not by those of the double that it becomes.
        AnyValue::Float32(x) => x.to_string().parse::<f64>().map_or(Value::Null, |x| json!(x)),
        AnyValue::Float64(x) => json!(x),
        AnyValue::UInt64(x) => json!(x),
        AnyValue::List(items) => items.iter().map(|item| json_of(&item)).collect(),
        other => match other.extract::<i64>() {
            Some(x) if other.is_integer() => json!(x),
            _ => json!(other.to_string()),
        },
    }
}
