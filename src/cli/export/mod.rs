//! `export`: activations of a corpus to files.

mod job;

use std::{
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::anyhow;
use clap::Args;
use indicatif::ProgressBar;
use layerscope::{
    hook::{HookPoint, Selection},
    model::{Model, hook_points},
    results::run::Manifest,
    results::words::counted,
    sources::text::open_windows,
    states::export::{self, ExportError, Watch},
    states::store::{ActDtype, Column, Format, Layout, Plan, Positions, StoreWriter, choose_shard_rows},
};
use serde_json::json;

use self::job::Job;
use super::{
    args::{CommonArgs, Layers, ModelArgs, TextArgs},
    exit::Failure,
    interrupt::on_interrupt,
    output::{Output, shown},
    session::Session,
    source::{Source, counts},
};

/// Write activations of a corpus to Parquet, Arrow, npy or safetensors
///
/// Streams: memory does not grow with the corpus. Killed and repeated, it goes on at the first shard that is not whole.
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Hooks: names, short names (`resid_pre`: every layer) or globs (`blocks.*.hook_mlp_out`)
    #[arg(long, num_args = 1.., default_value = "resid_pre", value_name = "GLOB")]
    hooks: Vec<String>,
    /// Only these layers, such as 0,4,8-12
    #[arg(long, value_name = "LAYERS")]
    layers: Option<Layers>,
    /// Which tokens of a document: all, first, last, I:J, I:J:K or stride:K
    #[arg(long, default_value = "all", value_name = "POSITIONS", allow_hyphen_values = true)]
    positions: Positions,
    /// Number type of the activations
    #[arg(long, value_enum, default_value_t = ActDtype::F32, value_name = "TYPE")]
    act_dtype: ActDtype,
    /// File format
    #[arg(long, value_enum, default_value_t = Format::Parquet, value_name = "FORMAT")]
    format: Format,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Most tokens in a batch; by default 2048 on the CPU, 16384 on CUDA
    #[arg(long, value_name = "N")]
    batch_tokens: Option<NonZeroUsize>,
    /// Memory for the shard being filled, in megabytes; it fixes the rows per shard
    #[arg(long, default_value_t = const { NonZeroU64::new(256).unwrap() }, value_name = "MB")]
    shard_mb: NonZeroU64,
    /// Say what would be computed and written, and stop
    #[arg(long)]
    dry_run: bool,
    /// First compare the model with this reference, as `verify` does, and record the verdict
    #[arg(long, value_name = "FILE.safetensors")]
    reference: Option<PathBuf>,
    /// Start over in a folder that holds another export
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: CommonArgs,
}

