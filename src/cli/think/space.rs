//! `think space`: are a layer's states and the token embeddings one space?

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use clap::Args;
use layerscope::{
    intervene::think::{Embeddings, Share, Space},
    results::run::{Found, METRICS, MetricRow, RunDir, read_metrics, write_metrics},
    sources::text::{Window, batches},
};
use serde_json::{Value, json};

use super::run::go_on;
use crate::cli::intervals::IntervalArgs;
use crate::cli::{
    args::{CommonArgs, Layers, ModelArgs, TextArgs},
    exit::Failure,
    interrupt::on_interrupt,
    numbers::{LEGEND, say_why_none, with_interval},
    output::{Output, shown},
    source::{AllWindows, Source, counts},
    table::Table,
};

/// Compare every layer's states with the token embeddings: could one be read as the other?
#[derive(Debug, Args)]
pub(crate) struct SpaceArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Layers, such as 0,4,8-12; by default all
    #[arg(long, value_name = "LAYERS")]
    layers: Option<Layers>,
    /// Folder to write
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    #[command(flatten)]
    intervals: IntervalArgs,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[arg(long, value_name = "N")]
    batch_tokens: Option<NonZeroUsize>,
    /// Start over in a folder that holds another run
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: CommonArgs,
}

impl SpaceArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let source = Source::open(&self.model, &self.text, output)?;
        let layers = source.session.layers(self.layers.as_ref())?;
        source.session.announce(output);
        let tied = source.session.spec.tied;
        output.note(if tied {
            "the unembedding is tied to the embedding: the last layer's states are read by these very vectors"
        } else {
            "the unembedding is a matrix of its own: nothing makes the last layer's states look like embeddings"
        });
        let options = source.window_options(&self.text)?;
        let text = source.windows(&options, output)?;
        output.note(format!("documents: {}", text.lead));
        let pack = self.text.pack;
        let mut manifest =
            source.manifest("think space", &self.model, &text.lead, pack, &self.common, output)?;
        manifest.config = json!({
            "model_name": source.session.name(),
            "layers": layers,
            "n_layers": source.session.spec.n_layers,
            "tied": tied,
            "vocab": source.vocab(),
            "tokens": self.text.tokens,
            "seq_len": options.seq_len,
            "pack": options.pack,
            "text_column": self.text.text_column,
            "intervals": self.intervals.config(),
        });
        let claim = output.claimed(RunDir::claim(&self.out, manifest, self.force)?);
        if claim.found() == Found::Complete {
            output.note(format!("{} is complete already", self.out.display()));
            return self.show(&read_metrics(&self.out)?, tied, output);
        }
        let rows = self.measure(&source, &layers, &text, output)?;
        let dir = claim.begin(&|p| p == Path::new(METRICS))?;
        write_metrics(&self.out, &rows)?;
        dir.finish(counts(text.stats, rows.len() as u64), None)?;
        self.show(&rows, tied, output)
    }

    fn measure(
        &self,
        source: &Source,
        layers: &[usize],
        text: &AllWindows,
        output: Output,
    ) -> Result<Vec<MetricRow>, Failure> {
        let stop = on_interrupt()?;
        let model = source.session.load(output)?;
        let embeddings = Embeddings::of(&model, source.vocab())?;
        let intervals = self.intervals.policy(self.common.seed);
        let mut space = Space::new(&model, &embeddings, layers, self.common.seed, intervals)?;
        let said = |share: &Share| format!("{} for {} %", share.components, share.of_embeddings * 100.0);
        let said: Vec<String> = space.shares().iter().map(said).collect();
        output.note(format!("principal components of the embedding matrix: {}", said.join(", ")));
        let bar = output.bar("comparing", "tokens", Some(text.stats.tokens));
        let windows: Vec<&Window> = text.windows.iter().collect();
        for batch in batches(&windows, source.session.batch_tokens(self.batch_tokens)) {
            go_on(&stop)?;
            let some: Vec<&Window> = batch.iter().map(|i| windows[*i]).collect();
            space.add(&model, &embeddings, &some)?;
            bar.inc(some.iter().map(|w| w.ids.len() as u64).sum());
        }
        bar.finish_and_clear();
        Ok(space.finish()?)
    }

    fn show(&self, rows: &[MetricRow], tied: bool, output: Output) -> Result<(), Failure> {
        let text = [
            format!("states beside the embedding of their own token (same positions; {LEGEND})"),
            likeness(rows, "embedding").to_string(),
            "states beside the embedding of the next token".to_owned(),
            likeness(rows, "next-embedding").to_string(),
            "share of the states' variance in the embedding matrix's first principal components (a random subspace's: the mean of twenty and their range)".to_owned(),
            shares(rows).to_string(),
        ];
        output.print(text.join("\n").trim_end())?;
        let over_documents: Vec<MetricRow> = rows.iter().filter(|r| r.metric == "cosine").cloned().collect();
        say_why_none(&over_documents, output);
        output.wrote(&self.out, "all numbers");
        let lines: Vec<Value> = rows
            .iter()
            .map(|r| {
                json!({ "subject": r.subject, "hook": r.hook, "layer": r.layer, "metric": r.metric,
                             "estimate": r.estimate, "lower": r.lower, "upper": r.upper })
            })
            .collect();
        output
            .result(json!({ "out": shown(&self.out), "tied": tied, "rows": rows.len(), "numbers": lines }))?;
        Ok(())
    }
}

