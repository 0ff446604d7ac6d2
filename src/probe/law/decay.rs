//! The exponential through the residuals of layers 1 to L.

use layerscope_probes::{Decay, Error};
use serde_json::{Value, json};

use super::{Control, LawRow, Residuals};
use crate::probe::ProbeError;

/// An error of a layer, with the target's name.
pub(super) fn named(error: Error, layer: usize, controls: &[Control]) -> ProbeError {
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
        /// The layer of the states.
        layer: usize,
        /// Of which documents.
        side: &'static str,
    },
}

/// Whose residuals a decay is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// Those of the documents of the fit.
    InSample,
    /// Those of the documents held out.
    HeldOut,
    /// Those of every document, held out once.
    CrossValidated,
}

impl Sample {
    /// All three.
    pub const ALL: [Self; 3] = [Self::InSample, Self::HeldOut, Self::CrossValidated];

    /// The residual of a layer.
    pub fn residual(self, row: &LawRow) -> f64 {
        match self {
            Self::InSample => row.in_sample,
            Self::HeldOut => row.held_out,
            Self::CrossValidated => row.cross_validated,
        }
    }

    /// In words.
    fn words(self) -> &'static str {
        match self {
            Self::InSample => "in sample",
            Self::HeldOut => "held out",
            Self::CrossValidated => "with every document held out once",
        }
    }
}

/// The decay over layers 1 to L of one target.
///
/// # Errors
/// When there are fewer than three such layers or a residual is not above 0.
pub fn decay(rows: &[LawRow], control: Control, of: Sample) -> Result<Decay, NoDecay> {
    let own: Vec<&LawRow> = rows.iter().filter(|r| r.control == control && r.layer > 0).collect();
    if own.len() < 3 {
        return Err(NoDecay::TooFewLayers(own.len()));
    }
    let layers: Vec<f64> = own.iter().map(|r| r.layer as f64).collect();
    let pr: Vec<f64> = own.iter().map(|r| of.residual(r)).collect();
    let nothing = pr.iter().position(|pr| *pr <= 0.0).map_or(0, |place| own[place].layer);
    Decay::fit(&layers, &pr).map_err(|_| NoDecay::NothingLeft { control, layer: nothing, side: of.words() })
}

/// By how much more the residual of the next token's id falls a layer than that of its shuffled control: rho less the
/// control's. Ids that mean nothing fall too, for the same few tokens are frequent under any numbering, and in as
/// straight a line.
pub(super) fn less_shuffled(rows: &[LawRow], of: Sample) -> Result<f64, NoDecay> {
    Ok(decay(rows, Control::Next, of)?.rho - decay(rows, Control::Shuffled, of)?.rho)
}

/// What to warn of: residuals or a trend that do not hold on other documents.
pub fn disagreement(rows: &[LawRow]) -> Option<String> {
    let gap = rows.iter().filter(|r| r.control == Control::Next).map(|r| r.held_out - r.in_sample);
    let gap = gap.fold(0.0, f64::max);
    let of = |of| decay(rows, Control::Next, of).ok();
    let both = of(Sample::InSample).zip(of(Sample::HeldOut));
    let trend = both.is_some_and(|(fitted, held)| fitted.slope * held.slope < 0.0);
    let factors = both.map_or_else(String::new, |(fitted, held)| {
        format!("; the factor a layer is {:.3} in sample, {:.3} held out", fitted.rho, held.rho)
    });
    (gap > 0.02 || trend).then(|| {
        format!(
            "in-sample and held-out residuals disagree: by up to {gap:.3}{factors}. \
             With n tokens and d dimensions noise alone gives an in-sample residual of about 1 - d / n: trust the held-out ones, \
             or give more text"
        )
    })
}

impl Residuals {
    /// The factors a layer of the next token's id, for programs.
    pub fn json(&self) -> Value {
        let of = |of| decay(&self.rows, Control::Next, of).ok();
        let (fitted, held, every) = (of(Sample::InSample), of(Sample::HeldOut), of(Sample::CrossValidated));
        let less = self.less_shuffled(Sample::CrossValidated);
        json!({
            "rho": fitted.map(|d| d.rho), "pearson": fitted.map(|d| d.pearson),
            "rho_held_out": held.map(|d| d.rho), "pearson_held_out": held.map(|d| d.pearson),
            "rho_cross_validated": every.map(|d| d.rho),
            "rho_less_shuffled": less.map(|e| json!({
                "estimate": e.estimate, "lower": e.lower(), "upper": e.upper(), "n_eff": e.n_eff,
            })),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Residuals 1, 1/2, 1/4 and, shuffled, .9, .8, .729: factors 1/2 and √(.729/.9) = .9.
    #[test]
    fn the_control_is_taken_off_by_hand() {
        let row = |layer: usize, control, value: f64| LawRow {
            layer,
            control,
            in_sample: value,
            adjusted: value,
            held_out: value,
            cross_validated: value,
            shared: value,
            n: [10, 10],
        };
        let mut rows = Vec::new();
        for (layer, (next, shuffled)) in
            [(1.0, 0.95), (1.0, 0.9), (0.5, 0.8), (0.25, 0.729)].into_iter().enumerate()
        {
            rows.extend([row(layer, Control::Next, next), row(layer, Control::Shuffled, shuffled)]);
        }
        for of in Sample::ALL {
            assert!((less_shuffled(&rows, of).unwrap() + 0.4).abs() < 1e-12);
        }
        assert_eq!(less_shuffled(&rows[..6], Sample::HeldOut), Err(NoDecay::TooFewLayers(2)));
        rows[4].held_out = 0.0;
        assert!(matches!(less_shuffled(&rows, Sample::HeldOut), Err(NoDecay::NothingLeft { layer: 2, .. })));
        assert!(less_shuffled(&rows, Sample::InSample).is_ok());
    }
}
