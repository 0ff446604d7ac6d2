//! A probe at every layer of an export: does this state know that the next token begins a word? Fitted to half of the
//! documents, measured on the others, with the interval over documents.
//!
//! ```sh
//! cargo run --release --example probe_export -- out/demo/export
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)] // this is what it is for

use layerscope::{
    job::JobError,
    probes::{
        Fit, Labelled, Labels, Logistic, Probe,
        ndarray::{Array2, Axis},
        score::Classified,
    },
    results::statistics::{Intervals, Tally},
    states::store::{ActivationStore, RowIds},
};

/// Rows that are fitted to; more would say the same.
const MOST: usize = 3000;

fn main() -> Result<(), JobError> {
    let export = std::env::args_os().nth(1).ok_or_else(|| JobError::usage("give EXPORT"))?;
    let store = ActivationStore::open(export.as_ref())?;
    let (rows, texts) = (store.rows()?, store.token_texts()?);
    // Rows whose next token is of the same document, and whether that one begins a word.
    let next: Vec<usize> =
        (0..rows.len() - 1).filter(|row| rows.doc_id[*row] == rows.doc_id[row + 1]).collect();
    let begins = |row: &usize| u32::from(texts[row + 1].starts_with(' '));
    let (train, test): (Vec<usize>, Vec<usize>) = next.iter().partition(|row| rows.doc_id[**row] % 2 == 0);
    let train = &train[..train.len().min(MOST)];
    let (known, asked): (Vec<u32>, Vec<u32>) =
        (train.iter().map(begins).collect(), test.iter().map(begins).collect());
    for column in store.columns() {
        let states = store.matrix(&column.hook, column.layer)?;
        let fitted = states.select(Axis(0), train);
        let labels = Labels::Classes { y: &known, n_classes: 2 };
        let probe =
            Logistic { l2: 100.0, ..Logistic::default() }.fit(&Labelled { x: fitted.view(), y: labels })?;
        let scores: Array2<f64> = probe.scores(states.select(Axis(0), &test).view())?;
        let accuracy = by_document(&rows, &test, &Classified::new(scores.view(), &asked)?)?;
        println!("{} {}: {accuracy}", column.hook, column.layer);
    }
    Ok(())
}

/// Accuracy with its interval over documents.
fn by_document(rows: &RowIds, test: &[usize], found: &Classified) -> Result<String, JobError> {
    let mut tally = Tally::new(vec![0], 1, Intervals::default())?;
    for (row, correct) in test.iter().zip(found.correct()) {
        tally.add(rows.doc_id[*row], &[correct], &[1.0])?;
    }
    let share = tally.scores().share(0);
    let interval =
        share.interval.map_or_else(|why| why.to_string(), |i| format!("{:.3} to {:.3}", i.lower, i.upper));
    Ok(format!("{:.3} ({interval}, {} documents)", share.estimate, share.n_clusters))
}
