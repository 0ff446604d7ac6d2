//! The activation cache of `SAELens`: a dataset by `save_to_disk`, Arrow streams whose columns are hooks
//! (`Array2D [context, d]`) and `token_ids`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use arrow::{
    array::{Array, ArrayRef, AsArray as _, Float32Array, Int64Array, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float32Type, Int64Type, SchemaRef},
    ipc::reader::StreamReader,
};
use tch::Tensor;

use super::{Document, Foreign, ForeignError, Request, Use, Visit, names, point, table::token, width_of};
use crate::{hook::HookPoint, model::Spec};

/// A cache on disk, read a batch at a time.
pub(super) struct Cache {
    points: Vec<HookPoint>,
    /// Columns of the points, by name.
    columns: Vec<String>,
    widths: Vec<usize>,
    ids: String,
    files: Vec<PathBuf>,
    lengths: Vec<usize>,
    aside: Vec<String>,
    half: bool,
    spec: Spec,
}

impl Cache {
    pub(super) fn open(request: &Request<'_>, spec: &Spec) -> Result<Self, ForeignError> {
        let (path, files) = (request.path, files(request.path)?);
        let schema = reader(&files[0])?.schema();
        let ids = names::IDS.iter().find(|name| schema.field_with_name(name).is_ok());
        let ids =
            ids.ok_or_else(|| ForeignError::file(path, "its tokens were not stored: no column `token_ids`"))?;
        let mut aside = Vec::new();
        let mut chosen: BTreeMap<HookPoint, String> = BTreeMap::new();
        let map = names::map(request.map)?;
        for field in schema.fields().iter().filter(|field| field.name() != ids) {
            let name = field.name().clone();
            let found = match map.get(&name) {
                Some(None) => Use::Aside("by the map".into()),
                Some(Some(hook)) => point(hook, spec),
                None => point(&name, spec),
            };
            let point = match found {
                Use::Point(point) => point,
                Use::Aside(why) => {
                    aside.push(format!("{name}: {why}"));
                    continue;
                }
            };
            if request.layers.is_some_and(|layers| !layers.contains(&point.layer(spec.n_layers))) {
                continue;
            }
            if let Some(first) = chosen.insert(point, name.clone()) {
                return Err(ForeignError::Twice { path: path.into(), first, second: name, point });
            }
        }
        if chosen.is_empty() {
            let why = aside.first().map_or_else(String::new, |first| format!("; {first}"));
            return Err(ForeignError::file(path, format!("none of its columns can be imported{why}")));
        }
        let half = chosen.values().any(|name| is_half(&schema, name));
        let widths = chosen.keys().map(|point| width_of(spec, *point)).collect();
        let (points, columns) = chosen.into_iter().unzip();
        let (ids, spec) = ((*ids).to_owned(), spec.clone());
        let mut cache = Self { points, columns, widths, ids, files, lengths: Vec::new(), aside, half, spec };
        cache.lengths = cache.count()?;
        Ok(cache)
    }

    /// Tokens of every document.
    fn count(&self) -> Result<Vec<usize>, ForeignError> {
        let mut lengths = Vec::new();
        for path in &self.files {
            for batch in reader(path)? {
                let batch = batch.map_err(|why| ForeignError::file(path, why))?;
                let ids = Self::column(path, &batch, &self.ids)?;
                for row in 0..batch.num_rows() {
                    lengths.push(tokens(path, ids, row, &self.spec)?.len());
                }
            }
        }
        Ok(lengths)
    }

    fn column<'b>(path: &Path, batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef, ForeignError> {
        batch.column_by_name(name).ok_or_else(|| ForeignError::file(path, format!("no column `{name}`")))
    }

    fn document(
        &self,
        path: &Path,
        batch: &RecordBatch,
        row: usize,
        number: usize,
    ) -> Result<Document, ForeignError> {
        let ids = tokens(path, Self::column(path, batch, &self.ids)?, row, &self.spec)?;
        let mut values = Vec::new();
        for (name, width) in self.columns.iter().zip(&self.widths) {
            let numbers = numbers(path, Self::column(path, batch, name)?, row)?;
            if numbers.null_count() > 0 || numbers.len() != ids.len() * width {
                let (name, got) = (format!("{name}, row {row}"), vec![numbers.len() as i64]);
                let expected = format!("{} tokens of {width} numbers", ids.len());
                return Err(ForeignError::Shape { path: path.into(), name, got, expected });
            }
            values
                .push(Tensor::f_from_slice(numbers.values())?.f_reshape([ids.len() as i64, *width as i64])?);
        }
        Ok(Document { number, ids, values })
    }
}

