//! `patterns.parquet`: where the heads of a model look on one prompt, so that a report can show it without the model.
//!
//! One row per layer, head, query and key up to the query: `layer`, `head`, `query`, `key` (places in the prompt),
//! `query_id`, `key_id`, `query_token`, `key_token`, and `weight`, the share of the query's attention that the key has.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch, StringArray, UInt32Array},
    datatypes::{Float64Type, Int32Type, UInt32Type},
    error::ArrowError,
};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::{
    guard::quietly,
    run::{RunError, Written, read_output, write_table},
    trace::PromptToken,
};

/// The file's name in the run directory.
pub const PATTERNS: &str = "patterns.parquet";

/// A prompt and its patterns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Patterns {
    /// The prompt.
    pub tokens: Vec<PromptToken>,
    /// By layer, then head.
    pub heads: Vec<HeadPattern>,
}

/// The pattern of one head.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadPattern {
    /// Its layer.
    pub layer: usize,
    /// Its number in the layer.
    pub head: usize,
    /// Row after row, a row per query, as many keys as the prompt has tokens; 0 behind the query.
    pub weights: Vec<f64>,
}

/// A link of a head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// The place that looks.
    pub query: usize,
    /// The place that is looked at.
    pub key: usize,
    /// Its share of the query's attention.
    pub weight: f64,
}

impl HeadPattern {
    /// `L1H0`.
    pub fn label(&self) -> String {
        format!("L{}H{}", self.layer, self.head)
    }

    /// Links up to each query, of a prompt of `n` tokens.
    fn links(&self, n: usize) -> impl Iterator<Item = Link> + '_ {
        let pairs = (0..n).flat_map(|query| (0..=query).map(move |key| (query, key)));
        pairs.map(move |(query, key)| Link { query, key, weight: self.weights[query * n + key] })
    }

    /// The strongest links, but those to the first token, on which most heads rest. Of equal ones the earlier stand
    /// first.
    pub fn strongest(&self, most: usize) -> Vec<Link> {
        let mut links: Vec<Link> =
            self.links(self.weights.len().isqrt()).filter(|link| link.key > 0).collect();
        links.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        links.truncate(most);
        links
    }
}

/// Writes `RUN/patterns.parquet`, whole or not at all.
///
/// # Errors
/// A failed file operation.
pub fn write_patterns(dir: &Path, patterns: &Patterns) -> Result<Written, RunError> {
    let path = dir.join(PATTERNS);
    let broken = |e: ArrowError| RunError::BadMetrics { path: path.clone(), reason: e.to_string() };
    write_table(&path, &batch(patterns).map_err(broken)?)
}

fn batch(patterns: &Patterns) -> Result<RecordBatch, ArrowError> {
    let n = patterns.tokens.len();
    let rows: Vec<(&HeadPattern, Link)> =
        patterns.heads.iter().flat_map(|head| head.links(n).map(move |link| (head, link))).collect();
    let ints = |get: &dyn Fn(&(&HeadPattern, Link)) -> usize| -> ArrayRef {
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| get(row) as i32)))
    };
    let token = |place: fn(&Link) -> usize| {
        rows.iter().map(move |(_, link)| &patterns.tokens[place(link)]).collect::<Vec<_>>()
    };
    let ids = |place| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(token(place).into_iter().map(|token| token.id)))
    };
    let texts = |place| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(token(place).into_iter().map(|token| token.text.as_str())))
    };
    let weights = Float64Array::from_iter_values(rows.iter().map(|(_, link)| link.weight));
    RecordBatch::try_from_iter([
        ("layer", ints(&|(head, _)| head.layer)),
        ("head", ints(&|(head, _)| head.head)),
        ("query", ints(&|(_, link)| link.query)),
        ("key", ints(&|(_, link)| link.key)),
        ("query_id", ids(|link| link.query)),
        ("key_id", ids(|link| link.key)),
        ("query_token", texts(|link| link.query)),
        ("key_token", texts(|link| link.key)),
        ("weight", Arc::new(weights)),
    ])
}

/// Reads `RUN/patterns.parquet`.
///
/// # Errors
/// When there is no such file, or it is not what [`write_patterns`] writes.
pub fn read_patterns(dir: &Path) -> Result<Patterns, RunError> {
    let path = dir.join(PATTERNS);
    let file = read_output(dir, PATTERNS)?;
    // The library panics on some damaged files, and a folder from before there were checksums may hold one.
    let patterns = quietly(|| patterns_of(file)).unwrap_or_else(Err);
    patterns.map_err(|reason| RunError::BadMetrics { path, reason })
}

