//! Patterns and scores of windows as tensors, a file per window.

use std::{io::Write as _, path::Path};

use safetensors::{Dtype, tensor::TensorView};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::AttentionError;
use crate::{
    hook::{BlockHook, Capture, HookPoint, Selection},
    model::{Model, ModelError},
    results::run::{RunError, write_atomic},
    sources::text::{Window, ids_of},
};

/// A square that can be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[cfg_attr(feature = "cli", value(rename_all = "snake_case"))]
pub enum Square {
    /// Patterns, behind the softmax
    Pattern,
    /// Scores before it; -inf where a query may not look
    AttnScores,
}

impl Square {
    /// Where it is.
    fn hook(self) -> BlockHook {
        match self {
            Self::Pattern => BlockHook::Pattern,
            Self::AttnScores => BlockHook::AttnScores,
        }
    }
}

/// Runs windows of one length and hands `write` the file of each: `input_ids [1, seq]` (i64), and under its hook's
/// whole name every square asked for, `[1, head, query, key]` (f32; f64 of a model in f64), as `TransformerLens` caches
/// them and `verify` reads them.
///
/// # Errors
/// When the model cannot run, and those of `write`.
pub fn squares(
    model: &Model,
    windows: &[&Window],
    (squares, layers): (&[Square], &[usize]),
    mut write: impl FnMut(usize, &[(String, Tensor)]) -> Result<(), RunError>,
) -> Result<(), AttentionError> {
    let _no_grad = tch::no_grad_guard();
    let points: Vec<HookPoint> = layers
        .iter()
        .flat_map(|layer| squares.iter().map(|square| HookPoint::Block(*layer, square.hook())))
        .collect();
    let ids = ids_of(windows);
    let mut capture = Capture::new(points.iter().copied().collect::<Selection>());
    model.forward(&ids, &mut capture)?;
    for i in 0..windows.len() {
        let mut tensors = vec![("input_ids".to_owned(), ids.f_narrow(0, i as i64, 1)?)];
        for point in &points {
            let missing = || ModelError::Input(format!("{point} was not computed"));
            let square = capture.get(*point).ok_or_else(missing)?.f_narrow(0, i as i64, 1)?;
            tensors.push((point.to_string(), square));
        }
        write(i, &tensors)?;
    }
    Ok(())
}

/// Writes tensors, integers as i64, f64 as f64, everything else as f32; whole or not at all.
///
/// # Errors
/// [`RunError`] naming the file.
pub fn write_squares(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), RunError> {
    let bad = |e: &dyn std::fmt::Display| RunError::io("write", path, std::io::Error::other(e.to_string()));
    let mut parts = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let shape: Vec<usize> = tensor.size().iter().map(|n| *n as usize).collect();
        parts.push((name, shape, bytes(tensor).map_err(|e| bad(&e))?));
    }
    let views = parts.iter().map(|(name, shape, (dtype, bytes))| {
        TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(|e| bad(&e))?;
    let whole = safetensors::serialize(views, None).map_err(|e| bad(&e))?;
    write_atomic(path, |file| file.write_all(&whole).map_err(|e| RunError::io("write", path, e)))?;
    Ok(())
}

fn bytes(tensor: &Tensor) -> Result<(Dtype, Vec<u8>), tch::TchError> {
    let flat = tensor.f_to_device(Device::Cpu)?.f_reshape([-1])?;
    Ok(match tensor.kind() {
        Kind::Int64 => {
            (Dtype::I64, Vec::<i64>::try_from(flat)?.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
        Kind::Double => {
            (Dtype::F64, Vec::<f64>::try_from(flat)?.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
        _ => {
            let flat = Vec::<f32>::try_from(flat.f_to_kind(Kind::Float)?)?;
            (Dtype::F32, flat.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
    })
}
