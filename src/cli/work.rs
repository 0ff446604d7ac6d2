//! `work`: jobs in, answers out.

use std::{
    any::Any,
    io::{self, BufReader},
    num::NonZeroUsize,
    sync::Arc,
};

use clap::Args;
use layerscope::job::{
    spell_as_fields,
    worker::{Listener, work},
};
use serde_json::Value;

use super::{
    crash,
    exit::Failure,
    interrupt::{interrupted, on_interrupt},
    output::write_out,
};

/// Take jobs as lines of JSON and answer in lines of JSON; a model that was loaded stays in memory
#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// Jobs come from stdin, one in a line: {"id": 1, "command": "info", "job": {"model": "gpt2"}}
    #[arg(long, required = true)]
    stdin: bool,
    /// Models kept in memory, those of the latest jobs
    #[arg(long, default_value = "1", value_name = "N")]
    models: NonZeroUsize,
}

impl WorkArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        debug_assert!(self.stdin, "clap requires it");
        on_interrupt()?;
        spell_as_fields();
        let listener: Arc<dyn Listener> = Arc::new(Stdout);
        Ok(work(BufReader::new(io::stdin()), self.models, &listener)?)
    }
}

/// Whoever reads stdout.
struct Stdout;

impl Listener for Stdout {
    fn hear(&self, event: Value) -> bool {
        write_out(&format!("{event}\n")).is_ok()
    }

    fn stopped(&self) -> bool {
        interrupted()
    }

    fn fault(&self, _payload: &(dyn Any + Send)) -> String {
        crash::last() // with its place
    }
}
