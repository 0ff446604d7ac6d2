//! The law of next-token prediction (He and Su 2024) on a text: every layer's states, regressed on token ids.
//!
//! Rows are all tokens but the last of a window; a control that needs another neighbour has the rows that have it. Only
//! sums are kept, so that memory does not grow with the text.

use layerscope_lenses::{Norm, NormKind, Unembed};
use layerscope_probes::{Decay, Error, Labels, Moments, Residual, Ridge, residual};
use ndarray::{Array2, ArrayView2};
use tch::Tensor;

use super::ProbeError;
use crate::{fit::Split, model::ModelError, run::MetricRow, states::States};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Norming {
    /// The model's kind of norm without its weights, as the paper's code does
    Initialized,
    /// Mean 0 and variance 1 of every state
    Standardised,
    /// Nothing
    None,
}

/// Sums of all layers.
pub struct Law {
    norming: Norming,
    /// By layer 0 to L, side (fitted, held out) and set.
    moments: Vec<[Vec<Moments>; 2]>,
    shuffled: Vec<u32>,
    log_rank: Vec<f64>,
}

/// What one layer shows of one target.
#[derive(Debug, Clone, Copy)]
pub struct LawRow {
    /// The layer; L is behind the final norm.
    pub layer: usize,
    /// The target.
    pub control: Control,
    /// Of a regression of its own: on the rows of the fit.
    pub in_sample: f64,
    /// The same, adjusted for the number of directions.
    pub adjusted: f64,
    /// On held-out documents.
    pub held_out: f64,
    /// On held-out documents, by one regression for all layers.
    pub shared: f64,
    /// Rows of the fit and held out.
    pub n: [u64; 2],
}

impl Law {
    /// For states of width `d` of `n_layers + 1` layers. `counts` are the tokens' counts in the text; `seed` shuffles ids.
    pub fn new(n_layers: usize, d: usize, counts: &[u64], norming: Norming, seed: u64) -> Self {
        let side = || SETS.iter().map(|set| Moments::of_numbers(d, set.len())).collect();
        let moments = (0..=n_layers).map(|_| [side(), side()]).collect();
        let ids: Vec<u64> = (0..counts.len() as u64).collect();
        let mut order: Vec<usize> = (0..counts.len()).collect();
        order.sort_by_key(|id| (std::cmp::Reverse(counts[*id]), *id));
        let mut log_rank = vec![0.0; counts.len()];
        order.iter().enumerate().for_each(|(rank, id)| log_rank[*id] = (rank as f64 + 1.0).ln());
        Self { norming, moments, shuffled: layerscope_probes::shuffle(seed, &ids), log_rank }
    }

    /// Adds the states of every layer, `states.layers` from 0 to L - 1; `held_out` says to which side they go.
    ///
    /// # Errors
    /// When shapes do not fit or a state is not finite.
    pub fn add(&mut self, states: &States, unembed: &Unembed, held_out: bool) -> Result<(), ProbeError> {
        let sets: Vec<(Vec<usize>, Array2<f64>)> = SETS.iter().map(|set| self.targets(set, states)).collect();
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
            for (moments, (rows, y)) in self.moments[layer][usize::from(held_out)].iter_mut().zip(&sets) {
                let some = x.select(ndarray::Axis(0), rows);
                moments
                    .add(some.view(), Some(&Labels::Numbers(y.view())))
                    .map_err(ProbeError::at(format!("layer {layer}")))?;
            }
        }
        Ok(())
    }

    fn normed(&self, x: &Tensor, norm: &Norm) -> Result<Tensor, ProbeError> {
        let plain = |kind, eps| Norm::new(kind, None, None, eps).forward(x).map_err(ModelError::from);
        Ok(match self.norming {
            Norming::Initialized => plain(norm.kind(), norm.eps())?,
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

    /// Prediction residuals of every layer and target.
    ///
    /// # Errors
    /// When there is too little text, or ids do not vary.
    pub fn rows(&self) -> Result<Vec<LawRow>, ProbeError> {
        let mut rows = Vec::new();
        for (set, controls) in SETS.iter().enumerate() {
            let shared = self.shared(set).map_err(ProbeError::at("one regression for all layers"))?;
            for (layer, [fit, held]) in self.moments.iter().enumerate() {
                let at = |error| named(error, layer, controls);
                let own = Residual::of(&fit[set], &held[set]).map_err(at)?;
                let shared = residual(&shared, &held[set]).map_err(at)?;
                for (k, control) in controls.iter().enumerate() {
                    rows.push(LawRow {
                        layer,
                        control: *control,
                        in_sample: own.in_sample[k],
                        adjusted: own.adjusted[k],
                        held_out: own.held_out[k],
                        shared: shared[k],
                        n: [own.n, own.n_held_out],
                    });
                }
            }
        }
        Ok(rows)
    }

    /// The regression on the states of layers 1 to L together.
    fn shared(&self, set: usize) -> Result<layerscope_probes::Linear, Error> {
        let mut all = self.moments[1][0][set].clone();
        for [fit, _] in &self.moments[2..] {
            all.merge(&fit[set])?;
        }
        Ok(Ridge::path_of_moments(&all, true, &[0.0])?.remove(0))
    }
}

/// An error of a layer, with the target's name.
fn named(error: Error, layer: usize, controls: &[Control]) -> ProbeError {
    match error {
        Error::Flat { column } => ProbeError::FlatTarget(controls.get(column).map_or("next", |c| c.name())),
        other => ProbeError::at(format!("layer {layer}"))(other),
    }
}

/// Why there is no decay of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoDecay {
    /// A line through fewer than three layers says nothing.
    #[error("no decay is fitted: the model has {0} {layers}, the line is through three or more", layers = if *.0 == 1 { "layer" } else { "layers" })]
    TooFewLayers(usize),
    /// A residual of nothing has no logarithm.
    #[error("no decay of {target} is fitted: its residual at layer {layer} is 0 {side}", target = .control.name())]
    NothingLeft {
        /// The target.
        control: Control,
        /// Where.
        layer: usize,
        /// Of which documents.
        side: &'static str,
    },
}

/// The decay over layers 1 to L of one target: in sample and held out.
///
/// # Errors
/// When there are fewer than three such layers or a residual is not above 0.
pub fn decay(rows: &[LawRow], control: Control) -> Result<[Decay; 2], NoDecay> {
    let own: Vec<&LawRow> = rows.iter().filter(|r| r.control == control && r.layer > 0).collect();
    let layers: Vec<f64> = own.iter().map(|r| r.layer as f64).collect();
    let fit = |side: &'static str, of: fn(&LawRow) -> f64| {
        let pr: Vec<f64> = own.iter().map(|r| of(r)).collect();
        let nothing = pr.iter().position(|pr| *pr <= 0.0).map_or(0, |place| own[place].layer);
        Decay::fit(&layers, &pr).map_err(|_| NoDecay::NothingLeft { control, layer: nothing, side })
    };
    if own.len() < 3 {
        return Err(NoDecay::TooFewLayers(own.len()));
    }
    Ok([fit("in sample", |r| r.in_sample)?, fit("held out", |r| r.held_out)?])
}

