//! `lens fit --kind future-prompt`: a learned prompt per layer and horizon, cell after cell.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::anyhow;
use indicatif::ProgressBar;
use layerscope::{
    intervene::future::{Cell, FutureError, Recipe, Sources, Trained, drawn, fits, train},
    lens::artifact::{LensConfig, LensFolder, LensKind, ModelRef, prompt_name, unembed_sha256},
    lens::fit::split,
    model::{Model, Weights},
    results::run::{Found, Manifest, RunDir},
    results::words::counted,
    sources::leakage::{FittedOn, lead_of},
    sources::text::{Window, WindowOptions, resolve_seq_len},
    states::write_tensors,
};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::{
    super::super::{
        exit::Failure,
        interrupt::on_interrupt,
        output::{Output, shown},
        source::{Source, counts},
        table::Table,
    },
    CHECKPOINT, TOKENS,
    args::FitArgs,
    checkpoint::refuse_damaged,
    owns, remove,
};

/// Held-out contexts, at most.
const HELD_OUT: usize = 500;

/// What is trained and on what, decided before weights are read.
struct Job {
    layers: Vec<usize>,
    horizons: usize,
    recipe: Recipe,
    train: Vec<Window>,
    held_out: Vec<Window>,
    seq_len: usize,
    vocab: usize,
    batch_tokens: usize,
    seed: u64,
}

pub(super) fn run(mut args: FitArgs) -> Result<(), Failure> {
    let output = Output::new(args.common.output);
    let stop = on_interrupt()?;
    check(&args)?;
    let source = Source::open(&args.model, &args.text.0, output)?;
    source.session.announce(output);
    args.text.0.tokens.get_or_insert(TOKENS);
    let context = source.session.spec.n_ctx;
    fits(args.prompt.prompt_tokens, args.horizons, context).map_err(Failure::usage)?;
    // The last context token and all but the last of the continuation go in together.
    let room = (context + 1).saturating_sub(args.horizons);
    let seq_len = resolve_seq_len(Some(args.text.0.seq_len.unwrap_or(room)), room).map_err(Failure::usage)?;
    let options = WindowOptions { seq_len, max_tokens: args.text.0.tokens, pack: false };
    let text = source.windows(&options, output)?;
    let job = job(&args, &source, &text.windows, seq_len, output)?;
    let mut manifest = source.manifest("lens fit", &args.model, &text.lead, false, &args.common, output)?;
    manifest = manifest.with_threads(source.session.threads);
    manifest.config = job.config(&args);
    let lead = lead_of(manifest.bos.as_ref(), source.tokenizer.eos_id());
    let contexts = job.train.iter().chain(&job.held_out);
    let fitted = FittedOn::of_windows(contexts, &lead, manifest.tokenizer_sha256.clone());
    let dir = output.claimed(RunDir::claim(&args.out, manifest, args.force)?).begin(&owns)?;
    if dir.found() == Found::Complete {
        output.note(format!("{} is complete already; nothing to do", args.out.display()));
        output.result(json!({ "out": shown(&args.out), "complete": true }))?;
        return Ok(());
    }
    let model = source.session.load(output)?;
    let (train, held_out) = job.sources(&model, &stop, output)?;
    let trained = job.cells(&model, (&train, &held_out), &args.out, &stop, output)?;
    let config = lens_config(&source, &job, &model, dir.manifest(), &trained)?;
    fitted.write(&args.out)?;
    LensFolder::write(&args.out, &config, &tensors(&trained, false))?;
    remove(&args.out.join(CHECKPOINT))?;
    dir.finish(counts(text.stats, train.rows() as u64), None)?;
    report(&args, &job, &trained, output)
}

/// Refuses what only other kinds have.
fn check(args: &FitArgs) -> Result<(), Failure> {
    let p = &args.prompt;
    let why = if args.activations.is_some() {
        "--activations: learned prompts run the network; give --data"
    } else if args.text.0.pack {
        "--pack: contexts are of one document; leave it out"
    } else if args.site != "resid_pre" {
        "--site: states go into resid_pre"
    } else if args.target.is_some() || args.refine {
        "--target and --refine are for other kinds of lenses"
    } else if p.prompt_tokens == 0 || args.horizons == 0 || p.epochs == 0 || p.batch == 0 || p.contexts == 0 {
        "--prompt-tokens, --horizons, --epochs, --batch and --contexts must be at least 1"
    } else if !(p.init_std >= 0.0 && p.init_std.is_finite() && p.decay >= 0.0 && p.decay.is_finite())
        || args.rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite()))
    {
        "--rate must be above 0, --init-std and --decay not below"
    } else {
        return Ok(());
    };
    Err(Failure::usage(anyhow!(why)))
}

