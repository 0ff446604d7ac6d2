//! `view` into files: one offline page, a run directory, logitlenskit's JSON.

use std::{collections::BTreeMap, io::Write as _, path::Path};

use serde_json::json;

use super::{Prompt, View, learned::Learned};
use crate::{
    intervene::future::{Prompt as Soft, Spoken},
    job::{
        JobError, Session, SetTo, Setting, Watch,
        lens::{LensRequest, Lenses, open, records},
    },
    lens::{
        artifact::lens_sha256,
        trajectory::{PromptStates, PromptToken, TRAJECTORY, Trace, Tracked, logitlenskit, write_traces},
    },
    lenses::LayerIndex,
    model::Model,
    results::{
        page::{Page, TrajectoryPart},
        run::{Counts, LensRecord, Manifest, RunDir, RunError, Status, write_atomic},
    },
    sources::text::{TokenText, Tokenizer},
};

/// A lens of learned prompts, and the prompt of each layer.
type Leaders<'l> = (&'l Learned, BTreeMap<usize, Soft>);

/// Letters of a prompt in its name.
const NAME: usize = 48;

impl View {
    /// Whether files are asked for, which then take the place of the table.
    pub(super) fn writes_files(&self) -> bool {
        self.html.is_some() || self.out.is_some() || self.logitlenskit.is_some()
    }

    /// What can be told before the model is read.
    pub(super) fn check_files(&self, requests: &[LensRequest]) -> Result<(), JobError> {
        let one = requests.len() == 1 && requests[0].horizons() == 1 && self.text.len() == 1;
        if self.logitlenskit.is_some() && !one {
            let [kit, text, lens] = ["logitlenskit", "text", "lens"].map(Setting);
            return Err(JobError::usage(format!(
                "{kit} shows one {text} through one {lens} of the next token, not {} through {}",
                self.text.len(),
                requests.len()
            )));
        }
        Ok(())
    }

    /// Refuses to replace a file of another job, as a run's folder does.
    fn check_replaced(&self, manifest: &Manifest) -> Result<(), JobError> {
        let own = format!("\"job\":\"{}\"", manifest.job_key());
        let is_own = |path: &Path| {
            std::fs::read(path).is_ok_and(|page| page.windows(own.len()).any(|w| w == own.as_bytes()))
        };
        let files = [("html", &self.html), ("logitlenskit", &self.logitlenskit)];
        for (name, path) in files.into_iter().filter_map(|(name, path)| Some((name, path.as_ref()?))) {
            if path.exists() && !self.force && !is_own(path) {
                return Err(JobError::usage(format!(
                    "{}: the file is there already; choose another or replace it with {}",
                    SetTo(name, path.display()),
                    Setting("force")
                )));
            }
        }
        Ok(())
    }

    /// Reads every prompt through every lens and writes what was asked for.
    pub(super) fn save(
        &self,
        session: &Session,
        tokenizer: &Tokenizer,
        prompts: &[Prompt],
        (requests, learned): (&[LensRequest], &[Learned]),
        layers: &[LayerIndex],
        watch: &dyn Watch,
    ) -> Result<(), JobError> {
        let mut manifest = self.manifest(session, tokenizer, prompts, (requests, learned), layers, watch)?;
        self.check_replaced(&manifest)?;
        let leaders = learned.iter().map(|one| Ok((one, self.leaders(&one.folder, session)?)));
        let leaders: Vec<_> = leaders.collect::<Result<_, JobError>>()?;
        let claim =
            self.out.as_ref().map(|out| RunDir::claim(out, manifest.clone(), self.force)).transpose()?;
        let model = session.load(watch)?;
        let lenses = open(requests, model, self.other_unembedding, watch)?;
        for one in learned {
            self.check_unembedding(&one.folder, model, watch)?;
        }
        let read = |prompt| self.trace(session, model, tokenizer, prompt, (&lenses, &leaders), layers);
        let mut traces = prompts.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let counts = counts(&traces);
        if let Some(path) = &self.logitlenskit {
            write_text(path, &logitlenskit(&traces[0], &traces[0].lenses[0])?.to_string())?;
            watch.note(&format!("wrote {} for logitlenskit's widget", path.display()));
        }
        traces.iter_mut().for_each(Trace::keep_first_tokens);
        if let (Some(claim), Some(out)) = (claim, &self.out) {
            let dir = claim.begin(&|p| p == Path::new(TRAJECTORY))?;
            write_traces(out, &traces)?;
            dir.finish(counts, None)?;
            watch.note(&format!("wrote {}", out.join(TRAJECTORY).display()));
        }
        if let Some(path) = &self.html {
            (manifest.counts, manifest.status) = (counts, Status::Complete);
            write_page(path, &manifest, prompts, &traces)?;
            watch.note(&format!("wrote {}: open it in a browser", path.display()));
        }
        Ok(())
    }

