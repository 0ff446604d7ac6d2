//! `lens fit --kind jacobian`: the mean Jacobian of a later layer in every earlier one, prompt after prompt.

mod plan;
mod settings;
mod work;

use std::time::Duration;

use serde_json::json;

use self::plan::{Plan, check, window_options};
pub use self::settings::JacobianSettings;
use super::{Fit, Fitted, Measured, TOKENS, folder::config_of, owns, remove};
use crate::{
    job::{JobError, Session, Source, Watch, claimed, counts},
    lens::artifact::{LensConfig, LensFolder, LensKind, jacobian_tensors},
    model::Model,
    results::run::{Found, Manifest, RunDir},
    sources::leakage::{FittedOn, lead_of},
};

pub(super) fn run(job: &Fit, watch: &dyn Watch) -> Result<Fitted, JobError> {
    check(job)?;
    let session = Session::open(&job.model, watch)?;
    session.needs_decoder("lens fit (jacobian)")?;
    let settings = job.text.up_to(TOKENS);
    let source = Source::open(&session, &settings, watch)?;
    session.announce(watch);
    let options = window_options(job, &source, &settings)?;
    let text = source.windows(&options, watch)?;
    let plan = Plan::new(job, &source, &text.windows, options.seq_len, watch)?;
    let manifest = source.manifest(job, (&text.lead, false), job.seed, watch)?;
    let mut manifest = manifest.with_threads(session.threads);
    manifest.config = plan.config(job, &settings);
    let lead = lead_of(manifest.bos.as_ref(), source.tokenizer.eos_id());
    let fitted_on = FittedOn::of_windows(&plan.prompts, &lead, manifest.tokenizer_sha256.clone());
    let dir = claimed(RunDir::claim(&job.out, manifest, job.force)?, watch).begin(&owns)?;
    if dir.found() == Found::Complete {
        watch.note(&format!("{} is complete already; nothing to do", job.out.display()));
        return Ok(Fitted::Complete);
    }
    let model = session.load(watch)?;
    let every = Duration::from_secs(job.checkpoint_seconds);
    let jacobians = plan.jacobians(model, &job.checkpoint(), every, watch)?;
    let found: Vec<Measured> =
        jacobians.iter().map(|(layer, jacobian)| Measured::new(layer.0, jacobian)).collect();
    let config = lens_config(&source, &plan, model, dir.manifest(), &found)?;
    fitted_on.write(&job.out)?;
    LensFolder::write(&job.out, &config, &jacobian_tensors(&jacobians))?;
    remove(&job.checkpoint())?;
    let rows = plan.prompts.iter().map(|prompt| prompt.ids.len() as u64).sum();
    dir.finish(counts(text.stats, rows), None)?;
    Ok(Fitted::Jacobians(found))
}

/// What `config.json` says.
fn lens_config(
    source: &Source<'_>,
    plan: &Plan,
    model: &Model,
    manifest: &Manifest,
    found: &[Measured],
) -> Result<LensConfig, JobError> {
    let one = |layer: &Measured| {
        json!({ "layer": layer.layer, "prompts": layer.prompts, "norm": layer.norm, "error": layer.error,
                "refit_cosine": layer.refit_cosine })
    };
    let mut config = config_of(LensKind::Jacobian, source.session, model.unembed(), manifest)?;
    config.layers.clone_from(&plan.estimator.layers);
    config.details["jacobians"] = found.iter().map(one).collect();
    Ok(config)
}
