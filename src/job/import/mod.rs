//! `import`: activations that others made, as an export.

mod check;
mod write;

use std::{num::NonZeroU64, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Job, JobError, Layers, ModelSettings, Session, Setting, Watch, export::check_dtype, hashes, shown,
};
use crate::{
    results::{run::Counts, words::counted},
    sources::text::Tokenizer,
    states::{
        export::columns,
        foreign::{self, Foreign, ForeignError, Maker, Request},
        store::{ActDtype, Column, Format, Layout, Plan, StoreWriter, choose_shard_rows},
    },
};

pub use check::Agreement;

/// Read activations that another tool made, compare some with the model, and write them as `export` does
///
/// Some documents are run again first: of files that name the wrong layers, or hold states that are normed or
/// processed, nothing is written (exit 3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Import {
    /// A file, or a folder of files
    #[cfg_attr(feature = "cli", arg(value_name = "SRC"))]
    pub source: PathBuf,
    /// Who laid it out
    #[serde(rename = "as")]
    #[cfg_attr(feature = "cli", arg(long = "as", value_enum, value_name = "MAKER"))]
    pub maker: Maker,
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// Token ids [batch, pos] in a file of their own: .npy, .npz or .safetensors
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub token_ids: Option<PathBuf>,
    /// JSON object from the names of tensors to those of hooks; null leaves a tensor aside
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE.json"))]
    pub map: Option<PathBuf>,
    /// Only these layers, such as 0,4,8-12; of vllm, the layers that its files hold
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// Documents to run again and compare; 0 takes the files' word for it
    #[cfg_attr(feature = "cli", arg(long, default_value_t = CHECKED, value_name = "N"))]
    pub check: usize,
    /// Largest error that passes, relative to the size of the states; by default 0.001, of f16 and bf16 0.03
    #[cfg_attr(feature = "cli", arg(long, value_name = "X"))]
    pub tolerance: Option<f64>,
    /// Number type of the activations
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = ActDtype::F32, value_name = "TYPE"))]
    pub act_dtype: ActDtype,
    /// File format
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Format::Parquet, value_name = "FORMAT"))]
    pub format: Format,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR"))]
    pub out: PathBuf,
    /// Memory for the shard being filled, in megabytes; it fixes the rows per shard
    #[cfg_attr(feature = "cli", arg(long, default_value_t = SHARD_MB, value_name = "MB"))]
    pub shard_mb: NonZeroU64,
    /// Start over in a folder that holds another export
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
}

/// Documents that are compared, unless another number is asked for.
const CHECKED: usize = 8;

/// Megabytes of a shard, unless another number is asked for.
const SHARD_MB: NonZeroU64 = NonZeroU64::new(256).unwrap();

impl Default for Import {
    fn default() -> Self {
        Self {
            source: PathBuf::new(),
            maker: Maker::Npy,
            model: ModelSettings::default(),
            token_ids: None,
            map: None,
            layers: None,
            check: CHECKED,
            tolerance: None,
            act_dtype: ActDtype::F32,
            format: Format::Parquet,
            out: PathBuf::new(),
            shard_mb: SHARD_MB,
            force: false,
            seed: 0,
        }
    }
}

/// What was imported.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// Documents, tokens and rows.
    pub counts: Counts,
    /// The columns.
    pub columns: Vec<Column>,
    /// Tensors that were left aside, each with its reason.
    pub left_aside: Vec<String>,
    /// How far the files agree with the model; empty where nothing was compared.
    pub agreement: Vec<Agreement>,
}

