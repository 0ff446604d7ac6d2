//! `future`: what states say of later tokens, by every method and with controls.

mod report;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use layerscope::{
    intervene::future::{
        Control, FutureError, PAPER_PROMPTS, Prompt, Rows, Sources, Table, derangement, drawn, fits,
    },
    lens::artifact::{LensFolder, LensKind, check, check_shape, lens_sha256, unembed_sha256},
    lenses::{Precision, Readout},
    model::Model,
    results::run::{Counts, Found, LensRecord, METRICS, RunDir, read_metrics, write_metrics},
    results::words::counted,
    sources::text::{Window, WindowOptions, resolve_seq_len},
};
use serde_json::{Value, json};
use tch::Device;

use super::{
    args::{CommonArgs, Layers, ModelArgs, TextArgs},
    exit::Failure,
    interrupt::on_interrupt,
    leakage::LeakageArgs,
    lens::load,
    output::{Output, shown},
    source::Source,
};
use crate::cli::intervals::IntervalArgs;

/// Which token of a text is T.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum At {
    /// The last one of every document
    Last,
    /// Places drawn from the whole text
    Drawn,
}

/// Read later tokens off single states: lenses, fixed and learned prompts, and the controls that they need
///
/// The targets are the model's own greedy continuation. Prompts are fed its earlier tokens, so that only the difference from
/// a shuffled transplant (`information`) is in the state; `NAME:free` is fed nothing but what it said itself.
#[derive(Debug, Args)]
pub(crate) struct Future {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Lens folder: future-prompt, future-vocab, future, or any other kind for the next token; repeat for several
    #[arg(long, value_name = "logit|LENSDIR")]
    lens: Vec<PathBuf>,
    /// Fixed prompt in place of the paper's four; repeat for several, whose mean is `fixed`
    #[arg(long, value_name = "STR")]
    prompt: Vec<String>,
    /// No fixed prompts
    #[arg(long, conflicts_with = "prompt")]
    no_fixed: bool,
    /// Folder to write
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Only these layers, such as 1,4,8; by default 1 to the last
    #[arg(long, value_name = "LAYERS")]
    layers: Option<Layers>,
    /// How many tokens ahead; 1 is the next token
    #[arg(long, default_value_t = 4, value_name = "K")]
    horizons: usize,
    /// Most contexts
    #[arg(long, default_value_t = 1000, value_name = "N")]
    contexts: usize,
    /// Which states are read
    #[arg(long, value_enum, default_value_t = At::Last, value_name = "WHERE")]
    at: At,
    /// Column that names a row's document, for intervals and shuffling (with --at last); by default every row is one
    #[arg(long, value_name = "NAME")]
    document_column: Option<String>,
    #[command(flatten)]
    intervals: IntervalArgs,
    /// Use a lens that was fitted to another unembedding
    #[arg(long)]
    other_unembedding: bool,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[arg(long, value_name = "N")]
    batch_tokens: Option<NonZeroUsize>,
    #[command(flatten)]
    leakage: LeakageArgs,
    /// Start over in a folder that holds another run
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// A fixed prompt and its text.
struct Fixed {
    text: String,
    prompt: Prompt,
}

/// A lens that is no map between states: learned prompts, or straight to the vocabulary.
struct Learned {
    name: String,
    dir: PathBuf,
    folder: LensFolder,
}

/// What `--lens` names, by how it is read.
struct Given {
    learned: Vec<Learned>,
    vocabs: Vec<Learned>,
    others: Vec<PathBuf>,
}

impl Future {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(self.common.output);
        let stop = on_interrupt()?;
        self.check()?;
        let Given { learned, vocabs, others } = self.lenses()?;
        let asked = load::read(&others)?;
        if load::site(&asked) != "resid_pre" {
            return Err(Failure::usage(anyhow!(
                "--lens: a lens reads {}, not resid_pre",
                load::site(&asked)
            )));
        }
        let source = Source::open(&self.model, &self.text, output)?;
        let spec = &source.session.spec;
        load::check_shapes(&asked, spec)?;
        for lens in learned.iter().chain(&vocabs) {
            check_shape(&lens.folder.config, spec.d_model, spec.n_layers)
                .map_err(|e| Failure::check(format!("{}: {e}", lens.dir.display())))?;
        }
        source.session.announce(output);
        let layers = match &self.layers {
            Some(_) => source.session.layers(self.layers.as_ref())?,
            None => (1..=spec.n_layers).collect(),
        };
        let fixed = self.fixed(&source, output)?;
        let contexts = self.contexts(&source, output)?;
        let docs: Vec<u64> = contexts.iter().filter_map(|c| c.segments.first()).map(|s| s.doc_id).collect();
        derangement(&docs, self.common.seed).map_err(Failure::usage)?;
        let documents = docs.into_iter().collect::<std::collections::BTreeSet<_>>().len();
        output.note(format!("{} of {}", counted(contexts.len(), "context"), counted(documents, "document")));
        let lead = source.tokenizer.bos().reason.clone();
        let mut manifest = source.manifest("future", &self.model, &lead, false, &self.common, output)?;
        let own = |l: &Learned| (l.dir.clone(), l.folder.config.unembed_sha256.is_some());
        let given = asked.iter().filter_map(load::Asked::fitted_in);
        let folders: Vec<(PathBuf, bool)> = given.chain(learned.iter().chain(&vocabs).map(own)).collect();
        self.leakage.of_folders(&folders, &contexts, &source, &mut manifest, output)?;
        manifest.lenses = asked.iter().filter_map(|a| a.record().transpose()).collect::<Result<_, _>>()?;
        for lens in learned.iter().chain(&vocabs) {
            let sha256 = lens_sha256(&lens.dir)?;
            manifest.lenses.push(LensRecord { name: lens.name.clone(), sha256 });
        }
        manifest.config = self.config(&layers, &fixed, contexts.len(), &others);
        let claim = output.claimed(RunDir::claim(&self.out, manifest, self.force)?);
        if claim.found() == Found::Complete {
            output.note(format!("{} is complete already", self.out.display()));
            return self.report(&read_metrics(&self.out)?, output);
        }
        let model = source.session.load(output)?;
        let lenses = load::open(&asked, &model, self.other_unembedding, output)?;
        self.check_unembedding(&learned, &model, output)?;
        self.check_unembedding(&vocabs, &model, output)?;
        let dir = claim.begin(&|p| p == Path::new(METRICS))?;
        let threads = source.session.threads;
        let readout = Readout::new(model.unembed(), source.vocab(), Precision::Exact, threads)?;
        let batch_tokens = source.session.batch_tokens(self.batch_tokens);
        let sources =
            self.sources(&model, &contexts, &layers, source.vocab(), batch_tokens, &stop, output)?;
        let mut table =
            Table::new(&model, &readout, &sources, self.common.seed, batch_tokens).map_err(failed)?;
        for (lens, kind) in lenses.all.iter().zip(&lenses.kinds) {
            table.lens(lens.as_ref(), kind)?;
        }
        for lens in &vocabs {
            for (cell, map) in lens.folder.vocab_maps(model.device())? {
                table.vocab(&lens.name, cell, &map)?;
            }
        }
        self.prompts(&mut table, &fixed, &learned, &layers, &stop, output)?;
        let rows = table.rows(&contexts, self.intervals.policy(self.common.seed))?;
        write_metrics(&self.out, &rows)?;
        let tokens = contexts.iter().map(|c| c.ids.len() as u64).sum();
        let counts =
            Counts { documents: documents as u64, tokens, rows: rows.len() as u64, ..Counts::default() };
        dir.finish(counts, None)?;
        self.report(&rows, output)
    }

