//! Positions that are not rotations: rows added to the embeddings, factors on queries.

use tch::{Device, Kind, Tensor};

use super::{ModelError, encoder::places, nn::wide, spec::QueryGrowth};

/// Rows `[position, d_model]` added to the embeddings, after some that no position has.
#[derive(Debug)]
pub(super) struct PositionTable {
    table: Tensor,
    offset: i64,
}

impl PositionTable {
    /// A learned table, whose row `offset` is position 0.
    pub(super) fn learned(table: Tensor, offset: usize) -> Self {
        Self { table, offset: offset as i64 }
    }

    /// Sines, then cosines, of `d_model / 2` frequencies from 1 to 1/10000 (Vaswani et al. 2017, as fairseq has it).
    pub(super) fn sinusoidal(
        rows: usize,
        offset: usize,
        d_model: usize,
        kind: Kind,
        device: Device,
    ) -> Result<Self, ModelError> {
        let (half, wide) = ((d_model / 2) as i64, wide(kind));
        let slowness = 10_000f64.ln() / (half - 1) as f64;
        let frequencies = (Tensor::arange(half, (wide, Device::Cpu)) * -slowness).f_exp()?;
        let angles = Tensor::arange(rows as i64, (wide, Device::Cpu)).f_outer(&frequencies)?;
        let odd = Tensor::f_zeros([rows as i64, d_model as i64 % 2], (wide, Device::Cpu))?;
        let table = Tensor::f_cat(&[angles.sin(), angles.cos(), odd], 1)?;
        Ok(Self { table: table.f_to_kind(kind)?.f_to_device(device)?, offset: offset as i64 })
    }

    /// The same with zeros in one row, if there is such a row.
    pub(super) fn without(self, row: usize) -> Result<Self, ModelError> {
        if (row as i64) < self.table.size()[0] {
            let _zeroed = self.table.f_get(row as i64)?.f_zero_()?;
        }
        Ok(self)
    }

    /// Rows of `seq` positions from `start` on.
    pub(super) fn rows(&self, start: i64, seq: i64) -> Result<Tensor, ModelError> {
        Ok(self.table.f_narrow(0, self.offset + start, seq)?)
    }

    /// Rows `[batch, seq, d]` of tokens of which `padding` takes no position, and the row before the first.
    pub(super) fn rows_around(&self, ids: &Tensor, padding: usize) -> Result<Tensor, ModelError> {
        let rows = places(ids, padding)?.f_add_scalar(self.offset - 1)?;
        Ok(Tensor::f_embedding(&self.table, &rows, -1, false, false)?)
    }
}

/// Factors `[seq, 1, 1]` on the queries of `x [batch, seq, ..]`, whose first position is `start`.
pub(super) fn growth(growth: QueryGrowth, start: i64, x: &Tensor) -> Result<Tensor, ModelError> {
    let positions = Tensor::arange_start(start, start + x.size()[1], (wide(x.kind()), x.device()));
    let factors = (positions / growth.length).f_floor()?.f_log1p()? * growth.beta + 1.0;
    Ok(factors.f_view([-1, 1, 1])?.f_to_kind(x.kind())?)
}
