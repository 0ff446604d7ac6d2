//! `lens fit`.

mod args;
mod cached;
mod checkpoint;
mod moments;
mod plan;
mod prompt;
mod result;
mod targets;
mod vocab;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::anyhow;
pub(super) use args::FitArgs;
use layerscope::{
    lens::artifact::LensFolder,
    lens::fit::{Fit, FitError, FitLog, Residuals, Target, write_log},
    lenses::Readout,
    results::run::{Found, RunDir},
    sources::leakage::{FITTED_ON, lead_of},
    sources::text::Window,
};
use serde_json::json;

use self::{
    checkpoint::{Progress, refuse_damaged, restore},
    plan::Plan,
};
use super::{
    super::{
        exit::Failure,
        interrupt::on_interrupt,
        leakage::{LeakageArgs, fitted_on},
        output::{Output, shown},
        source::{AllWindows, Source, counts},
    },
    readout::told,
};

/// Tokens that are read when `--tokens` is not given: 2^18 to fit on and 2^14 to hold out.
const TOKENS: u64 = (1 << 18) + (1 << 14);
/// Where a fit that was stopped goes on from.
const CHECKPOINT: &str = "checkpoint.safetensors";
/// The control of the shared lens: one affine map over states that were rotated, every layer differently.
pub(super) const ROTATED: &str = "rotated-affine";

impl FitArgs {
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        if self.kind == args::Kind_::FuturePrompt {
            return prompt::run(self);
        }
        let output = Output::new(self.common.output);
        let stop = on_interrupt()?;
        let source = Source::open(&self.model, &self.text.0, output)?;
        source.session.announce(output);
        let limited = self.text.0.tokens.is_none();
        self.text.0.tokens.get_or_insert(TOKENS);
        let cache = self.activations.as_deref().map(|dir| cached::open(dir, &source.session)).transpose()?;
        let (text, seq_len) = match &cache {
            Some(store) => cached::text(store, self.text.0.tokens)?,
            None => self.read(&source, output)?,
        };
        let plan = self.plan(&source, &text, seq_len)?;
        if self.kind == args::Kind_::FutureVocab && self.refine {
            return Err(Failure::usage(anyhow!("--refine: a map to the vocabulary is a closed form only")));
        }
        if limited && text.stats.reached_limit {
            output.note(format!("the first {TOKENS} tokens of the text are used; --tokens N for more"));
        }
        output.note(format!("documents: {}; {}", text.lead, plan.split.note));
        let mut manifest =
            source.manifest("lens fit", &self.model, &text.lead, self.text.0.pack, &self.common, output)?;
        manifest = manifest.with_threads(source.session.threads);
        manifest.config = self.config(&source, &plan);
        if let Some(store) = &cache {
            cached::record(store, &mut manifest);
        }
        let lead = lead_of(manifest.bos.as_ref(), source.tokenizer.eos_id());
        LeakageArgs::default().of_split(
            &text.windows,
            &plan.split,
            ("the fit", &source),
            &mut manifest,
            output,
        )?;
        let dir = output.claimed(RunDir::claim(&self.out, manifest, self.force)?).begin(&owns)?;
        if dir.found() == Found::Complete {
            output.note(format!("{} is complete already; nothing to do", self.out.display()));
            output.result(json!({ "out": shown(&self.out), "complete": true }))?;
            return Ok(());
        }
        let model = source.session.load(output)?;
        let precision = self.readout.precision(source.session.device);
        let readout = Readout::new(model.unembed(), source.vocab(), precision, source.session.threads)?;
        self.readout.announce(source.session.device, output);
        let cache = cache
            .map(|store| cached::unpack(&store, &source, &plan, &text, &self.out, output))
            .transpose()?;
        let residuals = cache.as_ref().map_or(&model as &dyn Residuals, |cache| cache);
        if self.kind == args::Kind_::FutureVocab {
            let tensors = vocab::tensors(&self, residuals, &readout, &plan, &text.windows, output)?;
            let config = self.lens_config(&source, &plan, &readout, dir.manifest())?;
            fitted_on(&text.windows, &plan.split, &lead, dir.manifest()).write(&self.out)?;
            LensFolder::write(&self.out, &config, &tensors)?;
            dir.finish(counts(text.stats, text.stats.tokens), None)?;
            output.note("next, on other text: `layerscope future` measures it");
            output.result(json!({ "out": shown(&self.out), "maps": tensors.len() / 2 }))?;
            return Ok(());
        }
        let (targets, log) = self.fit(residuals, &readout, &plan, &text.windows, stop, output)?;
        told(&readout, output);
        let tensors = self.tensors(&plan, &targets)?;
        let config = self.lens_config(&source, &plan, &readout, dir.manifest())?;
        write_log(&self.out, &log, &plan.layers)?;
        fitted_on(&text.windows, &plan.split, &lead, dir.manifest()).write(&self.out)?;
        LensFolder::write(&self.out, &config, &tensors)?;
        remove(&self.out.join(CHECKPOINT))?;
        let rows = text.windows.iter().map(|w| w.ids.len() as u64).sum();
        dir.finish(counts(text.stats, rows), None)?;
        self.report(&plan, &log, output)
    }

    fn read(&self, source: &Source, output: Output) -> Result<(AllWindows, usize), Failure> {
        let options = source.window_options(&self.text.0)?;
        Ok((source.windows(&options, output)?, options.seq_len))
    }

    fn fit(
        &self,
        residuals: &dyn Residuals,
        readout: &Readout,
        plan: &Plan,
        windows: &[Window],
        stop: Arc<AtomicBool>,
        output: Output,
    ) -> Result<(Vec<Target>, FitLog), Failure> {
        let fit = Fit {
            residuals,
            readout,
            points: &plan.points,
            windows,
            split: &plan.split,
            step_tokens: plan.step_tokens,
            batch_tokens: plan.batch_tokens,
        };
        let path = self.out.join(CHECKPOINT);
        refuse_damaged(&path, output)?;
        let mut targets = targets::targets(self, &fit, plan, path.exists(), output)?;
        let mut log = FitLog::default();
        if path.exists() {
            log = restore(&path, &mut targets)?;
            output.note(format!("going on from step {}", targets[0].fitter.steps_done()));
        }
        let tokens = targets.iter().any(|t| t.fitter.recipe().steps > 0).then(|| fit.steps()).transpose();
        let tokens = tokens.map_err(Failure::usage)?.map_or(0, |steps| fit.tokens_of(&steps));
        let mut progress = Progress::new(output, tokens, path, self.checkpoint_seconds, stop);
        let ended = fit.run(&mut targets, &mut log, &mut progress);
        progress.close();
        ended.map_err(|e| match e {
            FitError::Interrupted => Failure::interrupted(e),
            other => other.into(),
        })?;
        Ok((targets, log))
    }
}

/// The files of a lens folder.
fn owns(relative: &Path) -> bool {
    let name = relative.to_string_lossy();
    matches!(
        &*name,
        "config.json" | "params.safetensors" | "params.pt" | "fit.parquet" | FITTED_ON | CHECKPOINT
    )
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
