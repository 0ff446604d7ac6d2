//! The work of a fit of translators or maps, once everything is decided.

use std::collections::BTreeMap;

use tch::Tensor;

use super::{
    Fit, Fitted, Fitting, HeldOut, Plan, activations,
    checkpoint::{Checkpoints, refuse_damaged, restore},
    remove,
    targets::targets,
    vocab,
};
use crate::{
    job::{AllWindows, JobError, LeakageSettings, Source, TextSettings, Watch, audit_note, fitted_on},
    lens::artifact::{LensFolder, LensKind},
    lens::fit::{FitLog, FitTarget, Hidden, Residuals, write_log},
    lenses::Readout,
    results::run::Manifest,
    sources::leakage::lead_of,
    states::store::ActivationStore,
};

/// A fit of translators or maps, once everything is decided.
pub(super) struct Work<'a> {
    pub(super) job: &'a Fit,
    pub(super) source: &'a Source<'a>,
    /// States that were exported earlier.
    pub(super) store: Option<&'a ActivationStore>,
    pub(super) text: &'a AllWindows,
    pub(super) plan: &'a Plan,
    pub(super) watch: &'a dyn Watch,
}

impl Work<'_> {
    pub(super) fn manifest(&self, settings: &TextSettings) -> Result<Manifest, JobError> {
        let Self { job, source, text, plan, watch, .. } = *self;
        let manifest = source.manifest(job, (&text.lead, settings.pack), job.seed, watch)?;
        let mut manifest = manifest.with_threads(source.session.threads);
        manifest.config = job.config(source, plan, settings.tokens);
        if let Some(store) = self.store {
            activations::record(store, &mut manifest);
        }
        let fit = ("the fit", source);
        LeakageSettings::default().of_split(&text.windows, &plan.split, fit, &mut manifest, watch)?;
        Ok(manifest)
    }

    /// Fits and writes everything but the manifest; what was found, and the rows it rests on.
    pub(super) fn run(&self, manifest: &Manifest) -> Result<(Fitted, u64), JobError> {
        let Self { job, source, text, plan, watch, .. } = *self;
        let session = source.session;
        let model = session.load(watch)?;
        let precision = job.readout.precision(session.device);
        let readout = Readout::new(model.unembed(), source.vocab(), precision, session.threads)?;
        job.readout.announce(session.device, watch);
        let unpack = |store| activations::unpack(store, session, &plan.exported(), text, &job.out, watch);
        let cache = self.store.map(unpack).transpose()?;
        let hidden = plan.masker.as_ref().map(|masker| Hidden { model, masker });
        let own = hidden.as_ref().map_or(model as &dyn Residuals, |hidden| hidden);
        let fit = Fitting {
            residuals: cache.as_ref().map_or(own, |cache| cache),
            readout: &readout,
            points: &plan.points,
            windows: &text.windows,
            split: &plan.split,
            step_tokens: plan.step_tokens,
            batch_tokens: plan.batch_tokens,
        };
        if job.kind == LensKind::FutureVocab {
            let tensors = vocab::tensors(job, &fit, plan, watch)?;
            self.write(&tensors, &readout, manifest)?;
            return Ok((Fitted::Maps(tensors.len() / 2), text.stats.tokens));
        }
        let (targets, log) = self.fit(&fit)?;
        audit_note(&readout, watch);
        write_log(&job.out, &log, &plan.layers)?;
        self.write(&job.tensors(plan, &targets)?, &readout, manifest)?;
        remove(&job.checkpoint())?;
        let rows = text.windows.iter().map(|w| w.ids.len() as u64).sum();
        Ok((Fitted::Translators(HeldOut::new(job, plan, &log)), rows))
    }

    /// Fits everything to its end, from where a checkpoint was taken.
    fn fit(&self, fit: &Fitting<'_>) -> Result<(Vec<FitTarget>, FitLog), JobError> {
        let Self { job, plan, watch, .. } = *self;
        let path = job.checkpoint();
        refuse_damaged(&path, watch)?;
        let mut targets = targets(job, fit, plan, path.exists(), watch)?;
        let mut log = FitLog::default();
        if path.exists() {
            log = restore(&path, &mut targets)?;
            watch.note(&format!("going on from step {}", targets[0].fitter.steps_done()));
        }
        let tokens = targets.iter().any(|t| t.fitter.recipe().steps > 0).then(|| fit.steps()).transpose();
        let tokens = tokens.map_err(JobError::usage)?.map_or(0, |steps| fit.tokens_of(&steps));
        let mut checkpoints = Checkpoints::new(watch, tokens, path, job.checkpoint_seconds);
        fit.run(&mut targets, &mut log, &mut checkpoints)?;
        Ok((targets, log))
    }

    /// Writes the lens, and which documents it was fitted on.
    fn write(
        &self,
        tensors: &BTreeMap<String, Tensor>,
        readout: &Readout,
        manifest: &Manifest,
    ) -> Result<(), JobError> {
        let Self { job, source, text, plan, .. } = *self;
        let config = job.lens_config(source, plan, readout, manifest)?;
        let lead = lead_of(manifest.bos.as_ref(), source.tokenizer.eos_id());
        fitted_on(&text.windows, &plan.split, &lead, manifest).write(&job.out)?;
        LensFolder::write(&job.out, &config, tensors)?;
        Ok(())
    }
}
