//! Residuals of windows of text, as rows: what lenses are fitted to and evaluated on.

use tch::{Kind, Tensor};

use crate::{
    hook::{Capture, HookPoint, Selection},
    model::{Model, ModelError},
    sources::text::{Window, each_batch, ids_of},
    watch::{Stopped, Underway},
};

use super::Masker;

/// Rows of some windows: one row per token, windows one after the other.
#[derive(Debug)]
pub struct States {
    /// One tensor `[rows, d_model]` per layer asked for, f32.
    pub layers: Vec<Tensor>,
    /// What leaves the last block, before the final norm: `[rows, d_model]`, f32.
    pub last: Tensor,
    /// Every row's token.
    pub ids: Vec<i64>,
    /// Every row's document.
    pub docs: Vec<u64>,
    /// Every row's place in its document.
    pub pos: Vec<u32>,
    /// Lengths of the runs of consecutive tokens of one document in one window, in order.
    pub runs: Vec<usize>,
    /// Rows are of tokens hidden from an encoder, and what is to be said there is the token itself, in [`States::ids`].
    pub masked: bool,
}

/// What lies `horizon` tokens ahead of some rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// The rows that have a model prediction for that place in their run, ascending.
    pub rows: Vec<i64>,
    /// The row of that prediction: `horizon - 1` later.
    pub teacher: Vec<i64>,
    /// The token itself; -1 at the end of a run.
    pub tokens: Vec<i64>,
}

