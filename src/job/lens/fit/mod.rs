//! `lens fit`: translators, maps to the vocabulary, prompts or Jacobians, fitted to a text.

mod checkpoint;
mod folder;
mod jacobian;
mod moments;
mod outcome;
mod plan;
mod prompt;
mod settings;
mod targets;
mod vocab;
mod work;

use std::path::{Path, PathBuf};

pub(super) use self::folder::config_of;
pub use self::{
    jacobian::JacobianSettings,
    outcome::{Fitted, HeldOut, Measured, Prompted},
    prompt::PromptSettings,
    settings::{Fit, Init, LossSetting, OptimizerSetting},
};
use self::{plan::Plan, work::Work};
use super::activations;
use crate::{
    job::{AllWindows, Job, JobError, Session, SetTo, Source, TextSettings, Watch, claimed, counts},
    lens::artifact::LensKind,
    lens::fit::Fit as Fitting,
    results::run::{Found, RunDir},
    sources::leakage::FITTED_ON,
};

/// Tokens that are read when no number is asked for: 2^18 to fit on and 2^14 to hold out.
const TOKENS: u64 = (1 << 18) + (1 << 14);
/// Where a fit that was stopped goes on from.
const CHECKPOINT: &str = "checkpoint.safetensors";
/// The control of the shared lens: one affine map over states that were rotated, every layer differently.
pub(super) const ROTATED: &str = "rotated-affine";

impl Job for Fit {
    const COMMAND: &'static str = "lens fit";
    type Outcome = Fitted;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<Fitted, JobError> {
        match self.kind {
            LensKind::FuturePrompt => return prompt::run(self, watch),
            LensKind::Jacobian => return jacobian::run(self, watch),
            _ => {}
        }
        self.check_source()?;
        let session = Session::open(&self.model, watch)?;
        session.needs_head(Self::COMMAND)?;
        self.check_encoder(&session)?;
        let settings = self.text.up_to(TOKENS);
        let source = Source::open(&session, &settings, watch)?;
        session.announce(watch);
        let store = self.activations.as_deref().map(|dir| activations::open(dir, &session)).transpose()?;
        let (text, seq_len) = match &store {
            Some(store) => {
                let (text, options) = activations::text(store, &source, settings.tokens)?;
                (text, options.seq_len)
            }
            None => read(&source, &settings, watch)?,
        };
        let masker = session.masker(self.mask, &source.tokenizer, self.seed)?;
        let plan = self.plan(&source, &text, seq_len, masker)?;
        if let Some(store) = &store {
            activations::check_points(store, &plan.exported(), plan.n_layers)?;
        }
        if self.text.tokens.is_none() && text.stats.reached_limit {
            let more = SetTo("tokens", "N");
            watch.note(&format!("the first {TOKENS} tokens of the text are used; {more} for more"));
        }
        watch.note(&format!("documents: {}; {}", text.lead, plan.split.note));
        let work =
            Work { job: self, source: &source, store: store.as_ref(), text: &text, plan: &plan, watch };
        let manifest = work.manifest(&settings)?;
        let dir = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch).begin(&owns)?;
        if dir.found() == Found::Complete {
            watch.note(&format!("{} is complete already; nothing to do", self.out.display()));
            return Ok(Fitted::Complete);
        }
        let (fitted, rows) = work.run(dir.manifest())?;
        dir.finish(counts(text.stats, rows), None)?;
        Ok(fitted)
    }
}

impl Fit {
    /// Refuses a job without a text, or with two.
    fn check_source(&self) -> Result<(), JobError> {
        activations::check_source(&self.text, &self.model, self.activations.as_deref())
    }

    /// Refuses what makes no sense behind masks.
    fn check_encoder(&self, session: &Session) -> Result<(), JobError> {
        if session.spec.encoder.is_none() {
            return Ok(());
        }
        if matches!(self.kind, LensKind::Future | LensKind::FutureVocab) {
            session.needs_decoder(&format!("lens fit ({})", self.kind))?;
        }
        if self.activations.is_some() {
            let why = "an encoder's states are read behind masks, and an export has none; give data";
            return Err(JobError::setting("activations", why));
        }
        Ok(())
    }

    fn checkpoint(&self) -> PathBuf {
        self.out.join(CHECKPOINT)
    }
}

/// The windows of a text, and their length at most.
fn read(
    source: &Source<'_>,
    settings: &TextSettings,
    watch: &dyn Watch,
) -> Result<(AllWindows, usize), JobError> {
    let options = source.window_options(settings)?;
    Ok((source.windows(&options, watch)?, options.seq_len))
}

/// The files of a lens folder.
pub(super) fn owns(relative: &Path) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a fit that did not come from a command line, which would have refused it.
    fn refused(job: &Fit) -> String {
        let error = job.run(&()).expect_err("a fit without a model cannot run");
        assert_eq!(error.ending(), crate::job::Ending::Usage, "{error}");
        error.to_string()
    }

    #[test]
    fn a_fit_has_one_text() {
        assert_eq!(refused(&Fit::default()), "data: there is no text; give files, or activations");
        let activations = Some(PathBuf::from("export"));
        let pack = TextSettings { pack: true, ..TextSettings::default() };
        let both = Fit { activations, text: pack, ..Fit::default() };
        assert_eq!(refused(&both), "pack: activations stand for the text, and were made with their own");
    }

    #[test]
    fn prompts_refuse_what_other_kinds_have() {
        let prompt = || Fit { kind: LensKind::FuturePrompt, ..Fit::default() };
        let activations = Fit { activations: Some(PathBuf::from("export")), ..prompt() };
        assert_eq!(refused(&activations), "activations: learned prompts run the network; give data");
        let refine = Fit { refine: true, ..prompt() };
        assert_eq!(refused(&refine), "target and refine are for other kinds of lenses");
        assert_eq!(refused(&prompt()), "data: there is no text; give files, or activations");
        let site = Fit { site: "mlp_out".to_owned(), ..prompt() };
        assert_eq!(refused(&site), "site: states go into resid_pre");
    }
}
