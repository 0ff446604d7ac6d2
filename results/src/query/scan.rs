//! A table as polars scans it: the Parquet files of several runs, of which it asks for the columns that a statement
//! needs.

use std::{any::Any, fs::File, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{self as of, DataType as Stored, SchemaRef as StoredSchema},
};
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};
use polars::prelude::*;

use super::Part;
use crate::guard::quietly;

/// The files of a table and the columns that there are in any of them.
pub(super) struct Scan {
    parts: Vec<Part>,
    schema: SchemaRef,
}

impl Scan {
    /// Reads the schemas; columns in the order in which they first come, behind `run` and what folders say.
    pub(super) fn new(parts: Vec<Part>) -> PolarsResult<Self> {
        let mut schema = Schema::default();
        for (name, _) in parts.iter().flat_map(Part::constants) {
            schema.insert(name.into(), if name == "layer" { DataType::Int32 } else { DataType::String });
        }
        for part in &parts {
            for field in stored_schema(part)?.fields() {
                let (name, kind) = (field.name().as_str(), kind(field.data_type()));
                let both = schema.get(name).map_or(kind.clone(), |other| wider(other, &kind));
                schema.insert(name.into(), both);
            }
        }
        Ok(Self { parts, schema: Arc::new(schema) })
    }

    /// The table, lazily.
    pub(super) fn lazy(self) -> PolarsResult<LazyFrame> {
        LazyFrame::anonymous_scan(Arc::new(self), ScanArgsAnonymous::default())
    }

    /// Some columns of a file, batch by batch, until there are `limit` rows.
    fn read(&self, part: &Part, wanted: &[PlSmallStr], limit: usize) -> PolarsResult<DataFrame> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(open(part)?).map_err(failed)?;
        let stored = builder.schema().clone();
        let places =
            (0..stored.fields().len()).filter(|i| wanted.iter().any(|w| w == stored.field(*i).name()));
        let mask = ProjectionMask::roots(builder.parquet_schema(), places);
        let mut frame = self.frame(part, wanted, None, 0)?;
        for batch in builder.with_projection(mask).with_limit(limit).build().map_err(failed)? {
            let batch = batch.map_err(failed)?;
            frame.vstack_mut(&self.frame(part, wanted, Some(&batch), batch.num_rows())?)?;
        }
        Ok(frame)
    }

    /// The columns of a batch, with those that the folder says, and nulls where the file has none.
    fn frame(
        &self,
        part: &Part,
        wanted: &[PlSmallStr],
        batch: Option<&RecordBatch>,
        rows: usize,
    ) -> PolarsResult<DataFrame> {
        let column = |name: &PlSmallStr| -> PolarsResult<Column> {
            let kind = self.schema.try_get(name)?;
            if let Some((_, text)) =
                part.constants().into_iter().find(|(constant, _)| *constant == name.as_str())
            {
                return Ok(Series::new(name.clone(), vec![text; rows]).cast(kind)?.into());
            }
            match batch.and_then(|batch| batch.column_by_name(name)) {
                Some(array) => Ok(series(name, array)?.cast(kind)?.into()),
                None => Ok(Series::full_null(name.clone(), rows, kind).into()),
            }
        };
        DataFrame::new(rows, wanted.iter().map(column).collect::<PolarsResult<_>>()?)
    }
}

impl AnonymousScan for Scan {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self, _infer_schema_length: Option<usize>) -> PolarsResult<SchemaRef> {
        Ok(self.schema.clone())
    }

    fn allows_projection_pushdown(&self) -> bool {
        true
    }

    fn scan(&self, asked: AnonymousScanArgs) -> PolarsResult<DataFrame> {
        let all = || self.schema.iter_names_cloned().collect();
        let wanted: Vec<PlSmallStr> = asked.with_columns.map_or_else(all, |columns| columns.to_vec());
        let most = asked.n_rows.unwrap_or(usize::MAX);
        let mut frame = DataFrame::empty();
        for part in &self.parts {
            let left = most - frame.height();
            // The reader panics on some damaged files.
            let own = quietly(|| self.read(part, &wanted, left)).unwrap_or_else(|e| Err(failed(e)))?;
            frame = if frame.width() == 0 { own } else { frame.vstack(&own)? };
            if frame.height() >= most {
                break;
            }
        }
        Ok(frame)
    }
}

