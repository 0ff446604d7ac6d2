//! States of labelled texts from an export of the same texts.

use std::path::Path;

use super::{LabelSettings, ended, labelled::Labelled};
use crate::{
    job::{JobError, Session, Setting, Watch},
    probe::{Features, from_export},
    results::run::ModelRecord,
    states::store::ActivationStore,
};

/// Opens an export that labels shall be read with.
pub(super) fn open_export(path: &Path, labels: &LabelSettings) -> Result<ActivationStore, JobError> {
    if labels.paired() {
        let (pairs, model) = (Setting("negation_column"), Setting("model"));
        let line = format!("an export has one text a row; pairs ({pairs}) are read with {model}");
        return Err(JobError::setting("activations", line));
    }
    ActivationStore::open(path).map_err(JobError::usage)
}

/// Refuses an export of another model.
pub(super) fn check_made_by(
    store: &ActivationStore,
    path: &Path,
    model: Option<&ModelRecord>,
    session: &Session,
) -> Result<(), JobError> {
    let made_by = store.manifest().model.as_ref().map(|m| &m.sha256);
    if made_by == model.map(|m| &m.sha256) {
        return Ok(());
    }
    let model = session.settings.model.display();
    Err(JobError::check(format!("{}: made with another model than {model}", path.display())))
}

/// Reads the states of a set, unless they are there already.
pub(super) fn from_store(
    features: &Features,
    store: &ActivationStore,
    labelled: &Labelled,
    watch: &dyn Watch,
) -> Result<(), JobError> {
    if features.complete() {
        return Ok(());
    }
    let rows = store.n_rows() as u64 * features.points().count() as u64;
    let stage = watch.begin("reading states", "rows", Some(rows));
    from_export(features, store, &labelled.sides[0].plan, &stage).map_err(ended)
}