    /// One prompt through every lens.
    fn trace(
        &self,
        session: &Session,
        model: &Model,
        tokenizer: &Tokenizer,
        prompt: &Prompt,
        (lenses, leaders): (&Lenses, &[Leaders<'_>]),
        layers: &[LayerIndex],
    ) -> Result<Trace, JobError> {
        let vocab = session.vocab(tokenizer);
        let tracked = if self.logitlenskit.is_some() { Tracked::Top } else { Tracked::First };
        let states = PromptStates::run(model, &prompt.ids, layers).map_err(|e| self.of(prompt, e))?;
        let mut trace = Trace::new(session.name(), session.spec.n_layers, tokens(prompt));
        for lens in &lenses.all {
            let read = states.trace(lens.as_ref(), layers, self.top_k.get(), tracked);
            trace.lenses.push(read.map_err(|e| self.of(prompt, e))?);
        }
        for (one, leaders) in leaders {
            let stream = |layer: &usize| Ok((*layer, states.state(LayerIndex(*layer))?));
            let streams = leaders.keys().map(stream).collect::<Result<_, JobError>>()?;
            let (ahead, tokens) = (self.ahead.get(), session.batch_tokens(None));
            for lens in Spoken::of(model, vocab, &one.name, streams, leaders, ahead, tokens)? {
                trace.lenses.push(states.trace(&lens, layers, self.top_k.get(), tracked)?);
            }
        }
        trace.spell(|id| spelled(tokenizer, id));
        Ok(trace)
    }

    fn manifest(
        &self,
        session: &Session,
        tokenizer: &Tokenizer,
        prompts: &[Prompt],
        (requests, learned): (&[LensRequest], &[Learned]),
        layers: &[LayerIndex],
        watch: &dyn Watch,
    ) -> Result<Manifest, JobError> {
        let mut manifest = session.manifest(self, tokenizer, watch)?;
        manifest.seed = self.seed;
        manifest.lenses = records(requests)?;
        manifest.config = json!({
            "model_name": session.name(),
            "n_layers": session.spec.n_layers,
            "text": prompts.iter().map(|prompt| &prompt.text).collect::<Vec<_>>(),
            "lenses": self.lens.len(),
            "layers": layers.iter().map(|layer| layer.0).collect::<Vec<_>>(),
            "top_k": self.top_k.get(),
            "tokens": self.tokens,
        });
        if !learned.is_empty() {
            manifest.config["ahead"] = json!(self.ahead);
        }
        for one in learned {
            manifest.lenses.push(LensRecord { name: one.name.clone(), sha256: lens_sha256(&one.dir)? });
        }
        Ok(manifest)
    }
}

fn write_page(
    path: &Path,
    manifest: &Manifest,
    prompts: &[Prompt],
    traces: &[Trace],
) -> Result<(), JobError> {
    let part = |(prompt, trace)| TrajectoryPart { name: name(prompt), manifest: Some(manifest), trace };
    let trajectories: Vec<_> = prompts.iter().zip(traces).map(part).collect();
    let model = traces.first().map_or("", |trace| trace.model.as_str());
    Page { title: format!("{model}, layer by layer"), runs: Vec::new(), trajectories }.write(path)?;
    Ok(())
}

/// The prompt's first words.
fn name(prompt: &Prompt) -> String {
    let words = prompt.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = words.chars().take(NAME).collect();
    if cut.len() < words.len() { format!("{cut}…") } else { cut }
}

fn tokens(prompt: &Prompt) -> Vec<PromptToken> {
    let one = |(id, token): (&u32, &TokenText)| PromptToken { id: *id, text: token.clone().whole() };
    prompt.ids.iter().zip(&prompt.tokens).map(one).collect()
}

fn spelled(tokenizer: &Tokenizer, id: u32) -> String {
    tokenizer.piece(id).whole()
}

fn counts(traces: &[Trace]) -> Counts {
    let cells =
        |trace: &Trace| trace.lenses.iter().map(|l| l.layers.len() * trace.tokens.len()).sum::<usize>();
    Counts {
        documents: traces.len() as u64,
        tokens: traces.iter().map(|trace| trace.tokens.len() as u64).sum(),
        rows: traces.iter().map(|trace| cells(trace) as u64).sum(),
        ..Counts::default()
    }
}

fn write_text(path: &Path, text: &str) -> Result<(), RunError> {
    write_atomic(path, |file| file.write_all(text.as_bytes()).map_err(|e| RunError::io("write", path, e)))?;
    Ok(())
}
