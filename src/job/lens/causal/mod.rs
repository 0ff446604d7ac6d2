//! `lens causal`: whether a lens goes by what the model goes by.

mod directions;
mod json;
mod work;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::Tensor;

pub use self::{directions::Directions, json::by_layer};
use super::{Halves, LensRequest, check_shapes, is_logit, open, read, records, site_of};
use crate::{
    job::{
        AllWindows, Job, JobError, Layers, LeakageSettings, ModelSettings, PassSettings, Session, SetTo,
        Source, TextSettings, Watch, claimed, counts,
    },
    lens::causal::{Plan, Removal, Set},
    results::run::{Found, METRICS, Manifest, MetricRow, RunDir, read_metrics, write_metrics},
    states::write_tensors,
};

/// Tokens that are read when no number is asked for.
const TOKENS: u64 = 1 << 14;
/// The directions, by lens and layer.
pub const BASES: &str = "bases.safetensors";

/// Remove the directions that a lens goes by from the model, and see whether the model goes by them too
///
/// One half of the documents gives the directions, mean states and other tokens' states; the other is measured on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Causal {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// The text.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub text: TextSettings,
    /// Folders of lenses of the next token; the logit lens is always beside them
    #[cfg_attr(feature = "cli", arg(long, num_args = 1.., value_name = "LENSDIR"))]
    pub lens: Vec<PathBuf>,
    /// Leave the logit lens out
    #[cfg_attr(feature = "cli", arg(long, requires = "lens"))]
    pub no_logit: bool,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: PathBuf,
    /// Only these layers, such as 0,4,8-12; by default all, the last one too
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// Directions per lens and layer, and of each control: a number, or `all` that the stream has; by default 40.
    /// Intervals are over directions too: there are none below 5, and they rest on little below 30
    #[cfg_attr(feature = "cli", arg(long, value_name = "K"))]
    pub directions: Option<Directions>,
    /// What stands on a direction that is removed: mean (of all states), zero, or resample (another token's state)
    #[cfg_attr(feature = "cli", arg(long, default_value_t = Removal::Mean, value_name = "MODE"))]
    pub mode: Removal,
    /// Positions of the first half on which directions are sought
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 2048, value_name = "N"))]
    pub basis_tokens: usize,
    /// Leave the first position of every window as it is, and out of means and bases: it often holds a sink
    #[cfg_attr(feature = "cli", arg(long))]
    pub keep_first: bool,
    /// Use a lens that was fitted to another unembedding
    #[cfg_attr(feature = "cli", arg(long))]
    pub other_unembedding: bool,
    /// How predictions are read and what intervals rest on.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub pass: PassSettings,
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

impl Default for Causal {
    fn default() -> Self {
        Self {
            model: ModelSettings::default(),
            text: TextSettings::default(),
            lens: Vec::new(),
            no_logit: false,
            out: PathBuf::new(),
            layers: None,
            directions: None,
            mode: Removal::Mean,
            basis_tokens: 2048,
            keep_first: false,
            other_unembedding: false,
            pass: PassSettings::default(),
            leakage: LeakageSettings::default(),
            force: false,
            seed: 0,
        }
    }
}

/// What a causal check found.
#[derive(Debug, Clone, PartialEq)]
pub struct CausalFound {
    /// The numbers, as in `metrics.parquet`.
    pub rows: Vec<MetricRow>,
}

/// What is measured, decided before weights are read.
struct Setup {
    layers: Vec<usize>,
    k: usize,
    text: AllWindows,
    halves: Halves,
}

impl Job for Causal {
    const COMMAND: &'static str = "lens causal";
    type Outcome = CausalFound;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<CausalFound, JobError> {
        let requests = read(&self.lenses()?)?;
        check_kinds(&requests)?;
        let session = Session::open(&self.model, watch)?;
        session.needs_decoder(Self::COMMAND)?;
        let settings = self.text.up_to(TOKENS);
        let source = Source::open(&session, &settings, watch)?;
        check_shapes(&requests, &session.spec)?;
        session.announce(watch);
        let setup = self.setup(&source, &settings, &requests, watch)?;
        let manifest = self.manifest(&source, &settings, &requests, &setup, watch)?;
        let claim = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch);
        if claim.found() == Found::Complete {
            watch.note(&format!("{} is complete already", self.out.display()));
            return Ok(CausalFound { rows: read_metrics(&self.out)? });
        }
        let (model, readout) = self.pass.load(&source, watch)?;
        let lenses = open(&requests, model, self.other_unembedding, watch)?;
        let plans = self.plans(&source, (model, &readout), &lenses, &setup, watch)?;
        let rows = self.measure(&source, (model, &readout), &lenses, (&plans, &setup), watch)?;
        let dir = claim.begin(&|p| p == Path::new(METRICS) || p == Path::new(BASES))?;
        write_tensors(&self.out.join(BASES), &bases(&plans))?;
        write_metrics(&self.out, &rows)?;
        dir.finish(counts(setup.text.stats, rows.len() as u64), None)?;
        Ok(CausalFound { rows })
    }
}

