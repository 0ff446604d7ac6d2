//! `lens eval`: lenses on a text, every layer in one pass.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    LensRequest, Lenses, activations, activations::Stream, block_hook, check_shapes, open, read, records,
    refuse_ahead, site_of,
};
use crate::{
    hook::HookPoint,
    job::{
        AllWindows, Cluster, IntervalSettings, Job, JobError, Layers, LeakageSettings, ModelSettings,
        PrecisionSetting, Session, SetTo, Source, TextSettings, Watch, audit_note, claimed, counts,
    },
    lens::{
        artifact::LensKind,
        evaluate::{
            Baselines, EvalError, Evaluation, LensCell, Reading, TOKENS, TokenTable, Watch as Readings,
        },
    },
    lenses::Readout,
    results::run::{Found, METRICS, MetricRow, RunDir, read_metrics, write_atomic, write_metrics},
    sources::{
        chat::{TurnPositions, TurnSelector},
        text::{Window, WindowOptions, turn_positions},
    },
    states::{Masker, Masking, States, store::ActivationStore},
};

/// Evaluate lenses on a text, every layer in one pass, with intervals over documents
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(mut_arg("data", |data| data.required(false).required_unless_present("activations"))))]
pub struct Eval {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The text.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub text: TextSettings,
    /// In place of [`TextSettings::data`]: an export of what the lenses read and of the last layer's `resid_pre` at all
    /// positions.
    #[cfg_attr(feature = "cli", arg(
        long,
        help = "In place of --data: an export of resid_pre (or the lenses' site) and of the last layer's resid_pre at all positions",
        conflicts_with_all = ["data", "text_column", "stdin_format", "seq_len", "pack", "bos", "positions"],
        value_name = "EXPORT"
    ))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activations: Option<PathBuf>,
    /// `logit` or a lens folder; repeat for several
    #[cfg_attr(feature = "cli", arg(long, required = true, value_name = "logit|LENSDIR"))]
    pub lens: Vec<PathBuf>,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: PathBuf,
    /// Only these layers, such as 0,4,8-12; by default all below the last
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// Only these tokens of chats: a role, turn:N or template, also with :first or :last; by default every token
    #[cfg_attr(feature = "cli", arg(long, value_name = "POSITIONS"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<TurnSelector>,
    /// Read these tokens of an encoder, each behind the mask token: all of them in turn, or 15 % at random (the
    /// default)
    #[cfg_attr(feature = "cli", arg(long, value_enum, value_name = "all|random"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Masking>,
    /// Precision of the readout
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = PrecisionSetting::Exact, value_name = "PRECISION"))]
    pub readout: PrecisionSetting,
    /// What the 95 % intervals are over
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Cluster::Document, value_name = "CLUSTER"))]
    pub cluster: Cluster,
    /// How intervals are made.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub intervals: IntervalSettings,
    /// Leave out the marginal bias, which keeps one distribution per lens and layer
    #[cfg_attr(feature = "cli", arg(long))]
    pub no_marginals: bool,
    /// Write tokens.parquet as well: every lens at every layer of every token, one row each
    #[cfg_attr(feature = "cli", arg(long))]
    pub per_token: bool,
    /// Use a lens that was fitted to another unembedding
    #[cfg_attr(feature = "cli", arg(long))]
    pub other_unembedding: bool,
    /// Most tokens in a forward pass; by default 2048 on the CPU, 16384 on CUDA
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub batch_tokens: Option<NonZeroUsize>,
    /// What is done about leakage.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub leakage: LeakageSettings,
    /// Start over in a folder that holds another run
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
}

impl Default for Eval {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            text: TextSettings::default(),
            activations: None,
            lens: Vec::new(),
            out: PathBuf::new(),
            layers: None,
            positions: None,
            mask: None,
            readout: PrecisionSetting::Exact,
            cluster: Cluster::Document,
            intervals: IntervalSettings::default(),
            no_marginals: false,
            per_token: false,
            other_unembedding: false,
            batch_tokens: None,
            leakage: LeakageSettings::default(),
            force: false,
            seed: 0,
        }
    }
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    /// The true tokens are those behind masks, not those that follow.
    pub hidden: bool,
    /// The numbers, as in `metrics.parquet`.
    pub rows: Vec<MetricRow>,
}

/// Windows that are sorted by length together.
const AT_ONCE: usize = 256;