impl Export {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let stop = on_interrupt()?;
        let source = Source::open(&self.model, &self.text, output)?;
        let points = self.points(&source.session)?;
        source.session.announce(output);
        let job = self.plan(&source, points, &stop, output)?;
        output.note(format!("documents: {}", job.lead));
        if self.dry_run {
            output.print(&job.describe(&source.session, &self.positions))?;
            output.result(job.object(&source.session))?;
            return Ok(());
        }
        if let Some(warning) = job.plan.check_disk(&self.out, self.format)? {
            output.warn(warning);
        }
        let manifest = self.manifest(&source, &job, output)?;
        let claim = StoreWriter::claim(&self.out, manifest, job.layout.clone(), self.force)?;
        output.repairs(claim.run());
        if claim.is_complete() {
            output.note(format!("{} is complete already; nothing to do", self.out.display()));
        } else {
            let model = source.session.load(output)?;
            let verdict = |file: &PathBuf| super::verify::verdict(&source.session, &model, file, output);
            let parity = self.reference.as_ref().map(verdict).transpose()?;
            let mut writer = claim.begin()?;
            self.write(&source, &model, &job, &mut writer, stop, output)?;
            writer.finish(job.counts, parity)?;
        }
        self.report(&job, output)
    }

    /// The columns asked for.
    fn points(&self, session: &Session) -> Result<Vec<(HookPoint, Column)>, Failure> {
        let layers = self.layers.as_ref().map(|l| l.0.as_slice());
        let selection =
            Selection::new(&self.hooks, layers, &hook_points(&session.spec)).map_err(Failure::usage)?;
        // A glob such as `*` means what can be exported; a hook named outright must be.
        let rows = |p: &HookPoint| layerscope::model::width(&session.spec, *p).is_some();
        let named = self.hooks.iter().any(|h| h.contains("pattern") || h.contains("attn_scores"));
        let selection = if named { selection } else { selection.iter().filter(rows).collect() };
        export::columns(&session.spec, &selection).map_err(Failure::usage)
    }

    /// Counts tokens and rows (a pass over the text without the model) and decides the layout.
    fn plan(
        &self,
        source: &Source,
        points: Vec<(HookPoint, Column)>,
        stop: &AtomicBool,
        output: Output,
    ) -> Result<Job, Failure> {
        let Source { session, tokenizer, inputs } = source;
        let windows = source.window_options(&self.text)?;
        let mut stream = open_windows(inputs.corpus()?, tokenizer, &windows).map_err(Failure::usage)?;
        let bar = output.bar("counting", "tokens", self.text.tokens);
        let mut rows = 0;
        for window in stream.by_ref() {
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::interrupted(ExportError::Interrupted));
            }
            let window = window?;
            rows += export::rows(&window, &self.positions).count() as u64;
            bar.inc(window.ids.len() as u64);
        }
        bar.finish_and_clear();
        let stats = stream.stats();
        if rows == 0 {
            let (positions, documents) = (&self.positions, stats.documents);
            return Err(Failure::usage(anyhow!(
                "--positions {positions} selects no token of {}",
                counted(documents, "document")
            )));
        }
        let columns: Vec<_> = points.iter().map(|(_, column)| column.clone()).collect();
        let shard_rows = choose_shard_rows(&columns, self.act_dtype, self.shard_mb.get() << 20);
        let layout = Layout {
            columns,
            dtype: self.act_dtype,
            format: self.format,
            shard_rows,
            planned_rows: Some(rows),
        };
        let plan = Plan::new(&layout, rows);
        let counts = counts(stats, rows);
        let batch_tokens = session.batch_tokens(self.batch_tokens);
        Ok(Job { points, layout, windows, batch_tokens, counts, lead: stream.reason().to_owned(), plan })
    }

    fn manifest(&self, source: &Source, job: &Job, output: Output) -> Result<Manifest, Failure> {
        let mut manifest =
            source.manifest("export", &self.model, &job.lead, job.windows.pack, &self.common, output)?;
        manifest.config = json!({
            "hooks": job.points.iter().map(|(p, _)| p.to_string()).collect::<Vec<_>>(),
            "positions": self.positions.to_string(),
            "tokens": self.text.tokens,
            "seq_len": job.windows.seq_len,
            "pack": job.windows.pack,
            "text_column": self.text.text_column,
            "batch_tokens": job.batch_tokens,
        });
        Ok(manifest)
    }

    /// Runs the model over the text.
    fn write(
        &self,
        source: &Source,
        model: &Model,
        job: &Job,
        writer: &mut StoreWriter,
        stop: Arc<AtomicBool>,
        output: Output,
    ) -> Result<(), Failure> {
        let Source { tokenizer, inputs, .. } = source;
        if !writer.done().is_empty() {
            output.note(format!(
                "resuming: {} of {} are there",
                writer.done().len(),
                counted(job.plan.shards, "shard")
            ));
        }
        let mut windows = open_windows(inputs.corpus()?, tokenizer, &job.windows)?;
        let bar = output.bar("exporting", "tokens", Some(job.counts.tokens));
        let export = export::Export {
            model,
            tokenizer,
            points: &job.points,
            positions: &self.positions,
            batch_tokens: job.batch_tokens,
        };
        let mut watch = Bar { bar: bar.clone(), stop };
        let ended = export.run(&mut windows, writer, &mut watch);
        bar.finish_and_clear();
        ended.map(|_rows| ()).map_err(|e| match e {
            ExportError::Interrupted => Failure::interrupted(e),
            other => other.into(),
        })
    }

    fn report(&self, job: &Job, output: Output) -> Result<(), Failure> {
        let out = self.out.display();
        output.print(&format!(
            "{out}: {} × {} in {}",
            counted(job.counts.rows, "row"),
            counted(job.points.len(), "column"),
            counted(job.plan.shards, "shard")
        ))?;
        if self.format == Format::Parquet {
            let first = &job.points[0].1;
            output.note(format!(
                "read it: polars.read_parquet(\"{out}/acts/hook={}/layer={}/*.parquet\")",
                first.hook, first.layer
            ));
        }
        output.result(json!({
            "out": shown(&self.out),
            "rows": job.counts.rows,
            "documents": job.counts.documents,
            "empty_documents": job.counts.empty_documents,
            "tokens": job.counts.tokens,
            "text_bytes": job.counts.text_bytes,
            "shards": job.plan.shards,
            "columns": job.layout.columns,
        }))?;
        Ok(())
    }
}

/// A progress bar that also hears of Ctrl-C.
struct Bar {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Watch for Bar {
    fn advance(&mut self, tokens: u64) {
        self.bar.inc(tokens);
    }

    fn interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
