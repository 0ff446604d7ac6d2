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

use super::{BlockHook, HookPoint, Selection, Tap};
use crate::draw::derangement;

/// Which positions an edit covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Positions {
    /// All of the prompt; every generated one too where edits go on.
    All,
    /// These, counted from 0; negative ones from the end of the prompt, -1 its last. Where edits go on during generation, -1
    /// is every newest token.
    List(Vec<i64>),
}

impl Positions {
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
    pub positions: Positions,
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

    /// A tap for one batch of sequences: the first pass it sees is the prompt, later ones go on from there, whether they start
    /// over or use a cache.
    pub fn tap(&self) -> EditTap<'_> {
        EditTap { edits: self, prompt: None, start: 0, means: BTreeMap::new(), failure: None }
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
    /// The prompt's mean by edit and point.
    means: BTreeMap<(usize, HookPoint), Tensor>,
    failure: Option<String>,
}

impl EditTap<'_> {
    /// The value after the `i`-th edit.
    fn edit(&mut self, i: usize, point: HookPoint, value: &Tensor) -> Result<Tensor, TchError> {
        let edit = &self.edits.edits[i];
        let square = matches!(point, HookPoint::Block(_, BlockHook::AttnScores | BlockHook::Pattern));
        let (dim, heads_dim) = if square { (2, 1) } else { (1, 2) };
        let seq = value.size()[dim as usize];
        let prompt = *self.prompt.get_or_insert(self.start + seq as usize);
        let covered = |p: &i64| edit.positions.covers(self.start + *p as usize, prompt);
        let places: Vec<i64> = (0..seq).filter(covered).collect();
        if let (Change::Mean, Entry::Vacant(empty)) = (&edit.change, self.means.entry((i, point))) {
            empty.insert(value.f_mean_dim([0, dim].as_slice(), true, value.kind())?);
        }
        if places.is_empty() {
            return Ok(value.shallow_clone());
        }
        let index = |list: &[i64]| Tensor::from_slice(list).to_device(value.device());
        let rows = value.size()[0] as usize;
        let donors = derangement(self.edits.seed, rows)
            .map(|order| index(&order.iter().map(|row| *row as i64).collect::<Vec<_>>()));
        if let (Change::Resample, None) = (&edit.change, &donors) {
            self.failure = Some(format!("resample at {point}: a batch of one row has no other to take from"));
            return Ok(value.shallow_clone());
        }
        let mean = self.means.get(&(i, point));
        let Some(heads) = edit.heads.as_ref().map(|heads| index(heads)) else {
            let context = Context { mean, donors: donors.as_ref() };
            return within(value, dim, &index(&places), |part| edit.change.apply(part, &context));
        };
        let mean = mean.map(|mean| mean.f_index_select(heads_dim, &heads)).transpose()?;
        let context = Context { mean: mean.as_ref(), donors: donors.as_ref() };
        within(value, dim, &index(&places), |part| {
            within(part, heads_dim, &heads, |part| edit.change.apply(part, &context))
        })
    }
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
        self.prompt.get_or_insert(positions.end);
    }

    fn visit(&mut self, point: HookPoint, mut value: Tensor) -> Tensor {
        for i in 0..self.edits.edits.len() {
            if !self.edits.edits[i].points.contains(point) {
                continue;
            }
            match self.edit(i, point, &value) {
                Ok(edited) => value = edited,
                Err(error) => {
                    let line = error.to_string().lines().next().unwrap_or_default().to_owned();
                    self.failure.get_or_insert(format!("the edit at {point}: {line}"));
                }
            }
        }
        value
    }

    fn wants(&self, point: HookPoint) -> bool {
        self.edits.edits.iter().any(|edit| edit.points.contains(point))
    }

    fn failure(&mut self) -> Option<String> {
        self.failure.take()
    }
}
