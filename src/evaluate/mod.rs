//! Evaluation: any number of lenses over a corpus in one pass, every layer, with intervals over documents.
//!
//! Memory does not grow with the corpus: each batch is read out, summed by document and added to a
//! [`Tally`]; distributions over the whole vocabulary are kept as one running mean per lens and layer.

mod baseline;
mod metric;
mod rows;

pub use baseline::Baselines;
use layerscope_lenses::{Ask, LayerIndex, Lens, Readout, Teacher};
pub use metric::{Column, Group, Metric, columns};

use crate::{
    hook::HookPoint,
    model::ModelError,
    run::MetricRow,
    score::{Resamples, ScoreError, Tally},
    states::States,
};

/// An evaluation that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The model cannot run, or a state is not finite.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A lens cannot read.
    #[error("{lens}, layer {layer}: {source}")]
    Lens {
        /// Which.
        lens: String,
        /// Where.
        layer: LayerIndex,
        /// Why.
        source: layerscope_lenses::Error,
    },
    /// Moments cannot be taken.
    #[error("moments of the layers: {0}")]
    Moments(#[from] layerscope_lenses::Error),
    /// The model's own prediction cannot be read.
    #[error("the model's own output: {0}")]
    Teacher(layerscope_lenses::Error),
    /// A score is not finite.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// The text cannot be read.
    #[error(transparent)]
    Text(#[from] crate::text::TextError),
    /// A file cannot be written.
    #[error(transparent)]
    Run(#[from] crate::run::RunError),
    /// Somebody asked to stop.
    #[error("interrupted; repeat the command to start over")]
    Interrupted,
}

/// One lens at one layer; the model itself is the last subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The lens's place; none: the model itself.
    pub lens: Option<usize>,
    /// Place of the layer among the points; for the model itself one past the last.
    pub layer: usize,
    /// Tokens ahead.
    pub horizon: usize,
}

/// What is being evaluated, and the sums so far.
pub struct Evaluation<'a> {
    readout: &'a Readout,
    lenses: &'a [Box<dyn Lens>],
    kinds: &'a [String],
    points: &'a [HookPoint],
    cells: Vec<Cell>,
    tally: Tally,
    /// Summed distribution of every cell, where it is asked for.
    marginals: Option<Vec<Vec<f64>>>,
    positions: Vec<f64>,
    groups: usize,
    n_layers: usize,
}

impl<'a> Evaluation<'a> {
    /// Every lens (`kinds` says what each is: `logit`, `tuned` …) at every point (lenses that have no translator for a layer are left out there), then the model itself, which is reported
    /// at layer `n_layers`.
    ///
    /// # Errors
    /// When the resamples do not fit.
    pub fn new(
        readout: &'a Readout,
        lenses: &'a [Box<dyn Lens>],
        kinds: &'a [String],
        points: &'a [HookPoint],
        n_layers: usize,
        resamples: Resamples,
        marginals: bool,
    ) -> Result<Self, EvalError> {
        let mut cells = Vec::new();
        for (lens, l) in lenses.iter().enumerate() {
            let reads = |place: &usize| l.reads(layer_of(points[*place]));
            let horizon = l.horizon().0;
            cells.extend((0..points.len()).filter(reads).map(|layer| Cell {
                lens: Some(lens),
                layer,
                horizon,
            }));
        }
        cells.push(Cell { lens: None, layer: points.len(), horizon: 1 });
        let (groups_of, groups) = metric::groups(&cells);
        let tally = Tally::new(groups_of, groups, resamples)?;
        let marginals = marginals.then(|| vec![vec![0.0; readout.vocab()]; cells.len()]);
        let positions = vec![0.0; cells.len()];
        Ok(Self { readout, lenses, kinds, points, cells, tally, marginals, positions, groups, n_layers })
    }

