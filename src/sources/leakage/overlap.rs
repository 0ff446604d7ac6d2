//! How much of some documents was fitted on.

use super::{
    Basis, FittedOn, Overlap,
    document::{each_document, runs, whole, words},
};
use crate::sources::text::Window;

/// Runs of a passage where all are kept; of a sketch of fewer the passages are longer.
const PASSAGE: usize = 64;
/// Runs that must be looked up to judge a passage, and a document, by a sketch that does not hold all.
const ENOUGH: [usize; 2] = [4, 8];
/// Share of tokens from which on coincidences would be a leak.
const FLOOR: f64 = 0.001;

impl FittedOn {
    /// Compares the documents of `windows`, in reading order, without tokens of `lead` in front; rows are tokens.
    pub fn overlap_of_windows<'w>(
        &self,
        windows: impl IntoIterator<Item = &'w Window>,
        lead: &[u32],
    ) -> Overlap {
        let mut comparison = Comparison::new(self);
        each_document(windows, lead, |_, ids| comparison.add(ids, ids.len() as u64));
        comparison.end()
    }

    /// Compares texts, each with the number of items that are read from it.
    pub fn overlap_of_texts<'t>(&self, texts: impl IntoIterator<Item = (&'t str, u64)>) -> Overlap {
        let mut comparison = Comparison::new(self);
        texts.into_iter().for_each(|(text, items)| comparison.add(&words(text), items));
        comparison.end()
    }
}

/// Sums over documents.
pub(super) struct Comparison<'a> {
    fitted: &'a FittedOn,
    found: Overlap,
    /// Near documents that are no coincidence, and the rows of near ones.
    telling: u64,
    near_rows: u64,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(fitted: &'a FittedOn) -> Self {
        let found = Overlap {
            documents: 0,
            looked_up: 0,
            identical: 0,
            near: 0,
            rows: 0,
            seen_rows: 0,
            leaks: false,
        };
        Self { fitted, found, telling: 0, near_rows: 0 }
    }

    /// Adds a document of so many rows; an empty one is none.
    pub(super) fn add(&mut self, symbols: &[u32], rows: u64) {
        if symbols.is_empty() {
            return;
        }
        self.found.documents += 1;
        self.found.rows += rows;
        let (hash, wholes) = (whole(symbols), &self.fitted.wholes);
        let telling = symbols.len() >= self.fitted.basis.telling();
        self.found.looked_up += u64::from(wholes.keeps(hash));
        if wholes.count(hash).is_some() {
            self.found.identical += 1;
            self.found.seen_rows += rows;
            self.found.leaks |= telling;
            return;
        }
        let judged = self.judge(symbols);
        let seen = rows * judged.seen / judged.runs.max(1);
        self.found.near += u64::from(judged.near);
        self.telling += u64::from(judged.near && telling);
        // Labelled texts are seen as a whole or not at all.
        match self.fitted.basis {
            Basis::Tokens => self.found.seen_rows += seen,
            Basis::Words => self.near_rows += if judged.near { rows } else { 0 },
        }
    }

    fn judge(&self, symbols: &[u32]) -> Judged {
        let sketch = &self.fitted.runs;
        let length = PASSAGE << sketch.level().saturating_sub(2).min(24);
        let [of_passage, of_document] = if sketch.level() == 0 { [1, 1] } else { ENOUGH };
        let (mut all, mut judged) = (Weights::default(), Judged::default());
        let (mut passage, mut in_passage) = (Weights::default(), 0);
        let runs = runs(symbols, self.fitted.basis.run());
        for run in runs {
            if in_passage == length {
                judged.seen += if passage.half(of_passage) { in_passage as u64 } else { 0 };
                (passage, in_passage) = (Weights::default(), 0);
            }
            in_passage += 1;
            judged.runs += 1;
            if sketch.keeps(run) {
                let (information, seen) = self.fitted.information(run);
                all.add(information, seen);
                passage.add(information, seen);
            }
        }
        judged.seen += if passage.half(of_passage) { in_passage as u64 } else { 0 };
        judged.near = all.half(of_document);
        judged
    }

    pub(super) fn end(self) -> Overlap {
        let Self { fitted, mut found, telling, near_rows } = self;
        if (found.near as f64) < fitted.basis.named() * found.documents as f64 {
            found.near = 0;
        } else {
            found.seen_rows += near_rows;
        }
        let share = found.seen_rows as f64 >= FLOOR * found.rows as f64 && found.seen_rows > 0;
        found.leaks |= share || (found.near > 0 && telling > 0);
        found
    }
}

/// What was found of a document that is not equal to any.
#[derive(Default)]
struct Judged {
    near: bool,
    /// Runs, and those in passages that were fitted on.
    runs: u64,
    seen: u64,
}

/// What runs tell, in all and of those that were fitted on.
#[derive(Default)]
struct Weights {
    all: f64,
    seen: f64,
    looked_up: usize,
}

impl Weights {
    fn add(&mut self, information: f64, seen: bool) {
        self.all += information;
        self.seen += if seen { information } else { 0.0 };
        self.looked_up += 1;
    }

    fn half(&self, enough: usize) -> bool {
        self.looked_up >= enough && 2.0 * self.seen >= self.all
    }
}
