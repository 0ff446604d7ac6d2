//! `metrics.parquet`: the numbers of a run, one per row.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int32Type, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::{RowKind, RunError, Subject, Written, earlier, parts::Columns, read_output, write_atomic};
use crate::guard::quietly;
use crate::statistics::Estimate;

/// The file's name in the run directory.
pub const METRICS: &str = "metrics.parquet";

/// One number of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricRow {
    /// Whose number: `logit`, a lens folder's name, `model`, a probe.
    pub subject: Subject,
    /// What the subject is: a tuned lens, a probe, the model.
    pub kind: RowKind,
    /// Hook it reads, by its short name.
    pub hook: String,
    /// Layer it reads.
    pub layer: i32,
    /// Transfer: the layer the lens was made for.
    pub source_layer: Option<i32>,
    /// Tokens ahead; 1 is the next token.
    pub horizon: i32,
    /// `ce`, `kl`, `accuracy` …
    pub metric: String,
    /// `nats`, `bits/byte`, `share` …
    pub unit: String,
    /// The number. Finite.
    pub estimate: f64,
    /// Lower end of its 95 % interval, where there is one. Finite.
    pub lower: Option<f64>,
    /// Upper end.
    pub upper: Option<f64>,
    /// Tokens (or examples) behind it.
    pub n: i64,
    /// Documents (or groups) behind it.
    pub n_clusters: i64,
    /// As many equal, independent documents would tell as much: `(Σ m)² / Σ m²` of their sizes; 0 of what was not
    /// sampled. Finite.
    pub n_eff: f64,
    /// Why there is no interval; none where there is one.
    pub reason: Option<String>,
}

impl MetricRow {
    /// A number of the next token without saying yet whose it is: for `MetricRow { subject, kind, hook, layer, ..of }`.
    pub fn of(metric: &str, unit: &str, number: Estimate) -> Self {
        Self {
            subject: Subject::default(),
            kind: RowKind::Model,
            hook: String::new(),
            layer: 0,
            source_layer: None,
            horizon: 1,
            metric: metric.into(),
            unit: unit.into(),
            estimate: number.estimate,
            lower: number.lower(),
            upper: number.upper(),
            n: number.n as i64,
            n_clusters: number.n_clusters as i64,
            n_eff: number.n_eff,
            reason: number.interval.err().map(|why| why.to_string()),
        }
    }

    /// `tuned ce at layer 3` and what else tells the row from others.
    fn name(&self) -> String {
        let source = self.source_layer.map_or_else(String::new, |layer| format!(" (lens of layer {layer})"));
        let Self { subject, metric, hook, layer, horizon, .. } = self;
        format!("{metric} of {subject} at {hook}, layer {layer}{source}, horizon {horizon}")
    }

    fn check(&self) -> Result<(), RunError> {
        let some = |x| Some(x);
        let values = [
            ("estimate", some(self.estimate)),
            ("n_eff", some(self.n_eff)),
            ("lower", self.lower),
            ("upper", self.upper),
        ];
        match values.iter().find_map(|&(what, value)| value.filter(|x| !x.is_finite()).map(|x| (what, x))) {
            Some((what, value)) => Err(RunError::BadMetric { row: self.name(), what, value }),
            None => self.check_interval(),
        }
    }

    /// An interval has two ends, and a number without one a reason.
    fn check_interval(&self) -> Result<(), RunError> {
        match (self.lower, self.upper, &self.reason) {
            (Some(lower), Some(upper), None) if lower <= upper => Ok(()),
            (None, None, Some(_)) => Ok(()),
            _ => Err(RunError::BadInterval { row: self.name() }),
        }
    }
}

/// Writes `RUN/metrics.parquet` as a whole or not at all. The same rows give the same bytes.
///
/// # Errors
/// [`RunError::BadMetric`] for a number that is not finite; a failed file operation.
pub fn write_metrics(dir: &Path, rows: &[MetricRow]) -> Result<Written, RunError> {
    rows.iter().try_for_each(MetricRow::check)?;
    let path = dir.join(METRICS);
    let broken = |e: &dyn ToString| RunError::BadMetrics { path: path.clone(), reason: e.to_string() };
    let batch = RecordBatch::try_new(schema(), columns(rows)).map_err(|e| broken(&e))?;
    write_table(&path, &batch)
}

