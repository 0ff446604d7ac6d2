//! States of labelled items from an export of the same texts.

use std::collections::BTreeMap;

use super::{ProbeError, features::Features, features::rows};
use crate::{
    sources::labelled::Plan,
    states::store::{ActivationStore, RowIds},
    watch::Underway,
};

/// Reads the items of `plan` from `store` in place of running a model. The export must hold the labelled files' texts,
/// in their order, at every position that is read. `stage` counts rows.
///
/// # Errors
/// [`ProbeError::OtherText`] when a token differs or is not there; when the export lacks a column or is damaged.
pub fn from_export(
    features: &Features,
    store: &ActivationStore,
    plan: &Plan,
    stage: &Underway<'_>,
) -> Result<(), ProbeError> {
    let index = index(&store.rows()?);
    let places = (0..plan.windows.len()).map(|w| place(w, plan, &index)).collect::<Result<Vec<_>, _>>()?;
    let writer = features.create()?;
    for column in 0..features.points().count() {
        let (hook, layer) = features.name(column);
        let states = store.matrix(hook, layer as u32)?;
        let d = states.ncols();
        for (window, places) in places.iter().enumerate() {
            let items = plan.items_of(window as u32);
            let mut own = vec![f32::NAN; plan.windows[window].ids.len() * d];
            for (pos, row) in places {
                let state = states.row(*row);
                own[pos * d..(pos + 1) * d].iter_mut().zip(state).for_each(|(to, from)| *to = *from);
            }
            writer.put(column, items.start, &rows(&plan.items[items], &own, d))?;
        }
        stage.done(states.nrows() as u64)?;
    }
    writer.finish()
}

/// Row and token by document and place.
type Index = BTreeMap<(u64, u32), (usize, u32)>;

fn index(ids: &RowIds) -> Index {
    let entry = |row: usize| ((ids.doc_id[row], ids.pos[row]), (row, ids.token_id[row]));
    (0..ids.len()).map(entry).collect()
}

/// Where the states of a window that its items read are: place in the window, row of the export.
fn place(number: usize, plan: &Plan, index: &Index) -> Result<Vec<(usize, usize)>, ProbeError> {
    let window = &plan.windows[number];
    let doc = window.segments[0].doc_id;
    let mut needed: Vec<u32> =
        plan.items[plan.items_of(number as u32)].iter().flat_map(|i| i.rows.clone()).collect();
    needed.sort_unstable();
    needed.dedup();
    let find = |pos: u32| {
        let token = window.ids[pos as usize];
        match index.get(&(doc, pos)) {
            Some((row, found)) if *found == token => Ok((pos as usize, *row)),
            found => Err(ProbeError::OtherText {
                text: format!("{doc} (counted from 0), token {pos}"),
                expected: format!("token {token}"),
                found: found.map_or("nothing".into(), |(_, id)| format!("token {id}")),
            }),
        }
    };
    needed.into_iter().map(find).collect()
}
