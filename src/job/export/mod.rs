//! `export`: activations of a corpus to files.

mod plan;
mod write;

use std::{
    num::{NonZeroU64, NonZeroUsize},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Job, JobError, Layers, ModelSettings, Session, Source, TextSettings, Watch, shown, verify};
use crate::{
    results::run::{Claim, Manifest},
    states::store::{ActDtype, Format, Positions, StoreWriter},
};

pub use plan::{Cost, Planned};

/// Write activations of a corpus to Parquet, Arrow, npy or safetensors
///
/// Streams: memory does not grow with the corpus. Killed and repeated, it goes on at the first shard that is not whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Export {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The text.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub text: TextSettings,
    /// Hooks: names, short names (`resid_pre`: every layer) or globs (`blocks.*.hook_mlp_out`)
    #[cfg_attr(feature = "cli", arg(long, num_args = 1.., default_value = "resid_pre", value_name = "GLOB"))]
    pub hooks: Vec<String>,
    /// Only these layers, such as 0,4,8-12
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// Which tokens of a document: all, first, last, I:J, I:J:K or stride:K
    #[cfg_attr(
        feature = "cli",
        arg(long, default_value = "all", value_name = "POSITIONS", allow_hyphen_values = true)
    )]
    pub positions: Positions,
    /// Number type of the activations
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = ActDtype::F32, value_name = "TYPE"))]
    pub act_dtype: ActDtype,
    /// File format
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Format::Parquet, value_name = "FORMAT"))]
    pub format: Format,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR"))]
    pub out: PathBuf,
    /// Most tokens in a batch; by default 2048 on the CPU, 16384 on CUDA
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub batch_tokens: Option<NonZeroUsize>,
    /// Memory for the shard being filled, in megabytes; it fixes the rows per shard
    #[cfg_attr(feature = "cli", arg(long, default_value_t = SHARD_MB, value_name = "MB"))]
    pub shard_mb: NonZeroU64,
    /// Say what would be computed and written, and stop
    #[cfg_attr(feature = "cli", arg(long))]
    pub dry_run: bool,
    /// First compare the model with this reference, as `verify` does, and record the verdict
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE.safetensors"))]
    pub reference: Option<PathBuf>,
    /// Start over in a folder that holds another export
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
}

/// Megabytes of a shard, unless another number is asked for.
const SHARD_MB: NonZeroU64 = NonZeroU64::new(256).unwrap();

impl Default for Export {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            text: TextSettings::default(),
            hooks: vec!["resid_pre".to_owned()],
            layers: None,
            positions: Positions::default(),
            act_dtype: ActDtype::F32,
            format: Format::Parquet,
            out: PathBuf::new(),
            batch_tokens: None,
            shard_mb: SHARD_MB,
            dry_run: false,
            reference: None,
            force: false,
            seed: 0,
        }
    }
}

/// An export, whole or only planned.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// What is in it.
    pub plan: Planned,
    /// What it costs; of a dry run alone.
    pub cost: Option<Cost>,
}

impl Exported {
    /// What was written, for programs; of a dry run, what would be.
    pub fn json(&self, out: &Path) -> Value {
        let plan = &self.plan;
        match self.cost {
            Some(cost) => plan.json(cost),
            None => json!({
                "out": shown(out),
                "rows": plan.counts.rows,
                "documents": plan.counts.documents,
                "empty_documents": plan.counts.empty_documents,
                "tokens": plan.counts.tokens,
                "text_bytes": plan.counts.text_bytes,
                "shards": plan.size.shards,
                "columns": plan.layout.columns,
            }),
        }
    }
}

impl Job for Export {
    const COMMAND: &'static str = "export";
    type Outcome = Exported;

    crate::job::writes_out!();

    fn answer(&self, found: Exported) -> Result<Value, JobError> {
        Ok(found.json(&self.out))
    }

    fn run(&self, watch: &dyn Watch) -> Result<Exported, JobError> {
        check_dtype(self.format, self.act_dtype)?;
        let session = Session::open(&self.model, watch)?;
        let source = Source::open(&session, &self.text, watch)?;
        let points = self.points(&session)?;
        session.announce(watch);
        let plan = self.plan(&source, points, watch)?;
        watch.note(&format!("documents: {}", plan.lead));
        if self.dry_run {
            let cost = Some(plan.cost(&session));
            return Ok(Exported { plan, cost });
        }
        if let Some(warning) = plan.size.check_disk(&self.out, self.format)? {
            watch.warn(&warning);
        }
        let manifest = self.manifest(&source, &plan, watch)?;
        let claim = StoreWriter::claim(&self.out, manifest, plan.layout.clone(), self.force)?;
        repairs(claim.run(), watch);
        if claim.is_complete() {
            watch.note(&format!("{} is complete already; nothing to do", self.out.display()));
        } else {
            let model = session.load(watch)?;
            let verdict = |file: &PathBuf| verify::verdict(&session, model, file, watch);
            let parity = self.reference.as_ref().map(verdict).transpose()?;
            let mut writer = claim.begin()?;
            Self::write(&source, &plan, &mut writer, watch)?;
            writer.finish(plan.counts, parity)?;
        }
        Ok(Exported { plan, cost: None })
    }
}

impl Export {
    fn manifest(&self, source: &Source<'_>, plan: &Planned, watch: &dyn Watch) -> Result<Manifest, JobError> {
        let mut manifest = source.manifest(self, (&plan.lead, self.text.pack), self.seed, watch)?;
        manifest.config = json!({
            "hooks": plan.points.iter().map(|(p, _)| p.to_string()).collect::<Vec<_>>(),
            "positions": self.positions,
            "tokens": self.text.tokens,
            "seq_len": plan.windows.seq_len,
            "pack": plan.windows.pack,
            "text_column": self.text.text_column,
            "batch_tokens": plan.batch_tokens,
        });
        Ok(manifest)
    }
}

/// Refuses numbers that the format does not have.
///
/// # Errors
/// The setting and what helps.
pub(super) fn check_dtype(format: Format, dtype: ActDtype) -> Result<(), JobError> {
    if format.holds(dtype) {
        return Ok(());
    }
    let (format, dtype) = (format.extension(), dtype.name());
    let line = format!(
        "{format} has no {dtype}; choose safetensors, or parquet, which keeps them as f32 whose zeros compress away"
    );
    Err(JobError::setting("format", line))
}

/// Says what is wrong with a complete export's files, which are made again now.
fn repairs(claim: &Claim, watch: &dyn Watch) {
    for damage in claim.damaged() {
        watch.note(&format!("{}; made again", damage.finding()));
    }
}