    fn check(&self) -> Result<(), Failure> {
        let why = if self.text.pack {
            "--pack: contexts are of one document; leave it out"
        } else if self.horizons == 0 || self.contexts == 0 {
            "--horizons and --contexts must be at least 1"
        } else if self.at == At::Drawn && self.document_column.is_some() {
            "--document-column goes with --at last"
        } else if self.no_fixed && self.lens.is_empty() {
            "--no-fixed: give a --lens then"
        } else {
            return Ok(());
        };
        Err(Failure::usage(anyhow!(why)))
    }

    /// Lenses of learned prompts, direct ones to the vocabulary, and the names of all others.
    fn lenses(&self) -> Result<Given, Failure> {
        let (mut learned, mut vocabs, mut others) =
            (Vec::<Learned>::new(), Vec::<Learned>::new(), Vec::new());
        for name in &self.lens {
            if load::is_logit(name) || !name.is_dir() {
                others.push(name.clone());
                continue;
            }
            let folder = LensFolder::read(name).map_err(Failure::usage)?;
            let kind = folder.config.kind;
            match kind {
                LensKind::FuturePrompt => drop(folder.prompts().map_err(Failure::usage)?),
                LensKind::FutureVocab => drop(folder.vocab_maps(Device::Cpu).map_err(Failure::usage)?),
                _ => {
                    others.push(name.clone());
                    continue;
                }
            }
            let label = load::folder_name(name)?;
            let taken = label == "fixed" || learned.iter().chain(&vocabs).any(|l| l.name == label);
            let label = if taken { format!("{label}-{}", learned.len() + vocabs.len() + 1) } else { label };
            let list = if kind == LensKind::FuturePrompt { &mut learned } else { &mut vocabs };
            list.push(Learned { name: label, dir: name.clone(), folder });
        }
        Ok(Given { learned, vocabs, others })
    }

