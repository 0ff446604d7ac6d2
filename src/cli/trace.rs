//! `trace`: which layer and position carries an answer.

use std::{
    fmt::Write as _,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use anyhow::anyhow;
use clap::{ArgGroup, Args, ValueEnum};
use layerscope::{
    hook::BlockHook,
    model::Model,
    patch::{Direction, Experiment, Levels, MEASURES, Map, PatchError, noise, places},
    run::{Counts, Found, METRICS, MetricRow, RunDir, write_metrics},
    score::Estimate,
    text::Tokenizer,
};
use serde_json::{Value, json};
use tch::Tensor;

use super::{
    args::{CommonArgs, Layers, ModelArgs},
    exit::Failure,
    interrupt::on_interrupt,
    output::Output,
    session::Session,
    table::Table,
};

/// What is patched: the hooks that trace has, in the order of a block.
const HOOKS: [BlockHook; 3] = [BlockHook::ResidPre, BlockHook::AttnOut, BlockHook::MlpOut];

/// One of them, in any spelling.
fn hook(name: &str) -> Result<BlockHook, String> {
    let hook = BlockHook::parse(name).filter(|hook| HOOKS.contains(hook));
    hook.ok_or_else(|| "trace patches resid_pre, attn_out and mlp_out".to_owned())
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// logit(answer) - logit(foil)
    LogitDiff,
    /// Probability of the answer
    Probability,
    /// KL(clean ‖ patched)
    Kl,
}

/// Which run is patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// Clean activations into the corrupted run
    Denoise,
    /// Corrupted activations into the clean run
    Noise,
}

/// Patch every layer and position between a clean and a corrupted run: activation patching and causal tracing
///
/// Effects are on the scale where the corrupted run is 0 and the clean one is 1. Give a second prompt of as many tokens (--corrupted), or
/// the words whose embeddings get noise (--subject).
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("corruption").required(true).args(["corrupted", "subject"]))]
pub(crate) struct Trace {
    #[command(flatten)]
    model: ModelArgs,
    /// The prompt that gives the answer
    #[arg(long, value_name = "STR")]
    clean: String,
    /// The prompt that does not, of as many tokens
    #[arg(long, value_name = "STR")]
    corrupted: Option<String>,
    /// Words of the clean prompt whose embeddings get noise
    #[arg(long, value_name = "STR")]
    subject: Option<String>,
    #[arg(
        long,
        value_name = "X",
        help = "Size of the noise, in standard deviations of the subject's embeddings [default: 3]"
    )]
    noise: Option<f64>,
    #[arg(
        long,
        value_name = "N",
        help = "Draws of the noise; every number is a mean over them [default: 10]"
    )]
    samples: Option<usize>,
    /// The answer, one token, often with a space in front; by default what the model says of the clean prompt
    #[arg(long, value_name = "STR")]
    answer: Option<String>,
    /// What it is compared with, one token; by default what the model says of the corrupted prompt
    #[arg(long, value_name = "STR")]
    foil: Option<String>,
    #[arg(
        long,
        value_parser = hook,
        help = "What is patched: resid_pre, attn_out or mlp_out; repeat for several; by default all three",
        value_name = "HOOK"
    )]
    hook: Vec<BlockHook>,
    /// Which run is patched
    #[arg(long, value_enum, default_value_t = Way::Denoise, value_name = "WAY")]
    direction: Way,
    #[arg(
        long,
        default_value_t = 1,
        help = "Layers patched together for attn_out and mlp_out, around each",
        value_name = "N"
    )]
    window: usize,
    /// What the terminal shows; files and --json have all three
    #[arg(long, value_enum, default_value_t = Measure::LogitDiff, value_name = "METRIC")]
    metric: Measure,
    /// Only these layers, such as 0,4,8-12
    #[arg(long, value_name = "LAYERS")]
    layers: Option<Layers>,
    /// Write a run directory
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[arg(long, value_name = "N")]
    batch_tokens: Option<NonZeroUsize>,
    /// Start over in a folder that holds another run
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// The prompts in tokens.
struct Prompts {
    clean: Vec<i64>,
    corrupted: Vec<i64>,
    /// Positions that get noise.
    subject: Vec<i64>,
    answer: Option<i64>,
    foil: Option<i64>,
}