fn job(
    args: &FitArgs,
    source: &Source,
    windows: &[Window],
    seq_len: usize,
    output: Output,
) -> Result<Job, Failure> {
    let seed = args.common.seed;
    let split = split(windows, seed);
    let pick = |places: &[usize]| places.iter().map(|i| windows[*i].clone()).collect::<Vec<_>>();
    if split.held_out.is_empty() {
        return Err(Failure::usage(layerscope::lens::fit::FitError::NothingHeldOut));
    }
    let train = drawn(&pick(&split.train), args.prompt.contexts, seed).map_err(Failure::usage)?;
    let held_out =
        drawn(&pick(&split.held_out), HELD_OUT.min(args.prompt.contexts), seed).map_err(Failure::usage)?;
    output.note(format!(
        "{}; {}, {} of them",
        counted(train.len(), "context"),
        split.note,
        counted(held_out.len(), "context")
    ));
    let layers = match &args.layers {
        Some(_) => source.session.layers(args.layers.as_ref())?,
        None => (1..=source.session.spec.n_layers).collect(),
    };
    let p = args.prompt;
    let recipe = Recipe {
        tokens: p.prompt_tokens,
        init_std: p.init_std,
        rate: args.rate.unwrap_or(Recipe::default().rate),
        decay: p.decay,
        batch: p.batch,
        epochs: p.epochs,
    };
    let (vocab, batch_tokens) = (source.vocab(), source.session.batch_tokens(args.batch_tokens));
    Ok(Job { layers, horizons: args.horizons, recipe, train, held_out, seq_len, vocab, batch_tokens, seed })
}

impl Job {
    /// What determines the lens.
    fn config(&self, args: &FitArgs) -> Value {
        json!({
            "kind": "future-prompt",
            "layers": self.layers,
            "horizons": self.horizons,
            "prompt_tokens": self.recipe.tokens,
            "init_std": self.recipe.init_std,
            "rate": self.recipe.rate,
            "decay": self.recipe.decay,
            "batch": self.recipe.batch,
            "epochs": self.recipe.epochs,
            "contexts": args.prompt.contexts,
            "vocab": self.vocab,
            "tokens": args.text.0.tokens,
            "seq_len": self.seq_len,
            "batch_tokens": self.batch_tokens,
            "text_column": args.text.0.text_column,
        })
    }

    /// The states and continuations of all contexts.
    fn sources(
        &self,
        model: &Model,
        stop: &Arc<AtomicBool>,
        output: Output,
    ) -> Result<(Sources, Sources), Failure> {
        let all = self.train.len() + self.held_out.len();
        let bar = output.bar("continuing", "contexts", Some(all as u64));
        let mut progress = |done: usize| {
            bar.inc(done as u64);
            stop.load(Ordering::Relaxed)
        };
        let mut run = |contexts: &[Window]| {
            let (k, vocab, tokens) = (self.horizons, self.vocab, self.batch_tokens);
            Sources::run(model, contexts, &self.layers, k, vocab, tokens, &mut progress).map_err(failed)
        };
        let sources = (run(&self.train)?, run(&self.held_out)?);
        bar.finish_and_clear();
        Ok(sources)
    }

    /// Trains what a checkpoint does not have, and writes one after every cell.
    fn cells(
        &self,
        model: &Model,
        sources: (&Sources, &Sources),
        out: &Path,
        stop: &Arc<AtomicBool>,
        output: Output,
    ) -> Result<BTreeMap<Cell, Trained>, Failure> {
        let path = out.join(CHECKPOINT);
        refuse_damaged(&path, output)?;
        let mut trained = if path.exists() { restore(&path)? } else { BTreeMap::new() };
        let steps = self.recipe.steps(sources.0.rows());
        let cells =
            self.layers.iter().flat_map(|l| (1..=self.horizons).map(|horizon| Cell { layer: *l, horizon }));
        let left: Vec<Cell> = cells.filter(|cell| !trained.contains_key(cell)).collect();
        if !trained.is_empty() {
            output.note(format!("going on after {} of an earlier run", counted(trained.len(), "prompt")));
        }
        let bar = output.bar("training", "steps", Some((steps * left.len()) as u64));
        for (done, cell) in left.into_iter().enumerate() {
            bar.set_position((steps * done) as u64);
            let one = self.cell(model, sources, cell, &bar, stop)?;
            bar.suspend(|| say(cell, &one, output))?;
            trained.insert(cell, one);
            write_tensors(&path, &tensors(&trained, true))?;
        }
        bar.finish_and_clear();
        Ok(trained)
    }

