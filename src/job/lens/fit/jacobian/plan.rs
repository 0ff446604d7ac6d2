//! What Jacobians are taken of and how, decided before weights are read.

use serde_json::{Value, json};

use super::super::{super::site, Fit};
use crate::{
    hook::BlockHook,
    job::{JobError, Setting, Source, TextSettings, Watch},
    lens::jacobian::{Estimator, Prompts, Rows, prompts},
    model::Spec,
    results::words::counted,
    sources::text::{Window, WindowOptions, resolve_seq_len},
};

/// Tokens of a prompt, as in the reference.
const SEQ_LEN: usize = 128;

/// What is measured and on what.
pub(super) struct Plan {
    pub(super) estimator: Estimator,
    pub(super) rows: Rows,
    /// The prompts in the order in which they are added.
    pub(super) prompts: Vec<Window>,
    pub(super) seq_len: usize,
}

/// Refuses what only other kinds have.
pub(super) fn check(job: &Fit) -> Result<(), JobError> {
    let why = if job.activations.is_some() {
        let [activations, data] = ["activations", "data"].map(Setting);
        format!("{activations}: a Jacobian runs the network, there and back; give {data}")
    } else if job.text.pack {
        format!("{}: a prompt is of one document; leave it out", Setting("pack"))
    } else if job.mask.is_some() {
        format!("{}: a Jacobian lens is of decoders, which hide nothing", Setting("mask"))
    } else if site(&job.site).map_err(JobError::usage)? != BlockHook::ResidPre {
        format!("{}: a Jacobian lens reads resid_pre", Setting("site"))
    } else if job.refine {
        format!("{}: a Jacobian is measured, not trained", Setting("refine"))
    } else {
        return job.check_source();
    };
    Err(JobError::usage(why))
}

/// How prompts are cut.
pub(super) fn window_options(
    job: &Fit,
    source: &Source<'_>,
    settings: &TextSettings,
) -> Result<WindowOptions, JobError> {
    let context = source.session.spec.n_ctx;
    let asked = settings.seq_len.unwrap_or(SEQ_LEN.min(context));
    let seq_len = resolve_seq_len(Some(asked), context).map_err(JobError::usage)?;
    let skip = job.jacobian.skip_first;
    if seq_len < skip + 2 {
        let problem = format!("a prompt of {seq_len} tokens has no place after {skip} and before the last");
        return Err(JobError::setting("skip_first", problem));
    }
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
        let spec = &source.session.spec;
        let settings = &job.jacobian;
        let estimator = estimator(job, source, seq_len)?;
        let rows = Rows::new(spec.d_model, settings.rows_per_prompt.map(Into::into), job.seed);
        let Prompts { places, short } =
            prompts(windows, settings.skip_first, settings.n_prompts.into(), job.seed);
        let most = settings.n_prompts.get();
        said(places.len(), most, short, settings.skip_first, watch);
        let need = spec.d_model.div_ceil(rows.per_prompt());
        if places.len() < need {
            return Err(too_few(places.len(), most, need, spec));
        }
        if places.len() < rows.least_prompts() {
            watch.warn(&format!(
                "{}: some rows come of one prompt only, and nothing can be said of their error",
                counted(places.len(), "prompt")
            ));
        }
        let prompts = places.iter().map(|place| windows[*place].clone()).collect();
        Ok(Self { estimator, rows, prompts, seq_len })
    }

    /// What determines the lens.
    pub(super) fn config(&self, job: &Fit, settings: &TextSettings) -> Value {
        json!({
            "kind": job.kind,
            "estimator": "jacobian",
            "layers": self.estimator.layers,
            "target": self.estimator.target,
            "prompts": self.prompts.len(),
            "prompt_weight": "equal",
            "skip_first": self.estimator.skip,
            "rows_per_prompt": self.rows.per_prompt(),
            "rows_per_pass": self.estimator.batch,
            "rules": self.estimator.rules,
            "tokens": settings.tokens,
            "seq_len": self.seq_len,
            "text_column": settings.text_column,
        })
    }
}

fn estimator(job: &Fit, source: &Source<'_>, seq_len: usize) -> Result<Estimator, JobError> {
    let spec = &source.session.spec;
    let settings = &job.jacobian;
    if let Some(why) = settings.rules.refusal(spec) {
        let problem = format!("RelP's rules are not for {} ({}): {why}", source.session.name(), spec.family);
        return Err(JobError::setting("rules", problem));
    }
    let target = job.target_layer(spec.n_layers)?;
    Ok(Estimator {
        layers: job.layers_below(target, source)?.into_iter().map(|layer| layer.0).collect(),
        target,
        skip: settings.skip_first,
        // So many copies of the prompt make a batch.
        batch: (source.session.batch_tokens(job.batch_tokens) / seq_len).max(1),
        rules: settings.rules,
    })
}

/// Says how many prompts the text gives.
fn said(found: usize, most: usize, short: usize, skip: usize, watch: &dyn Watch) {
    let few = if found < most { format!(" (of {most} asked for)") } else { String::new() };
    let short = if short == 0 {
        String::new()
    } else {
        format!("; {} of no more than {} tokens left out", counted(short, "window"), skip + 1)
    };
    watch.note(&format!("{}{few}{short}", counted(found, "prompt")));
}

fn too_few(found: usize, most: usize, need: usize, spec: &Spec) -> JobError {
    let d = spec.d_model;
    if need <= most {
        let problem = format!("the text has {} long enough, {need} are needed", counted(found, "prompt"));
        return JobError::setting("data", problem);
    }
    let [prompts, rows] = ["n_prompts", "rows_per_prompt"].map(Setting);
    JobError::usage(format!(
        "{prompts}: {need} are needed for each of {d} rows once; give more {rows}, or more prompts"
    ))
}
