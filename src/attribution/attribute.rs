//! One pass, and what every component brought to the targets.

use tch::{Device, Kind, Tensor};

use super::{AttributionError, Component, Targets, components, tap::Parts};
use crate::{
    hook::Tap,
    model::{Model, NormPlacement, Spec},
};

/// What every component brought to a quantity of the logits, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribution {
    /// The components, in the order of the pass.
    pub components: Vec<Component>,
    /// Number of blocks.
    pub n_layers: usize,
    /// The model's own value of each row, before any soft cap.
    pub logits: Vec<f64>,
    /// `[rows, components]`, row after row.
    values: Vec<f64>,
    /// `[rows, n_layers + 1]`, row after row.
    stopped: Vec<f64>,
}

/// Refuses a model whose logits are no sum over its blocks, or, where `neurons` are asked for, whose MLPs have none.
///
/// # Errors
/// The family and the reason.
pub fn check_family(spec: &Spec, neurons: bool) -> Result<(), AttributionError> {
    let refused = |reason: String| Err(AttributionError::Family { family: spec.family, reason });
    if spec.encoder.is_some() {
        return refused(
            "an encoder's head is no linear map of its stream, and what it says is behind masks".into(),
        );
    }
    if spec.norms == NormPlacement::Stream {
        return refused(
            "its stream is normed after every branch, so that it is no sum of what they write".into(),
        );
    }
    match spec.layers.iter().position(|layer| layer.sparse).filter(|_| neurons) {
        Some(block) => refused(format!(
            "block {block} has experts in place of an MLP, whose neurons are other ones from token to token; leave neurons out"
        )),
        None => Ok(()),
    }
}

/// Takes the targets apart at `rows` of `ids [batch, seq]`, counted text after text, one target per row; a row may
/// occur several times. MLPs are whole, or `neurons`.
///
/// # Errors
/// A model that cannot be taken apart ([`check_family`]), numbers coarser than f32, what the network says, and
/// [`AttributionError::Sum`] for the first row whose components do not sum to its logit: by 1e-4 of it (at least of 1)
/// in f32, 1e-10 in f64.
pub fn attribute(
    model: &Model,
    ids: &Tensor,
    rows: &[i64],
    targets: &Targets,
    neurons: bool,
) -> Result<Attribution, AttributionError> {
    run(model, ids, (rows, targets), neurons, |model, ids, parts| model.forward(ids, parts))
}

/// As [`attribute`], of a pass under a tap that may edit it: what is edited counts as written. An edit of the sum itself
/// (`resid_pre`, `resid_mid`, `resid_post`), and of what a branch gives behind what is taken apart (`attn_out`), is
/// nobody's part, and the sum will not hold.
///
/// # Errors
/// As [`attribute`], and those of the tap.
pub fn attribute_under(
    model: &Model,
    ids: &Tensor,
    (rows, targets): (&[i64], &Targets),
    neurons: bool,
    tap: &mut dyn Tap,
) -> Result<Attribution, AttributionError> {
    run(model, ids, (rows, targets), neurons, |model, ids, parts| model.forward(ids, &mut (tap, parts)))
}

