//! `lens eval`: lenses on a text, every layer in one pass.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Asked, Lenses, block_hook, check_shapes, open, read, records, refuse_ahead, site_of};
use crate::{
    hook::HookPoint,
    job::{
        AllWindows, Cluster, IntervalSettings, Job, JobError, Layers, LeakageSettings, ModelSettings,
        PrecisionSetting, Session, SetTo, Source, TextSettings, Watch, audit_note, claimed, counts,
    },
    lens::{
        artifact::LensKind,
        evaluate::{Baselines, Cell, EvalError, Evaluation, Reading, TOKENS, TokenTable, Watch as Readings},
    },
    lenses::Readout,
    model::Model,
    results::run::{Found, METRICS, MetricRow, RunDir, read_metrics, write_atomic, write_metrics},
    sources::{
        chat::{TurnPositions, TurnSelector},
        text::{Window, WindowOptions, turn_positions},
    },
    states::{Masker, Masking, States},
};

/// Evaluate lenses on a text, every layer in one pass, with intervals over documents
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Eval {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The text.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub text: TextSettings,
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
    /// Read these tokens of an encoder, each behind the mask token: all of them in turn, or 15 % at random (the default)
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

    fn out(&self) -> Option<&Path> {
        Some(&self.out)
    }

    fn set_out(&mut self, out: PathBuf) {
        self.out = out;
    }

    fn run(&self, watch: &dyn Watch) -> Result<Evaluated, JobError> {
        let asked = read(&self.lens)?;
        let session = Session::open(&self.model, watch)?;
        session.needs_head(Self::COMMAND)?;
        refuse_ahead(&asked, &session)?;
        let source = Source::open(&session, &self.text, watch)?;
        check_shapes(&asked, &session.spec)?;
        session.announce(watch);
        let points = self.points(&session, site_of(&asked))?;
        let masker = session.masker(self.mask, &source.tokenizer, self.seed)?;
        let options = source.window_options(&self.text)?;
        let text = source.windows(&options, watch)?;
        watch.note(&format!("documents: {}", text.lead));
        let mut manifest = source.manifest(self, (&text.lead, self.text.pack), self.seed, watch)?;
        self.leakage.of_lenses(&asked, &text.windows, &source, &mut manifest, watch)?;
        manifest.lenses = records(&asked)?;
        manifest.config = self.config(&source, &points, &options, masker.as_ref());
        let claim = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch);
        if claim.found() == Found::Complete {
            watch.note(&format!("{} is complete already", self.out.display()));
            return Ok(Evaluated { hidden: masker.is_some(), rows: read_metrics(&self.out)? });
        }
        self.readout.announce(session.device, watch);
        let model = session.load(watch)?;
        let lenses = open(&asked, model, self.other_unembedding, watch)?;
        let dir = claim.begin(&|p| p == Path::new(METRICS) || p == Path::new(TOKENS))?;
        let rows = self.evaluate(&source, (&asked, &lenses), (&points, masker.as_ref()), &text, watch)?;
        write_metrics(&self.out, &rows)?;
        dir.finish(counts(text.stats, rows.len() as u64), None)?;
        Ok(Evaluated { hidden: masker.is_some(), rows })
    }
}

impl Eval {
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

    /// The text through the model once.
    fn evaluate(
        &self,
        source: &Source<'_>,
        (asked, lenses): (&[Asked], &Lenses),
        (points, masker): (&[HookPoint], Option<&Masker>),
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
        let horizons = asked.iter().map(Asked::horizons).max().unwrap_or(1);
        let future = asked.iter().any(|a| a.is(LensKind::Future));
        let mut evaluation = evaluation.at(self.chosen(source, future)?);
        let mut baselines = future.then(|| Baselines::count(text.windows.iter(), horizons, source.vocab()));
        let pass = Pass {
            model,
            readout: &readout,
            points,
            masker,
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
                let mut add =
                    |cell: &Cell, states: &States, reading: &Reading| Ok(table.add(cell, states, reading)?);
                pass.run(&mut evaluation, baselines.as_mut(), &mut add)?;
                Ok::<_, JobError>(table.close()?)
            })?;
        } else {
            pass.run(&mut evaluation, baselines.as_mut(), &mut |_, _, _| Ok(()))?;
        }
        audit_note(&readout, watch);
        // How many bytes a token stands for is known of the whole text, not of some of its tokens.
        if self.positions.is_none() && masker.is_none() {
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

/// One pass of the text through the model.
struct Pass<'a> {
    model: &'a Model,
    readout: &'a Readout,
    points: &'a [HookPoint],
    masker: Option<&'a Masker>,
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
        let rows =
            |window: &Window| self.masker.map_or(window.ids.len(), |masker| masker.places(window).len());
        let all = self.text.windows.iter().map(|window| rows(window) as u64).sum();
        let progress = self.watch.begin("evaluating", "tokens", Some(all));
        for (first, some) in (0..).step_by(AT_ONCE).zip(self.text.windows.chunks(AT_ONCE)) {
            let some: Vec<&Window> = some.iter().collect();
            let how = (self.batch_tokens, self.masker);
            let ended = States::each_behind(self.model, self.points, &some, how, |states, places| {
                if self.watch.stopped() {
                    return Err(EvalError::Interrupted);
                }
                let clusters = self.clusters.as_ref().map(|c| -> Vec<u64> {
                    let of = |i: &usize| std::iter::repeat_n(c[first + *i], rows(some[*i]));
                    places.iter().flat_map(of).collect()
                });
                let own = evaluation.add(states, clusters.as_deref(), readings)?;
                if let Some(baselines) = &mut baselines {
                    baselines.add(self.readout, &own, &states.docs)?;
                }
                progress.inc(states.rows() as u64);
                Ok(())
            });
            ended.map_err(|e| match e {
                EvalError::Interrupted => JobError::interrupted(e),
                other => other.into(),
            })?;
        }
        Ok(())
    }
}
