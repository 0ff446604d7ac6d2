//! The tap that takes the stream apart while it is being written: inner products only, one block at a time.

use layerscope_lenses::{Norm, NormKind};
use tch::{Kind, Tensor};

use super::{
    AttributionError,
    component::has_positions,
    error::in_tap,
    targets::{Targets, dot},
};
use crate::{
    hook::{BlockHook as B, HookPoint, Tap, TapError},
    model::{Branch, Model, Writer},
};

/// Watches one pass.
pub(super) struct Parts<'a> {
    model: &'a Model,
    targets: &'a Targets,
    /// Which rows of the text, counted text after text, the targets are at.
    rows: Tensor,
    neurons: bool,
    /// What the final norm leaves of the targets but for its divisor: `[rows, d_model]`.
    direction: Tensor,
    /// `[rows, components so far]`, f64, not yet divided, in the order of [`components`](super::components).
    pub(super) columns: Vec<Tensor>,
    /// Per layer, what the target would be if the model stopped there: `[rows]`, f64.
    pub(super) stopped: Vec<Tensor>,
    /// The final norm's divisor, `[rows, 1]`.
    pub(super) divisor: Option<Tensor>,
    /// The model's own value of the targets, `[rows]`, f64.
    pub(super) logits: Option<Tensor>,
}

impl<'a> Parts<'a> {
    pub(super) fn new(
        model: &'a Model,
        targets: &'a Targets,
        rows: &[i64],
        neurons: bool,
    ) -> Result<Self, AttributionError> {
        let direction = match model.unembed().norm() {
            Some(norm) => behind(norm, &targets.weight)?,
            None => targets.weight.shallow_clone(),
        };
        Ok(Self {
            model,
            targets,
            rows: Tensor::from_slice(rows).to_device(model.device()),
            neurons,
            direction,
            columns: Vec::new(),
            stopped: Vec::new(),
            divisor: None,
            logits: None,
        })
    }

    fn see(&mut self, point: HookPoint, value: &Tensor) -> Result<(), AttributionError> {
        let own = value.f_flatten(0, 1)?.f_index_select(0, &self.rows)?;
        match point {
            HookPoint::Embed | HookPoint::PosEmbed | HookPoint::Block(_, B::MlpOut) => self.add(&own)?,
            HookPoint::Block(layer, B::ResidPre) => self.stream(layer, &own)?,
            HookPoint::Block(block, B::Z) => {
                let heads = self.model.spec().n_heads as i64;
                self.branch(block, Branch::Attention, &own.f_flatten(1, 2)?, heads)?;
            }
            HookPoint::Block(block, B::MlpPost) => {
                let neurons = own.size()[1];
                self.branch(block, Branch::Mlp, &own, neurons)?;
            }
            HookPoint::FinalNormalized => self.logits = Some(self.targets.of(&own)?),
            _ => {}
        }
        Ok(())
    }

    /// A component that is at hand as a vector, `[rows, d_model]`.
    fn add(&mut self, part: &Tensor) -> Result<(), AttributionError> {
        self.columns.push(dot(part, &self.direction)?.f_unsqueeze(1)?);
        Ok(())
    }

    /// The stream at a layer: what would be said there, and at its end the divisor.
    fn stream(&mut self, layer: usize, x: &Tensor) -> Result<(), AttributionError> {
        if layer == 0 && self.model.spec().embed_norm {
            self.add(x)?;
        }
        let unembed = self.model.unembed();
        self.stopped.push(self.targets.of(&unembed.normed(x)?)?);
        if layer == self.model.spec().n_layers {
            self.divisor = unembed.norm().map(|norm| norm.scale(x)).transpose()?;
        }
        Ok(())
    }

    /// The parts of a branch whose last map reads `x [rows, inner]`, `parts` of one width side by side; then its bias,
    /// and the offset of the norm behind it.
    fn branch(
        &mut self,
        block: usize,
        branch: Branch,
        x: &Tensor,
        parts: i64,
    ) -> Result<(), AttributionError> {
        let Some(writer) = self.model.writer(block, branch) else {
            return Err(AttributionError::Rows(format!("block {block} has experts in place of an MLP")));
        };
        let direction = through(&writer, x, &self.direction)?;
        let read = direction.f_matmul(writer.weight())?; // [rows, inner]
        let by_part = x.f_mul(&read)?.f_view([x.size()[0], parts, -1])?;
        self.columns.push(by_part.f_sum_dim_intlist(-1, false, Kind::Double)?);
        if let Some(bias) = writer.bias() {
            self.columns.push(dot(&direction, bias)?.f_unsqueeze(1)?);
        }
        if let Some(bias) = writer.norm().and_then(Norm::bias) {
            let product = dot(&self.direction, bias)?.f_unsqueeze(1)?;
            self.columns.push(product.f_mul_scalar(writer.scale())?);
        }
        Ok(())
    }
}

/// A direction before a norm whose divisor is held: `C(γ ⊙ u)`, still to be divided.
fn behind(norm: &Norm, u: &Tensor) -> Result<Tensor, AttributionError> {
    let weighted = match norm.weight() {
        Some(weight) => u.f_mul(weight)?.f_to_kind(u.kind())?,
        None => u.shallow_clone(),
    };
    Ok(match norm.kind() {
        NormKind::Layer => weighted.f_sub(&weighted.f_mean_dim(-1, true, weighted.kind())?)?,
        NormKind::Rms => weighted,
    })
}

/// The direction `u [rows, d_model]` before the end of a branch whose map reads `x`: its factor, and its norm where
/// there is one, held at what the map gives.
fn through(writer: &Writer<'_>, x: &Tensor, u: &Tensor) -> Result<Tensor, AttributionError> {
    let scaled = u.f_mul_scalar(writer.scale())?;
    let Some(norm) = writer.norm() else { return Ok(scaled) };
    let divisor = norm.scale(&writer.map(x)?)?;
    Ok(behind(norm, &scaled)?.f_div(&divisor)?)
}

impl Tap for Parts<'_> {
    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor, TapError> {
        self.see(point, &value).map_err(|error| in_tap(&error))?;
        Ok(value)
    }

    fn wants(&self, point: HookPoint) -> bool {
        let spec = self.model.spec();
        match point {
            HookPoint::Embed => !spec.embed_norm,
            HookPoint::PosEmbed => has_positions(spec),
            HookPoint::Block(_, B::ResidPre | B::Z) | HookPoint::FinalNormalized => true,
            HookPoint::Block(_, B::MlpPost) => self.neurons,
            HookPoint::Block(_, B::MlpOut) => !self.neurons,
            _ => false,
        }
    }

    fn stop_after(&self) -> Option<HookPoint> {
        Some(HookPoint::FinalNormalized)
    }
}
