//! What a plan does not read as it stands.

use super::noted::{Noted, line};
use super::set::LabelledSet;
use super::share::Share;
use std::fmt;

/// Labels and texts that are not read as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Items left out: no token covers them.
    pub uncovered: Noted,
    /// Items left out: they reach beyond the context window.
    pub beyond: Noted,
    /// Texts longer than the context window, which are read as far as they fit.
    pub cut: Noted,
    /// Words or spans that share a token with the one before; they are kept.
    pub shared: Noted,
    /// Texts whose last token, which is read, is space alone.
    pub blank_end: Noted,
}

impl Skipped {
    pub(super) fn note(&mut self, set: &LabelledSet, text: usize, share: &Share) {
        let place = |target: usize| {
            let place = set.texts[text].place.clone();
            set.targets[target].form.as_ref().map_or(place.clone(), |form| format!("{place}: {form:?}"))
        };
        let lists = [
            (&mut self.uncovered, &share.uncovered),
            (&mut self.beyond, &share.beyond),
            (&mut self.shared, &share.shared),
        ];
        for (noted, targets) in lists {
            for &target in targets {
                noted.add(|| place(target));
            }
        }
        for (noted, happened) in [(&mut self.cut, share.cut), (&mut self.blank_end, share.blank_end)] {
            if happened {
                noted.add(|| set.texts[text].place.clone());
            }
        }
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = [self.uncovered.clause("that no token covers"), self.beyond.clause("beyond the context")];
        line(f, "skipped", lost)?;
        let kept = [
            self.cut.clause("texts longer than the context, read as far as they fit"),
            self.shared.clause("sharing a token with the word before"),
            self.blank_end.clause("texts that end in space, which is the last token"),
        ];
        line(f, "noted", kept)
    }
}
