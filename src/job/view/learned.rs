//! Lenses of learned prompts: what every state goes on to say.

use std::{collections::BTreeMap, path::PathBuf};

use super::{Readings, View, Viewed, viewed};
use crate::{
    intervene::future::{Prompt, fits, grid},
    job::{JobError, Session, SetTo, Setting, Watch, shown},
    lens::artifact::{LensFolder, LensKind, check, check_shape, unembed_sha256},
    model::Model,
};

/// A folder of learned prompts.
pub(super) struct Learned {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) folder: LensFolder,
}

impl View {
    /// The folders of learned prompts among the lenses, and the other lenses.
    pub(super) fn learned(&self) -> Result<(Vec<Learned>, Vec<PathBuf>), JobError> {
        let (mut learned, mut others) = (Vec::new(), Vec::new());
        for (place, name) in self.lens.iter().enumerate() {
            let folder =
                name.is_dir().then(|| LensFolder::read(name)).transpose().map_err(JobError::usage)?;
            match folder.filter(|folder| folder.config.kind == LensKind::FuturePrompt) {
                Some(folder) => {
                    let label = |name: &PathBuf| name.file_name().map(|n| n.to_string_lossy().into_owned());
                    let same = self.lens[..place].iter().filter(|other| label(other) == label(name)).count();
                    let label = label(name).unwrap_or_else(|| shown(name));
                    let label = if same > 0 { format!("{label}-{}", same + 1) } else { label };
                    learned.push(Learned { name: label, dir: name.clone(), folder });
                }
                None => others.push(name.clone()),
            }
        }
        let Some(one) = learned.first() else { return Ok((learned, others)) };
        let lens = SetTo("lens", one.dir.display());
        let [html, out, logitlenskit] = ["html", "out", "logitlenskit"].map(Setting);
        if self.lens.len() > 1 && !self.writes_files() {
            return Err(JobError::usage(format!(
                "{lens}: in the terminal a future-prompt lens is shown by itself; {html} and {out} take several"
            )));
        }
        if self.logitlenskit.is_some() {
            let line = format!("{logitlenskit} shows the next token, {lens} later ones");
            return Err(JobError::usage(line));
        }
        Ok((learned, others))
    }

    /// What every state goes on to say.
    pub(super) fn grid(&self, folder: &LensFolder, watch: &dyn Watch) -> Result<Viewed, JobError> {
        let session = Session::open(&self.model, watch)?;
        session.needs_decoder("view of learned prompts")?;
        let tokenizer = session.tokenizer(watch)?;
        let leaders = self.leaders(folder, &session)?;
        let prompts = self.prompts(&session, &tokenizer)?;
        session.announce(watch);
        let model = session.load(watch)?;
        self.check_unembedding(folder, model, watch)?;
        let vocab = session.vocab(&tokenizer);
        let mut grids = Vec::new();
        for prompt in &prompts {
            let tokens = session.batch_tokens(None);
            let rows = grid(model, vocab, &prompt.ids, &leaders, self.ahead.get(), tokens);
            grids.push(rows.map_err(|error| self.of(prompt, error))?);
        }
        Ok(viewed(&session, tokenizer, prompts, Readings::Grids(grids)))
    }

    /// One prompt per layer asked for: trained for horizon 2 (the paper's N = 1) where there is one, else for the
    /// nearest.
    pub(super) fn leaders(
        &self,
        folder: &LensFolder,
        session: &Session,
    ) -> Result<BTreeMap<usize, Prompt>, JobError> {
        let (spec, config) = (&session.spec, &folder.config);
        check_shape(config, spec.d_model, spec.n_layers).map_err(JobError::check)?;
        let mut all = folder.prompts()?;
        let horizon = if config.horizons.contains(&2) { 2 } else { config.horizons[0] };
        let layers = session.layers(self.layers.as_ref())?;
        let of = |layer: &usize| Some((*layer, Prompt::Soft(all.remove(&(*layer, horizon))?)));
        let prompts: BTreeMap<usize, Prompt> = layers.iter().filter_map(of).collect();
        if prompts.is_empty() {
            return Err(JobError::setting("layers", format!("the lens has prompts for {:?}", config.layers)));
        }
        let longest = prompts.values().map(Prompt::tokens).max().unwrap_or(0);
        fits(longest as usize, self.ahead.get(), spec.n_ctx).map_err(JobError::usage)?;
        Ok(prompts)
    }

    /// Refuses prompts that were learned through another head.
    pub(super) fn check_unembedding(
        &self,
        folder: &LensFolder,
        model: &Model,
        watch: &dyn Watch,
    ) -> Result<(), JobError> {
        let spec = model.spec();
        match check(&folder.config, &unembed_sha256(model.unembed())?, spec.d_model, spec.n_layers) {
            Ok(_) => Ok(()),
            Err(e) if self.other_unembedding => {
                watch.warn(&e.to_string());
                Ok(())
            }
            Err(e) => Err(JobError::check(e)),
        }
    }
}