    /// The cells, in the order of the columns.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// Adds what every lens says of `states`, and returns what the model itself says. `clusters` gives, per row, what it
    /// counts as in place of its document.
    ///
    /// # Errors
    /// See [`EvalError`].
    pub fn add(&mut self, states: &States, clusters: Option<&[u64]>) -> Result<Teacher, EvalError> {
        let docs = clusters.map_or_else(|| states.docs.clone(), <[u64]>::to_vec);
        let n = self.readout.normalize(&states.last).map_err(EvalError::Teacher)?;
        let next = states.ahead(1).tokens;
        let ask = Ask { expectation: true, tokens: &[&next], marginal: None };
        let mut read = self.readout.sweep(&n, ask).map_err(EvalError::Teacher)?;
        let own = rows::own(&mut read, n, &next)?;
        let mut columns = rows::Columns::new(&docs, self.cells.len());
        for (place, cell) in self.cells.iter().enumerate() {
            let marginal = self.marginals.as_mut().map(|all| &mut all[place]);
            let counted = match cell.lens {
                None => columns.model(place, &own, self.readout, marginal)?,
                Some(lens) => {
                    let lens = self.lenses[lens].as_ref();
                    let layer = layer_of(self.points[cell.layer]);
                    let failed = |source| EvalError::Lens { lens: lens.name().to_owned(), layer, source };
                    let ahead = states.ahead(cell.horizon);
                    columns
                        .lens(
                            place,
                            lens,
                            layer,
                            &states.layers[cell.layer],
                            &own,
                            &ahead,
                            self.readout,
                            marginal,
                        )
                        .map_err(failed)?
                }
            };
            self.positions[place] += counted;
        }
        for (doc, sums, counts) in columns.by_document(self.groups) {
            self.tally.add(doc, &sums, &counts)?;
        }
        Ok(own.teacher)
    }

    /// Every number with its interval. `bytes_per_token` adds bits per byte to losses of horizon 1.
    pub fn finish(&mut self, bytes_per_token: Option<f64>) -> Vec<MetricRow> {
        let marginals = self.marginal_kl();
        let (cells, lenses, kinds, points) = (&self.cells, self.lenses, self.kinds, self.points);
        let scores = self.tally.scores();
        let mut out = Vec::new();
        for (place, cell) in cells.iter().enumerate() {
            let (subject, hook, layer) = match cell.lens {
                None => ("model".to_owned(), "resid_pre".to_owned(), self.n_layers),
                Some(lens) => {
                    let point = points[cell.layer];
                    (lenses[lens].name().to_owned(), point.short_name().to_owned(), layer_of(point).0)
                }
            };
            let row = |metric: &str, unit: &str, estimate: crate::score::Estimate| MetricRow {
                subject: subject.clone(),
                kind: cell.lens.map_or("model", |lens| kinds[lens].as_str()).into(),
                hook: hook.clone(),
                layer: layer as i32,
                source_layer: None,
                horizon: cell.horizon as i32,
                metric: metric.into(),
                unit: unit.into(),
                estimate: estimate.estimate,
                lower: estimate.lower,
                upper: estimate.upper,
                n: estimate.n as i64,
                n_clusters: estimate.n_clusters as i64,
            };
            for column in columns(place) {
                if cell.lens.is_none() && !column.metric.of_model() {
                    continue;
                }
                let estimate = scores.estimate(column.index);
                if estimate.n == 0 {
                    continue;
                }
                out.push(row(column.metric.name(), column.metric.unit(), estimate));
                let bpb = bytes_per_token.filter(|_| column.metric.in_bits() && cell.horizon == 1);
                if let Some(bytes) = bpb {
                    let factor = 1.0 / (std::f64::consts::LN_2 * bytes);
                    let scaled = scores.contrast(|mean| mean(column.index) * factor);
                    out.push(row(column.metric.name(), "bits/byte", scaled));
                }
            }
            if let (Some(all), true) = (&marginals, cell.lens.is_some() && cell.horizon == 1) {
                let entropy = scores.estimate(columns(place)[0].index);
                let none =
                    crate::score::Estimate { estimate: all[place], lower: None, upper: None, ..entropy };
                out.push(row("marginal_kl", "nats", none));
            }
        }
        out
    }

    /// `KL(mean p ‖ mean q)` per cell, in nats.
    fn marginal_kl(&self) -> Option<Vec<f64>> {
        let all = self.marginals.as_ref()?;
        let model = all.last()?;
        let own = *self.positions.last()?;
        let kl = |q: &Vec<f64>, n: f64| -> f64 {
            let term = |(p, q): (&f64, &f64)| {
                let (p, q) = (p / own, q / n);
                if p > 0.0 { p * (p / q.max(f64::MIN_POSITIVE)).ln() } else { 0.0 }
            };
            model.iter().zip(q).map(term).sum()
        };
        Some(all.iter().zip(&self.positions).map(|(q, n)| kl(q, *n)).collect())
    }
}

/// The layer that a point belongs to.
pub fn layer_of(point: HookPoint) -> LayerIndex {
    match point {
        HookPoint::Block(layer, _) => LayerIndex(layer),
        _ => LayerIndex(0),
    }
}

/// The prediction of the model itself at every row.
pub(crate) struct Own {
    pub(crate) teacher: Teacher,
    pub(crate) entropy: Vec<f64>,
    pub(crate) argmax: Vec<i64>,
    pub(crate) ce: Vec<f64>,
    pub(crate) rank: Vec<i64>,
    pub(crate) next: Vec<i64>,
}
