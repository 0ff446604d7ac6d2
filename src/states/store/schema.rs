//! Columns, dtypes and formats, and the Arrow schemas of the two kinds of table.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::StoreError;

/// One activation matrix of an export: a hook at a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Short name, the folder's: `resid_pre`, `attn_out`, `mlp_post` …
    pub hook: String,
    /// Full `TransformerLens` name: `blocks.3.hook_resid_pre`.
    pub point: String,
    /// Layer 0..=L.
    pub layer: u32,
    /// Numbers per row: `d_model`, `d_mlp`, `n_heads * d_head` …
    pub width: usize,
}

impl Column {
    /// Path of this column's shard inside the export: `acts/hook=H/layer=I/shard=K.ext`.
    pub fn path(&self, shard: u64, format: Format) -> PathBuf {
        let (hook, layer, ext) = (&self.hook, self.layer, format.extension());
        PathBuf::from(format!("acts/hook={hook}/layer={layer}/shard={shard}.{ext}"))
    }
}

/// Path of the token table's shard inside the export.
pub(crate) fn tokens_path(shard: u64) -> PathBuf {
    PathBuf::from(format!("tokens/shard={shard}.parquet"))
}

/// Dtype of exported activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum ActDtype {
    /// 32-bit floats.
    F32,
    /// IEEE half floats. A value beyond 65504 is an error, never an infinity.
    F16,
    /// The upper half of an f32; of safetensors, and of Parquet as f32 whose lower half is zero.
    Bf16,
}

impl ActDtype {
    /// Bytes per number.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// `f32`, `f16` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// The largest magnitude from which on a number would round to an infinity.
    pub(crate) fn overflow(self) -> f32 {
        match self {
            Self::F32 => f32::INFINITY,
            Self::F16 => 65520.0,
            Self::Bf16 => f32::from_bits(0x7f7f_8000),
        }
    }

    /// The largest number there is.
    pub fn largest(self) -> f32 {
        match self {
            Self::F32 => f32::MAX,
            Self::F16 => half::f16::MAX.to_f32(),
            Self::Bf16 => half::bf16::MAX.to_f32(),
        }
    }

    /// The Arrow type of one number; Arrow and Parquet have none for bf16, all of which are f32 as well.
    pub(crate) fn arrow(self) -> DataType {
        match self {
            Self::F32 | Self::Bf16 => DataType::Float32,
            Self::F16 => DataType::Float16,
        }
    }
}

/// File format of the activations. The token table is Parquet in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Parquet: byte-stream-split and zstd on the floats.
    Parquet,
    /// Arrow IPC file, uncompressed: can be memory-mapped.
    Arrow,
    /// `NumPy` array `[rows, width]`; ids are in the token table.
    Npy,
    /// Safetensors with `act`, `row_id`, `doc_id`, `pos`, `token_id`.
    Safetensors,
}

impl Format {
    /// File name extension.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Npy => "npy",
            Self::Safetensors => "safetensors",
        }
    }

    /// Whether numbers of this type can be stored so that they take no more room than they need.
    pub fn holds(self, dtype: ActDtype) -> bool {
        // The zeros of widened numbers compress to nothing, which only Parquet does.
        dtype != ActDtype::Bf16 || matches!(self, Self::Parquet | Self::Safetensors)
    }
}

/// The shape of an export, kept in the manifest: what a reader needs to find its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Activation columns, in any order.
    pub columns: Vec<Column>,
    /// Their dtype.
    pub dtype: ActDtype,
    /// Their file format.
    pub format: Format,
    /// Rows per shard; the last shard may have fewer.
    pub shard_rows: u64,
    /// Rows of the whole export where they were counted beforehand.
    pub planned_rows: Option<u64>,
}

