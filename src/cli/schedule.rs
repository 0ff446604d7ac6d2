//! `schedule`.

use clap::Args;
use layerscope::{
    intervene::schedule::Named,
    job::{
        Job as _,
        intervene::{Schedule, Scheduled},
    },
    results::run::MetricRow,
};
use serde_json::{Value, json};

use super::{
    args::OutputArgs,
    exit::Failure,
    numbers::{LEGEND, hint_clusters, with_interval},
    output::{Output, shown},
    table::Table,
};

/// What the table shows, by metric.
const SHOWN: [&str; 3] = ["kl", "agreement", "ce"];

/// Run the model's blocks in another order, and compare with the model as it is
#[derive(Debug, Args)]
pub(crate) struct ScheduleArgs {
    #[command(flatten)]
    job: Schedule,
    #[command(flatten)]
    output: OutputArgs,
}

impl ScheduleArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let found = self.job.run(&output)?;
        self.report(&found, output)
    }

    fn report(&self, found: &Scheduled, output: Output) -> Result<(), Failure> {
        let Scheduled { schedules, n_layers, rows } = found;
        let find = |subject: &str, metric: &str| {
            let end = |r: &&MetricRow| r.layer as usize == *n_layers && r.unit != "bits/byte";
            rows.iter().filter(end).find(|r| r.subject == subject && r.metric == metric)
        };
        let mut table = Table::new(["schedule", "blocks", "KL(model ‖ schedule)", "agreement", "ce"]);
        let mut listed = Vec::new();
        for Named { name, schedule } in schedules {
            let cells = SHOWN.map(|m| find(name, m).map_or_else(String::new, with_interval));
            table.row([name.clone(), schedule.blocks().count().to_string()].into_iter().chain(cells));
            let [kl, agreement, ce] = SHOWN.map(|m| find(name, m).map(|row| row.estimate));
            listed.push(json!({
                "schedule": name, "steps": schedule.to_string(), "kl": kl, "agreement": agreement, "ce": ce,
            }));
        }
        let ce = find("model", "ce");
        let own = ce.map_or_else(String::new, with_interval);
        table.row(["model", &n_layers.to_string(), "", "", &own]);
        let text = format!("nats and shares ({LEGEND})\n{table}");
        output.print(text.trim_end())?;
        hint_clusters(rows, output);
        output.wrote(&self.job.out, "all numbers, by layer too, with their intervals");
        output.result(json!({
            "out": shown(&self.job.out),
            "rows": rows.len(),
            "schedules": Value::from(listed),
            "model": { "ce": ce.map(|row| row.estimate) },
        }))?;
        Ok(())
    }
}
