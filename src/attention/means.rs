//! What heads give on average over a text: what stands in place of one that is taken away.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::AttentionError;
use crate::{
    hook::{BlockHook, HookPoint, Tap, TapError},
    model::Model,
    sources::text::{Window, ids_of},
};

/// Means of `attn.hook_z` over every token so far, by layer.
#[derive(Debug)]
pub struct HeadMeans {
    layers: Vec<usize>,
    /// Sums `[head, d_head]`, f64.
    sums: BTreeMap<usize, Tensor>,
    tokens: u64,
}

impl HeadMeans {
    /// Of the heads of `layers`, ascending.
    pub fn new(layers: &[usize]) -> Self {
        Self { layers: layers.to_vec(), sums: BTreeMap::new(), tokens: 0 }
    }

    /// Adds windows of one length.
    ///
    /// # Errors
    /// When the model cannot run.
    pub fn add(&mut self, model: &Model, windows: &[&Window]) -> Result<(), AttentionError> {
        let ids = ids_of(windows);
        model.forward(&ids, &mut *self)?;
        self.tokens += ids.numel() as u64;
        Ok(())
    }

    /// What these heads of a layer give on average, `[heads, d_head]`; zeros before any text.
    ///
    /// # Errors
    /// What libtorch refused.
    pub(super) fn of(&self, layer: usize, heads: &[i64], d_head: usize) -> Result<Tensor, AttentionError> {
        let index = Tensor::from_slice(heads);
        Ok(match self.sums.get(&layer) {
            Some(sum) => sum.f_div_scalar(self.tokens.max(1) as f64)?.f_index_select(0, &index)?,
            None => Tensor::f_zeros([heads.len() as i64, d_head as i64], (Kind::Double, tch::Device::Cpu))?,
        })
    }
}

impl Tap for HeadMeans {
    fn visit(&mut self, point: HookPoint, z: Tensor) -> Result<Tensor, TapError> {
        let HookPoint::Block(layer, _) = point else { return Ok(z) };
        let failed = |e: &tch::TchError| TapError::edit(point, e);
        let sum = z.f_sum_dim_intlist([0, 1].as_slice(), false, Kind::Double).map_err(|e| failed(&e))?;
        let sum = sum.f_to_device(tch::Device::Cpu).map_err(|e| failed(&e))?;
        let sum = match self.sums.get(&layer) {
            Some(before) => before.f_add(&sum).map_err(|e| failed(&e))?,
            None => sum,
        };
        self.sums.insert(layer, sum);
        Ok(z)
    }

    fn wants(&self, point: HookPoint) -> bool {
        matches!(point, HookPoint::Block(layer, BlockHook::Z) if self.layers.contains(&layer))
    }

    fn stop_after(&self) -> Option<HookPoint> {
        self.layers.last().map(|layer| HookPoint::Block(*layer, BlockHook::Z))
    }
}
