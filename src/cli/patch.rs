//! `patch`: what a target prompt says of a state that was put into it.

mod prompts;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use layerscope::{
    hook::{Capture, HookPoint},
    intervene::patch::{Asked, Preset, Target, inspect},
    lenses::{Ask, LayerIndex, Lens, Precision, Readout, Teacher},
    model::Model,
    results::run::{Claim, Counts, Found, METRICS, MetricRow, RunDir, over, write_metrics},
    results::statistics::{Estimate, Intervals},
    results::words::counted,
    sources::text::Tokenizer,
    states::check_prompt,
};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::{
    args::{CommonArgs, Layers, ModelArgs},
    exit::Failure,
    lens::load,
    lines::Lines,
    output::{Output, shown},
    session::Session,
    table::Table,
};

/// See [`Preset`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PresetArg {
    /// A prompt that repeats its last token
    TokenIdentity,
    /// A prompt that describes the entity at its last token
    Description,
    /// An instruction to interpret five placeholders; for instructed models
    Selfie,
}

/// Put states of one prompt into another and see what the model says (Patchscopes, `SelfIE`)
#[derive(Debug, Args)]
pub(crate) struct Patch {
    #[command(flatten)]
    model: ModelArgs,
    /// The text whose states are read; `-` reads it from stdin
    #[arg(long, required_unless_present = "prompts", conflicts_with = "prompts", value_name = "STR")]
    source: Option<String>,
    /// Many sources instead: a JSON object per line with `source`. Numbers are means over sources with their intervals
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Position in the source: a number, `last` or `all`
    #[arg(long, default_value = "last", value_name = "N|last|all")]
    position: String,
    /// Target prompt by name
    #[arg(long, value_enum, default_value_t = PresetArg::TokenIdentity, conflicts_with = "target")]
    preset: PresetArg,
    /// Target prompt in words
    #[arg(long, value_name = "STR")]
    target: Option<String>,
    /// What states take the place of in --target, wherever it occurs; by default its last token
    #[arg(long, value_name = "STR", requires = "target")]
    placeholder: Option<String>,
    /// Source layers, such as 0,4,8-12; by default all
    #[arg(long, value_name = "LAYERS")]
    layers: Option<Layers>,
    /// Layer the states go into; by default the one they come from
    #[arg(long, value_name = "LAYER")]
    target_layer: Option<usize>,
    /// Lens whose map of the source layer states go through first
    #[arg(long, value_name = "LENSDIR")]
    map: Option<PathBuf>,
    /// Tokens of an answer; by default 1 for token-identity, 20 for a target of your own and for description, 30 for selfie
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Write a run directory
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Use a lens that was fitted to another unembedding
    #[arg(long)]
    other_unembedding: bool,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[arg(long, value_name = "N")]
    batch_tokens: Option<NonZeroUsize>,
    /// Start over in a folder that holds another run
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// A source in tokens, and which of its states are read.
struct Texts {
    ids: Vec<i64>,
    positions: Vec<i64>,
}

/// The source, as the model reads it.
struct Source {
    /// Stream entering every block, and leaving the last: `[positions, d_model]` of the positions asked for.
    states: Vec<Tensor>,
    /// What the model itself says there.
    teacher: Teacher,
    next: Vec<i64>,
}

impl Patch {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let asked = load::read(self.map.as_slice())?;
        if load::site(&asked) != "resid_pre" {
            return Err(Failure::usage(anyhow!("--map reads {}, not resid_pre", load::site(&asked))));
        }
        let session = Session::open(&self.model, output)?;
        load::check_shapes(&asked, &session.spec)?;
        let tokenizer = session.tokenizer(&self.model)?;
        let (last, context) = (session.spec.n_layers, session.spec.n_ctx);
        let mut layers = session.layers(self.layers.as_ref())?;
        layers.retain(|l| asked.iter().all(|lens| lens.reads(*l)));
        if let Some(layer) = self.target_layer.filter(|l| *l > last) {
            return Err(Failure::usage(anyhow!(
                "--target-layer: no layer {layer}; this model's layers are 0 to {last}"
            )));
        }
        let lines = self.prompts.as_deref().map(Lines::read).transpose().map_err(Failure::usage)?;
        let sources = self.sources(lines.as_ref(), &tokenizer, context)?;
        let (name, words, placeholder, steps) = self.target();
        let target = Target::new(&words, placeholder, &tokenizer).map_err(Failure::usage)?;
        layerscope::intervene::future::fits(target.prompt.tokens() as usize, steps, context)
            .map_err(Failure::usage)?;
        session.announce(output);
        let tokens: usize = sources.iter().map(|source| source.ids.len()).sum();
        output.note(format!(
            "target: {}, the state at {}; source: {}",
            counted(target.prompt.tokens(), "token"),
            target.places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            counted(tokens, "token")
        ));
        let claim = self.claim(&session, &tokenizer, (&layers, &words), lines.as_ref(), output)?;
        let model = session.load(output)?;
        let lenses = load::open(&asked, &model, self.other_unembedding, output)?;
        let vocab = (tokenizer.max_id() as usize + 1).min(session.spec.vocab);
        let readout = Readout::new(model.unembed(), vocab, Precision::Exact, session.threads)?;
        let bar = output.bar("patching", "layers", Some((layers.len() * sources.len()) as u64));
        let (mut each, mut first) = (Vec::new(), None);
        for texts in &sources {
            let source = Source::read(&model, &readout, texts)?;
            let (mut rows, mut found) = (Vec::new(), Vec::new());
            for &layer in &layers {
                let states = source.mapped(lenses.all.first().map(AsRef::as_ref), layer)?;
                let to = self.target_layer.unwrap_or(layer);
                let tokens = session.batch_tokens(self.batch_tokens);
                let said = inspect(&model, vocab, &target, to, &states, steps, tokens)?;
                rows.extend(source.rows(&readout, &name, (layer, to), &said)?);
                found.push((layer, to, said));
                bar.inc(1);
            }
            each.push(rows);
            first.get_or_insert(found);
        }
        bar.finish_and_clear();
        let rows = match (&self.prompts, &mut each[..]) {
            (None, [rows]) => std::mem::take(rows),
            _ => over(&each, Intervals::default())?,
        };
        if let Some(claim) = claim {
            write(claim, &rows, &sources)?;
        }
        match (&self.prompts, first, &sources[..]) {
            (None, Some(found), [texts]) => Self::report(&tokenizer, texts, &found, &rows, output)?,
            _ => prompts::report(&rows, sources.len(), output)?,
        }
        if let Some(out) = &self.out {
            output.wrote(out, "what the answers have of the source's own");
        }
        Ok(())
    }