fn run(
    model: &Model,
    ids: &Tensor,
    (rows, targets): (&[i64], &Targets),
    neurons: bool,
    forward: impl FnOnce(&Model, &Tensor, &mut Parts<'_>) -> Result<Option<Tensor>, crate::model::ModelError>,
) -> Result<Attribution, AttributionError> {
    let _no_grad = tch::no_grad_guard();
    check_family(model.spec(), neurons)?;
    let allowed = allowed(model.kind())?;
    check_rows(ids, rows, targets)?;
    let mut parts = Parts::new(model, targets, rows, neurons)?;
    let _logits = forward(model, ids, &mut parts)?;
    let found = finish(parts, targets, model, neurons)?;
    found.check(allowed)?;
    Ok(found)
}

/// How far the sum may be from the logit, as a share of it.
fn allowed(kind: Kind) -> Result<f64, AttributionError> {
    match kind {
        Kind::Double => Ok(1e-10),
        Kind::Float => Ok(1e-4),
        other => Err(AttributionError::Kind(other)),
    }
}

fn check_rows(ids: &Tensor, rows: &[i64], targets: &Targets) -> Result<(), AttributionError> {
    let tokens = ids.numel() as i64;
    if rows.len() != targets.rows() {
        return Err(AttributionError::Rows(format!("{} targets at {} rows", targets.rows(), rows.len())));
    }
    match rows.iter().find(|row| !(0..tokens).contains(*row)) {
        Some(row) => Err(AttributionError::Rows(format!("no row {row} in a text of {tokens} tokens"))),
        None => Ok(()),
    }
}

/// Divides, and puts what is added behind the norm at the end.
fn finish(
    parts: Parts<'_>,
    targets: &Targets,
    model: &Model,
    neurons: bool,
) -> Result<Attribution, AttributionError> {
    let missing = || AttributionError::Rows("the pass ended before the final norm".into());
    let mut all = Tensor::f_cat(&parts.columns, 1)?;
    if let Some(divisor) = &parts.divisor {
        all = all.f_div(&divisor.f_to_kind(Kind::Double)?)?;
    }
    let mut columns = vec![all];
    if let Some(bias) = model.unembed().norm().and_then(layerscope_lenses::Norm::bias) {
        columns.push(super::targets::dot(&targets.weight, bias)?.f_unsqueeze(1)?);
    }
    if let Some(bias) = &targets.bias {
        columns.push(bias.f_unsqueeze(1)?);
    }
    let (values, components) = (Tensor::f_cat(&columns, 1)?, components(model.spec(), neurons));
    let (found, expected) = (values.size()[1], components.len());
    if found != expected as i64 {
        return Err(AttributionError::Rows(format!("{found} components where the model has {expected}")));
    }
    Ok(Attribution {
        components,
        n_layers: model.spec().n_layers,
        logits: host(&parts.logits.ok_or_else(missing)?)?,
        values: host(&values)?,
        stopped: host(&Tensor::f_stack(&parts.stopped, 1)?)?,
    })
}

fn host(tensor: &Tensor) -> Result<Vec<f64>, tch::TchError> {
    Vec::try_from(tensor.f_to_device(Device::Cpu)?.f_contiguous()?.f_view([-1])?)
}

impl Attribution {
    /// Rows there are.
    pub fn rows(&self) -> usize {
        self.logits.len()
    }

    /// What every component brought to a row.
    pub fn row(&self, row: usize) -> &[f64] {
        let n = self.components.len();
        &self.values[row * n..(row + 1) * n]
    }

    /// What the row's quantity would be if the model stopped at each of the layers 0 to L: the final norm takes the
    /// stream as it is there, with its own divisor. This is the logit lens.
    pub fn stopped(&self, row: usize) -> &[f64] {
        let n = self.n_layers + 1;
        &self.stopped[row * n..(row + 1) * n]
    }

    /// The sums of what was written before each of the layers 0 to L, with the divisor of the end; what is added behind
    /// the norm is in all of them. The last is the logit.
    pub fn so_far(&self, row: usize) -> Vec<f64> {
        let mut sums = vec![0.0; self.n_layers + 1];
        for (component, value) in self.components.iter().zip(self.row(row)) {
            let first = component.block().map_or(0, |block| block + 1);
            sums[first..].iter_mut().for_each(|sum| *sum += value);
        }
        sums
    }

    /// The `n` components of a kind that brought most to row 0, to either side, largest first.
    pub fn largest(&self, n: usize, wanted: impl Fn(Component) -> bool) -> Vec<Component> {
        let all = self.components.iter().copied().zip(self.row(0));
        let mut found: Vec<(Component, f64)> = all
            .filter(|(component, _)| wanted(*component))
            .map(|(component, v)| (component, v.abs()))
            .collect();
        found.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        found.truncate(n);
        found.into_iter().map(|(component, _)| component).collect()
    }

    /// What a component brought to a row; none where it is no component here.
    pub fn of(&self, row: usize, component: Component) -> Option<f64> {
        let place = self.components.iter().position(|own| *own == component)?;
        Some(self.row(row)[place])
    }

    /// The same with MLPs whole.
    #[must_use]
    pub fn whole(&self) -> Self {
        let mut places: Vec<usize> = Vec::with_capacity(self.components.len());
        let mut merged: Vec<Component> = Vec::new();
        for component in &self.components {
            let whole = component.block().filter(|_| component.is_mlp()).map(Component::Mlp);
            let whole = whole.unwrap_or(*component);
            if merged.last() != Some(&whole) {
                merged.push(whole);
            }
            places.push(merged.len() - 1);
        }
        let mut values = vec![0.0; self.rows() * merged.len()];
        for row in 0..self.rows() {
            let sums = &mut values[row * merged.len()..];
            places.iter().zip(self.row(row)).for_each(|(place, value)| sums[*place] += value);
        }
        Self { components: merged, values, ..self.clone() }
    }

    /// That every row's components sum to its logit, but for rounding.
    fn check(&self, allowed: f64) -> Result<(), AttributionError> {
        for (row, &logit) in self.logits.iter().enumerate() {
            let sum: f64 = self.row(row).iter().sum();
            let allowed = allowed * logit.abs().max(1.0);
            let apart = (sum - logit).abs();
            if apart > allowed || apart.is_nan() {
                return Err(AttributionError::Sum { row, sum, logit, allowed });
            }
        }
        Ok(())
    }
}
