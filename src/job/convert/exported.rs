//! Exports in other layouts.

use serde_json::json;

use super::{Convert, RESPONSES, Target};
use crate::{
    job::{JobError, SetTo, Setting, Watch},
    results::words::counted,
    states::{
        convert::{self, Conversion, ConvertError, Converted, Cut},
        store::ActivationStore,
    },
};

/// Converts an export.
pub(super) fn convert(job: &Convert, watch: &dyn Watch) -> Result<Converted, JobError> {
    let store = ActivationStore::open(&job.source).map_err(JobError::usage)?;
    let columns = columns(job, &store)?;
    let (cut, context) = (Cut::of(store.manifest()), context(job, &store)?);
    let mut manifest = job.manifest(Some(store.manifest()), &json!(store.manifest().job));
    manifest.config["context"] = json!(context);
    let mut found = job.fill(manifest, watch, |key| {
        let stage = watch.begin("converting", "rows", Some(store.n_rows() as u64));
        let out = if job.to == Target::VllmLens { job.out.join(RESPONSES) } else { job.out.clone() };
        let conversion = Conversion { store: &store, columns: &columns, cut, out: &out, stage: &stage };
        let found = match job.to {
            Target::Saelens => convert::saelens(&conversion, context.unwrap_or_default(), key),
            Target::VllmLens => convert::vllm_lens(&conversion),
            _ => convert::rows(&conversion, key),
        };
        found.map_err(ended)
    })?;
    found.left_out = store.n_rows() as u64 - found.tokens;
    if found.left_out > 0 {
        let left_out = counted(found.left_out, "token");
        watch.note(&format!("left out, behind the last whole context of a document: {left_out}"));
    }
    Ok(found)
}

/// Places of the columns that are wanted.
fn columns(job: &Convert, store: &ActivationStore) -> Result<Vec<usize>, JobError> {
    let all = store.columns().iter().enumerate();
    let wanted: Vec<usize> =
        all.filter(|(_, column)| job.wants(column.layer as usize)).map(|(place, _)| place).collect();
    let Some(layers) = job.layers.as_ref().filter(|_| wanted.is_empty()) else { return Ok(wanted) };
    let names: Vec<&str> = store.columns().iter().map(|column| column.point.as_str()).collect();
    Err(JobError::usage(format!(
        "{} selects none of {}, which are in {}",
        SetTo("layers", layers),
        names.join(", "),
        job.source.display()
    )))
}

/// Tokens of a context, where there are contexts.
fn context(job: &Convert, store: &ActivationStore) -> Result<Option<usize>, JobError> {
    if job.to != Target::Saelens {
        return Ok(None);
    }
    let cut = Cut::of(store.manifest());
    let longest = cut.lengths(&store.rows()?).longest;
    let wanted = job.context.map(std::num::NonZeroUsize::get).or(cut.window()).unwrap_or(longest);
    if wanted <= longest {
        return Ok(Some(wanted));
    }
    let error = ConvertError::TooShort { wanted, longest };
    Err(JobError::usage(format!("{}: {error} (see {})", job.source.display(), Setting("context"))))
}

fn ended(error: ConvertError) -> JobError {
    match error {
        ConvertError::Interrupted(_) => JobError::interrupted(error),
        ConvertError::NoStream | ConvertError::TooShort { .. } => JobError::usage(error),
        ConvertError::Store(error) => error.into(),
        ConvertError::Run(error) => error.into(),
        other => JobError::failed(other),
    }
}
