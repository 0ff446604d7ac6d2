//! Edits in words made edits of a model: hooks that exist, heads and vectors that fit.

use std::path::Path;

use tch::{Kind, TchError, Tensor};

use super::{
    Change, EditError, EditSpec, PlacedEdit,
    spec::{Op, split_key},
};
use crate::{
    hook::{BlockHook, HookPoint, Selection},
    model::{Spec, Weights, hook_points, width as width_of},
    results::run::check_file,
};

impl EditSpec {
    /// The edit of a model of this architecture; reads its file.
    ///
    /// # Errors
    /// [`EditError`], naming the hook, the head, the file or the shape that does not fit.
    pub fn resolve(&self, spec: &Spec) -> Result<PlacedEdit, EditError> {
        let points = Selection::new(&[&self.hook], None, &hook_points(spec))
            .map_err(|source| EditError::Hook { edit: self.text.clone(), source })?;
        let mut change = None;
        for point in points.iter() {
            let width = self.width(spec, point)?;
            let heads = width_of(spec, point).filter(|all| all.len() > 1).map(|all| all[0] as i64);
            // Every point of a selection must take the vector; it is read once.
            if change.is_none() || self.file().is_some() {
                change = Some(self.change(&width, heads)?);
            }
        }
        let change = change.ok_or_else(|| self.unfit(&self.hook, "selects nothing".to_owned()))?; // `Selection` refuses that before
        Ok(PlacedEdit { points, heads: self.heads.clone(), positions: self.positions.clone(), change })
    }

    fn unfit(&self, hook: &str, reason: String) -> EditError {
        EditError::Unfit { edit: self.text.clone(), hook: hook.to_owned(), reason }
    }

    /// Shape of what one position gives the edit at `point`; empty for a pattern.
    fn width(&self, spec: &Spec, point: HookPoint) -> Result<Vec<i64>, EditError> {
        let unfit = |reason: String| Err(self.unfit(&point.to_string(), reason));
        let Some(width) = width_of(spec, point) else {
            if matches!(point, HookPoint::Block(_, BlockHook::AttnScores)) {
                return unfit("cannot be edited without undoing its mask; edit hook_pattern".to_owned());
            }
            if !matches!(self.op, Op::Zero | Op::Scale(_) | Op::Resample) {
                return unfit("takes zero, scale and resample only".to_owned());
            }
            self.check_heads(spec.n_heads, point)?;
            return Ok(Vec::new());
        };
        let mut width: Vec<i64> = width.into_iter().map(|n| n as i64).collect();
        match (&self.heads, width.len()) {
            (Some(_), 1) => return unfit("has no heads".to_owned()),
            (Some(heads), _) => {
                self.check_heads(width[0] as usize, point)?;
                width[0] = heads.len() as i64;
            }
            (None, _) => {}
        }
        Ok(width)
    }

    fn check_heads(&self, n: usize, point: HookPoint) -> Result<(), EditError> {
        match self.heads.iter().flatten().find(|head| **head >= n as i64) {
            None => Ok(()),
            Some(head) => Err(self.unfit(&point.to_string(), format!("has no head {head}, it has {n}"))),
        }
    }

    /// The change of values whose last dimensions are `width`.
    fn change(&self, width: &[i64], heads: Option<i64>) -> Result<Change, EditError> {
        Ok(match &self.op {
            Op::Zero => Change::Zero,
            Op::Mean => Change::Mean,
            Op::Resample => Change::Resample,
            Op::Scale(factor) => Change::Scale(*factor),
            Op::Clip(norm) => Change::Clip(*norm),
            Op::Add(file, factor) => Change::Add(self.vector(file, width, heads)? * *factor),
            Op::Replace(file) => Change::Replace(self.vector(file, width, heads)?),
            Op::ProjectOut(file) => Change::ProjectOut(self.directions(file, width)?),
            Op::Swap(file, factor) => self.swap(file, width, *factor)?,
        })
    }

    /// `width`, the same flat, one for all heads, or every head's where only some are edited. Dimensions of 1 in front,
    /// such as those of one exported row, say nothing.
    fn vector(&self, file: &str, width: &[i64], heads: Option<i64>) -> Result<Tensor, EditError> {
        let (tensor, path) = self.read(file)?;
        let shape = tensor.size();
        let own = &shape[shape.iter().take(shape.len().saturating_sub(1)).take_while(|n| **n == 1).count()..];
        let last = width.last().copied().unwrap_or(0);
        let n: i64 = width.iter().product();
        if own == [last] {
            return Ok(tensor.view([last]));
        }
        if own == width || own == [n] || own == [[1].as_slice(), width].concat() {
            return Ok(tensor.view(width));
        }
        if let (Some(all), Some(chosen)) = (heads, &self.heads)
            && (own == [all, last] || own == [all * last])
        {
            return Ok(tensor.view([all, last]).index_select(0, &Tensor::from_slice(chosen)));
        }
        let every = heads.filter(|all| self.heads.is_some() && [*all, last] != *width);
        let every = every.map_or_else(String::new, |all| format!(" or, of all heads, {:?}", [all, last]));
        Err(self.bad_vector(path, format!("expected a vector of shape {width:?}{every}, got {shape:?}")))
    }