impl Job for Eval {
    const COMMAND: &'static str = "lens eval";
    type Outcome = Evaluated;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<Evaluated, JobError> {
        activations::check_source(&self.text, &self.model, self.activations.as_deref())?;
        let requests = read(&self.lens)?;
        let session = Session::open(&self.model, watch)?;
        session.needs_head(Self::COMMAND)?;
        refuse_ahead(&requests, &session)?;
        let source = Source::open(&session, &self.text, watch)?;
        check_shapes(&requests, &session.spec)?;
        session.announce(watch);
        let points = self.points(&session, site_of(&requests))?;
        let masker = session.masker(self.mask, &source.tokenizer, self.seed)?;
        let store = self.store(&session, &points)?;
        let (text, options) = self.windows(&source, store.as_ref(), watch)?;
        watch.note(&format!("documents: {}", text.lead));
        let mut manifest = source.manifest(self, (&text.lead, self.text.pack), self.seed, watch)?;
        manifest.config = self.config(&source, &points, &options, masker.as_ref());
        if let Some(store) = &store {
            activations::record(store, &mut manifest);
        }
        self.leakage.of_lenses(&requests, &text.windows, &source, &mut manifest, watch)?;
        manifest.lenses = records(&requests)?;
        let claim = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch);
        if claim.found() == Found::Complete {
            watch.note(&format!("{} is complete already", self.out.display()));
            return Ok(Evaluated { hidden: masker.is_some(), rows: read_metrics(&self.out)? });
        }
        self.readout.announce(session.device, watch);
        let model = session.load(watch)?;
        let lenses = open(&requests, model, self.other_unembedding, watch)?;
        let dir = claim.begin(&|p| p == Path::new(METRICS) || p == Path::new(TOKENS))?;
        let stream = match &store {
            Some(store) => {
                Stream::Exported(activations::unpack(store, &session, &points, &text, &self.out, watch)?)
            }
            None => Stream::Model { model, masker: masker.as_ref() },
        };
        let rows = self.evaluate(&source, (&requests, &lenses), (&points, &stream), &text, watch)?;
        write_metrics(&self.out, &rows)?;
        dir.finish(counts(text.stats, rows.len() as u64), None)?;
        Ok(Evaluated { hidden: masker.is_some(), rows })
    }
}

impl Eval {
    /// The export that stands for the text.
    fn store(&self, session: &Session, points: &[HookPoint]) -> Result<Option<ActivationStore>, JobError> {
        let Some(dir) = &self.activations else { return Ok(None) };
        if self.positions.is_some() {
            return Err(JobError::setting("positions", "chats are read from their text; give data"));
        }
        let store = activations::open(dir, session)?;
        activations::check_points(&store, points, session.spec.n_layers)?;
        Ok(Some(store))
    }

    /// The text, and how it is cut.
    fn windows(
        &self,
        source: &Source<'_>,
        store: Option<&ActivationStore>,
        watch: &dyn Watch,
    ) -> Result<(AllWindows, WindowOptions), JobError> {
        if let Some(store) = store {
            return activations::text(store, source, self.text.tokens);
        }
        let options = source.window_options(&self.text)?;
        Ok((source.windows(&options, watch)?, options))
    }

    /// Where lenses read: the layers asked for, below the last.
    fn points(&self, session: &Session, site: &str) -> Result<Vec<HookPoint>, JobError> {
        let mut layers = session.layers(self.layers.as_ref())?;
        layers.retain(|l| *l < session.spec.n_layers);
        let site = block_hook(site)
            .ok_or_else(|| JobError::failed(format!("a lens reads the unknown site {site}")))?;
        if layers.is_empty() {
            return Err(JobError::setting("layers", "no layer below the last"));
        }
        Ok(layers.iter().map(|l| HookPoint::Block(*l, site)).collect())
    }

    /// The tokens that count, where not all do.
    fn chosen(&self, source: &Source<'_>, future: bool) -> Result<Option<TurnPositions>, JobError> {
        let Some(selector) = &self.positions else { return Ok(None) };
        if future {
            return Err(JobError::setting(
                "positions",
                "not for future lenses, whose baselines are of all tokens",
            ));
        }
        let chosen = turn_positions(source.inputs.corpus()?, &source.tokenizer, selector, self.text.pack)?;
        if chosen.count() == 0 {
            return Err(JobError::usage(format!("{} selects no token", SetTo("positions", selector))));
        }
        Ok(Some(chosen))
    }

    fn config(
        &self,
        source: &Source<'_>,
        points: &[HookPoint],
        options: &WindowOptions,
        masker: Option<&Masker>,
    ) -> Value {
        let mut config = json!({
            "lenses": self.lens.len(),
            "layers": numbers(points),
            "readout": self.readout.effective(source.session.device),
            "cluster": self.cluster,
            "intervals": self.intervals.config(),
            "marginals": !self.no_marginals,
            "per_token": self.per_token,
            "vocab": source.vocab(),
            "tokens": self.text.tokens,
            "seq_len": options.seq_len,
            "pack": options.pack,
            "text_column": self.text.text_column,
            "batch_tokens": self.batch_tokens,
        });
        if let Some(masker) = masker {
            config["mask"] = json!(masker.masking());
            config["seed"] = json!(self.seed);
        }
        if let Some(positions) = &self.positions {
            config["positions"] = json!(positions);
        }
        config
    }

