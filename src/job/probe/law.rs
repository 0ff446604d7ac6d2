//! `probe law`: the law of next-token prediction.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ended;
use crate::{
    hook::HookPoint,
    job::{
        AllWindows, Job, JobError, LeakageSettings, ModelSettings, Session, Source, TextSettings, Watch,
        claimed, counts,
    },
    lens::fit::{Split, split},
    probe::{self, Norming, Residuals, blocks},
    results::run::{Found, METRICS, MetricRow, RunDir, write_metrics},
    sources::text::{Window, WindowOptions},
    states::States,
};

/// Regress the next token's id on every layer's states, and fit the decay of what is left over
///
/// After He and Su (2024), with held-out residuals, intervals over documents, and controls: ids shuffled, the token
/// itself, its neighbours, and one regression for all layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Law {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The text.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub text: TextSettings,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: PathBuf,
    /// What is done to states below the last layer; that one is read behind the final norm
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Norming::Initialized, value_name = "NORM"))]
    pub norm: Norming,
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

impl Default for Law {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            text: TextSettings::default(),
            out: PathBuf::new(),
            norm: Norming::Initialized,
            batch_tokens: None,
            leakage: LeakageSettings::default(),
            force: false,
            seed: 0,
        }
    }
}

/// What the regressions found.
#[derive(Debug)]
pub struct Regressed {
    /// What is left over, by layer and target.
    pub residuals: Residuals,
    /// The numbers, as in `metrics.parquet`.
    pub rows: Vec<MetricRow>,
}

impl Job for Law {
    const COMMAND: &'static str = "probe law";
    /// None where the run was complete already.
    type Outcome = Option<Regressed>;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<Option<Regressed>, JobError> {
        let session = Session::open(&self.model, watch)?;
        session.needs_decoder(Self::COMMAND)?;
        let source = Source::open(&session, &self.text, watch)?;
        session.announce(watch);
        let options = source.window_options(&self.text)?;
        let text = source.windows(&options, watch)?;
        let split = split(&text.windows, self.seed);
        watch.note(&format!("documents: {}; {}", text.lead, split.note));
        let mut manifest = source.manifest(self, (&text.lead, self.text.pack), self.seed, watch)?;
        manifest.config = self.config(&options);
        self.leakage.of_split(&text.windows, &split, ("the regression", &source), &mut manifest, watch)?;
        let claim = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch);
        if claim.found() == Found::Complete {
            watch.note(&format!("{} is complete already; nothing to do", self.out.display()));
            return Ok(None);
        }
        let dir = claim.begin(&|p| p == Path::new(METRICS))?;
        let mut law = self.sums(&session, &text, &split, watch)?;
        let progress = watch.begin("solving without each block of documents", "blocks", None);
        let residuals = law.measure()?;
        drop(progress);
        let rows = residuals.metrics();
        write_metrics(&self.out, &rows)?;
        dir.finish(counts(text.stats, rows.len() as u64), None)?;
        Ok(Some(Regressed { residuals, rows }))
    }
}

impl Law {
    fn config(&self, options: &WindowOptions) -> Value {
        json!({
            "norm": self.norm,
            "tokens": self.text.tokens,
            "seq_len": options.seq_len,
            "pack": options.pack,
            "text_column": self.text.text_column,
            "batch_tokens": self.batch_tokens,
        })
    }

    /// The sums of every layer's states and targets, from one pass over both sides of the split.
    fn sums(
        &self,
        session: &Session,
        text: &AllWindows,
        split: &Split,
        watch: &dyn Watch,
    ) -> Result<probe::Law, JobError> {
        let model = session.load(watch)?;
        let (n_layers, d) = (model.spec().n_layers, model.spec().d_model);
        let mut seen = vec![0u64; session.spec.vocab];
        text.windows.iter().flat_map(|w| &w.ids).for_each(|id| seen[*id as usize] += 1);
        let sides = blocks(split, &text.windows, n_layers, d);
        let mut law = probe::Law::new(n_layers, d, &seen, self.norm, self.seed, sides);
        let points: Vec<HookPoint> = (0..n_layers).map(HookPoint::resid_pre).collect();
        let tokens: usize =
            split.train.iter().chain(&split.held_out).map(|i| text.windows[*i].ids.len()).sum();
        let stage = watch.begin("summing", "tokens", Some(tokens as u64));
        let batch = session.batch_tokens(self.batch_tokens);
        for (side, held_out) in [(&split.train, false), (&split.held_out, true)] {
            let windows: Vec<&Window> = side.iter().map(|i| &text.windows[*i]).collect();
            States::each(model, &points, (&windows, batch), &stage, |states, _| {
                law.add(states, model.unembed(), held_out)
            })
            .map_err(ended)?;
        }
        Ok(law)
    }
}