    /// Directions of the last dimension, made orthonormal: one `[width]`, or several `[k, width]`.
    fn directions(&self, file: &str, width: &[i64]) -> Result<Tensor, EditError> {
        let (tensor, path) = self.read(file)?;
        let d = width.last().copied().unwrap_or(0);
        let shape = tensor.size();
        let (k, last) = match shape[..] {
            [d] => (1, d),
            [k, d] => (k, d),
            _ => (0, 0),
        };
        if last != d || k == 0 || k > d {
            let reason = format!("expected directions [{d}] or [k, {d}] with k up to {d}, got {shape:?}");
            return Err(self.bad_vector(path, reason));
        }
        let failed = |e: TchError| EditError::File { edit: self.text.clone(), source: e.into() };
        let rows = orthonormal(&tensor.view([k, d])).map_err(failed)?;
        let what = if k == 1 { "the direction is zero" } else { "the directions are not independent" };
        rows.ok_or_else(|| self.bad_vector(path, what.to_owned()))
    }

    /// Two directions `[2, width]` whose coordinates are exchanged. Directions that are nearly one have none that mean
    /// anything.
    fn swap(&self, file: &str, width: &[i64], factor: f64) -> Result<Change, EditError> {
        let (directions, path) = self.read(file)?;
        let (d, shape) = (width.last().copied().unwrap_or(0), directions.size());
        if shape != [2, d] {
            let reason = format!("expected two directions [2, {d}], got {shape:?}");
            return Err(self.bad_vector(path, reason));
        }
        let failed = |e: TchError| EditError::File { edit: self.text.clone(), source: e.into() };
        let cosine = cosine(&directions).map_err(failed)?;
        if cosine.is_nan() || cosine.abs() >= ALIKE {
            let reason = format!("the two directions have a cosine of {cosine:.4}: they are hardly two");
            return Err(self.bad_vector(path, reason));
        }
        let dual = directions.f_pinverse(1e-15).and_then(|dual| dual.f_transpose(0, 1)).map_err(failed)?;
        Ok(Change::Swap { directions, dual, factor })
    }

    fn bad_vector(&self, path: &Path, reason: String) -> EditError {
        EditError::Vector { edit: self.text.clone(), path: path.to_owned(), reason }
    }

    /// The tensor that `FILE[:KEY]` names, f64; without a key the only one there is.
    fn read<'f>(&self, file: &'f str) -> Result<(Tensor, &'f Path), EditError> {
        let failed = |source| EditError::File { edit: self.text.clone(), source };
        let (path, key) = split_key(file);
        if path.exists() {
            check_file(path)
                .map_err(|source| EditError::Damaged { edit: self.text.clone(), source: Box::new(source) })?;
        }
        let weights = Weights::open_file(path, Kind::Double).map_err(failed)?;
        let mut names: Vec<&str> = weights.shapes().map(|(name, _)| name).collect();
        names.sort_unstable();
        let key = match (key, &names[..]) {
            (Some(key), _) if names.contains(&key) => key,
            (None, [only]) => only,
            _ => {
                let what = key.map_or("name one as FILE:KEY".to_owned(), |key| format!("no tensor `{key}`"));
                return Err(self.bad_vector(path, format!("{what}; there are {}", names.join(", "))));
            }
        };
        let shape = weights.shapes().find(|(name, _)| *name == key).map_or(Vec::new(), |(_, s)| s.to_vec());
        Ok((weights.take(key, &shape).map_err(failed)?, path))
    }
}

/// From this cosine on two directions are taken for one, as transformer-lens does.
const ALIKE: f64 = 0.999;

/// The cosine of two rows; NaN where one is zero.
fn cosine(rows: &Tensor) -> Result<f64, TchError> {
    let (a, b) = (rows.f_get(0)?, rows.f_get(1)?);
    Ok(a.f_dot(&b)?.double_value(&[]) / (a.f_norm()? * b.f_norm()?).double_value(&[]))
}

/// Orthonormal rows that span those of `directions [k, width]`; none when these are not independent.
fn orthonormal(directions: &Tensor) -> Result<Option<Tensor>, TchError> {
    let (q, r) = Tensor::f_linalg_qr(&directions.f_transpose(0, 1)?, "reduced")?;
    let lengths = directions.f_square()?.f_sum_dim_intlist(1, false, Kind::Double)?.f_sqrt()?;
    // What a direction adds to the span of those before it, as a share of its length.
    let own = r.f_diagonal(0, 0, 1)?.f_abs()?.f_div(&lengths)?;
    let independent = own.f_gt(1e-6)?.f_all()?.int64_value(&[]) == 1;
    Ok(if independent { Some(q.f_transpose(0, 1)?.f_contiguous()?) } else { None })
}
