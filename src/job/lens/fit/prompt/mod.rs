//! `lens fit --kind future-prompt`: a learned prompt per layer and horizon, cell after cell.

mod plan;
mod settings;
mod train;

use serde_json::json;

pub use self::settings::PromptSettings;
use self::{
    plan::{Plan, check, window_options},
    train::{Prompts, tensors},
};
use super::{Fit, Fitted, Prompted, TOKENS, folder::config_of, owns, remove};
use crate::{
    intervene::future::{PromptCell, Trained},
    job::{JobError, Session, Source, Watch, claimed, counts},
    lens::artifact::{LensConfig, LensFolder, LensKind},
    model::Model,
    results::run::{Found, Manifest, RunDir},
    sources::leakage::{FittedOn, lead_of},
};

pub(super) fn run(job: &Fit, watch: &dyn Watch) -> Result<Fitted, JobError> {
    check(job)?;
    let session = Session::open(&job.model, watch)?;
    session.needs_decoder("lens fit (future-prompt)")?;
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
    let contexts = plan.train.iter().chain(&plan.held_out);
    let fitted_on = FittedOn::of_windows(contexts, &lead, manifest.tokenizer_sha256.clone());
    let dir = claimed(RunDir::claim(&job.out, manifest, job.force)?, watch).begin(&owns)?;
    if dir.found() == Found::Complete {
        watch.note(&format!("{} is complete already; nothing to do", job.out.display()));
        return Ok(Fitted::Complete);
    }
    let model = session.load(watch)?;
    let (train, held_out) = plan.sources(model, watch)?;
    let trained = plan.cells(model, (&train, &held_out), &job.checkpoint(), watch)?;
    let config = lens_config(&source, &plan, model, dir.manifest(), &trained)?;
    fitted_on.write(&job.out)?;
    LensFolder::write(&job.out, &config, &tensors(&trained, false))?;
    remove(&job.checkpoint())?;
    dir.finish(counts(text.stats, train.rows() as u64), None)?;
    Ok(Fitted::Prompts(trained.iter().map(|(cell, one)| Prompted::new(*cell, one)).collect()))
}

/// What `config.json` says.
fn lens_config(
    source: &Source<'_>,
    plan: &Plan,
    model: &Model,
    manifest: &Manifest,
    trained: &Prompts,
) -> Result<LensConfig, JobError> {
    let cell = |(cell, one): (&PromptCell, &Trained)| {
        json!({ "layer": cell.layer, "horizon": cell.horizon, "steps": one.steps,
                "held_out_kl_before": one.before, "held_out_kl": one.after })
    };
    let mut config = config_of(LensKind::FuturePrompt, source.session, model.unembed(), manifest)?;
    config.layers.clone_from(&plan.layers);
    config.horizons = (1..=plan.horizons).collect();
    config.details["cells"] = trained.iter().map(cell).collect();
    Ok(config)
}