/// Writes a table as Parquet, whole or not at all. The same rows give the same bytes.
///
/// # Errors
/// [`RunError::BadMetrics`] when it cannot be encoded; a failed file operation.
pub fn write_table(path: &Path, batch: &RecordBatch) -> Result<Written, RunError> {
    let broken = |e: ParquetError| RunError::BadMetrics { path: path.to_owned(), reason: e.to_string() };
    let ((), written) = write_atomic(path, |file| {
        let write = |file| -> Result<(), ParquetError> {
            let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties()?))?;
            writer.write(batch)?;
            writer.close().map(|_| ())
        };
        write(file).map_err(broken)
    })?;
    Ok(written)
}

/// Reads `RUN/metrics.parquet`.
///
/// # Errors
/// [`RunError::Io`] when there is no such file, [`RunError::Damaged`] when it is not what the run wrote,
/// [`RunError::BadMetrics`] when it has other columns.
pub fn read_metrics(dir: &Path) -> Result<Vec<MetricRow>, RunError> {
    let path = dir.join(METRICS);
    let file = read_output(dir, METRICS)?;
    // The library panics on some damaged files, and a folder from before there were checksums may hold one.
    let rows = quietly(|| rows_of(file)).unwrap_or_else(Err);
    rows.map_err(|reason| RunError::BadMetrics { path, reason })
}

fn rows_of(file: Vec<u8>) -> Result<Vec<MetricRow>, String> {
    let broken = |e: ParquetError| e.to_string();
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).map_err(broken)?;
    let found = builder.schema().fields().clone();
    if !is_ours(&found) {
        let names: Vec<_> = builder.schema().fields().iter().map(ToString::to_string).collect();
        return Err(format!("its columns are {}", names.join(", ")));
    }
    let mut rows = Vec::new();
    for batch in builder.build().map_err(broken)? {
        let batch = batch.map_err(|e| e.to_string())?;
        let subjects = subjects(&batch)?;
        let all = subjects.into_iter().enumerate();
        rows.extend(all.map(|(row, whose)| row_of(&batch, row, whose)));
    }
    Ok(rows)
}

/// Whether columns are those of a metrics file. Earlier files end with `n_clusters`, with `reason`, or have fewer parts
/// of subjects than there are now.
fn is_ours(found: &Fields) -> bool {
    let all = schema();
    let (fixed, parts) = all.fields().split_at(WITHOUT_PARTS);
    if found.len() <= EARLIER {
        return found[..] == fixed[..EARLIER];
    }
    found.len() >= WITHOUT_PARTS
        && found[..WITHOUT_PARTS] == *fixed
        && found[WITHOUT_PARTS..].iter().all(|column| parts.contains(column))
}

/// Whose numbers the rows are; the parts of a subject make its text.
fn subjects(batch: &RecordBatch) -> Result<Vec<(Subject, RowKind)>, String> {
    let text = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row).to_owned();
    let texts: Vec<(String, RowKind)> = (0..batch.num_rows())
        .map(|row| Ok((text(0, row), text(1, row).parse::<RowKind>()?)))
        .collect::<Result<_, String>>()?;
    let found = if batch.num_columns() <= WITHOUT_PARTS {
        earlier::subjects(&texts)
    } else {
        (0..batch.num_rows()).map(|row| Columns::read(batch, row).subject()).collect()
    };
    match found.iter().zip(&texts).find(|(subject, (text, _))| **subject != *text) {
        Some((subject, (text, _))) => {
            Err(format!("a row is of {text:?} and its parts of {:?}", subject.as_str()))
        }
        None => Ok(found.into_iter().zip(texts).map(|(subject, (_, kind))| (subject, kind)).collect()),
    }
}

/// Columns of the files of versions before `n_eff` and `reason`.
const EARLIER: usize = 13;

