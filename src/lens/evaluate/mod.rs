//! Evaluation: any number of lenses over a corpus in one pass, every layer, with intervals over documents.
//!
//! Memory does not grow with the corpus: each batch is read out, summed by document and added to a
//! [`Tally`]; distributions over the whole vocabulary are kept as one running mean per lens and layer.

mod baseline;
mod differences;
mod exit;
mod metric;
mod per_token;
mod reading;
mod results;
mod rows;

pub use baseline::Baselines;
use exit::Exits;
pub use exit::Rule;
use layerscope_lenses::{LayerIndex, Lens, Readout, Teacher};
pub use metric::{Column, Group, Metric, columns};
pub use per_token::{TOKENS, TokenTable};
use reading::ModelReading;
pub use reading::Reading;

use crate::{
    hook::HookPoint,
    model::ModelError,
    results::run::RowKind,
    results::statistics::{Intervals, ScoreError, Tally},
    sources::{chat::TurnPositions, text::Window},
    states::States,
    watch::Stopped,
};

/// An evaluation that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The model cannot run, or a state is not finite.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// States that were exported cannot be read.
    #[error(transparent)]
    Store(Box<crate::states::store::StoreError>),
    /// A lens cannot read.
    #[error("{lens}, layer {layer}: {source}")]
    Lens {
        /// The lens that was read with, by its name.
        lens: String,
        /// The layer of the states.
        layer: LayerIndex,
        /// What the part below said; it is the cause of this error.
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
    Text(#[from] crate::sources::text::TextError),
    /// A file cannot be written.
    #[error(transparent)]
    Run(#[from] crate::results::run::RunError),
    /// The table of tokens cannot be written.
    #[error("the table of tokens: {0}")]
    Tokens(#[from] parquet::errors::ParquetError),
    /// Somebody asked to stop.
    #[error("interrupted; repeat the command to start over")]
    Interrupted(#[from] Stopped),
}

impl From<crate::states::store::StoreError> for EvalError {
    fn from(error: crate::states::store::StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

/// One lens at one layer; the model itself is the last subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LensCell {
    /// The lens's place; none: the model itself.
    pub lens: Option<usize>,
    /// Place of the layer among the points; for the model itself one past the last.
    pub layer: usize,
    /// Tokens ahead.
    pub horizon: usize,
}

/// Sees every reading of every cell, batch by batch.
pub type Watch<'w> = dyn FnMut(&LensCell, &States, &Reading) -> Result<(), EvalError> + 'w;

/// What is being evaluated, and the sums so far.
pub struct Evaluation<'a> {
    readout: &'a Readout,
    lenses: &'a [Box<dyn Lens>],
    kinds: &'a [RowKind],
    points: &'a [HookPoint],
    cells: Vec<LensCell>,
    exits: Vec<Exits>,
    tally: Tally,
    /// Summed distribution of every cell, where it is asked for.
    marginals: Option<Vec<Vec<f64>>>,
    positions: Vec<f64>,
    /// The tokens that count, where not all do.
    chosen: Option<TurnPositions>,
    groups: usize,
    n_layers: usize,
}

impl<'a> Evaluation<'a> {
    /// Every lens (`kinds` says what each is: `logit`, `tuned` …) at every point (lenses that have no translator for a
    /// layer are left out there), then the model itself, which is reported at layer `n_layers`.
    ///
    /// # Errors
    /// When the columns do not fit.
    pub fn new(
        readout: &'a Readout,
        lenses: &'a [Box<dyn Lens>],
        kinds: &'a [RowKind],
        points: &'a [HookPoint],
        n_layers: usize,
        intervals: Intervals,
        marginals: bool,
    ) -> Result<Self, EvalError> {
        let mut cells = Vec::new();
        for (lens, l) in lenses.iter().enumerate() {
            let reads = |place: &usize| l.reads(layer_of(points[*place]));
            let horizon = l.horizon().0;
            cells.extend((0..points.len()).filter(reads).map(|layer| LensCell {
                lens: Some(lens),
                layer,
                horizon,
            }));
        }
        cells.push(LensCell { lens: None, layer: points.len(), horizon: 1 });
        let layer = |cell: &LensCell| points.get(cell.layer).map_or(n_layers, |point| layer_of(*point).0);
        let exits = Exits::plan(&cells, layer);
        let (mut groups_of, groups) = metric::groups(&cells);
        let more: usize = exits.iter().map(Exits::width).sum();
        groups_of.extend(std::iter::repeat_n(metric::group(1, Group::All), more));
        // Bytes per token that stands for some, last of all.
        groups_of.push(groups);
        let tally = Tally::new(groups_of, groups + 1, intervals)?;
        let marginals = marginals.then(|| vec![vec![0.0; readout.vocab()]; cells.len()]);
        let positions = vec![0.0; cells.len()];
        Ok(Self {
            readout,
            lenses,
            kinds,
            points,
            cells,
            exits,
            tally,
            marginals,
            positions,
            chosen: None,
            groups,
            n_layers,
        })
    }

    /// Counts these tokens only.
    #[must_use]
    pub fn at(self, chosen: Option<TurnPositions>) -> Self {
        Self { chosen, ..self }
    }

    /// The cells, in the order of the columns.
    pub fn cells(&self) -> &[LensCell] {
        &self.cells
    }

    /// Adds what every lens says of `states`, and returns what the model itself says. `clusters` gives, per row, what
    /// it counts as in place of its document; `watch` sees every reading.
    ///
    /// # Errors
    /// See [`EvalError`].
    pub fn add(
        &mut self,
        states: &States,
        clusters: Option<&[u64]>,
        watch: &mut Watch<'_>,
    ) -> Result<Teacher, EvalError> {
        let docs = clusters.map_or_else(|| states.docs.clone(), <[u64]>::to_vec);
        let n = self.readout.normalize(&states.last).map_err(EvalError::Teacher)?;
        let own = ModelReading::of(n, &states.ahead(1).tokens, self.readout)?;
        let mut columns = rows::Columns::new(&docs, self.bytes_column() + 1);
        let cells = std::mem::take(&mut self.cells);
        let chosen = self.chosen.as_ref().map(|chosen| -> Vec<bool> {
            states.docs.iter().zip(&states.pos).map(|(doc, pos)| chosen.selects(*doc, *pos)).collect()
        });
        let added = self.add_cells(&cells, (states, chosen.as_deref()), &own, &mut columns, watch);
        self.cells = cells;
        added?;
        for (doc, sums, counts) in columns.by_document(self.groups + 1) {
            self.tally.add(doc, &sums, &counts)?;
        }
        Ok(own.teacher)
    }

    /// Adds bytes and tokens of windows, for bits per byte; `clusters` gives, per window, what it counts as in place of
    /// its documents.
    ///
    /// # Errors
    /// When a sum is not finite.
    pub fn add_text(&mut self, windows: &[Window], clusters: Option<&[u64]>) -> Result<(), EvalError> {
        let (columns, groups) = (self.bytes_column(), self.groups);
        let (mut sums, mut counts) = (vec![0.0; columns + 1], vec![0.0; groups + 1]);
        for (place, window) in windows.iter().enumerate() {
            for segment in &window.segments {
                (sums[columns], counts[groups]) = segment.text();
                let cluster = clusters.map_or(segment.doc_id, |clusters| clusters[place]);
                self.tally.add(cluster, &sums, &counts)?;
            }
        }
        Ok(())
    }

    /// Column of the bytes per token, after all others.
    fn bytes_column(&self) -> usize {
        self.cells.len() * Metric::ALL.len() + self.exits.iter().map(Exits::width).sum::<usize>()
    }

    fn add_cells(
        &mut self,
        cells: &[LensCell],
        (states, chosen): (&States, Option<&[bool]>),
        own: &ModelReading,
        columns: &mut rows::Columns<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<(), EvalError> {
        let mut place = 0;
        for lens in cells.chunk_by(|a, b| a.lens == b.lens) {
            let mut readings = Vec::new();
            for cell in lens {
                let reading = self.read(place, cell, (states, chosen), own)?;
                columns.take(place, cell.horizon, &reading);
                self.positions[place] += reading.rows.len() as f64;
                watch(cell, states, &reading)?;
                readings.push(reading);
                place += 1;
            }
            if let Some(exits) = self.exits.iter().find(|exits| Some(exits.lens) == lens[0].lens) {
                exits.take(columns, &readings, self.n_layers);
            }
        }
        Ok(())
    }

    /// What a cell says, its distributions added to the marginals.
    fn read(
        &mut self,
        place: usize,
        cell: &LensCell,
        (states, chosen): (&States, Option<&[bool]>),
        own: &ModelReading,
    ) -> Result<Reading, EvalError> {
        let wanted = self.marginals.is_some();
        let weights = |rows: &[i64]| -> Vec<f32> {
            let weight = |row: &i64| f32::from(u8::from(chosen.is_none_or(|chosen| chosen[*row as usize])));
            rows.iter().map(weight).collect()
        };
        let (reading, marginal) = match cell.lens {
            None => {
                let rows: Vec<i64> = (0..own.reading.rows.len() as i64).collect();
                let marginal = if wanted { own.marginal(self.readout, &weights(&rows))? } else { None };
                (own.reading.clone(), marginal)
            }
            Some(lens) => {
                let lens = self.lenses[lens].as_ref();
                let layer = layer_of(self.points[cell.layer]);
                let failed = |source| EvalError::Lens { lens: lens.name().to_owned(), layer, source };
                let ahead = states.ahead(cell.horizon);
                let state = (layer, &states.layers[cell.layer]);
                let weights = wanted.then(|| weights(&ahead.rows));
                Reading::of_lens(lens, state, own, &ahead, self.readout, weights.as_deref())
                    .map_err(failed)?
            }
        };
        if let (Some(all), Some(part)) = (&mut self.marginals, marginal) {
            all[place].iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        Ok(match chosen {
            Some(chosen) => reading.only(chosen),
            None => reading,
        })
    }
}

/// The layer that a point belongs to.
pub fn layer_of(point: HookPoint) -> LayerIndex {
    match point {
        HookPoint::Block(layer, _) => LayerIndex(layer),
        _ => LayerIndex(0),
    }
}
