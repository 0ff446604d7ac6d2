//! What prompts are trained on and how, decided before weights are read.

use serde_json::{Value, json};

use super::super::{super::site, Fit};
use crate::{
    hook::BlockHook,
    intervene::future::{Recipe, drawn, fits},
    job::{JobError, Setting, Source, TextSettings, Watch},
    lens::fit::{FitError, split},
    results::words::counted,
    sources::text::{Window, WindowOptions, resolve_seq_len},
};

/// Held-out contexts, at most.
const HELD_OUT: usize = 500;

/// What is trained and on what.
pub(super) struct Plan {
    pub(super) layers: Vec<usize>,
    pub(super) horizons: usize,
    pub(super) recipe: Recipe,
    pub(super) train: Vec<Window>,
    pub(super) held_out: Vec<Window>,
    pub(super) seq_len: usize,
    pub(super) vocab: usize,
    pub(super) batch_tokens: usize,
    pub(super) seed: u64,
}

/// Refuses what only other kinds have.
pub(super) fn check(job: &Fit) -> Result<(), JobError> {
    let p = &job.prompt;
    let not_below_zero = |x: f64| x >= 0.0 && x.is_finite();
    let why = if job.activations.is_some() {
        let [activations, data] = ["activations", "data"].map(Setting);
        format!("{activations}: learned prompts run the network; give {data}")
    } else if job.text.pack {
        format!("{}: contexts are of one document; leave it out", Setting("pack"))
    } else if site(&job.site).map_err(JobError::usage)? != BlockHook::ResidPre {
        format!("{}: states go into resid_pre", Setting("site"))
    } else if job.target.is_some() || job.refine {
        let [target, refine] = ["target", "refine"].map(Setting);
        format!("{target} and {refine} are for other kinds of lenses")
    } else if p.prompt_tokens == 0 || job.horizons == 0 || p.epochs == 0 || p.batch == 0 || p.contexts == 0 {
        let names = ["prompt_tokens", "horizons", "epochs", "batch", "contexts"].map(Setting);
        let [tokens, horizons, epochs, batch, contexts] = names;
        format!("{tokens}, {horizons}, {epochs}, {batch} and {contexts} must be at least 1")
    } else if !(not_below_zero(p.init_std) && not_below_zero(p.decay))
        || job.rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite()))
    {
        let [rate, init_std, decay] = ["rate", "init_std", "decay"].map(Setting);
        format!("{rate} must be above 0, {init_std} and {decay} not below")
    } else {
        return job.check_source();
    };
    Err(JobError::usage(why))
}

/// How contexts are cut, so that prompt and continuation fit beside them.
pub(super) fn window_options(
    job: &Fit,
    source: &Source<'_>,
    settings: &TextSettings,
) -> Result<WindowOptions, JobError> {
    let context = source.session.spec.n_ctx;
    fits(job.prompt.prompt_tokens, job.horizons, context).map_err(JobError::usage)?;
    // The last context token and all but the last of the continuation go in together.
    let room = (context + 1).saturating_sub(job.horizons);
    let seq_len = resolve_seq_len(Some(settings.seq_len.unwrap_or(room)), room).map_err(JobError::usage)?;
    Ok(WindowOptions { seq_len, max_tokens: settings.tokens, pack: false })
}

impl Plan {
    pub(super) fn new(
        job: &Fit,
        source: &Source<'_>,
        windows: &[Window],
        seq_len: usize,
        watch: &dyn Watch,
    ) -> Result<Self, JobError> {
        let (seed, contexts) = (job.seed, job.prompt.contexts);
        let split = split(windows, seed);
        let pick = |places: &[usize]| places.iter().map(|i| windows[*i].clone()).collect::<Vec<_>>();
        if split.held_out.is_empty() {
            return Err(JobError::usage(FitError::NothingHeldOut));
        }
        let train = drawn(&pick(&split.train), contexts, seed).map_err(JobError::usage)?;
        let held_out =
            drawn(&pick(&split.held_out), HELD_OUT.min(contexts), seed).map_err(JobError::usage)?;
        watch.note(&format!(
            "{}; {}, {} of them",
            counted(train.len(), "context"),
            split.note,
            counted(held_out.len(), "context")
        ));
        let layers = match &job.layers {
            Some(_) => source.session.layers(job.layers.as_ref())?,
            None => (1..=source.session.spec.n_layers).collect(),
        };
        Ok(Self {
            layers,
            horizons: job.horizons,
            recipe: recipe(job),
            train,
            held_out,
            seq_len,
            vocab: source.vocab(),
            batch_tokens: source.session.batch_tokens(job.batch_tokens),
            seed,
        })
    }

    /// What determines the lens.
    pub(super) fn config(&self, job: &Fit, settings: &TextSettings) -> Value {
        json!({
            "kind": job.kind,
            "layers": self.layers,
            "horizons": self.horizons,
            "prompt_tokens": self.recipe.tokens,
            "init_std": self.recipe.init_std,
            "rate": self.recipe.rate,
            "decay": self.recipe.decay,
            "batch": self.recipe.batch,
            "epochs": self.recipe.epochs,
            "contexts": job.prompt.contexts,
            "vocab": self.vocab,
            "tokens": settings.tokens,
            "seq_len": self.seq_len,
            "batch_tokens": self.batch_tokens,
            "text_column": settings.text_column,
        })
    }
}

fn recipe(job: &Fit) -> Recipe {
    let p = job.prompt;
    Recipe {
        tokens: p.prompt_tokens,
        init_std: p.init_std,
        rate: job.rate.unwrap_or(Recipe::default().rate),
        decay: p.decay,
        batch: p.batch,
        epochs: p.epochs,
    }
}