    /// The text once, through the model or from its states.
    fn evaluate(
        &self,
        source: &Source<'_>,
        (requests, lenses): (&[LensRequest], &Lenses),
        (points, stream): (&[HookPoint], &Stream<'_>),
        text: &AllWindows,
        watch: &dyn Watch,
    ) -> Result<Vec<MetricRow>, JobError> {
        let session = source.session;
        let model = session.load(watch)?;
        let precision = self.readout.precision(session.device);
        let readout = Readout::new(model.unembed(), source.vocab(), precision, session.threads)?;
        let intervals = self.cluster.of(self.intervals.policy(self.seed));
        let n_layers = session.spec.n_layers;
        let marginals = !self.no_marginals;
        let of = (&lenses.all[..], &lenses.kinds[..]);
        let evaluation = Evaluation::new(&readout, of.0, of.1, points, n_layers, intervals, marginals)?;
        let horizons = requests.iter().map(LensRequest::horizons).max().unwrap_or(1);
        let future = requests.iter().any(|a| a.is(LensKind::Future));
        let mut evaluation = evaluation.at(self.chosen(source, future)?);
        let mut baselines = future.then(|| Baselines::count(text.windows.iter(), horizons, source.vocab()));
        let pass = Pass {
            stream,
            readout: &readout,
            points,
            text,
            clusters: self.cluster.of_windows(&text.windows),
            batch_tokens: session.batch_tokens(self.batch_tokens),
            watch,
        };
        if self.per_token {
            let names = lenses.all.iter().map(|lens| lens.name().to_owned()).collect();
            let layers = numbers(points).into_iter().chain([n_layers]).collect();
            write_atomic(&self.out.join(TOKENS), |file| {
                let mut table = TokenTable::new(file, names, layers);
                let mut add = |cell: &LensCell, states: &States, reading: &Reading| {
                    Ok(table.add(cell, states, reading)?)
                };
                pass.run(&mut evaluation, baselines.as_mut(), &mut add)?;
                Ok::<_, JobError>(table.close()?)
            })?;
        } else {
            pass.run(&mut evaluation, baselines.as_mut(), &mut |_, _, _| Ok(()))?;
        }
        audit_note(&readout, watch);
        // How many bytes a token stands for is known of the whole text, not of some of its tokens.
        if self.positions.is_none() && stream.masker().is_none() {
            evaluation.add_text(&text.windows, pass.clusters.as_deref())?;
        }
        let mut rows = evaluation.finish();
        if let Some(baselines) = &baselines {
            rows.extend(baselines.rows(text.windows.iter(), intervals)?);
        }
        Ok(rows)
    }
}

fn numbers(points: &[HookPoint]) -> Vec<usize> {
    points.iter().map(|point| point.layer(0)).collect()
}

/// One pass over the states of the text.
struct Pass<'a> {
    stream: &'a Stream<'a>,
    readout: &'a Readout,
    points: &'a [HookPoint],
    text: &'a AllWindows,
    /// Per window, what it counts as; none: its documents.
    clusters: Option<Vec<u64>>,
    batch_tokens: usize,
    watch: &'a dyn Watch,
}

impl Pass<'_> {
    fn run(
        &self,
        evaluation: &mut Evaluation<'_>,
        mut baselines: Option<&mut Baselines>,
        readings: &mut Readings<'_>,
    ) -> Result<(), JobError> {
        let rows = |window: &Window| {
            self.stream.masker().map_or(window.ids.len(), |masker| masker.places(window).len())
        };
        let stage = self.watch.begin("evaluating", "tokens", Some(self.text.stats.tokens));
        for (first, some) in (0..).step_by(AT_ONCE).zip(self.text.windows.chunks(AT_ONCE)) {
            let some: Vec<&Window> = some.iter().collect();
            let windows = (&some[..], self.batch_tokens);
            self.stream.each(self.points, windows, &stage, |states, places| -> Result<(), EvalError> {
                let clusters = self.clusters.as_ref().map(|c| -> Vec<u64> {
                    let of = |i: &usize| std::iter::repeat_n(c[first + *i], rows(some[*i]));
                    places.iter().flat_map(of).collect()
                });
                let own = evaluation.add(states, clusters.as_deref(), readings)?;
                if let Some(baselines) = &mut baselines {
                    baselines.add(self.readout, &own, &states.docs)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