/// Columns of the files of versions before the parts of a subject had columns.
const WITHOUT_PARTS: usize = 15;

/// Names and types, in the file's order.
fn schema() -> SchemaRef {
    let field = |(name, data_type, nullable)| Field::new(name, data_type, nullable);
    let fields = [
        ("subject", DataType::Utf8, false),
        ("kind", DataType::Utf8, false),
        ("hook", DataType::Utf8, false),
        ("layer", DataType::Int32, false),
        ("source_layer", DataType::Int32, true),
        ("horizon", DataType::Int32, false),
        ("metric", DataType::Utf8, false),
        ("unit", DataType::Utf8, false),
        ("estimate", DataType::Float64, false),
        ("lower", DataType::Float64, true),
        ("upper", DataType::Float64, true),
        ("n", DataType::Int64, false),
        ("n_clusters", DataType::Int64, false),
        ("n_eff", DataType::Float64, false),
        ("reason", DataType::Utf8, true),
    ];
    let parts = Columns::ALL.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    Arc::new(Schema::new(fields.map(field).into_iter().chain(parts).collect::<Vec<_>>()))
}

fn columns(rows: &[MetricRow]) -> Vec<ArrayRef> {
    let text = |get: fn(&MetricRow) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(get)))
    };
    let i32s = |get: fn(&MetricRow) -> Option<i32>| -> ArrayRef {
        Arc::new(rows.iter().map(get).collect::<Int32Array>())
    };
    let f64s = |get: fn(&MetricRow) -> Option<f64>| -> ArrayRef {
        Arc::new(rows.iter().map(get).collect::<Float64Array>())
    };
    let i64s = |get: fn(&MetricRow) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(get)))
    };
    let parts: Vec<Columns> = rows.iter().map(|row| Columns::from(&row.subject)).collect();
    let mut all = vec![
        text(|r| &r.subject),
        text(|r| r.kind.as_str()),
        text(|r| &r.hook),
        i32s(|r| Some(r.layer)),
        i32s(|r| r.source_layer),
        i32s(|r| Some(r.horizon)),
        text(|r| &r.metric),
        text(|r| &r.unit),
        f64s(|r| Some(r.estimate)),
        f64s(|r| r.lower),
        f64s(|r| r.upper),
        i64s(|r| r.n),
        i64s(|r| r.n_clusters),
        f64s(|r| Some(r.n_eff)),
        Arc::new(rows.iter().map(|r| r.reason.as_deref()).collect::<StringArray>()),
    ];
    all.extend(Columns::arrays(&parts));
    all
}

/// A row of a batch whose columns are those of [`schema`].
fn row_of(batch: &RecordBatch, row: usize, (subject, kind): (Subject, RowKind)) -> MetricRow {
    let text = |i: usize| batch.column(i).as_string::<i32>().value(row).to_owned();
    let i32 = |i: usize| batch.column(i).as_primitive::<Int32Type>().value(row);
    let i64 = |i: usize| batch.column(i).as_primitive::<Int64Type>().value(row);
    let f64 = |i: usize| batch.column(i).as_primitive::<Float64Type>().value(row);
    let some = |i: usize| batch.column(i).is_valid(row);
    // How unequal documents were was not kept then.
    let (earlier, n_clusters) = (batch.num_columns() == EARLIER, i64(12));
    MetricRow {
        subject,
        kind,
        hook: text(2),
        layer: i32(3),
        source_layer: some(4).then(|| i32(4)),
        horizon: i32(5),
        metric: text(6),
        unit: text(7),
        estimate: f64(8),
        lower: some(9).then(|| f64(9)),
        upper: some(10).then(|| f64(10)),
        n: i64(11),
        n_clusters,
        n_eff: if earlier { n_clusters as f64 } else { f64(13) },
        reason: if earlier { (!some(9)).then(|| "not kept".to_owned()) } else { some(14).then(|| text(14)) },
    }
}