impl Trace {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let stop = on_interrupt()?;
        if self.subject.is_none() && (self.noise.is_some() || self.samples.is_some()) {
            return Err(Failure::usage(anyhow!("--noise and --samples go with --subject")));
        }
        if self.window == 0 || self.samples() == 0 || !(self.scale() >= 0.0 && self.scale().is_finite()) {
            return Err(Failure::usage(anyhow!(
                "--window and --samples must be at least 1, --noise not below 0"
            )));
        }
        let session = Session::open(&self.model, output)?;
        let tokenizer = session.tokenizer(&self.model)?;
        let layers = session.layers(self.layers.as_ref())?;
        let prompts = self.prompts(&session, &tokenizer)?;
        session.announce(output);
        let claim = self.claim(&session, &tokenizer, &layers, output)?;
        let model = session.load(output)?;
        let experiment = self.experiment(&session, &tokenizer, &model, &prompts)?;
        let hooks = self.hooks();
        let levels = experiment.levels(&hooks).map_err(failed)?;
        let all =
            hooks.iter().map(|h| layers.iter().filter(|l| experiment.layers_of(*h).contains(l)).count());
        let bar = output.bar("patching", "layers", Some(all.sum::<usize>() as u64));
        let mut progress = || {
            bar.inc(1);
            stop.load(Ordering::Relaxed)
        };
        let map = |hook: &BlockHook| experiment.map(&levels, *hook, &layers, self.window, &mut progress);
        let maps = hooks.iter().map(map).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        bar.finish_and_clear();
        let piece = |id: i64| tokenizer.piece(id as u32).shown;
        let tokens: Vec<String> = prompts.clean.iter().map(|id| piece(*id)).collect();
        let samples = experiment.noise.as_ref().map_or(1, |n| n.size()[0]);
        let rows = self.rows(&levels, &maps, &tokens, samples, session.spec.n_layers);
        if let Some(claim) = claim {
            let dir = claim.begin(&|p| p == Path::new(METRICS))?;
            write_metrics(dir.path(), &rows)?;
            let counts = Counts { tokens: tokens.len() as u64, rows: rows.len() as u64, ..Counts::default() };
            dir.finish(counts, None)?;
        }
        output.print(&self.table(&levels, &maps, &tokens, &piece))?;
        if let Some(out) = &self.out {
            output.wrote(out, "every effect of every measure");
        }
        output.result(json(&levels, &maps, &prompts, &tokenizer))?;
        Ok(())
    }

    fn scale(&self) -> f64 {
        self.noise.unwrap_or(3.0)
    }

    fn samples(&self) -> usize {
        self.samples.unwrap_or(10)
    }

    fn hooks(&self) -> Vec<BlockHook> {
        let asked = |hook: &BlockHook| self.hook.is_empty() || self.hook.contains(hook);
        HOOKS.into_iter().filter(asked).collect()
    }

    fn prompts(&self, session: &Session, tokenizer: &Tokenizer) -> Result<Prompts, Failure> {
        let encode = |text: &str| -> Result<Vec<i64>, Failure> {
            Ok(tokenizer.encode(text)?.into_iter().map(i64::from).collect())
        };
        let clean = encode(&self.clean)?;
        let corrupted = self.corrupted.as_deref().map_or_else(|| Ok(clean.clone()), encode)?;
        let (n, context) = (clean.len(), session.spec.n_ctx);
        if n == 0 || n > context {
            return Err(Failure::usage(anyhow!("--clean gives {n} tokens; the model takes 1 to {context}")));
        }
        if corrupted.len() != n {
            let (clean, corrupted) = (n as i64, corrupted.len() as i64);
            return Err(Failure::usage(PatchError::Lengths { clean, corrupted }));
        }
        let subject = self.subject.as_deref().map(|part| places(tokenizer, &self.clean, part)).transpose();
        let subject = subject.map_err(Failure::usage)?.map_or_else(Vec::new, |(_, places)| places);
        let token = |text: &Option<String>| -> Result<Option<i64>, Failure> {
            let id = text.as_ref().map(|text| tokenizer.one_token(text)).transpose();
            id.map(|id| id.map(i64::from)).map_err(Failure::usage)
        };
        Ok(Prompts { clean, corrupted, subject, answer: token(&self.answer)?, foil: token(&self.foil)? })
    }

    fn experiment<'a>(
        &self,
        session: &Session,
        tokenizer: &Tokenizer,
        model: &'a Model,
        prompts: &Prompts,
    ) -> Result<Experiment<'a>, Failure> {
        let ids = |ids: &[i64]| Tensor::from_slice(ids).view([1, -1]);
        let clean = ids(&prompts.clean);
        let drawn =
            |places: &[i64]| noise(model, &clean, places, self.scale(), self.samples(), self.common.seed);
        let noise = self.subject.is_some().then(|| drawn(&prompts.subject)).transpose().map_err(failed)?;
        Ok(Experiment {
            model,
            vocab: (tokenizer.max_id() as usize + 1).min(session.spec.vocab),
            corrupted: ids(&prompts.corrupted),
            clean,
            noise,
            direction: if self.direction == Way::Denoise { Direction::Denoise } else { Direction::Noise },
            answer: prompts.answer,
            foil: prompts.foil,
            batch_tokens: session.batch_tokens(self.batch_tokens),
        })
    }

    fn claim(
        &self,
        session: &Session,
        tokenizer: &Tokenizer,
        layers: &[usize],
        output: Output,
    ) -> Result<Option<layerscope::run::Claim>, Failure> {
        let Some(out) = &self.out else { return Ok(None) };
        let mut manifest = session.manifest("trace", tokenizer, self.model.bos, output)?;
        manifest.seed = self.common.seed;
        manifest.config = json!({
            "clean": self.clean, "corrupted": self.corrupted, "subject": self.subject, "noise": self.scale(),
            "samples": self.samples(), "answer": self.answer, "foil": self.foil, "window": self.window,
            "direction": format!("{:?}", self.direction).to_lowercase(), "layers": layers,
            "hooks": self.hooks().iter().map(|h| h.short_name()).collect::<Vec<_>>(),
        });
        let claim = output.claimed(RunDir::claim(out, manifest, self.force)?);
        if claim.found() == Found::Complete {
            output.note(format!("{} is complete already; made again", out.display()));
        }
        Ok(Some(claim))
    }

    /// The two runs as subjects `clean` and `corrupted`, and per position a subject `POS:TOKEN` with its effects.
    fn rows(
        &self,
        levels: &Levels,
        maps: &[Map],
        tokens: &[String],
        samples: i64,
        n_layers: usize,
    ) -> Vec<MetricRow> {
        let kind = if self.subject.is_some() { "trace" } else { "patch" };
        let row =
            |subject: &str, kind: &str, hook: &str, layer: usize, metric: &str, unit: &str, estimate: f64| {
                let one = Estimate { estimate, lower: None, upper: None, n: samples as u64, n_clusters: 1 };
                MetricRow {
                    subject: subject.to_owned(),
                    kind: kind.to_owned(),
                    hook: hook.to_owned(),
                    layer: layer as i32,
                    ..MetricRow::of(metric, unit, one)
                }
            };
        let mut rows = Vec::new();
        for (m, (metric, unit)) in MEASURES.iter().enumerate() {
            for (subject, values) in [("clean", &levels.clean), ("corrupted", &levels.corrupted)] {
                rows.push(row(subject, "model", "resid_pre", n_layers, metric, unit, values[m]));
            }
            for map in maps {
                for (layer, values) in &map.layers {
                    for (place, value) in values.iter().enumerate() {
                        let Some(effect) = levels.effect(m, value[m]) else { continue };
                        let subject = format!("{place}:{}", tokens[place]);
                        rows.push(row(
                            &subject,
                            kind,
                            map.hook.short_name(),
                            *layer,
                            metric,
                            "effect",
                            effect,
                        ));
                    }
                }
            }
        }
        rows
    }

    /// A map per hook: layers from the top down, positions across.
    fn table(
        &self,
        levels: &Levels,
        maps: &[Map],
        tokens: &[String],
        piece: &dyn Fn(i64) -> String,
    ) -> String {
        let m = self.metric as usize;
        let (metric, unit) = MEASURES[m];
        let mut text = format!(
            "{metric} of {:?} against {:?}: clean {:.4}, corrupted {:.4} {unit}\neffect of a patch: 0 as corrupted, 1 as clean\n",
            piece(levels.answer),
            piece(levels.foil),
            levels.clean[m],
            levels.corrupted[m]
        );
        if levels.effect(m, 0.0).is_none() {
            return text + "the two runs do not differ in this: nothing to patch";
        }
        for map in maps {
            let headers = tokens.iter().enumerate().map(|(i, t)| format!("{i}:{t}"));
            let mut table = Table::new(["layer".to_owned()].into_iter().chain(headers));
            for (layer, values) in map.layers.iter().rev() {
                let cell = |v: &[f64; 3]| {
                    levels
                        .effect(m, v[m])
                        .map_or_else(String::new, |e| format!("{:.2}", if e.abs() < 0.005 { 0.0 } else { e }))
                };
                table.row([layer.to_string()].into_iter().chain(values.iter().map(cell)));
            }
            let _ = write!(text, "\n{}\n{table}", map.hook.short_name());
        }
        text.trim_end().to_owned()
    }
}

