//! Edits at chosen points, heads and positions, as one tap.

mod change;
mod error;
mod fit;
mod spec;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Range,
};

pub use change::Change;
use change::Context;
pub use error::EditError;
pub use spec::EditSpec;
use tch::{TchError, Tensor};

use crate::hook::{BlockHook, HookPoint, Selection, Tap, TapError, first_line};
use crate::results::draw::derangement;

/// Which positions an edit covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditPositions {
    /// All of the prompt; every generated one too where edits go on.
    All,
    /// These, counted from 0; negative ones from the end of the prompt, -1 its last. Where edits go on during
    /// generation, -1 is every newest token.
    List(Vec<i64>),
}

impl EditPositions {
    /// Whether `position` of a sequence with a prompt of `prompt` tokens is covered.
    pub fn covers(&self, position: usize, prompt: usize) -> bool {
        let (position, prompt) = (position as i64, prompt as i64);
        match self {
            Self::All => true,
            Self::List(list) => list.iter().any(|&p| match p {
                0.. => p == position,
                -1 => position >= prompt - 1,
                _ => p + prompt == position,
            }),
        }
    }
}

/// One change at some points.
#[derive(Debug)]
pub struct PlacedEdit {
    /// At which points.
    pub points: Selection,
    /// Of values with heads only these; none: all.
    pub heads: Option<Vec<i64>>,
    /// At which positions.
    pub positions: EditPositions,
    /// What becomes of them.
    pub change: Change,
}

/// Edits, in the order in which they apply. They see every batch `[batch, seq, ..]` a tap sees.
#[derive(Debug, Default)]
pub struct Edits {
    edits: Vec<PlacedEdit>,
    seed: u64,
}

impl Edits {
    /// These edits; `seed` is that of resampling.
    pub fn new(edits: Vec<PlacedEdit>, seed: u64) -> Self {
        Self { edits, seed }
    }

    /// Whether nothing is edited.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Whether a row's values depend on the other rows of its batch.
    pub fn mixes_rows(&self) -> bool {
        self.edits.iter().any(|edit| edit.change.mixes_rows())
    }

    /// Whether rows take values of other rows.
    pub fn resamples(&self) -> bool {
        self.edits.iter().any(|edit| matches!(edit.change, Change::Resample))
    }

    /// A tap for one batch of sequences: the first pass it sees is the prompt, later ones go on from there, whether
    /// they start over or use a cache.
    pub fn tap(&self) -> EditTap<'_> {
        EditTap { edits: self, prompt: None, start: 0, visits: BTreeMap::new(), means: BTreeMap::new() }
    }
}

/// See [`Edits::tap`].
#[derive(Debug)]
pub struct EditTap<'a> {
    edits: &'a Edits,
    /// Tokens of the prompt, once it was seen.
    prompt: Option<usize>,
    /// Position of the first token of this pass.
    start: usize,
    /// How often this pass has been at a point; blocks may run more than once.
    visits: BTreeMap<HookPoint, usize>,
    /// The prompt's mean by edit, point and visit.
    means: BTreeMap<(usize, HookPoint, usize), Tensor>,
}

impl EditTap<'_> {
    /// The value after the `i`-th edit.
    fn edit(&mut self, i: usize, point: HookPoint, value: &Tensor) -> Result<Tensor, EditFailed> {
        let edit = &self.edits.edits[i];
        let (dim, heads_dim) = if is_square(point) { (2, 1) } else { (1, 2) };
        let mean = self.mean(i, point, value, dim)?;
        let places = self.places(&edit.positions, value.size()[dim as usize]);
        if places.is_empty() {
            return Ok(value.shallow_clone());
        }
        let index = |list: &[i64]| Tensor::from_slice(list).to_device(value.device());
        let donors = match &edit.change {
            Change::Resample => Some(index(&self.donors(value.size()[0])?)),
            _ => None,
        };
        let change = |part: &Tensor, mean: Option<&Tensor>| {
            edit.change.apply(part, &Context { mean, donors: donors.as_ref() })
        };
        let Some(heads) = edit.heads.as_ref().map(|heads| index(heads)) else {
            return Ok(within(value, dim, &index(&places), |part| change(part, mean.as_ref()))?);
        };
        let mean = mean.map(|mean| mean.f_index_select(heads_dim, &heads)).transpose()?;
        Ok(within(value, dim, &index(&places), |part| {
            within(part, heads_dim, &heads, |part| change(part, mean.as_ref()))
        })?)
    }

    /// The covered ones of the `seq` positions of this pass, counted from its start.
    fn places(&mut self, positions: &EditPositions, seq: i64) -> Vec<i64> {
        let (start, prompt) = (self.start, *self.prompt.get_or_insert(self.start + seq as usize));
        (0..seq).filter(|p| positions.covers(start + *p as usize, prompt)).collect()
    }

    /// The mean over rows and positions of the prompt's pass, where the edit takes one.
    fn mean(
        &mut self,
        i: usize,
        point: HookPoint,
        value: &Tensor,
        dim: i64,
    ) -> Result<Option<Tensor>, TchError> {
        if !matches!(self.edits.edits[i].change, Change::Mean) {
            return Ok(None);
        }
        let visit = self.visits.get(&point).copied().unwrap_or(0);
        let mean = match self.means.entry((i, point, visit)) {
            Entry::Occupied(kept) => kept.into_mut(),
            Entry::Vacant(empty) => {
                empty.insert(value.f_mean_dim([0, dim].as_slice(), true, value.kind())?)
            }
        };
        Ok(Some(mean.shallow_clone()))
    }

    /// Per row, whose value it gets.
    fn donors(&self, rows: i64) -> Result<Vec<i64>, EditFailed> {
        let order = derangement(self.edits.seed, rows as usize);
        let order = order.ok_or("resample: a batch of one row has no other to take from".to_owned())?;
        Ok(order.into_iter().map(|row| row as i64).collect())
    }
}

/// Why an edit could not be made.
struct EditFailed(String);

impl From<String> for EditFailed {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

impl From<TchError> for EditFailed {
    fn from(error: TchError) -> Self {
        Self(first_line(&error))
    }
}

/// Whether the value is `[batch, head, query, key]`.
pub(crate) fn is_square(point: HookPoint) -> bool {
    matches!(point, HookPoint::Block(_, BlockHook::AttnScores | BlockHook::Pattern))
}

/// `value` with `change` made to the entries `index` of dimension `dim`.
fn within(
    value: &Tensor,
    dim: i64,
    index: &Tensor,
    change: impl Fn(&Tensor) -> Result<Tensor, TchError>,
) -> Result<Tensor, TchError> {
    value.f_index_copy(dim, index, &change(&value.f_index_select(dim, index)?)?)
}

impl Tap for EditTap<'_> {
    fn begin(&mut self, positions: Range<usize>) {
        self.start = positions.start;
        self.visits.clear();
        self.prompt.get_or_insert(positions.end);
    }

    fn visit(&mut self, point: HookPoint, mut value: Tensor) -> Result<Tensor, TapError> {
        for i in 0..self.edits.edits.len() {
            if self.edits.edits[i].points.contains(point) {
                let edited = self.edit(i, point, &value);
                value = edited.map_err(|EditFailed(reason)| TapError::Edit { point, reason })?;
            }
        }
        *self.visits.entry(point).or_insert(0) += 1;
        Ok(value)
    }

    fn wants(&self, point: HookPoint) -> bool {
        self.edits.edits.iter().any(|edit| edit.points.contains(point))
    }
}