fn patterns_of(file: Vec<u8>) -> Result<Patterns, String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).map_err(|e| e.to_string())?;
    let expected = batch(&Patterns::default()).map_err(|e| e.to_string())?.schema();
    let found = builder.schema();
    let same = expected
        .fields()
        .iter()
        .zip(found.fields())
        .all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type());
    if !same || expected.fields().len() != found.fields().len() {
        return Err("its columns are not those of patterns".to_owned());
    }
    let (mut rows, mut tokens) = (Vec::new(), Vec::new());
    for batch in builder.build().map_err(|e| e.to_string())? {
        let batch = batch.map_err(|e| e.to_string())?;
        if batch.columns().iter().any(|column| column.null_count() > 0) {
            return Err("it has rows without a value".to_owned());
        }
        let int = |i: usize, row: usize| {
            usize::try_from(batch.column(i).as_primitive::<Int32Type>().value(row)).unwrap_or(usize::MAX)
        };
        for row in 0..batch.num_rows() {
            let [layer, head, query, key] = [0, 1, 2, 3].map(|i| int(i, row));
            if query == key && query == tokens.len() {
                let text = batch.column(6).as_string::<i32>().value(row).to_owned();
                tokens
                    .push(PromptToken { id: batch.column(4).as_primitive::<UInt32Type>().value(row), text });
            }
            rows.push((
                layer,
                head,
                Link { query, key, weight: batch.column(8).as_primitive::<Float64Type>().value(row) },
            ));
        }
    }
    gathered(&rows, tokens)
}

/// Rows in the order of [`write_patterns`], by head.
fn gathered(rows: &[(usize, usize, Link)], tokens: Vec<PromptToken>) -> Result<Patterns, String> {
    let n = tokens.len();
    let each = n * (n + 1) / 2;
    let mut heads = Vec::new();
    for of_head in rows.chunks(each.max(1)) {
        let (layer, head, _) = of_head[0];
        let mut own = HeadPattern { layer, head, weights: vec![0.0; n * n] };
        let places: Vec<(usize, usize)> = own.links(n).map(|link| (link.query, link.key)).collect();
        let right = of_head.len() == each
            && of_head.iter().zip(&places).all(|((l, h, link), place)| {
                (*l, *h) == (layer, head) && (link.query, link.key) == *place && link.weight.is_finite()
            });
        if !right {
            return Err(format!("the rows of {} are not those of a pattern of {n} tokens", own.label()));
        }
        for (_, _, link) in of_head {
            own.weights[link.query * n + link.key] = link.weight;
        }
        heads.push(own);
    }
    Ok(Patterns { tokens, heads })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns() -> Patterns {
        let tokens = ["<s>", " a", "\u{202e}漢"].iter().zip(0..);
        let tokens = tokens.map(|(text, id)| PromptToken { id, text: (*text).to_owned() }).collect();
        let head = |layer, head, low: f64| HeadPattern {
            layer,
            head,
            weights: vec![1.0, 0.0, 0.0, 1.0 - low, low, 0.0, 0.2, 0.5 - low, 0.3 + low],
        };
        Patterns { tokens, heads: vec![head(0, 0, 0.25), head(0, 1, 0.125), head(2, 0, 0.5)] }
    }

    #[test]
    fn read_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        write_patterns(dir.path(), &patterns()).unwrap();
        assert_eq!(read_patterns(dir.path()).unwrap(), patterns());
    }

    #[test]
    fn the_strongest_links_leave_out_the_first_token() {
        let places: Vec<(usize, usize)> =
            patterns().heads[0].strongest(2).iter().map(|link| (link.query, link.key)).collect();
        assert_eq!(places, [(2, 2), (1, 1)]);
    }

    #[test]
    fn other_rows_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let whole = batch(&patterns()).unwrap();
        for bad in [whole.slice(0, 17), whole.slice(1, 17), whole.slice(6, 5)] {
            write_table(&dir.path().join(PATTERNS), &bad).unwrap();
            let why = read_patterns(dir.path()).unwrap_err().to_string();
            assert!(why.contains("are not those of a pattern"), "{why}");
        }
        let other = whole.project(&[0, 1, 2]).unwrap();
        write_table(&dir.path().join(PATTERNS), &other).unwrap();
        assert!(read_patterns(dir.path()).unwrap_err().to_string().contains("its columns are not"));
    }
}
