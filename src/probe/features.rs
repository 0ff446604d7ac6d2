//! States of labelled items: one `NumPy` file of f32 rows per hook and layer, item by item.

use std::{
    fs::{self, File},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use ndarray::{Array2, Axis, concatenate};
use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::ProbeError;
use crate::{
    hook::{Capture, HookPoint, Selection},
    model::{Model, ModelError, Spec, width},
    results::run::{RunError, hash_file, write_atomic},
    sources::labelled::{Item, Plan},
    sources::text::each_batch,
    states::store::npy_header,
    watch::Underway,
};

/// Folder of the files in the run directory.
const FOLDER: &str = "features";
/// Written last; holds what the files are of.
const DONE: &str = "features/done";

/// The states of all items at all points, on disk. One matrix is read at a time.
#[derive(Debug)]
pub struct Features {
    dir: PathBuf,
    columns: Vec<(HookPoint, usize)>,
    rows: usize,
    n_layers: usize,
}

impl Features {
    /// Where the states of `rows` items at `points` are in the run directory `run`; makes no file.
    pub fn new(run: &Path, spec: &Spec, points: &[HookPoint], rows: usize) -> Self {
        Self { dir: run.to_owned(), columns: columns(spec, points), rows, n_layers: spec.n_layers }
    }

    /// Whether an earlier run wrote all of it, and every file is as it was written.
    pub fn complete(&self) -> bool {
        let written = fs::read_to_string(self.dir.join(DONE));
        written.is_ok_and(|written| self.stamp().is_ok_and(|there| there == written))
    }

    /// The hook points.
    pub fn points(&self) -> impl Iterator<Item = HookPoint> + '_ {
        self.columns.iter().map(|(point, _)| *point)
    }

    /// The point at `place` by hook and layer.
    pub fn name(&self, place: usize) -> (&'static str, usize) {
        let (point, _) = self.columns[place];
        (point.short_name(), point.layer(self.n_layers))
    }

    /// The states of all items at the point `place`, `(n, d)`.
    ///
    /// # Errors
    /// When the file cannot be read or is cut.
    pub fn matrix(&self, place: usize) -> Result<Array2<f32>, ProbeError> {
        let (path, d) = (self.path(place), self.columns[place].1);
        let bytes = fs::read(&path).map_err(|e| RunError::io("read", &path, e))?;
        let skip = npy_header(self.rows, d).len();
        let values = bytes.get(skip..).unwrap_or_default().chunks_exact(4);
        let values: Vec<f32> = values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let cut = |_| RunError::io("read", &path, std::io::Error::other("the file is cut short"));
        Ok(Array2::from_shape_vec((self.rows, d), values).map_err(cut)?)
    }

    fn path(&self, place: usize) -> PathBuf {
        let (hook, layer) = self.name(place);
        self.dir.join(FOLDER).join(format!("{hook}.{layer}.npy"))
    }

    /// What tells finished files from those of another plan, and damaged ones: rows, and every column's checksum.
    fn stamp(&self) -> Result<String, RunError> {
        let column = |(place, (point, d)): (usize, &(HookPoint, usize))| {
            let path = self.path(place);
            let hash = hash_file(&path).map_err(|e| RunError::io("read", &path, e))?;
            Ok(format!("{point} {d} xxh64 {hash:016x}\n"))
        };
        let columns = self.columns.par_iter().enumerate().map(column).collect::<Result<Vec<_>, _>>()?;
        Ok(format!("{} rows\n{}", self.rows, columns.concat()))
    }

    /// Empty files of the right size.
    pub(super) fn create(&self) -> Result<Writer<'_>, ProbeError> {
        let folder = self.dir.join(FOLDER);
        fs::create_dir_all(&folder).map_err(|e| RunError::io("create", &folder, e))?;
        let open = |place: usize| -> Result<(File, u64), RunError> {
            let path = self.path(place);
            let header = npy_header(self.rows, self.columns[place].1);
            let io = |e| RunError::io("write", &path, e);
            // A new file, never what a link of that name points to.
            fs::remove_file(&path).or_else(ignore_missing).map_err(io)?;
            let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(io)?;
            file.set_len(header.len() as u64 + 4 * (self.rows * self.columns[place].1) as u64).map_err(io)?;
            file.write_all_at(&header, 0).map_err(io)?;
            Ok((file, header.len() as u64))
        };
        let files = (0..self.columns.len()).map(open).collect::<Result<_, _>>()?;
        Ok(Writer { features: self, files })
    }
}

/// The states of all items at the point `place` of every part side by side, `(n, Σ d)`: the two texts of pairs, or of
/// single texts one part alone.
///
/// # Errors
/// As [`Features::matrix`]; the parts must have the same items.
pub fn side_by_side(parts: &[Features], place: usize) -> Result<Array2<f32>, ProbeError> {
    let mut all = parts.iter().map(|part| part.matrix(place)).collect::<Result<Vec<_>, _>>()?;
    if all.len() == 1 {
        return Ok(all.remove(0));
    }
    let views: Vec<_> = all.iter().map(Array2::view).collect();
    concatenate(Axis(1), &views).map_err(|e| ModelError::Input(e.to_string()).into())
}

/// Points with the widths of their states; of heads side by side.
pub(super) fn columns(spec: &Spec, points: &[HookPoint]) -> Vec<(HookPoint, usize)> {
    let flat = |point: &HookPoint| width(spec, *point).map_or(0, |size| size.iter().product());
    points.iter().map(|point| (*point, flat(point))).collect()
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Takes rows in any order.
pub(super) struct Writer<'a> {
    features: &'a Features,
    files: Vec<(File, u64)>,
}