    fn fixed(&self, source: &Source, output: Output) -> Result<Vec<Fixed>, Failure> {
        let own = self.prompt.iter().map(String::as_str);
        let texts: Vec<&str> = match (self.no_fixed, self.prompt.is_empty()) {
            (true, _) => vec![],
            (_, true) => PAPER_PROMPTS.to_vec(),
            (_, false) => own.collect(),
        };
        let mut all = Vec::new();
        for text in texts {
            let prompt = Prompt::words(text, &source.tokenizer).map_err(Failure::usage)?;
            let tokens = prompt.tokens() as usize;
            fits(tokens, self.horizons, source.session.spec.n_ctx).map_err(Failure::usage)?;
            output.note(format!("fixed:{} is {text:?}, {}", all.len() + 1, counted(tokens, "token")));
            all.push(Fixed { text: text.to_owned(), prompt });
        }
        Ok(all)
    }

    fn contexts(&self, source: &Source, output: Output) -> Result<Vec<Window>, Failure> {
        let room = (source.session.spec.n_ctx + 1).saturating_sub(self.horizons);
        let seq_len =
            resolve_seq_len(Some(self.text.seq_len.unwrap_or(room)), room).map_err(Failure::usage)?;
        if self.at == At::Drawn {
            let options = WindowOptions { seq_len, max_tokens: self.text.tokens, pack: false };
            let text = source.windows(&options, output)?;
            return drawn(&text.windows, self.contexts, self.common.seed).map_err(Failure::usage);
        }
        let rows = Rows {
            paths: source.inputs.paths(),
            text_column: self.text.text_column.as_deref(),
            document_column: self.document_column.as_deref(),
            seq_len,
            count: self.contexts,
        };
        rows.read(&source.tokenizer).map_err(Failure::usage)
    }

    fn config(&self, layers: &[usize], fixed: &[Fixed], contexts: usize, others: &[PathBuf]) -> Value {
        let prompt = |f: &Fixed| json!({ "text": f.text, "tokens": f.prompt.tokens() });
        json!({
            "layers": layers,
            "horizons": self.horizons,
            "contexts": contexts,
            "at": format!("{:?}", self.at).to_lowercase(),
            "prompts": fixed.iter().map(prompt).collect::<Vec<_>>(),
            "lenses": self.lens.len(),
            "logit": others.iter().any(|name| load::is_logit(name)),
            "intervals": self.intervals.config(),
            "tokens": self.text.tokens,
            "seq_len": self.text.seq_len,
            "text_column": self.text.text_column,
            "document_column": self.document_column,
            "batch_tokens": self.batch_tokens,
        })
    }