fn failed(error: impl std::fmt::Display) -> PolarsError {
    PolarsError::ComputeError(error.to_string().into())
}

fn open(part: &Part) -> PolarsResult<File> {
    let path = part.path();
    File::open(&path).map_err(|e| failed(format!("{}: {e}", path.display())))
}

fn stored_schema(part: &Part) -> PolarsResult<StoredSchema> {
    let builder = quietly(|| open(part).map(ParquetRecordBatchReaderBuilder::try_new));
    let builder = builder.map_err(failed)??.map_err(|e| failed(format!("{}: {e}", part.path().display())))?;
    Ok(builder.schema().clone())
}

/// What a stored type is here; half floats are singles, and types without numbers or text in them are shown as text.
fn kind(stored: &Stored) -> DataType {
    match stored {
        Stored::Boolean => DataType::Boolean,
        Stored::Int8 => DataType::Int8,
        Stored::Int16 => DataType::Int16,
        Stored::Int32 => DataType::Int32,
        Stored::Int64 => DataType::Int64,
        Stored::UInt8 => DataType::UInt8,
        Stored::UInt16 => DataType::UInt16,
        Stored::UInt32 => DataType::UInt32,
        Stored::UInt64 => DataType::UInt64,
        Stored::Float16 | Stored::Float32 => DataType::Float32,
        Stored::Float64 => DataType::Float64,
        Stored::List(item) | Stored::LargeList(item) | Stored::FixedSizeList(item, _) => {
            DataType::List(Box::new(kind(item.data_type())))
        }
        _ => DataType::String,
    }
}

/// What holds the values of both.
fn wider(a: &DataType, b: &DataType) -> DataType {
    match (a, b) {
        (a, b) if a == b => a.clone(),
        (a, b) if a.is_integer() && b.is_integer() => DataType::Int64,
        (a, b) if a.is_primitive_numeric() && b.is_primitive_numeric() => DataType::Float64,
        _ => DataType::String,
    }
}

/// Numbers of an array, with nulls.
macro_rules! numbers {
    ($name:expr, $array:expr, $kind:ty) => {
        Series::new($name, $array.as_primitive::<$kind>().iter().collect::<Vec<_>>())
    };
}

/// An array as a series.
fn series(name: &PlSmallStr, array: &ArrayRef) -> PolarsResult<Series> {
    let to = |kind: &Stored| cast(array, kind).map_err(failed);
    let name = name.clone();
    Ok(match array.data_type() {
        Stored::Boolean => Series::new(name, array.as_boolean().iter().collect::<Vec<_>>()),
        Stored::Int8 => numbers!(name, array, of::Int8Type),
        Stored::Int16 => numbers!(name, array, of::Int16Type),
        Stored::Int32 => numbers!(name, array, of::Int32Type),
        Stored::Int64 => numbers!(name, array, of::Int64Type),
        Stored::UInt8 => numbers!(name, array, of::UInt8Type),
        Stored::UInt16 => numbers!(name, array, of::UInt16Type),
        Stored::UInt32 => numbers!(name, array, of::UInt32Type),
        Stored::UInt64 => numbers!(name, array, of::UInt64Type),
        Stored::Float16 => numbers!(name, to(&Stored::Float32)?, of::Float32Type),
        Stored::Float32 => numbers!(name, array, of::Float32Type),
        Stored::Float64 => numbers!(name, array, of::Float64Type),
        Stored::List(_) => lists(&name, array.as_list::<i32>().iter())?,
        Stored::LargeList(_) => lists(&name, array.as_list::<i64>().iter())?,
        Stored::FixedSizeList(..) => lists(&name, array.as_fixed_size_list().iter())?,
        _ => {
            let text = to(&Stored::Utf8)?;
            Series::new(name, text.as_string::<i32>().iter().collect::<Vec<_>>())
        }
    })
}

/// A series of lists; an empty one has no type of its own until it is cast.
fn lists(name: &PlSmallStr, arrays: impl Iterator<Item = Option<ArrayRef>>) -> PolarsResult<Series> {
    let each = |array: Option<ArrayRef>| array.map(|array| series(&PlSmallStr::EMPTY, &array)).transpose();
    let all: Vec<Option<Series>> = arrays.map(each).collect::<PolarsResult<_>>()?;
    Ok(Series::new(name.clone(), all))
}
