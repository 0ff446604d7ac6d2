//! Fits nothing, measures: KL of the logit lens (and of any lens folder given) by layer, with intervals over documents.
//!
//! ```sh
//! cargo run --release --example evaluate_lenses -- fixtures/gpt2-alice-8l fixtures/stories.jsonl out/example-eval
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)] // this is what it is for

use std::path::PathBuf;

use layerscope::job::{Job as _, JobError, ModelSettings, Stage, TextSettings, Watch, lens};

/// Says on stderr what is being done.
struct Lines;

impl Watch for Lines {
    fn note(&self, line: &str) {
        eprintln!("{line}");
    }

    fn warn(&self, line: &str) {
        eprintln!("warning: {line}");
    }

    fn stage(&self, stage: Stage) -> Box<dyn layerscope::job::Progress> {
        eprintln!("{} …", stage.what);
        Box::new(())
    }
}

fn main() -> Result<(), JobError> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let [model, data, out] = std::array::from_fn(|_| args.next());
    let [Some(model), Some(data), Some(out)] = [model, data, out] else {
        return Err(JobError::usage("give MODEL DATA RUN [LENSDIR …]"));
    };
    let job = lens::Eval {
        model: ModelSettings::new(model),
        text: TextSettings { data: vec![data], tokens: Some(4000), ..TextSettings::default() },
        lens: std::iter::once("logit".into()).chain(args).collect(),
        out,
        ..lens::Eval::default()
    };
    let found = job.run(&Lines)?;
    for row in found.rows.iter().filter(|row| row.metric == "kl" && row.unit == "nats") {
        let interval = row.lower.zip(row.upper).map_or_else(
            || row.reason.clone().unwrap_or_default(),
            |(lower, upper)| format!("[{lower:.3}, {upper:.3}]"),
        );
        println!("{:<12} layer {:>2}: {:.3} nats {interval}", row.subject, row.layer, row.estimate);
    }
    Ok(())
}