impl Causal {
    /// The lenses by name, the logit lens first unless it is left out.
    fn lenses(&self) -> Result<Vec<PathBuf>, JobError> {
        if self.no_logit && self.lens.is_empty() {
            return Err(JobError::setting("no_logit", "there is no other lens"));
        }
        let own = self.no_logit || self.lens.iter().any(|name| is_logit(name));
        let logit = (!own).then(|| "logit".into());
        Ok(logit.into_iter().chain(self.lens.iter().cloned()).collect())
    }

    fn setup(
        &self,
        source: &Source<'_>,
        settings: &TextSettings,
        requests: &[LensRequest],
        watch: &dyn Watch,
    ) -> Result<Setup, JobError> {
        let k = Directions::number(self.directions, source.session.spec.d_model)?;
        let mut layers = source.session.layers(self.layers.as_ref())?;
        layers.retain(|layer| requests.iter().any(|lens| lens.reads(*layer)));
        if layers.is_empty() {
            return Err(JobError::usage("no lens reads any of these layers"));
        }
        let text = source.windows(&source.window_options(settings)?, watch)?;
        watch.note(&format!("documents: {}", text.lead));
        let halves = Halves::of(&text.windows, self.pass.cluster())?;
        halves.note.iter().for_each(|note| watch.note(note));
        let (positions, least) = (self.basis_tokens, 2);
        if positions < least {
            let basis = SetTo("basis_tokens", positions);
            return Err(JobError::usage(format!("{basis}: at least {least} are needed")));
        }
        Ok(Setup { layers, k, text, halves })
    }

    fn manifest(
        &self,
        source: &Source<'_>,
        settings: &TextSettings,
        requests: &[LensRequest],
        setup: &Setup,
        watch: &dyn Watch,
    ) -> Result<Manifest, JobError> {
        let mut manifest = source.manifest(self, (&setup.text.lead, settings.pack), self.seed, watch)?;
        self.leakage.of_lenses(requests, &setup.text.windows, source, &mut manifest, watch)?;
        manifest.lenses = records(requests)?;
        let own = json!({
            "lenses": requests.len(),
            "logit": !self.no_logit,
            "layers": setup.layers,
            "directions": setup.k,
            "mode": self.mode,
            "basis_tokens": self.basis_tokens,
            "keep_first": self.keep_first,
        });
        manifest.config = self.pass.config(own, source, settings, &source.window_options(settings)?);
        Ok(manifest)
    }
}

/// Lenses that say what the next token is, of the stream that enters a block.
fn check_kinds(requests: &[LensRequest]) -> Result<(), JobError> {
    if requests.iter().any(LensRequest::reads_ahead) {
        return Err(JobError::setting(
            "lens",
            "a future lens says what comes later, not what the model says next; the two cannot be compared",
        ));
    }
    match site_of(requests) {
        "resid_pre" => Ok(()),
        site => Err(JobError::setting(
            "lens",
            format!(
                "a lens of {site}; directions are removed from the stream that enters a block (resid_pre)"
            ),
        )),
    }
}

/// `SET.layer.L [k, d_model]` (`tuned.cbe`, `pca`, `random`), and `mean.layer.L [d_model]`.
fn bases(plans: &[Plan]) -> BTreeMap<String, Tensor> {
    let of = |plan: &Plan| {
        let layer = plan.layer();
        let set = |set: &Set| (format!("{}.layer.{layer}", set.name), set.vectors.shallow_clone());
        let mean = (format!("mean.layer.{layer}"), plan.ground.mean.shallow_clone());
        plan.sets.iter().map(set).chain([mean]).collect::<Vec<_>>()
    };
    plans.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logit_lens_is_beside_the_others_unless_left_out() {
        let lenses = |lens: &[&str], no_logit| {
            let lens = lens.iter().map(PathBuf::from).collect();
            Causal { lens, no_logit, ..Causal::default() }.lenses().map_err(|e| e.to_string())
        };
        let paths = |names: &[&str]| Ok(names.iter().map(PathBuf::from).collect());
        assert_eq!(lenses(&[], false), paths(&["logit"]));
        assert_eq!(lenses(&["a"], false), paths(&["logit", "a"]));
        assert_eq!(lenses(&["a", "logit"], false), paths(&["a", "logit"]));
        assert_eq!(lenses(&["a"], true), paths(&["a"]));
        assert_eq!(lenses(&[], true), Err("no_logit: there is no other lens".to_owned()));
    }
}