    /// Name, words, placeholder, steps.
    fn target(&self) -> (String, String, Option<&str>, usize) {
        if let Some(words) = &self.target {
            return (
                "target".into(),
                words.clone(),
                self.placeholder.as_deref(),
                self.steps.unwrap_or(20).max(1),
            );
        }
        let (name, preset) = match self.preset {
            PresetArg::TokenIdentity => ("token-identity", Preset::TokenIdentity),
            PresetArg::Description => ("description", Preset::Description),
            PresetArg::Selfie => ("selfie", Preset::SelfIe),
        };
        let (words, placeholder) = preset.words();
        (name.into(), words.into(), placeholder, self.steps.unwrap_or(preset.steps()).max(1))
    }

    fn positions(&self, n: usize, context: usize) -> Result<Vec<i64>, Failure> {
        if n == 0 || n > context {
            return Err(Failure::usage(anyhow!("--source gives {n} tokens; the model takes 1 to {context}")));
        }
        match self.position.as_str() {
            "last" => Ok(vec![n as i64 - 1]),
            "all" => Ok((0..n as i64).collect()),
            text => match text.parse::<usize>() {
                Ok(p) if p < n => Ok(vec![p as i64]),
                _ => Err(Failure::usage(anyhow!("--position {text}: give 0 to {}, last or all", n - 1))),
            },
        }
    }

    fn claim(
        &self,
        session: &Session,
        tokenizer: &Tokenizer,
        (layers, target): (&[usize], &str),
        lines: Option<&Lines<prompts::Line>>,
        output: Output,
    ) -> Result<Option<Claim>, Failure> {
        let Some(out) = &self.out else { return Ok(None) };
        let mut manifest = session.manifest("patch", tokenizer, self.model.bos, output)?;
        manifest.config = json!({
            "source": self.source, "prompts": lines.map(|lines| &lines.sha256), "position": self.position, "target": target, "placeholder": self.placeholder,
            "layers": layers, "target_layer": self.target_layer, "map": self.map.as_ref().map(shown), "steps": self.steps,
        });
        let claim = output.claimed(RunDir::claim(out, manifest, self.force)?);
        if claim.found() == Found::Complete {
            output.note(format!("{} is complete already; made again", out.display()));
        }
        Ok(Some(claim))
    }

