//! `lens eval --per-token`: the table, and what is made of it.

use std::{collections::BTreeMap, path::Path};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Float32Type, Int32Type, UInt32Type, UInt64Type},
};
use bytes::Bytes;
use layerscope::results::run::{MetricRow, read_metrics};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::lens_cli::{events, find, lens, llama, made_lens, stories};

/// One row of the table, as far as the tests need it.
#[derive(Debug, Clone, Copy)]
struct Row {
    kl: f64,
    ce: Option<f64>,
    entropy: f64,
    top: u32,
    prob: f64,
    last: u32,
}

/// By subject, document, place and layer.
type Table = BTreeMap<(String, u64, u32, i32), Row>;

fn read(path: &Path) -> Table {
    let file = Bytes::from(std::fs::read(path).unwrap());
    let batches = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    batches.flat_map(|batch| rows(&batch.unwrap())).collect()
}

fn rows(batch: &RecordBatch) -> Vec<((String, u64, u32, i32), Row)> {
    let f = |name: &str| batch[name].as_primitive::<Float32Type>();
    let id = |name: &str| batch[name].as_primitive::<UInt32Type>();
    let subject = batch["subject"].as_string::<i32>();
    let (doc, layer) =
        (batch["doc_id"].as_primitive::<UInt64Type>(), batch["layer"].as_primitive::<Int32Type>());
    let row = |i: usize| {
        let key = (subject.value(i).to_owned(), doc.value(i), id("pos").value(i), layer.value(i));
        let ce = batch["ce"].is_valid(i).then(|| f64::from(f("ce").value(i)));
        let row = Row {
            kl: f64::from(f("kl").value(i)),
            ce,
            entropy: f64::from(f("entropy").value(i)),
            top: id("top_id").value(i),
            prob: f64::from(f("top_prob").value(i)),
            last: id("final_id").value(i),
        };
        (key, row)
    };
    (0..batch.num_rows()).map(row).collect()
}

fn near(row: &MetricRow, mean: f64) {
    assert!((row.estimate - mean).abs() < 2e-5 * mean.abs().max(1.0), "{row:?}: {mean}");
}

#[test]
fn the_table_of_tokens_has_the_means_of_the_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let (made, out) = (dir.path().join("made"), dir.path().join("run"));
    made_lens("llama-alice-6l", "random-llama", &made);
    let extra = format!("--lens logit --lens {} --per-token --tokens 700", made.display());
    events(&mut lens("eval", &llama(), &stories(), &out, &extra));
    let (table, metrics) = (read(&out.join("tokens.parquet")), read_metrics(&out).unwrap());
    assert_eq!(table.len(), 700 * (2 * 6 + 1));
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    for subject in ["logit", "made"] {
        for layer in 0..6 {
            let of =
                || table.iter().filter(|(key, _)| key.0 == subject && key.3 == layer).map(|(_, row)| row);
            near(find(&metrics, subject, layer, 1, "kl"), mean(of().map(|r| r.kl).collect()));
            near(find(&metrics, subject, layer, 1, "ce"), mean(of().filter_map(|r| r.ce).collect()));
            let agrees = of().map(|r| f64::from(u8::from(r.top == r.last)));
            near(find(&metrics, subject, layer, 1, "agreement"), mean(agrees.collect()));
        }
        exits(&table, &metrics, subject);
    }
}

/// Prediction depth and early exit, again from the table.
fn exits(table: &Table, metrics: &[MetricRow], subject: &str) {
    let mut tokens: BTreeMap<(u64, u32), Vec<Row>> = BTreeMap::new();
    for ((name, doc, pos, _), row) in table {
        if name == subject {
            tokens.entry((*doc, *pos)).or_default().push(*row); // layers ascend
        }
    }
    let n = tokens.len() as f64;
    let mean = |of: &dyn Fn(&[Row]) -> f64| tokens.values().map(|rows| of(rows)).sum::<f64>() / n;
    let at_end = |metric: &str| find(metrics, subject, 6, 1, metric);
    let depth = |rows: &[Row]| rows.iter().rposition(|r| r.top != r.last).map_or(0, |place| place + 1);
    near(at_end("prediction_depth"), mean(&|rows| depth(rows) as f64));
    // depth = number of layers below the last at which a position is not decided
    let undecided: f64 = (0..6).map(|l| 1.0 - find(metrics, subject, l, 1, "decided").estimate).sum();
    near(at_end("prediction_depth"), undecided);
    let left = |rows: &[Row]| rows.iter().position(|r| r.prob >= 0.5);
    near(at_end("exit_layer:prob>=0.5"), mean(&|rows| left(rows).unwrap_or(6) as f64));
    let agrees = |rows: &[Row]| left(rows).is_none_or(|l| rows[l].top == rows[l].last);
    near(at_end("exit_agreement:prob>=0.5"), mean(&|rows| f64::from(u8::from(agrees(rows)))));
    let calm = |rows: &[Row]| rows.iter().position(|r| r.entropy <= 2.0).unwrap_or(6);
    near(at_end("exit_layer:entropy<=2"), mean(&|rows| calm(rows) as f64));
    let same = |rows: &[Row]| (1..rows.len()).find(|l| rows[*l].top == rows[*l - 1].top).unwrap_or(6);
    near(at_end("exit_layer:same>=1"), mean(&|rows| same(rows) as f64));
}
