//! Where the states come from that lenses are fitted to: the model itself, or an export made earlier.

use std::{collections::BTreeMap, path::Path};

use tch::{Device, Tensor};

use super::FitError;
use crate::{
    hook::HookPoint,
    model::{Model, ModelError},
    sources::text::{Segment, Window},
    states::store::{ActivationStore, RowFile, RowIds, StoreError},
    states::{Masker, States},
    watch::Underway,
};

/// Something that knows the residual streams of windows of text.
pub trait Residuals {
    /// Hands `f` the states of `windows` at `points` and at the last layer, about `rows` rows at a time; `stage` counts
    /// tokens.
    ///
    /// # Errors
    /// Its own, and those of `f`.
    fn each(
        &self,
        points: &[HookPoint],
        windows: (&[&Window], usize),
        stage: &Underway<'_>,
        f: &mut dyn FnMut(&States) -> Result<(), FitError>,
    ) -> Result<(), FitError>;
}

impl Residuals for Model {
    fn each(
        &self,
        points: &[HookPoint],
        (windows, rows): (&[&Window], usize),
        stage: &Underway<'_>,
        f: &mut dyn FnMut(&States) -> Result<(), FitError>,
    ) -> Result<(), FitError> {
        States::each(self, points, (windows, rows), stage, |states, _| f(states))
    }
}

/// An encoder, of which the states of hidden tokens are read.
#[derive(Debug)]
pub struct Hidden<'a> {
    /// The encoder.
    pub model: &'a Model,
    /// What hides them.
    pub masker: &'a Masker,
}

impl Residuals for Hidden<'_> {
    fn each(
        &self,
        points: &[HookPoint],
        windows: (&[&Window], usize),
        stage: &Underway<'_>,
        f: &mut dyn FnMut(&States) -> Result<(), FitError>,
    ) -> Result<(), FitError> {
        States::each_behind(self.model, points, windows, Some(self.masker), stage, |states, _| f(states))
    }
}

/// States of an export, unpacked on disk. The teacher needs no cache of its own: it is read from the last layer's
/// states, which costs one sweep beside one per layer.
#[derive(Debug)]
pub struct Exported {
    columns: BTreeMap<(&'static str, usize), RowFile>,
    /// First row of every window, by document and place in it.
    starts: BTreeMap<(u64, u32), u64>,
    n_layers: usize,
    device: Device,
}

impl Exported {
    /// Unpacks `points` and the last layer of `store` on the disk of `folder`; `windows` are [`windows`] of it. `done`
    /// hears of rows.
    ///
    /// # Errors
    /// When the export lacks one of them, is damaged, or the disk is full.
    pub fn unpack(
        store: &ActivationStore,
        points: &[HookPoint],
        n_layers: usize,
        windows: &[Window],
        (folder, device): (&Path, Device),
        mut done: impl FnMut(u64),
    ) -> Result<Self, StoreError> {
        let mut columns = BTreeMap::new();
        for point in points.iter().chain(&[last(n_layers)]) {
            let (hook, layer) = key(*point, n_layers);
            columns.insert((hook, layer), RowFile::unpack(store, hook, layer as u32, folder, &mut done)?);
        }
        let (mut starts, mut row) = (BTreeMap::new(), 0);
        for window in windows {
            for segment in &window.segments {
                starts.insert((segment.doc_id, segment.doc_pos), row);
            }
            row += window.ids.len() as u64;
        }
        Ok(Self { columns, starts, n_layers, device })
    }

    /// The states of `windows` at `points` and at the last layer, as [`States::of`].
    ///
    /// # Errors
    /// A point or window that was not unpacked, a disk that fails, and states that are not finite.
    pub fn states<E: From<ModelError> + From<StoreError>>(
        &self,
        points: &[HookPoint],
        windows: &[&Window],
    ) -> Result<States, E> {
        States::new(points, last(self.n_layers), windows, |point| self.rows(point, windows))
    }

    fn rows<E: From<ModelError> + From<StoreError>>(
        &self,
        point: HookPoint,
        windows: &[&Window],
    ) -> Result<Tensor, E> {
        let missing = || ModelError::Input(format!("{point} was not unpacked"));
        let column = self.columns.get(&key(point, self.n_layers)).ok_or_else(missing)?;
        let mut values = Vec::new();
        for segment in windows.iter().flat_map(|w| &w.segments) {
            let start = self.starts.get(&(segment.doc_id, segment.doc_pos)).copied().ok_or_else(missing)?;
            column.read(start..start + u64::from(segment.len), &mut values)?;
        }
        let rows = Tensor::from_slice(&values).view([-1, column.width() as i64]);
        Ok(rows.f_to_device(self.device).map_err(ModelError::from)?)
    }
}

impl Residuals for Exported {
    fn each(
        &self,
        points: &[HookPoint],
        (windows, rows): (&[&Window], usize),
        stage: &Underway<'_>,
        f: &mut dyn FnMut(&States) -> Result<(), FitError>,
    ) -> Result<(), FitError> {
        States::each_from((windows, rows), stage, |some| self.states(points, some), |states, _| f(states))
    }
}

/// The windows that an export of all positions was made from: consecutive tokens of a document, `seq_len` at most.
/// With `limit`, only the first so many tokens.
pub fn windows(ids: &RowIds, seq_len: usize, limit: Option<u64>) -> Vec<Window> {
    let n = ids.len().min(limit.map_or(usize::MAX, |n| n as usize));
    let mut windows: Vec<Window> = Vec::new();
    for row in 0..n {
        let (doc_id, pos) = (ids.doc_id[row], ids.pos[row]);
        let full = |w: &Window| w.ids.len() == seq_len || w.segments[0].doc_id != doc_id;
        if windows.last().is_none_or(full) {
            let segment =
                Segment { doc_id, doc_pos: pos, doc_len: 0, offset: 0, len: 0, ..Segment::default() };
            windows.push(Window { ids: Vec::new(), segments: vec![segment] });
        }
        if let Some(window) = windows.last_mut() {
            window.ids.push(ids.token_id[row]);
            window.segments[0].len += 1;
        }
    }
    for document in windows.chunk_by_mut(|a, b| a.segments[0].doc_id == b.segments[0].doc_id) {
        let len = document.iter().map(|window| window.segments[0].len).sum();
        for window in document {
            window.segments[0].doc_len = len;
        }
    }
    windows
}

fn last(n_layers: usize) -> HookPoint {
    HookPoint::resid_pre(n_layers)
}

/// Hook and layer as the store names them.
fn key(point: HookPoint, n_layers: usize) -> (&'static str, usize) {
    (point.short_name(), point.layer(n_layers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_those_of_the_text() {
        // Two documents of 5 and 2 tokens, windows of 3: [0 1 2] [3 4] [5 6].
        let ids = RowIds {
            row_id: (0..7).collect(),
            doc_id: vec![0, 0, 0, 0, 0, 4, 4],
            pos: vec![0, 1, 2, 3, 4, 0, 1],
            token_id: (10..17).collect(),
        };
        let got = windows(&ids, 3, None);
        let ids_of: Vec<Vec<u32>> = got.iter().map(|w| w.ids.clone()).collect();
        assert_eq!(ids_of, [vec![10, 11, 12], vec![13, 14], vec![15, 16]]);
        let place = |w: &Window| (w.segments[0].doc_id, w.segments[0].doc_pos, w.segments[0].doc_len);
        let places: Vec<_> = got.iter().map(place).collect();
        assert_eq!(places, [(0, 0, 5), (0, 3, 5), (4, 0, 2)]);
        assert_eq!(windows(&ids, 3, Some(4))[1].ids, [13]);
    }
}
