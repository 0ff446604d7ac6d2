//! Reading an export back: one `ndarray` matrix per hook and layer, or shard by shard with bounded memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ndarray::Array2;

use super::writer::covers;
use super::{ActDtype, Column, FileRecord, Layout, RowIds, ShardMarker, StoreError, format, whole_shards};
use crate::results::run::{MANIFEST, Manifest, RunError, Status, hash_bytes};

/// An export opened for reading. Every file's checksum is verified when it is read.
#[derive(Debug)]
pub struct ActivationStore {
    dir: PathBuf,
    manifest: Manifest,
    layout: Layout,
    shards: BTreeMap<u64, ShardMarker>,
}

/// One shard of one column.
#[derive(Debug)]
pub struct Shard {
    /// Its number.
    pub shard: u64,
    /// Who the rows are.
    pub ids: RowIds,
    /// Activations `[rows, width]`.
    pub act: Array2<f32>,
}

/// One shard of some columns.
#[derive(Debug)]
pub struct Part {
    /// Who the rows are.
    pub ids: RowIds,
    /// Text of every row's token.
    pub texts: Vec<String>,
    /// By column `[rows, width]`.
    pub acts: Vec<Array2<f32>>,
}

impl ActivationStore {
    /// Opens a complete export.
    ///
    /// # Errors
    /// [`StoreError::NotAnExport`], [`StoreError::Unfinished`], [`StoreError::Corrupt`] naming a missing or truncated
    /// file, [`StoreError::Run`] naming a damaged marker.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let store = Self::open_finished_part(dir)?;
        let rows = store.manifest.counts.rows;
        let per_shard = store.layout.shard_rows;
        let n_shards =
            if store.manifest.status == Status::Complete { Some(rows.div_ceil(per_shard)) } else { None };
        let unfinished = |planned: Option<u64>| StoreError::Unfinished {
            path: dir.into(),
            done: store.shards.len(),
            planned: planned.map_or("an unknown number of".into(), |n| n.to_string()),
        };
        let Some(n_shards) = n_shards else { return Err(unfinished(store.layout.planned_shards())) };
        if covers(&store.shards, rows, per_shard) {
            store.check_markers()?;
            return Ok(store);
        }
        // A complete export of which files were lost since.
        let lost = (0..n_shards).find(|k| !store.shards.contains_key(k));
        let marker = lost.map_or_else(|| dir.join(MANIFEST), |k| dir.join(ShardMarker::path(k)));
        Err(StoreError::corrupt(&marker, store.blame(lost)))
    }

    /// Opens what is there of an export: its whole shards, even while it is running or was stopped.
    ///
    /// # Errors
    /// [`StoreError::NotAnExport`]; [`StoreError::Run`] if the folder or the manifest cannot be read.
    pub fn open_finished_part(dir: &Path) -> Result<Self, StoreError> {
        let not = |reason: &str| StoreError::NotAnExport { path: dir.into(), reason: reason.into() };
        let manifest = Manifest::read(dir)?.ok_or_else(|| not("it has no manifest.json"))?;
        let layout =
            manifest.layout.clone().filter(|_| ["export", "import"].contains(&manifest.kind.as_str()));
        let layout = layout.ok_or_else(|| not(&format!("it is a run of `{}`", manifest.kind)))?;
        let layout: Layout =
            serde_json::from_value(layout).map_err(|e| StoreError::corrupt(&dir.join(MANIFEST), e))?;
        layout.check()?;
        let shards = whole_shards(dir, &manifest.job, &layout)?;
        Ok(Self { dir: dir.into(), manifest, layout, shards })
    }

    /// Compares the markers with the manifest, as each file of a shard is with its marker when it is read.
    fn check_markers(&self) -> Result<(), StoreError> {
        for shard in self.shards.keys() {
            let marker = ShardMarker::path(*shard);
            let path = self.dir.join(&marker);
            let content = fs::read(&path).map_err(|e| RunError::io("read", &path, e))?;
            self.manifest.check_output(&self.dir, &marker.to_string_lossy(), &content)?;
        }
        Ok(())
    }

    /// The export's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Number type of the activations.
    pub fn dtype(&self) -> ActDtype {
        self.layout.dtype
    }

    /// The hooks and layers there are.
    pub fn columns(&self) -> &[Column] {
        &self.layout.columns
    }

    /// Rows of all whole shards.
    pub fn n_rows(&self) -> usize {
        self.shards.values().map(|m| m.rows as usize).sum()
    }

    /// Numbers of the whole shards, in ascending order, as [`ActivationStore::shards`] gives them.
    pub fn shard_numbers(&self) -> Vec<u64> {
        self.shards.keys().copied().collect()
    }

    /// Ids of all rows, in order.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] naming the file.
    pub fn rows(&self) -> Result<RowIds, StoreError> {
        let mut all = RowIds::default();
        for marker in self.shards.values() {
            let (ids, _) = self.tokens(marker)?;
            all.row_id.extend(ids.row_id);
            all.doc_id.extend(ids.doc_id);
            all.pos.extend(ids.pos);
            all.token_id.extend(ids.token_id);
        }
        Ok(all)
    }

    /// Text of every row's token, in order.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] naming the file.
    pub fn token_texts(&self) -> Result<Vec<String>, StoreError> {
        let texts: Result<Vec<_>, _> =
            self.shards.values().map(|m| self.tokens(m).map(|(_, texts)| texts)).collect();
        Ok(texts?.concat())
    }

    /// All activations of one hook and layer, `[rows, width]`, f16 widened.
    ///
    /// # Errors
    /// [`StoreError::NoColumn`]; [`StoreError::Corrupt`] naming the file.
    pub fn matrix(&self, hook: &str, layer: u32) -> Result<Array2<f32>, StoreError> {
        let index = self.index(hook, layer)?;
        let width = self.layout.columns[index].width;
        let mut values = vec![0.0; self.n_rows() * width];
        let mut rest = &mut values[..];
        for marker in self.shards.values() {
            let (part, after) = rest.split_at_mut(marker.rows as usize * width);
            self.read_into(marker, index, part)?;
            rest = after;
        }
        Ok(matrix(values, width))
    }

    /// Per column its layer and the typical length of its rows: the root of their mean square length.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn root_mean_squares(&self) -> Result<Vec<(u32, f64)>, StoreError> {
        let length = |column: &Column| {
            let matrix = self.matrix(&column.hook, column.layer)?;
            let square = matrix.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
            Ok((column.layer, (square / matrix.nrows() as f64).sqrt()))
        };
        self.columns().iter().map(length).collect()
    }

    /// The shards of one hook and layer one after the other: memory for one shard at a time.
    ///
    /// # Errors
    /// [`StoreError::NoColumn`]; each item [`StoreError::Corrupt`] naming the file.
    pub fn shards(
        &self,
        hook: &str,
        layer: u32,
    ) -> Result<impl Iterator<Item = Result<Shard, StoreError>> + '_, StoreError> {
        let index = self.index(hook, layer)?;
        let width = self.layout.columns[index].width;
        Ok(self.shards.values().map(move |marker| {
            let (ids, _) = self.tokens(marker)?;
            let mut values = vec![0.0; marker.rows as usize * width];
            self.read_into(marker, index, &mut values)?;
            Ok(Shard { shard: marker.shard, ids, act: matrix(values, width) })
        }))
    }

    /// The shards one after the other, of each these columns by their places in [`ActivationStore::columns`].
    pub fn parts<'s>(&'s self, columns: &'s [usize]) -> impl Iterator<Item = Result<Part, StoreError>> + 's {
        self.shards.values().map(move |marker| {
            let (ids, texts) = self.tokens(marker)?;
            let act = |column: &usize| {
                let width = self.layout.columns[*column].width;
                let mut values = vec![0.0; marker.rows as usize * width];
                self.read_into(marker, *column, &mut values)?;
                Ok(matrix(values, width))
            };
            Ok(Part { ids, texts, acts: columns.iter().map(act).collect::<Result<_, StoreError>>()? })
        })
    }

    /// Whether a hook and layer is there.
    ///
    /// # Errors
    /// [`StoreError::NoColumn`] naming what is.
    pub fn check_column(&self, hook: &str, layer: u32) -> Result<(), StoreError> {
        self.index(hook, layer).map(drop)
    }

    fn index(&self, hook: &str, layer: u32) -> Result<usize, StoreError> {
        self.layout.columns.iter().position(|c| c.hook == hook && c.layer == layer).ok_or_else(|| {
            let available: Vec<String> =
                self.layout.columns.iter().map(|c| format!("{} {}", c.hook, c.layer)).collect();
            StoreError::NoColumn {
                path: self.dir.clone(),
                hook: hook.into(),
                layer,
                available: available.join(", "),
            }
        })
    }

    fn tokens(&self, marker: &ShardMarker) -> Result<(RowIds, Vec<String>), StoreError> {
        let (path, bytes) = self.load(&marker.files[0])?;
        let (ids, texts) = format::read_tokens(bytes).map_err(|e| StoreError::corrupt(&path, e))?;
        if ids.len() as u64 != marker.rows {
            return Err(StoreError::corrupt(&path, format!("{} rows, expected {}", ids.len(), marker.rows)));
        }
        Ok((ids, texts))
    }

    fn read_into(&self, marker: &ShardMarker, column: usize, out: &mut [f32]) -> Result<(), StoreError> {
        let (path, bytes) = self.load(&marker.files[1 + column])?;
        let width = self.layout.columns[column].width;
        format::read(self.layout.format, bytes, width, self.layout.dtype, out)
            .map_err(|e| StoreError::corrupt(&path, e))
    }

    /// Reads a whole file and compares it with its marker before anything interprets it.
    fn load(&self, file: &FileRecord) -> Result<(PathBuf, Bytes), StoreError> {
        let path = self.dir.join(&file.path);
        let bytes = fs::read(&path).map_err(|e| RunError::io("read", &path, e))?;
        if bytes.len() as u64 != file.bytes {
            return Err(StoreError::corrupt(
                &path,
                format!("{} bytes, expected {}", bytes.len(), file.bytes),
            ));
        }
        let found = format!("{:016x}", hash_bytes(&bytes));
        if found != file.xxh64 {
            return Err(StoreError::corrupt(&path, format!("checksum {found}, expected {}", file.xxh64)));
        }
        Ok((path, bytes.into()))
    }

    /// Why a complete export's shard does not count.
    fn blame(&self, shard: Option<u64>) -> String {
        let Some(shard) = shard else { return "the shards do not add up to the rows it counts".into() };
        let bad = fs::read(self.dir.join(ShardMarker::path(shard)))
            .ok()
            .and_then(|text| serde_json::from_slice::<ShardMarker>(&text).ok())
            .and_then(|m| {
                m.files
                    .into_iter()
                    .find(|f| fs::metadata(self.dir.join(&f.path)).map_or(0, |m| m.len()) != f.bytes)
            });
        bad.map_or("missing or unreadable".into(), |f| {
            format!("{} is missing or truncated", f.path.display())
        })
    }
}

/// Rows of equal width always make a matrix.
fn matrix(values: Vec<f32>, width: usize) -> Array2<f32> {
    Array2::from_shape_vec((values.len() / width, width), values).unwrap_or_default()
}