impl Foreign for Cache {
    fn points(&self) -> &[HookPoint] {
        &self.points
    }

    fn left_aside(&self) -> &[String] {
        &self.aside
    }

    fn is_half(&self) -> bool {
        self.half
    }

    fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    fn each(&self, wanted: &dyn Fn(usize) -> bool, visit: &mut Visit<'_>) -> Result<(), ForeignError> {
        let mut number = 0;
        for path in &self.files {
            for batch in reader(path)? {
                let batch = batch.map_err(|why| ForeignError::file(path, why))?;
                for row in 0..batch.num_rows() {
                    if wanted(number) {
                        visit(self.document(path, &batch, row, number)?)?;
                    }
                    number += 1;
                }
            }
        }
        Ok(())
    }
}

fn reader(path: &Path) -> Result<StreamReader<BufReader<File>>, ForeignError> {
    let file = File::open(path).map_err(ForeignError::io(path))?;
    StreamReader::try_new(BufReader::new(file), None)
        .map_err(|why| ForeignError::file(path, format!("no Arrow stream: {why}")))
}

/// The files that `state.json` lists, in its order.
fn files(path: &Path) -> Result<Vec<PathBuf>, ForeignError> {
    let state = path.join("state.json");
    let text = fs::read_to_string(&state).map_err(ForeignError::io(&state))?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|why| ForeignError::file(&state, why))?;
    let names = value["_data_files"].as_array().into_iter().flatten().map(|file| file["filename"].as_str());
    let plain = |name: &str| !name.is_empty() && !name.contains(['/', '\\']) && name != "..";
    let file = |name: Option<&str>| match name.filter(|name| plain(name)) {
        Some(name) => Ok(path.join(name)),
        None => Err(ForeignError::file(&state, "a data file without a plain name")),
    };
    let files = names.map(file).collect::<Result<Vec<_>, _>>()?;
    if files.is_empty() { Err(ForeignError::file(&state, "it lists no data file")) } else { Ok(files) }
}

fn is_half(schema: &SchemaRef, name: &str) -> bool {
    let mut kind = schema.field_with_name(name).map_or(DataType::Null, |field| field.data_type().clone());
    while let DataType::List(inner) | DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) = &kind {
        kind = inner.data_type().clone();
    }
    kind == DataType::Float16
}

/// One row's numbers, out of lists in lists.
fn flat(path: &Path, column: &ArrayRef, row: usize) -> Result<ArrayRef, ForeignError> {
    if column.is_null(row) {
        return Err(ForeignError::file(path, format!("row {row} is null")));
    }
    let mut values = column.slice(row, 1);
    loop {
        values = match values.data_type() {
            DataType::List(_) => {
                let list = values.as_list::<i32>();
                let (from, to) = (list.value_offsets()[0], list.value_offsets()[list.len()]);
                list.values().slice(from as usize, (to - from) as usize)
            }
            DataType::LargeList(_) => {
                let list = values.as_list::<i64>();
                let (from, to) = (list.value_offsets()[0], list.value_offsets()[list.len()]);
                list.values().slice(from as usize, (to - from) as usize)
            }
            DataType::FixedSizeList(..) => values.as_fixed_size_list().values().clone(),
            _ => return Ok(values),
        };
    }
}

fn numbers(path: &Path, column: &ArrayRef, row: usize) -> Result<Float32Array, ForeignError> {
    let values = flat(path, column, row)?;
    let wide = cast(&values, &DataType::Float32).map_err(|why| ForeignError::file(path, why))?;
    Ok(wide.as_primitive::<Float32Type>().clone())
}

fn tokens(path: &Path, column: &ArrayRef, row: usize, spec: &Spec) -> Result<Vec<u32>, ForeignError> {
    let values = flat(path, column, row)?;
    let wide = cast(&values, &DataType::Int64).map_err(|why| ForeignError::file(path, why))?;
    let ids: &Int64Array = wide.as_primitive::<Int64Type>();
    ids.iter().map(|id| token(path, id.unwrap_or(-1), spec)).collect()
}