impl States {
    /// Runs `windows` of one length through the model and keeps `points`, one per layer.
    ///
    /// # Errors
    /// When the windows do not fit the model, a point has no row of `d_model` numbers per token, or a state is not
    /// finite (named by hook and document).
    pub fn of(model: &Model, points: &[HookPoint], windows: &[&Window]) -> Result<Self, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let end = HookPoint::resid_pre(model.spec().n_layers);
        let mut capture = Capture::new(points.iter().copied().chain([end]).collect::<Selection>());
        let ids = ids_of(windows);
        model.forward(&ids, &mut capture)?;
        Self::new(points, end, windows, |point| {
            let kept =
                capture.get(point).ok_or_else(|| ModelError::Input(format!("{point} was not computed")))?;
            Ok(kept.f_to_kind(Kind::Float)?.f_reshape([ids.numel() as i64, -1])?)
        })
    }

    /// Rows of `windows` at `points` and at `end`, the last layer, where `rows` finds them: `[tokens, d_model]`, f32.
    ///
    /// # Errors
    /// Those of `rows`, and when a state is not finite (named by hook and document).
    pub fn new<E: From<ModelError>>(
        points: &[HookPoint],
        end: HookPoint,
        windows: &[&Window],
        rows: impl Fn(HookPoint) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let segments = || windows.iter().flat_map(|w| &w.segments);
        let docs: Vec<u64> = segments().flat_map(|s| std::iter::repeat_n(s.doc_id, s.len as usize)).collect();
        let pos = segments().flat_map(|s| s.doc_pos..s.doc_pos + s.len).collect();
        let rows = |point: &HookPoint| -> Result<Tensor, E> {
            let rows = rows(*point)?;
            finite(&rows, *point, &docs)?;
            Ok(rows)
        };
        let layers = points.iter().map(rows).collect::<Result<_, _>>()?;
        let last = rows(&end)?;
        let ids = windows.iter().flat_map(|w| &w.ids).map(|id| i64::from(*id)).collect();
        let runs = segments().map(|s| s.len as usize).collect();
        Ok(Self { layers, last, ids, docs, pos, runs, masked: false })
    }

    /// As [`States::of`] for an encoder: the rows of the tokens that `masker` hides, one after the other as the windows
    /// have them.
    ///
    /// # Errors
    /// As [`States::of`].
    pub fn of_masked(
        model: &Model,
        points: &[HookPoint],
        windows: &[&Window],
        (masker, batch_tokens): (&Masker, usize),
    ) -> Result<Self, ModelError> {
        let mut hidden = Vec::new();
        for window in windows {
            hidden.extend(masker.passes(window).into_iter().map(|(ids, places)| (*window, ids, places)));
        }
        let at_once = (batch_tokens / windows.first().map_or(1, |w| w.ids.len().max(1))).max(1);
        let mut parts = Vec::new();
        for some in hidden.chunks(at_once) {
            let shown: Vec<Window> = some
                .iter()
                .map(|(window, ids, _)| Window { ids: ids.clone(), segments: window.segments.clone() })
                .collect();
            let all = Self::of(model, points, &shown.iter().collect::<Vec<_>>())?;
            let (mut rows, mut ids, mut start) = (Vec::new(), Vec::new(), 0);
            for (window, _, places) in some {
                rows.extend(places.iter().map(|place| (start + place) as i64));
                ids.extend(places.iter().map(|place| i64::from(window.ids[*place])));
                start += window.ids.len();
            }
            parts.push(all.chosen(&rows, ids)?);
        }
        if parts.is_empty() {
            let first = Self::of(model, points, windows)?;
            return first.chosen(&[], Vec::new());
        }
        Self::concat(parts)
    }

    /// Some rows, of hidden tokens `ids`.
    fn chosen(&self, rows: &[i64], ids: Vec<i64>) -> Result<Self, ModelError> {
        let index = Tensor::from_slice(rows).to_device(self.last.device());
        let layers = self.layers.iter().map(|layer| layer.f_index_select(0, &index));
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            last: self.last.f_index_select(0, &index)?,
            ids,
            docs: rows.iter().map(|row| self.docs[*row as usize]).collect(),
            pos: rows.iter().map(|row| self.pos[*row as usize]).collect(),
            runs: vec![1; rows.len()],
            masked: true,
        })
    }

    /// Rows of several parts, one after the other.
    ///
    /// # Errors
    /// When parts are of different layers.
    pub fn concat(mut parts: Vec<Self>) -> Result<Self, ModelError> {
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let cat = |of: &dyn Fn(&Self) -> Tensor| Tensor::f_cat(&parts.iter().map(of).collect::<Vec<_>>(), 0);
        let n = parts.first().map_or(0, |p| p.layers.len());
        Ok(Self {
            layers: (0..n).map(|l| cat(&|p| p.layers[l].shallow_clone())).collect::<Result<_, _>>()?,
            last: cat(&|p| p.last.shallow_clone())?,
            ids: parts.iter().flat_map(|p| p.ids.iter().copied()).collect(),
            docs: parts.iter().flat_map(|p| p.docs.iter().copied()).collect(),
            pos: parts.iter().flat_map(|p| p.pos.iter().copied()).collect(),
            runs: parts.iter().flat_map(|p| p.runs.iter().copied()).collect(),
            masked: parts.iter().any(|p| p.masked),
        })
    }

    /// Hands `f` the states of all `windows`, about `rows` at a time, and which windows they are of: windows run in
    /// batches of equal length, and their rows are put together so that lenses have enough to do at once. `stage`
    /// counts tokens.
    ///
    /// # Errors
    /// As [`States::of`], [`Stopped`], and those of `f`.
    pub fn each<E: From<ModelError> + From<Stopped>>(
        model: &Model,
        points: &[HookPoint],
        (windows, rows): (&[&Window], usize),
        stage: &Underway<'_>,
        f: impl FnMut(&Self, &[usize]) -> Result<(), E>,
    ) -> Result<(), E> {
        Self::each_behind(model, points, (windows, rows), None, stage, f)
    }

    /// The same of the tokens that a masker hides, where there is one.
    ///
    /// # Errors
    /// As [`States::each`].
    pub fn each_behind<E: From<ModelError> + From<Stopped>>(
        model: &Model,
        points: &[HookPoint],
        (windows, rows): (&[&Window], usize),
        masker: Option<&Masker>,
        stage: &Underway<'_>,
        f: impl FnMut(&Self, &[usize]) -> Result<(), E>,
    ) -> Result<(), E> {
        let of = |some: &[&Window]| match masker {
            Some(masker) => Self::of_masked(model, points, some, (masker, rows)),
            None => Self::of(model, points, some),
        };
        Self::each_from((windows, rows), stage, |some| Ok(of(some)?), f)
    }

    /// As [`States::each`], with states of windows of one length from anywhere.
    ///
    /// # Errors
    /// [`Stopped`], and those of `of` and `f`.
    pub fn each_from<E: From<ModelError> + From<Stopped>>(
        (windows, rows): (&[&Window], usize),
        stage: &Underway<'_>,
        of: impl Fn(&[&Window]) -> Result<Self, E>,
        mut f: impl FnMut(&Self, &[usize]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut parts, mut places, mut held) = (Vec::new(), Vec::new(), 0);
        each_batch(windows, rows, stage, |batch| -> Result<(), E> {
            let part = of(&batch.windows)?;
            held += part.rows();
            parts.push(part);
            places.extend(batch.places);
            if held >= rows {
                f(&Self::concat(std::mem::take(&mut parts))?, &places)?;
                places.clear();
                held = 0;
            }
            Ok(())
        })?;
        // Windows of which nothing is hidden have no rows.
        if held > 0 {
            f(&Self::concat(parts)?, &places)?;
        }
        Ok(())
    }

    /// Rows there are.
    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    /// What lies `horizon >= 1` tokens ahead; at 1 that is every row's own prediction and the next token. Hidden tokens
    /// are to be said themselves, and nothing lies ahead of them.
    pub fn ahead(&self, horizon: usize) -> Ahead {
        let mut ahead = Ahead { rows: Vec::new(), teacher: Vec::new(), tokens: Vec::new() };
        if self.masked {
            if horizon == 1 {
                ahead.rows = (0..self.rows() as i64).collect();
                ahead.teacher.clone_from(&ahead.rows);
                ahead.tokens.clone_from(&self.ids);
            }
            return ahead;
        }
        let mut start = 0;
        for &len in &self.runs {
            for place in 0..(len + 1).saturating_sub(horizon) {
                let row = start + place;
                ahead.rows.push(row as i64);
                ahead.teacher.push((row + horizon - 1) as i64);
                ahead.tokens.push(if place + horizon < len { self.ids[row + horizon] } else { -1 });
            }
            start += len;
        }
        ahead
    }
}