impl Layout {
    /// Refuses columns that cannot be stored: none at all, twice the same, width 0, a hook name that is no folder name;
    /// and a number type that the format does not have.
    ///
    /// # Errors
    /// [`StoreError::BadColumns`].
    pub fn check(&self) -> Result<(), StoreError> {
        let bad = |reason: String| Err(StoreError::BadColumns { reason });
        if self.columns.is_empty() || self.shard_rows == 0 {
            return bad(format!("{} columns, {} rows per shard", self.columns.len(), self.shard_rows));
        }
        if !self.format.holds(self.dtype) {
            return bad(format!(
                "{} has no {}; it is of safetensors and parquet",
                self.format.extension(),
                self.dtype.name()
            ));
        }
        let mut seen = BTreeSet::new();
        for Column { hook, layer, width, .. } in &self.columns {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || b == b'.';
            if hook.is_empty() || hook.starts_with('.') || !hook.bytes().all(plain) {
                return bad(format!("hook name `{hook}` (letters, digits, `_`, `-`, `.`)"));
            }
            if *width == 0 || i32::try_from(*width).is_err() {
                return bad(format!("hook {hook}, layer {layer} has width {width}"));
            }
            if !seen.insert((hook, layer)) {
                return bad(format!("hook {hook}, layer {layer} is there twice"));
            }
        }
        Ok(())
    }

    /// Shards of the whole export, where its rows were counted.
    pub fn planned_shards(&self) -> Option<u64> {
        self.planned_rows.map(|rows| rows.div_ceil(self.shard_rows.max(1)))
    }
}

/// Key-value metadata that every file of an export carries.
pub(crate) fn metadata(
    column: Option<&Column>,
    dtype: ActDtype,
    model_sha256: &str,
) -> Vec<(String, String)> {
    let mut pairs = vec![
        ("layerscope.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("layerscope.model_sha256".to_owned(), model_sha256.to_owned()),
    ];
    if let Some(c) = column {
        let values = [
            ("hook", c.hook.clone()),
            ("point", c.point.clone()),
            ("layer", c.layer.to_string()),
            ("width", c.width.to_string()),
            ("dtype", dtype.name().to_owned()),
        ];
        pairs.extend(values.map(|(k, v)| (format!("layerscope.{k}"), v)));
    }
    pairs
}

fn id_fields() -> Vec<Field> {
    vec![
        Field::new("row_id", DataType::UInt64, false),
        Field::new("doc_id", DataType::UInt64, false),
        Field::new("pos", DataType::UInt32, false),
        Field::new("token_id", DataType::UInt32, false),
    ]
}

/// Schema of `tokens/`: the ids and the token's text.
pub(crate) fn tokens_schema() -> SchemaRef {
    let mut fields = id_fields();
    fields.push(Field::new("token", DataType::Utf8, false));
    Arc::new(Schema::new(fields))
}

/// Schema of `acts/`: the ids and `act`, a fixed-size list without nulls.
pub(crate) fn acts_schema(width: usize, dtype: ActDtype, metadata: Vec<(String, String)>) -> SchemaRef {
    let mut fields = id_fields();
    let item = Arc::new(Field::new("item", dtype.arrow(), false));
    fields.push(Field::new("act", DataType::FixedSizeList(item, width as i32), false));
    Arc::new(Schema::new_with_metadata(fields, HashMap::from_iter(metadata)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(hooks: &[(&str, u32, usize)]) -> Layout {
        let columns = hooks
            .iter()
            .map(|&(hook, layer, width)| Column { hook: hook.into(), point: String::new(), layer, width })
            .collect();
        Layout { columns, dtype: ActDtype::F32, format: Format::Npy, shard_rows: 10, planned_rows: Some(21) }
    }

    #[test]
    fn paths_are_hive_style_and_unpadded() {
        let l = layout(&[("resid_pre", 3, 8)]);
        assert_eq!(
            l.columns[0].path(12, l.format).to_str(),
            Some("acts/hook=resid_pre/layer=3/shard=12.npy")
        );
        assert_eq!(l.planned_shards(), Some(3));
    }

    #[test]
    fn unusable_columns_are_named() {
        layout(&[("resid_pre", 0, 8), ("resid_pre", 1, 8)]).check().unwrap();
        for (columns, says) in [
            (&[][..], "0 columns"),
            (&[("../up", 0, 8)], "../up"),
            (&[("..", 0, 8)], "`..`"),
            (&[("z", 0, 0)], "width 0"),
            (&[("z", 1, 8), ("z", 1, 8)], "twice"),
        ] {
            let message = layout(columns).check().unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
    }
}