impl Writer<'_> {
    /// Puts rows (one after the other) of the point `place` where item `first` belongs.
    pub(super) fn put(&self, place: usize, first: usize, rows: &[f32]) -> Result<(), ProbeError> {
        let (file, header) = &self.files[place];
        let bytes: Vec<u8> = rows.iter().flat_map(|x| x.to_le_bytes()).collect();
        let at = header + 4 * (first * self.features.columns[place].1) as u64;
        Ok(file.write_all_at(&bytes, at).map_err(|e| RunError::io("write", &self.features.path(place), e))?)
    }

    /// Everything is there.
    pub(super) fn finish(self) -> Result<(), ProbeError> {
        for (place, (file, _)) in self.files.iter().enumerate() {
            file.sync_all().map_err(|e| RunError::io("write", &self.features.path(place), e))?;
        }
        let path = self.features.dir.join(DONE);
        write_atomic(&path, |out| {
            let text = self.features.stamp()?;
            std::io::Write::write_all(out, text.as_bytes()).map_err(|e| RunError::io("write", &path, e))
        })?;
        Ok(())
    }
}

/// Runs every window of `plan` once and writes the states of its items. `stage` counts tokens.
///
/// # Errors
/// When the model cannot run, a state is not finite (named by hook and text), the disk is full, or somebody stops it.
pub fn extract(
    features: &Features,
    model: &Model,
    plan: &Plan,
    batch_tokens: usize,
    stage: &Underway<'_>,
) -> Result<(), ProbeError> {
    let writer = features.create()?;
    let reader = Reader { model, plan, columns: &features.columns, batch_tokens };
    reader.each(&|_| true, stage, &mut |items, rows| {
        for (place, rows) in rows.iter().enumerate() {
            let (d, mut at) = (features.columns[place].1, 0);
            for items in items {
                writer.put(place, items.start, &rows[at * d..(at + items.len()) * d])?;
                at += items.len();
            }
        }
        Ok(())
    })?;
    writer.finish()
}

/// Runs windows and reads the states of their items.
pub(super) struct Reader<'a> {
    pub(super) model: &'a Model,
    pub(super) plan: &'a Plan,
    /// Hook points with their widths.
    pub(super) columns: &'a [(HookPoint, usize)],
    pub(super) batch_tokens: usize,
}

/// Takes the items of a batch, and by point their states one after the other.
pub(super) type Take<'a> = &'a mut dyn FnMut(&[Range<usize>], &[Vec<f32>]) -> Result<(), ProbeError>;

impl Reader<'_> {
    /// Runs the windows that are `wanted`, a batch at a time; `stage` counts the tokens of all.
    pub(super) fn each(
        &self,
        wanted: &dyn Fn(usize) -> bool,
        stage: &Underway<'_>,
        take: Take<'_>,
    ) -> Result<(), ProbeError> {
        let _no_grad = tch::no_grad_guard();
        let points: Selection = self.columns.iter().map(|(point, _)| *point).collect();
        each_batch(&self.plan.windows, self.batch_tokens, stage, |batch| {
            let batch = batch.only(wanted);
            let Some(first) = batch.windows.first() else { return Ok(()) };
            let mut capture = Capture::new(points.clone());
            self.model.forward(&batch.ids(), &mut capture)?;
            let items: Vec<Range<usize>> =
                batch.places.iter().map(|window| self.plan.items_of(*window as u32)).collect();
            let read = |column: &(HookPoint, usize)| self.rows(*column, &capture, &items, first.ids.len());
            let rows = self.columns.iter().map(read).collect::<Result<Vec<_>, _>>()?;
            take(&items, &rows)
        })
    }

    /// The states of the items of windows of `seq` tokens at one point.
    fn rows(
        &self,
        (point, d): (HookPoint, usize),
        capture: &Capture,
        items: &[Range<usize>],
        seq: usize,
    ) -> Result<Vec<f32>, ProbeError> {
        let missing = || ModelError::Input(format!("{point} was not computed"));
        let flat = numbers(capture.get(point).ok_or_else(missing)?)?;
        let mut all = Vec::new();
        for (row, items) in items.iter().enumerate() {
            let rows = rows(&self.plan.items[items.clone()], &flat[row * seq * d..(row + 1) * seq * d], d);
            if let Some(bad) = rows.iter().position(|x| !x.is_finite()) {
                let text = self.plan.items[items.start + bad / d].text;
                let what = format!("{point} is not finite at an item of text {text}");
                return Err(ModelError::Input(what).into());
            }
            all.extend(rows);
        }
        Ok(all)
    }
}

fn numbers(states: &Tensor) -> Result<Vec<f32>, ModelError> {
    let flat = states.f_to_kind(Kind::Float)?.f_to_device(tch::Device::Cpu)?.f_reshape([-1])?;
    Ok(Vec::<f32>::try_from(flat)?)
}

/// The states of items of one window, whose states are `own [seq, d]`: means over the items' positions.
pub(super) fn rows(items: &[Item], own: &[f32], d: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(items.len() * d);
    for item in items {
        let (start, end) = (item.rows.start as usize, item.rows.end as usize);
        if end == start + 1 {
            out.extend_from_slice(&own[start * d..end * d]);
            continue;
        }
        let mut mean = vec![0f64; d];
        for state in own[start * d..end * d].chunks_exact(d) {
            mean.iter_mut().zip(state).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        out.extend(mean.iter().map(|sum| (sum / (end - start) as f64) as f32));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_the_mean_of_its_positions() {
        let item = |rows| Item { window: 0, text: 0, rows, target: 0, group: 0, word: None };
        let own = [1., 2., 3., 4., 5., 6.]; // three states of width 2
        assert_eq!(rows(&[item(1..2), item(0..3)], &own, 2), [3., 4., 3., 4.]);
        assert_eq!(rows(&[item(0..2)], &own, 2), [2., 3.]);
    }
}