    fn check_unembedding(&self, learned: &[Learned], model: &Model, output: Output) -> Result<(), Failure> {
        let (hash, spec) = (unembed_sha256(model.unembed())?, model.spec());
        for lens in learned {
            match check(&lens.folder.config, &hash, spec.d_model, spec.n_layers) {
                Ok(_) => {}
                Err(e) if self.other_unembedding => output.warn(format!("{}: {e}", lens.dir.display())),
                Err(e) => return Err(Failure::check(format!("{}: {e}", lens.dir.display()))),
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // a run's settings
    fn sources(
        &self,
        model: &Model,
        contexts: &[Window],
        layers: &[usize],
        vocab: usize,
        batch_tokens: usize,
        stop: &Arc<AtomicBool>,
        output: Output,
    ) -> Result<Sources, Failure> {
        let bar = output.bar("continuing", "contexts", Some(contexts.len() as u64));
        let mut progress = |done: usize| {
            bar.inc(done as u64);
            stop.load(Ordering::Relaxed)
        };
        let sources =
            Sources::run(model, contexts, layers, self.horizons, vocab, batch_tokens, &mut progress);
        bar.finish_and_clear();
        sources.map_err(failed)
    }

    /// Fixed prompts (each by itself, and their mean with its controls), then learned ones.
    fn prompts(
        &self,
        table: &mut Table<'_>,
        fixed: &[Fixed],
        learned: &[Learned],
        layers: &[usize],
        stop: &Arc<AtomicBool>,
        output: Output,
    ) -> Result<(), Failure> {
        let all: Vec<usize> = (1..=self.horizons).collect();
        let bar = output.bar(
            "transplanting",
            "layers",
            Some((layers.len() * (fixed.len() + learned.len())) as u64),
        );
        for (i, one) in fixed.iter().enumerate() {
            stopped(stop)?;
            let own = format!("fixed:{}", i + 1);
            let names = ("fixed", Some(own.as_str()), "future-fixed");
            table.prompt(names, &one.prompt, layers, &all, &Control::ALL)?;
            bar.inc(layers.len() as u64);
        }
        for &layer in layers {
            for lens in learned {
                let prompts = lens.folder.prompts()?;
                let names = (lens.name.as_str(), None, "future-prompt");
                for (&(_, horizon), tensor) in
                    prompts.iter().filter(|((l, k), _)| *l == layer && *k <= self.horizons)
                {
                    stopped(stop)?;
                    let prompt = Prompt::Soft(tensor.shallow_clone());
                    fits(prompt.tokens() as usize, self.horizons, table.context()).map_err(Failure::usage)?;
                    table.prompt(names, &prompt, &[layer], &[horizon], &Control::ALL[..4])?;
                    // Free running takes one prompt for all tokens: that of the paper's N = 1, else the first.
                    let leader = if prompts.contains_key(&(layer, 2)) { 2 } else { 1 };
                    if horizon == leader {
                        table.prompt(names, &prompt, &[layer], &all, &[Control::Free])?;
                    }
                }
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn report(&self, rows: &[layerscope::results::run::MetricRow], output: Output) -> Result<(), Failure> {
        output.print(&report::table(rows))?;
        output.wrote(&self.out, "all numbers with their intervals");
        output.result(json!({ "out": shown(&self.out), "rows": rows.len(), "best": report::best(rows) }))?;
        Ok(())
    }
}

fn stopped(stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    if stop.load(Ordering::Relaxed) { Err(failed(FutureError::Interrupted)) } else { Ok(()) }
}

fn failed(error: FutureError) -> Failure {
    match error {
        FutureError::Interrupted => Failure::interrupted(error),
        FutureError::NoDerangement { .. } => Failure::usage(error),
        other => other.into(),
    }
}