    fn report(
        tokenizer: &Tokenizer,
        Texts { ids, positions }: &Texts,
        found: &[(usize, usize, Vec<Asked>)],
        rows: &[MetricRow],
        output: Output,
    ) -> Result<(), Failure> {
        let piece = |id: i64| tokenizer.piece(id as u32).shown;
        let whole = |id: i64| tokenizer.piece(id as u32).whole();
        let text = |said: &Asked| {
            let ids: Vec<u32> = said.words.iter().map(|w| w.token as u32).collect();
            tokenizer.decode(&ids)
        };
        let mut table = Table::new(["layer", "into", "position", "token", "says", "first", "relevance"]);
        let mut all: Vec<Value> = Vec::new();
        for (layer, to, said) in found.iter().rev() {
            for (said, position) in said.iter().zip(positions) {
                let (words, token) = (text(said)?, piece(ids[*position as usize]));
                let relevance = said.words.iter().map(|w| w.relevance).sum::<f64>() / said.words.len() as f64;
                let first = said.words.first().map_or(0.0, |w| w.probability);
                table.row([
                    layer.to_string(),
                    to.to_string(),
                    position.to_string(),
                    token,
                    layerscope::sources::text::show(words.as_bytes()),
                    format!("{first:.3}"),
                    format!("{relevance:+.3}"),
                ]);
                let word = |w: &layerscope::intervene::patch::Word| json!({ "token_id": w.token, "token": whole(w.token), "probability": w.probability, "relevance": w.relevance });
                all.push(json!({ "layer": layer, "target_layer": to, "position": position,
                                 "source_token": whole(ids[*position as usize]), "text": words,
                                 "tokens": said.words.iter().map(word).collect::<Vec<_>>() }));
            }
        }
        output.print(
            format!("what the target says (probability of its first token, mean relevance)\n{table}")
                .trim_end(),
        )?;
        output.result(json!({ "answers": all, "rows": rows.len() }))?;
        Ok(())
    }
}

fn write(claim: Claim, rows: &[MetricRow], sources: &[Texts]) -> Result<(), Failure> {
    let dir = claim.begin(&|p| p == Path::new(METRICS))?;
    write_metrics(dir.path(), rows)?;
    let tokens: usize = sources.iter().map(|source| source.ids.len()).sum();
    let (documents, tokens, rows) = (sources.len() as u64, tokens as u64, rows.len() as u64);
    dir.finish(Counts { documents, tokens, rows, ..Counts::default() }, None)?;
    Ok(())
}

impl Source {
    fn read(model: &Model, readout: &Readout, Texts { ids, positions }: &Texts) -> Result<Self, Failure> {
        let last = model.spec().n_layers;
        let mut capture = Capture::new((0..=last).map(HookPoint::resid_pre).collect());
        let _none = model.forward(&Tensor::from_slice(ids).view([1, -1]), &mut capture)?;
        let index = Tensor::from_slice(positions).to_device(model.device());
        let state = |layer| -> Result<Tensor, Failure> {
            let kept = capture
                .get(HookPoint::resid_pre(layer))
                .ok_or_else(|| Failure::failed(anyhow!("no layer {layer}")))?;
            check_prompt(&kept.select(0, 0), HookPoint::resid_pre(layer))?;
            Ok(kept.select(0, 0).f_index_select(0, &index)?)
        };
        let states = (0..=last).map(state).collect::<Result<Vec<_>, _>>()?;
        let teacher = Teacher::of(readout, &states[last].to_kind(Kind::Float))?;
        let next = readout.sweep(&teacher.n, Ask::default())?.argmax;
        Ok(Self { states, teacher, next })
    }

    /// The states of a layer, through a lens's map where there is one.
    fn mapped(&self, lens: Option<&dyn Lens>, layer: usize) -> Result<Tensor, Failure> {
        let states = &self.states[layer];
        Ok(match lens {
            Some(lens) => lens.transform(LayerIndex(layer), &states.to_kind(Kind::Float))?,
            None => states.shallow_clone(),
        })
    }

    /// The first token of the answers against what the model itself says at the source's positions.
    fn rows(
        &self,
        readout: &Readout,
        subject: &str,
        (layer, to): (usize, usize),
        said: &[Asked],
    ) -> Result<Vec<MetricRow>, Failure> {
        let first: Vec<&Tensor> = said.iter().map(|s| &s.first).collect();
        let n = readout.normalize(&Tensor::f_stack(&first, 0)?)?;
        let read = readout.sweep(&n, Ask::default())?;
        let kl = self.teacher.kl(readout, &n, &read.lse)?;
        let sure = readout.token_logits(&self.teacher.n, &read.argmax)?;
        let hit = read.argmax.iter().zip(&self.next).map(|(a, b)| f64::from(u8::from(a == b))).collect();
        let surprisal = self.teacher.lse.iter().zip(&sure).map(|(lse, z)| lse - z).collect();
        let row = |(metric, unit, values): (&str, &str, Vec<f64>)| {
            let estimate = values.iter().sum::<f64>() / values.len() as f64;
            let one = Estimate::alone(estimate, "one pair of prompts", values.len() as u64);
            MetricRow {
                subject: subject.to_owned(),
                kind: "patchscope".into(),
                hook: "resid_pre".into(),
                layer: to as i32,
                source_layer: Some(layer as i32),
                ..MetricRow::of(metric, unit, one)
            }
        };
        let metrics =
            [("precision_at_1", "share", hit), ("surprisal", "nats", surprisal), ("kl", "nats", kl)];
        Ok(metrics.into_iter().map(row).collect())
    }
}