impl Job for Import {
    const COMMAND: &'static str = "import";
    type Outcome = Imported;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<Imported, JobError> {
        if self.tolerance.is_some_and(|x| !(x > 0.0 && x.is_finite())) {
            return Err(JobError::setting("tolerance", "expected a number above 0"));
        }
        check_dtype(self.format, self.act_dtype)?;
        let session = Session::open(&self.model, watch)?;
        let tokenizer = session.tokenizer(watch)?;
        let foreign = foreign::open(&self.request(), &session.spec).map_err(Self::refused)?;
        session.announce(watch);
        if let [first, rest @ ..] = foreign.left_aside() {
            let more = if rest.is_empty() { String::new() } else { format!("; and {} more", rest.len()) };
            watch.note(&format!("left aside: {first}{more}"));
        }
        let (layout, counts) = self.layout(foreign.as_ref(), &session)?;
        let writer = self.claim(foreign.as_ref(), (&session, &tokenizer), (&layout, counts), watch)?;
        let imported = |agreement| Imported {
            counts,
            columns: layout.columns.clone(),
            left_aside: foreign.left_aside().to_vec(),
            agreement,
        };
        let Some(claim) = writer else { return Ok(imported(Vec::new())) };
        let agreement = self.compare(foreign.as_ref(), &session, watch)?;
        let mut writer = claim.begin()?;
        write::write(foreign.as_ref(), &tokenizer, &mut writer, watch)?;
        writer.finish(counts, self.verdict(&agreement, foreign.is_half()))?;
        Ok(imported(agreement))
    }
}

impl Import {
    fn request(&self) -> Request<'_> {
        Request {
            path: &self.source,
            maker: self.maker,
            token_ids: self.token_ids.as_deref(),
            map: self.map.as_deref(),
            layers: self.layers.as_ref().map(|layers| layers.0.as_slice()),
        }
    }

    /// Files that cannot be meant; with the setting that helps.
    fn refused(error: ForeignError) -> JobError {
        let hint = match &error {
            ForeignError::File { reason, .. } if reason.starts_with("no token ids") => Some("token_ids"),
            ForeignError::File { reason, .. } if reason.ends_with("name them") => Some("layers"),
            ForeignError::File { reason, .. } if reason.contains("no hook of any model") => Some("map"),
            _ => None,
        };
        match hint {
            Some(setting) => JobError::usage(format!("{error} (see {})", Setting(setting))),
            None => JobError::usage(error),
        }
    }

    /// Shape of the export, and what will be in it.
    fn layout(&self, foreign: &dyn Foreign, session: &Session) -> Result<(Layout, Counts), JobError> {
        let points = foreign.points().iter().copied().collect();
        let columns: Vec<_> =
            columns(&session.spec, &points)?.into_iter().map(|(_, column)| column).collect();
        let rows = foreign.lengths().iter().sum::<usize>() as u64;
        if rows == 0 {
            return Err(JobError::usage("there is no token").at(&shown(&self.source)));
        }
        let counts = Counts {
            documents: foreign.lengths().len() as u64,
            empty_documents: foreign.lengths().iter().filter(|length| **length == 0).count() as u64,
            tokens: rows,
            text_bytes: 0,
            rows,
        };
        let shard_rows = choose_shard_rows(&columns, self.act_dtype, self.shard_mb.get() << 20);
        let (dtype, format) = (self.act_dtype, self.format);
        Ok((Layout { columns, dtype, format, shard_rows, planned_rows: Some(rows) }, counts))
    }

    /// Takes hold of the folder; none where the same import is complete there.
    fn claim(
        &self,
        foreign: &dyn Foreign,
        (session, tokenizer): (&Session, &Tokenizer),
        (layout, counts): (&Layout, Counts),
        watch: &dyn Watch,
    ) -> Result<Option<crate::states::store::StoreClaim>, JobError> {
        let mut manifest = session.manifest(self, tokenizer, watch)?;
        let files = foreign.files();
        let names: Vec<String> = files.iter().map(shown).collect();
        manifest.seed = self.seed;
        manifest.data = hashes(&files, &names)?;
        manifest.config = json!({
            "as": self.maker,
            "hooks": foreign.points().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "layers": self.layers.as_ref().map(ToString::to_string),
        });
        if let Some(warning) = Plan::new(layout, counts.rows).check_disk(&self.out, self.format)? {
            watch.warn(&warning);
        }
        let claim = StoreWriter::claim(&self.out, manifest, layout.clone(), self.force)?;
        if claim.is_complete() {
            watch.note(&format!("{} is complete already; nothing to do", self.out.display()));
            return Ok(None);
        }
        watch.note(&counted(counts.documents, "document"));
        Ok(Some(claim))
    }
}
