//! The law of next-token prediction (He and Su 2024) on a text: every layer's states, regressed on token ids.
//!
//! Rows are all tokens but the last of a window; a control that needs another neighbour has the rows that have it. Only
//! sums of blocks of documents are kept ([`blocks`]), so that memory does not grow with the text: [`Law::measure`]
//! solves once for all documents and once without each block, and `rows` makes numbers with intervals of that.

mod blocks;
mod decay;
mod measure;
mod rows;

use layerscope_lenses::{Norm, NormKind, Unembed};
use layerscope_probes::{Labels, Moments};
use ndarray::{Array2, ArrayView2, Axis};
use tch::Tensor;

use super::ProbeError;
use crate::{model::ModelError, results::statistics::Blocks, states::States};

pub use blocks::{Sides, blocks, documents};
pub use decay::{NoDecay, Sample, decay, disagreement};
pub use measure::{LawRow, Residuals};

/// What is predicted from the state of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// The id of the next token: the law itself.
    Next,
    /// The same with ids shuffled: what is left when ids mean nothing.
    Shuffled,
    /// The logarithm of the next token's rank by frequency in the text.
    LogRank,
    /// The id of the token itself.
    Current,
    /// The id of the token before.
    Previous,
    /// The id of the token after the next.
    NextNext,
}

impl Control {
    /// Name in `metrics.parquet`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Shuffled => "next-shuffled",
            Self::LogRank => "next-log-rank",
            Self::Current => "current",
            Self::Previous => "previous",
            Self::NextNext => "next-next",
        }
    }
}

/// Targets that share their rows.
const SETS: [&[Control]; 3] = [
    &[Control::Next, Control::Shuffled, Control::LogRank, Control::Current],
    &[Control::Previous],
    &[Control::NextNext],
];

/// What is done to states below the last layer, which is read behind the final norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Norming {
    /// The model's kind of norm without its weights, as the paper's code does
    Initialized,
    /// Mean 0 and variance 1 of every state
    Standardised,
    /// Nothing
    None,
}

/// Sums of all layers, by block of documents.
pub struct Law {
    norming: Norming,
    sides: Sides,
    /// By layer 0 to L, side (fitted, held out), block and set.
    moments: Vec<[Vec<Vec<Moments>>; 2]>,
    shuffled: Vec<u32>,
    log_rank: Vec<f64>,
}

/// Rows of one block that have every target of a set, with the targets `(rows, k)`.
struct Part {
    set: usize,
    block: usize,
    rows: Vec<usize>,
    y: Array2<f64>,
}

impl Law {
    /// For states of width `d` of `n_layers + 1` layers. `counts` are the tokens' counts in the text; `seed` shuffles
    /// ids.
    pub fn new(n_layers: usize, d: usize, counts: &[u64], norming: Norming, seed: u64, sides: Sides) -> Self {
        let side = |blocks: &Blocks| {
            let sets = || SETS.iter().map(|set| Moments::of_numbers(d, set.len())).collect();
            (0..blocks.len().max(1)).map(|_| sets()).collect()
        };
        let moments = (0..=n_layers).map(|_| [side(&sides.fit), side(&sides.held_out)]).collect();
        let ids: Vec<u64> = (0..counts.len() as u64).collect();
        let mut order: Vec<usize> = (0..counts.len()).collect();
        order.sort_by_key(|id| (std::cmp::Reverse(counts[*id]), *id));
        let mut log_rank = vec![0.0; counts.len()];
        order.iter().enumerate().for_each(|(rank, id)| log_rank[*id] = (rank as f64 + 1.0).ln());
        Self { norming, sides, moments, shuffled: layerscope_probes::shuffle(seed, &ids), log_rank }
    }

    /// Adds the states of every layer, `states.layers` from 0 to L - 1; `held_out` says to which side they go.
    ///
    /// # Errors
    /// When shapes do not fit or a state is not finite.
    pub fn add(&mut self, states: &States, unembed: &Unembed, held_out: bool) -> Result<(), ProbeError> {
        let parts = self.parts(states, held_out);
        let last = self.moments.len() - 1;
        for layer in 0..=last {
            let x = if layer == last {
                unembed.normalize(&states.last).map_err(ModelError::from)?
            } else {
                self.normed(&states.layers[layer], unembed.norm())?
            };
            let d = x.size()[1] as usize;
            let flat = Vec::<f32>::try_from(x.reshape([-1]).to_device(tch::Device::Cpu))
                .map_err(ModelError::from)?;
            let x = ArrayView2::from_shape((flat.len() / d, d), &flat)
                .map_err(|e| ModelError::Input(e.to_string()))?;
            for part in &parts {
                let some = x.select(Axis(0), &part.rows);
                self.moments[layer][usize::from(held_out)][part.block][part.set]
                    .add(some.view(), Some(&Labels::Numbers(part.y.view())))
                    .map_err(ProbeError::at(format!("layer {layer}")))?;
            }
        }
        Ok(())
    }

    /// The rows of every set, cut where the block changes.
    fn parts(&self, states: &States, held_out: bool) -> Vec<Part> {
        let blocks = if held_out { &self.sides.held_out } else { &self.sides.fit };
        let mut parts = Vec::new();
        for (set, controls) in SETS.iter().enumerate() {
            let (rows, y) = self.targets(controls, states);
            let docs: Vec<u64> = rows.iter().map(|row| states.docs[*row]).collect();
            for (block, first, n) in blocks.runs(&docs) {
                let y = y.slice(ndarray::s![first..first + n, ..]).to_owned();
                parts.push(Part { set, block, rows: rows[first..first + n].to_vec(), y });
            }
        }
        parts
    }

    fn normed(&self, x: &Tensor, norm: Option<&Norm>) -> Result<Tensor, ProbeError> {
        let plain = |kind, eps| Norm::new(kind, None, None, eps).forward(x).map_err(ModelError::from);
        Ok(match self.norming {
            Norming::Initialized => match norm {
                Some(norm) => plain(norm.kind(), norm.eps())?,
                None => x.shallow_clone(),
            },
            Norming::Standardised => plain(NormKind::Layer, 1e-12)?,
            Norming::None => x.shallow_clone(),
        })
    }

    /// The rows that have every target of a set, and the targets `(rows, k)`.
    fn targets(&self, set: &[Control], states: &States) -> (Vec<usize>, Array2<f64>) {
        let (mut rows, mut y, mut start) = (Vec::new(), Vec::new(), 0);
        for len in &states.runs {
            for place in 0..*len {
                let id = |offset: isize| {
                    let at = place.checked_add_signed(offset).filter(|at| at < len)?;
                    Some(states.ids[start + at] as usize)
                };
                let value = |control: &Control| {
                    Some(match control {
                        Control::Next => id(1)? as f64,
                        Control::Shuffled => f64::from(self.shuffled[id(1)?]),
                        Control::LogRank => self.log_rank[id(1)?],
                        Control::Current => id(0)? as f64,
                        Control::Previous => id(-1)? as f64,
                        Control::NextNext => id(2)? as f64,
                    })
                };
                if let Some(values) = set.iter().map(value).collect::<Option<Vec<f64>>>() {
                    rows.push(start + place);
                    y.extend(values);
                }
            }
            start += len;
        }
        let shape = (rows.len(), set.len());
        (rows, Array2::from_shape_vec(shape, y).unwrap_or_default())
    }
}