/// Words and layers repeat: dictionaries. Numbers do not: their bytes are split and compressed. No date is written.
fn properties() -> Result<WriterProperties, ParquetError> {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_created_by(concat!("layerscope ", env!("CARGO_PKG_VERSION")).to_owned());
    for number in ["estimate", "lower", "upper", "n_eff"] {
        let path = ColumnPath::from(number);
        builder = builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT);
    }
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::run::{Parts, parts::tests::every_shape};

    fn row(layer: i32, estimate: f64) -> MetricRow {
        MetricRow {
            subject: "tünéd".into(),
            kind: RowKind::Tuned,
            hook: "resid_pre".into(),
            layer,
            source_layer: (layer > 1).then_some(layer - 1),
            horizon: 1,
            metric: "ce".into(),
            unit: "nats".into(),
            estimate,
            lower: (layer > 0).then_some(estimate - 0.1),
            upper: (layer > 0).then_some(estimate + 0.1),
            n: 1 << 40,
            n_clusters: 7,
            n_eff: 6.5,
            reason: (layer <= 0).then(|| "one text".to_owned()),
        }
    }

    #[test]
    fn read_back_as_written_with_the_contract_columns() {
        let dir = tempfile::tempdir().unwrap();
        let rows: Vec<_> = (0..5000).map(|i| row(i, 1.0 / f64::from(i + 1))).collect();
        let first = write_metrics(dir.path(), &rows).unwrap();
        assert_eq!(write_metrics(dir.path(), &rows).unwrap(), first); // the same bytes
        assert_eq!(read_metrics(dir.path()).unwrap(), rows);
        let file = fs::File::open(dir.path().join(METRICS)).unwrap();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let types = builder
            .schema()
            .fields()
            .iter()
            .map(|f| format!("{}:{}{}", f.name(), f.data_type(), if f.is_nullable() { "?" } else { "" }));
        assert_eq!(
            types.collect::<Vec<_>>().join(" "),
            "subject:Utf8 kind:Utf8 hook:Utf8 layer:Int32 source_layer:Int32? horizon:Int32 metric:Utf8 unit:Utf8 \
             estimate:Float64 lower:Float64? upper:Float64? n:Int64 n_clusters:Int64 n_eff:Float64 reason:Utf8? \
             of:Utf8? rung:Utf8? less:Utf8? direction:Utf8? direction_number:Int32? strength:Float64? correction:Utf8? schedule:Utf8? \
             skipped_block:Int32? step:Int32? position:Int32? token:Utf8? trained_on:Utf8? tested_on:Utf8? prompt:Int32? \
             variant:Utf8? share:Float64? head:Int32? component:Utf8? neuron:Int32?"
        );
        let batch = builder.with_batch_size(8192).build().unwrap().next().unwrap().unwrap();
        assert_eq!(batch.column(8).as_primitive::<Float64Type>().value(3), 0.25);
        assert_eq!((batch.column(4).null_count(), batch.column(9).null_count()), (2, 1));
        write_metrics(dir.path(), &[]).unwrap();
        assert_eq!(read_metrics(dir.path()).unwrap(), []);
    }

    #[test]
    fn files_of_before_there_were_reasons_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let rows = [row(0, 1.0), row(3, 2.0)];
        let fields = Schema::new(schema().fields()[..EARLIER].to_vec());
        let batch = RecordBatch::try_new(Arc::new(fields), columns(&rows)[..EARLIER].to_vec()).unwrap();
        write_table(&dir.path().join(METRICS), &batch).unwrap();
        let [open, with] = rows;
        let expected = [
            MetricRow { n_eff: 7.0, reason: Some("not kept".into()), ..open },
            MetricRow { n_eff: 7.0, ..with },
        ];
        assert_eq!(read_metrics(dir.path()).unwrap(), expected);
    }

    #[test]
    fn subjects_of_before_parts_had_columns_are_read_and_parts_make_the_text() {
        let dir = tempfile::tempdir().unwrap();
        let rows: Vec<MetricRow> = every_shape()
            .into_iter()
            .map(|(subject, _)| MetricRow { subject, kind: RowKind::Steer, ..row(1, 1.0) })
            .collect();
        write_metrics(dir.path(), &rows).unwrap();
        assert_eq!(read_metrics(dir.path()).unwrap(), rows);
        let some = [MetricRow { subject: "v@-0.5".into(), kind: RowKind::Steer, ..row(1, 1.0) }];
        let fields = Schema::new(schema().fields()[..WITHOUT_PARTS].to_vec());
        let batch = RecordBatch::try_new(Arc::new(fields), columns(&some)[..WITHOUT_PARTS].to_vec()).unwrap();
        write_table(&dir.path().join(METRICS), &batch).unwrap();
        let pushed = Parts::Pushed { of: "v".into(), strength: -0.5 };
        assert_eq!(read_metrics(dir.path()).unwrap()[0].subject, Subject::from(pushed));
        // Of before there were components.
        let names: Vec<&str> = Columns::ALL.iter().map(|(name, _)| *name).collect();
        let width = WITHOUT_PARTS + names.iter().position(|name| *name == "head").unwrap();
        let fields = Schema::new(schema().fields()[..width].to_vec());
        let batch = RecordBatch::try_new(Arc::new(fields), columns(&some)[..width].to_vec()).unwrap();
        write_table(&dir.path().join(METRICS), &batch).unwrap();
        assert_eq!(read_metrics(dir.path()).unwrap(), some);
        let mut whole = columns(&some);
        whole[0] = Arc::new(StringArray::from(vec!["another"]));
        write_table(&dir.path().join(METRICS), &RecordBatch::try_new(schema(), whole).unwrap()).unwrap();
        let message = read_metrics(dir.path()).unwrap_err().to_string();
        assert!(message.ends_with("a row is of \"another\" and its parts of \"v@-0.5\""), "{message}");
        let mut unknown = columns(&some);
        unknown[1] = Arc::new(StringArray::from(vec!["oracle"]));
        write_table(&dir.path().join(METRICS), &RecordBatch::try_new(schema(), unknown).unwrap()).unwrap();
        let message = read_metrics(dir.path()).unwrap_err().to_string();
        assert!(message.contains("the kind `oracle` is not known to this version"), "{message}");
    }

    #[test]
    fn numbers_that_are_not_finite_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let message = |rows: &[MetricRow]| write_metrics(dir.path(), rows).unwrap_err().to_string();
        let expected = "estimate is NaN: ce of tünéd at resid_pre, layer 2 (lens of layer 1), horizon 1";
        assert_eq!(message(&[row(1, 0.0), row(2, f64::NAN)]), expected);
        let open = MetricRow { upper: Some(f64::INFINITY), ..row(1, 1.0) };
        assert!(message(&[open]).starts_with("upper is inf: "));
        let incomplete = [
            MetricRow { reason: None, ..row(0, 1.0) },
            MetricRow { lower: Some(0.9), ..row(0, 1.0) },
            MetricRow { upper: None, ..row(1, 1.0) },
            MetricRow { reason: Some("and yet".into()), ..row(1, 1.0) },
            MetricRow { lower: Some(3.0), ..row(1, 1.0) },
        ];
        for row in incomplete {
            let got = message(std::slice::from_ref(&row));
            assert!(got.starts_with("an interval with two ends or a reason is missing: "), "{row:?}: {got}");
        }
        assert!(!dir.path().join(METRICS).exists());
    }

    #[test]
    fn damaged_missing_and_foreign_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(METRICS);
        assert!(matches!(read_metrics(dir.path()), Err(RunError::Io { .. })));
        write_metrics(dir.path(), &[row(0, 1.0), row(3, 2.0)]).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in [0, 4, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(read_metrics(dir.path()), Err(RunError::BadMetrics { .. })), "{length} bytes");
        }
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Int32, false)]));
        let writer = ArrowWriter::try_new(fs::File::create(&path).unwrap(), schema, None).unwrap();
        writer.close().unwrap();
        let message = read_metrics(dir.path()).unwrap_err().to_string();
        assert!(message.contains("its columns are ") && message.contains('x'), "{message}");
    }
}