/// The rows of `metrics.parquet`; `documents` are those of the fit and held out. A target without a decay has none here.
pub fn metric_rows(rows: &[LawRow], documents: [usize; 2]) -> Vec<MetricRow> {
    let one = |subject: &str, layer: usize, metric: &str, estimate: f64, side: usize, n: u64| MetricRow {
        subject: subject.into(),
        kind: "law".into(),
        hook: "resid_pre".into(),
        layer: layer as i32,
        source_layer: None,
        horizon: 1,
        metric: metric.into(),
        unit: "share".into(),
        estimate,
        lower: None,
        upper: None,
        n: n as i64,
        n_clusters: documents[side] as i64,
    };
    let mut out = Vec::new();
    for r in rows {
        let name = r.control.name();
        out.push(one(name, r.layer, "pr", r.in_sample, 0, r.n[0]));
        if r.adjusted.is_finite() {
            out.push(one(name, r.layer, "pr_adjusted", r.adjusted, 0, r.n[0]));
        }
        out.push(one(name, r.layer, "pr_held_out", r.held_out, 1, r.n[1]));
        out.push(one(&format!("{name}:shared"), r.layer, "pr_held_out", r.shared, 1, r.n[1]));
    }
    let last = rows.iter().map(|r| r.layer).max().unwrap_or(0);
    for control in SETS.iter().flat_map(|set| set.iter()) {
        let n = rows.iter().find(|r| r.control == *control).map_or([0, 0], |r| r.n);
        let decays = decay(rows, *control).into_iter().flatten();
        for (side, (decay, suffix)) in decays.zip(["", "_held_out"]).enumerate() {
            let numbers = [
                ("rho", decay.rho),
                ("ratio", decay.ratio),
                ("slope", decay.slope),
                ("r2", decay.r2),
                ("pearson", decay.pearson),
            ];
            for (metric, value) in numbers.into_iter().filter(|(_, value)| value.is_finite()) {
                out.push(one(control.name(), last, &format!("law_{metric}{suffix}"), value, side, n[side]));
            }
        }
    }
    out
}

/// What to warn of: residuals or a trend that do not hold on other documents.
pub fn disagreement(rows: &[LawRow]) -> Option<String> {
    let decay = decay(rows, Control::Next).ok();
    let gap = rows.iter().filter(|r| r.control == Control::Next).map(|r| r.held_out - r.in_sample);
    let gap = gap.fold(0.0, f64::max);
    let trend = decay.is_some_and(|[fitted, held]| {
        fitted.slope * held.slope < 0.0 || (fitted.pearson - held.pearson).abs() > 0.1
    });
    let correlations = decay.map_or_else(String::new, |[fitted, held]| {
        format!("; Pearson's r {:.3} in sample, {:.3} held out", fitted.pearson, held.pearson)
    });
    (gap > 0.02 || trend).then(|| {
        format!(
            "in-sample and held-out residuals disagree: by up to {gap:.3}{correlations}. \
             With n tokens and d dimensions noise alone gives an in-sample residual of about 1 - d / n: trust the held-out ones, \
             or give more text"
        )
    })
}

/// Which windows are fitted to, with their number of documents.
pub fn documents(split: &Split, windows: &[crate::text::Window]) -> [usize; 2] {
    [&split.train, &split.held_out].map(|side| {
        let mut docs: Vec<u64> = side.iter().flat_map(|i| &windows[*i].segments).map(|s| s.doc_id).collect();
        docs.sort_unstable();
        docs.dedup();
        docs.len()
    })
}
