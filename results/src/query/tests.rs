use arrow::{
    array::AsArray,
    datatypes::{Float64Type, Int64Type},
};

use super::*;
use crate::{
    run::{Counts, METRICS, MetricRow, RowKind, RunDir, write_metrics},
    statistics::Estimate,
};

fn run(folder: &Path, numbers: &[f64]) {
    let dir =
        RunDir::start(folder, Manifest::new("lens eval"), false, &|path| path == Path::new(METRICS)).unwrap();
    let row = |(layer, estimate): (usize, &f64)| MetricRow {
        subject: "logit".into(),
        kind: RowKind::Logit,
        hook: "resid_pre".into(),
        layer: layer as i32,
        ..MetricRow::of("kl", "nats", Estimate::alone(*estimate, "a test", 1))
    };
    let rows: Vec<MetricRow> = numbers.iter().enumerate().map(row).collect();
    write_metrics(folder, &rows).unwrap();
    dir.finish(Counts::default(), None).unwrap();
}

fn cells(answer: &Answer) -> Vec<Vec<Option<String>>> {
    let columns = answer.columns().len();
    (0..answer.rows()).map(|row| (0..columns).map(|column| answer.cell(row, column)).collect()).collect()
}

/// Layer by layer 1.5 - 1 = 0.5 and 0.5 - 0.25 = 0.25.
#[test]
fn runs_are_compared_in_one_statement() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    run(&a, &[1.5, 0.5]);
    run(&b, &[1.0, 0.25]);
    let tables = Tables::of(&[a, b]).unwrap();
    assert_eq!(tables.names(), ["metrics"]);
    let sql = "SELECT x.layer, x.estimate - y.estimate AS more FROM metrics x JOIN metrics y ON x.layer = y.layer \
               WHERE x.run = 'a' AND y.run = 'b' ORDER BY x.layer";
    let answer = tables.query(sql).unwrap();
    assert_eq!(answer.columns(), ["layer", "more"]);
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(cells(&answer), [[some("0"), some("0.5")], [some("1"), some("0.25")]]);
    assert_eq!(answer.csv(), "layer,more\n0,0.5\n1,0.25\n");
    assert_eq!(answer.json_lines(), "{\"layer\":0,\"more\":0.5}\n{\"layer\":1,\"more\":0.25}\n");
    let batch = answer.arrow().unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values().to_vec(), [0, 1]);
    assert_eq!(batch.column(1).as_primitive::<Float64Type>().values().to_vec(), [0.5, 0.25]);
    // A null has no cell, and a table that the statement makes is no table of the runs.
    let with = "WITH m AS (SELECT lower FROM metrics) SELECT * FROM m LIMIT 1";
    assert_eq!(cells(&tables.query(with).unwrap()), [[None]]);
}

#[test]
fn wrong_questions_and_damaged_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let a = dir.path().join("a");
    run(&a, &[1.5]);
    let tables = Tables::of(std::slice::from_ref(&a)).unwrap();
    let error = |sql: &str| tables.query(sql).unwrap_err();
    assert_eq!(error("SELECT * FROM tokens").to_string(), "no table `tokens`; there are metrics");
    for wrong in ["SELEC", "SELECT nobody FROM metrics", ""] {
        let error = error(wrong);
        assert!(error.is_usage() && error.to_string().lines().count() == 1, "{wrong}: {error}");
    }
    assert!(matches!(Tables::of(&[dir.path().to_owned()]), Err(QueryError::NotARun { .. })));
    let mut bytes = std::fs::read(a.join(METRICS)).unwrap();
    bytes[20] ^= 1;
    std::fs::write(a.join(METRICS), bytes).unwrap();
    assert!(!error("SELECT * FROM metrics").is_usage());
}