    fn cell(
        &self,
        model: &Model,
        sources: (&Sources, &Sources),
        cell: Cell,
        bar: &ProgressBar,
        stop: &Arc<AtomicBool>,
    ) -> Result<Trained, Failure> {
        let mut watch = |_loss: f64| {
            bar.inc(1);
            stop.load(Ordering::Relaxed)
        };
        train(model, self.vocab, sources, cell, &self.recipe, self.seed, &mut watch).map_err(failed)
    }
}

fn say(cell: Cell, one: &Trained, output: Output) -> std::io::Result<()> {
    let Cell { layer, horizon } = cell;
    let (before, after) = (one.before, one.after);
    output.note(format!("layer {layer}, horizon {horizon}: held-out KL {before:.4} -> {after:.4}"));
    output.event("trained", json!({ "layer": layer, "horizon": horizon, "before": before, "after": after }))
}

fn failed(error: FutureError) -> Failure {
    match error {
        FutureError::Interrupted => Failure::interrupted(error),
        other => other.into(),
    }
}

/// Prompts by the names of the folder; of a checkpoint with what was measured of them.
fn tensors(trained: &BTreeMap<Cell, Trained>, measured: bool) -> BTreeMap<String, Tensor> {
    let mut tensors = BTreeMap::new();
    for (cell, one) in trained {
        let name = prompt_name(cell.layer, cell.horizon);
        if measured {
            let numbers = [cell.layer as f64, cell.horizon as f64, one.steps as f64, one.before, one.after];
            tensors.insert(format!("{name}.measured"), Tensor::from_slice(&numbers));
        }
        tensors.insert(name, one.prompt.shallow_clone());
    }
    tensors
}

/// What a checkpoint holds.
fn restore(path: &Path) -> Result<BTreeMap<Cell, Trained>, Failure> {
    let file = Weights::open_file(path, Kind::Double)?;
    let mut trained = BTreeMap::new();
    for (name, _) in file.shapes() {
        let Some(prompt) = name.strip_suffix(".measured") else { continue };
        let numbers = Vec::<f64>::try_from(file.take_any(name)?)?;
        let [layer, horizon, steps, before, after] = numbers[..] else {
            return Err(Failure::failed(anyhow!("{}: {name} has {} numbers", path.display(), numbers.len())));
        };
        let cell = Cell { layer: layer as usize, horizon: horizon as usize };
        let prompt = file.take_any(prompt)?.to_kind(Kind::Float);
        trained.insert(cell, Trained { prompt, steps: steps as usize, before, after });
    }
    Ok(trained)
}

/// What `config.json` says.
fn lens_config(
    source: &Source,
    job: &Job,
    model: &Model,
    manifest: &Manifest,
    trained: &BTreeMap<Cell, Trained>,
) -> Result<LensConfig, Failure> {
    let spec = &source.session.spec;
    let cell = |(cell, one): (&Cell, &Trained)| {
        json!({ "layer": cell.layer, "horizon": cell.horizon, "steps": one.steps,
                "held_out_kl_before": one.before, "held_out_kl": one.after })
    };
    let mut details = manifest.config.clone();
    details["cells"] = trained.iter().map(cell).collect();
    Ok(LensConfig {
        kind: LensKind::FuturePrompt,
        site: "resid_pre".into(),
        model: ModelRef {
            name: source.session.name(),
            sha256: manifest.model.as_ref().map(|m| m.sha256.clone()),
        },
        d_model: spec.d_model,
        n_layers: spec.n_layers,
        unembed_sha256: Some(unembed_sha256(model.unembed())?),
        tokenizer_sha256: manifest.tokenizer_sha256.clone(),
        layers: job.layers.clone(),
        horizons: (1..=job.horizons).collect(),
        details,
    })
}

/// Held-out KL by layer and horizon.
fn report(
    args: &FitArgs,
    job: &Job,
    trained: &BTreeMap<Cell, Trained>,
    output: Output,
) -> Result<(), Failure> {
    let headers = (1..=job.horizons).map(|k| format!("+{k}"));
    let mut table = Table::new(["layer".to_owned()].into_iter().chain(headers));
    for &layer in &job.layers {
        let cell = |horizon| trained.get(&Cell { layer, horizon });
        let cells = (1..=job.horizons).map(|k| {
            cell(k).map_or_else(String::new, |one| format!("{:.3} -> {:.3}", one.before, one.after))
        });
        table.row([layer.to_string()].into_iter().chain(cells));
    }
    output.print(
        format!("held-out KL(model ‖ prompted), nats, before and after training\n{table}").trim_end(),
    )?;
    output.note(format!(
        "next, on other text: layerscope future --model {} --data FILE --lens {} --out RUN",
        args.model.model.display(),
        args.out.display()
    ));
    output.result(json!({ "out": shown(&args.out), "prompts": trained.len() }))?;
    Ok(())
}