/// All measures: the two runs, and effects `[layer][position]` by hook and measure. Tokens are text, without the table's marks.
fn json(levels: &Levels, maps: &[Map], prompts: &Prompts, tokenizer: &Tokenizer) -> Value {
    let piece = |id: i64| tokenizer.piece(id as u32).whole();
    let tokens = |ids: &[i64]| ids.iter().map(|id| piece(*id)).collect::<Vec<_>>();
    let effects = |map: &Map, m: usize| -> Vec<Value> {
        let layer = |(layer, values): &(usize, Vec<[f64; 3]>)| json!({ "layer": layer, "effects": values.iter().map(|v| levels.effect(m, v[m])).collect::<Vec<_>>() });
        map.layers.iter().map(layer).collect()
    };
    let map = |map: &Map| {
        let by: serde_json::Map<String, Value> = MEASURES
            .iter()
            .enumerate()
            .map(|(m, (name, _))| ((*name).to_owned(), json!(effects(map, m))))
            .collect();
        json!({ "hook": map.hook.short_name(), "metrics": by })
    };
    let level = |values: &[f64; 3]| -> serde_json::Map<String, Value> {
        MEASURES.iter().zip(values).map(|((name, _), v)| ((*name).to_owned(), json!(v))).collect()
    };
    json!({
        "tokens": tokens(&prompts.clean),
        "token_ids": prompts.clean,
        "corrupted_tokens": tokens(&prompts.corrupted),
        "corrupted_token_ids": prompts.corrupted,
        "subject_positions": prompts.subject,
        "answer": { "token_id": levels.answer, "token": piece(levels.answer) },
        "foil": { "token_id": levels.foil, "token": piece(levels.foil) },
        "clean": level(&levels.clean),
        "corrupted": level(&levels.corrupted),
        "maps": maps.iter().map(map).collect::<Vec<_>>(),
    })
}

fn failed(error: PatchError) -> Failure {
    match error {
        PatchError::Interrupted => Failure::interrupted(error),
        PatchError::Outside { .. } => Failure::usage(error),
        other => other.into(),
    }
}