fn finite(rows: &Tensor, point: HookPoint, docs: &[u64]) -> Result<(), ModelError> {
    match not_finite(rows)? {
        None => Ok(()),
        Some(row) => {
            Err(ModelError::Input(format!("{point} is not finite at a token of document {}", docs[row])))
        }
    }
}

/// The first row of `[n, d]` with a number that is NaN or infinite.
pub(crate) fn not_finite(rows: &Tensor) -> Result<Option<usize>, ModelError> {
    if rows.f_sum(Kind::Double)?.double_value(&[]).is_finite() {
        return Ok(None);
    }
    let bad = rows.f_isfinite()?.f_all_dim(-1, false)?.f_logical_not()?.f_nonzero()?.f_view([-1])?;
    // A sum that overflows is not of numbers that do.
    Ok(if bad.size()[0] == 0 { None } else { Some(bad.f_get(0)?.int64_value(&[]) as usize) })
}

/// That the states `[seq, d]` of a prompt at `point` are finite.
///
/// # Errors
/// [`ModelError::Input`] naming the point and the first position that is not.
pub fn check_prompt(states: &Tensor, point: HookPoint) -> Result<(), ModelError> {
    match not_finite(states)? {
        None => Ok(()),
        Some(row) => Err(ModelError::Input(format!("{point} is not finite at position {row} of the prompt"))),
    }
}

/// Runs one prompt `[1, seq]` and says where its stream is not finite any more.
///
/// # Errors
/// As [`check_prompt`], at the first such layer; what the model says.
pub fn check_stream(model: &Model, ids: &Tensor) -> Result<(), ModelError> {
    let _no_grad = tch::no_grad_guard();
    let points: Vec<HookPoint> = (0..=model.spec().n_layers).map(HookPoint::resid_pre).collect();
    let mut capture = Capture::new(points.iter().copied().collect::<Selection>());
    let _none = model.forward(ids, &mut capture)?;
    let states = points.iter().filter_map(|point| Some((capture.get(*point)?, *point)));
    for (states, point) in states {
        check_prompt(&states.f_select(0, 0)?, point)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_that_is_not_finite_is_named() {
        let point = HookPoint::resid_pre(3);
        let rows = |values: &[f32]| Tensor::from_slice(values).view([-1, 2]);
        check_prompt(&rows(&[1., 2., 3., 4.]), point).unwrap();
        check_prompt(&rows(&[f32::MAX; 4]), point).unwrap();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = check_prompt(&rows(&[1., 2., 3., bad, bad, 1.]), point).unwrap_err();
            assert_eq!(
                error.to_string(),
                "blocks.3.hook_resid_pre is not finite at position 1 of the prompt"
            );
        }
    }

    #[test]
    fn ahead_stays_in_the_run() {
        let none = || Tensor::zeros([0], (Kind::Float, tch::Device::Cpu));
        let states = States {
            layers: vec![],
            last: none(),
            ids: vec![10, 11, 12, 20],
            docs: vec![0, 0, 0, 1],
            pos: vec![0, 1, 2, 0],
            runs: vec![3, 1],
            masked: false,
        };
        let one = states.ahead(1);
        assert_eq!((one.rows.clone(), one.teacher), (vec![0, 1, 2, 3], vec![0, 1, 2, 3]));
        assert_eq!(one.tokens, [11, 12, -1, -1]);
        let two = states.ahead(2);
        assert_eq!((two.rows, two.teacher, two.tokens), (vec![0, 1], vec![1, 2], vec![12, -1]));
        assert!(states.ahead(4).rows.is_empty());
    }
}