/// Hook and layer of the rows, in their order.
fn places(rows: &[MetricRow]) -> Vec<(String, i32)> {
    let mut places: Vec<(String, i32)> = Vec::new();
    for row in rows.iter().filter(|r| r.hook != "embed") {
        let place = (row.hook.clone(), row.layer);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

fn name((hook, layer): &(String, i32)) -> String {
    if hook == "resid_pre" { layer.to_string() } else { format!("{layer}, normed") }
}

fn find<'a>(
    rows: &'a [MetricRow],
    subject: &str,
    metric: &str,
    place: &(String, i32),
) -> Option<&'a MetricRow> {
    let own = |r: &&MetricRow| {
        r.subject == subject && r.metric == metric && (&r.hook, r.layer) == (&place.0, place.1)
    };
    rows.iter().find(own)
}

fn likeness(rows: &[MetricRow], subject: &str) -> Table {
    let columns = [
        ("CKA", "cka"),
        ("Procrustes (0 to 2)", "procrustes_distance"),
        ("cosine", "cosine"),
        ("centred cosine", "cosine_centred"),
    ];
    let mut table = Table::new(std::iter::once("layer").chain(columns.map(|(name, _)| name)));
    for place in places(rows) {
        let cell = |(_, metric): &(&str, &str)| {
            find(rows, subject, metric, &place).map_or_else(|| "–".into(), with_interval)
        };
        table.row(std::iter::once(name(&place)).chain(columns.iter().map(cell)));
    }
    table
}

fn shares(rows: &[MetricRow]) -> Table {
    let counts: Vec<&MetricRow> = rows.iter().filter(|r| r.metric == "components").collect();
    let header = |r: &&MetricRow| {
        format!("{} ({} dimensions)", r.subject.replace("components-", "for ") + " %", r.estimate)
    };
    let mut table = Table::new(std::iter::once("layer".to_owned()).chain(counts.iter().map(header)));
    for place in places(rows) {
        let cell = |count: &&MetricRow| {
            let random = count.subject.replace("components", "random");
            let value = |subject: &str| {
                let row = find(rows, subject, "variance_share", &place);
                row.map_or_else(|| "–".into(), |r| format!("{:.3}", r.estimate))
            };
            let range = find(rows, &random, "variance_share", &place).and_then(|r| r.lower.zip(r.upper));
            let range = range.map_or_else(String::new, |(least, most)| format!(", {least:.3} to {most:.3}"));
            format!("{} ({}{range})", value(&count.subject), value(&random))
        };
        table.row(std::iter::once(name(&place)).chain(counts.iter().map(cell)));
    }
    table
}
