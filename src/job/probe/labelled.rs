//! Labelled texts, ready to be read from a model.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    hook::HookPoint,
    job::{Session, Watch},
    probe::{Features, Kept, Round, Task},
    sources::{
        labelled::{LabelledSet, Plan},
        leakage::FittedOn,
    },
};

/// Labelled texts, ready to be read from a model.
pub(super) struct Labelled {
    /// The texts; of pairs the statements, then their negations.
    pub(super) sides: Vec<Side>,
    pub(super) task: Task,
    /// Classes that were too rare.
    pub(super) rare: Option<Kept>,
    /// What the text of chats depends on, where there are any.
    pub(super) chat: Option<serde_json::Value>,
}

/// One text of every row.
pub(super) struct Side {
    pub(super) set: LabelledSet,
    pub(super) plan: Plan,
}

impl Labelled {
    /// Takes rare classes out of everything that is read, and says which.
    pub(super) fn without(&mut self, rare: Option<Kept>, watch: &dyn Watch) {
        let Some(kept) = rare else { return };
        watch.note(&kept.to_string());
        self.regroup(&kept.to, &kept.names);
        self.rare = Some(kept);
    }

    /// Gives every item the class `to[c]` in place of c, or leaves it out.
    pub(super) fn regroup(&mut self, to: &[Option<u32>], names: &[String]) {
        self.sides.iter_mut().for_each(|side| side.plan.regroup(to, names));
        self.task = Task::of(&self.sides[0].plan, self.sides[0].set.unit);
    }

    /// Where the states of every side are in the run directory.
    pub(super) fn features(&self, run: &Path, session: &Session, points: &[HookPoint]) -> Vec<Features> {
        let folders = [run.to_owned(), run.join("negations")];
        let one = |dir: &PathBuf| Features::new(dir, &session.spec, points, self.task.len());
        folders[..self.sides.len()].iter().map(one).collect()
    }

    /// Tokens of every window for a bag of tokens; those of a negation count as others than the statement's.
    pub(super) fn tokens(&self, vocab: usize) -> Vec<Vec<u32>> {
        let windows = self.sides.iter().map(|side| &side.plan.windows);
        let mut all = vec![Vec::new(); self.sides[0].plan.windows.len()];
        for (number, windows) in windows.enumerate() {
            for (bag, window) in all.iter_mut().zip(windows) {
                bag.extend(window.ids.iter().map(|id| id + (number * vocab) as u32));
            }
        }
        all
    }

    /// The texts of these items, a pair's both together, each with the number of its items.
    pub(super) fn texts(&self, items: impl IntoIterator<Item = usize>) -> Vec<(String, u64)> {
        let mut of_text = BTreeMap::new();
        for item in items {
            let texts: Vec<u32> = self.sides.iter().map(|side| side.plan.items[item].text).collect();
            *of_text.entry(texts).or_insert(0) += 1;
        }
        let whole = |texts: &Vec<u32>| {
            let texts = self.sides.iter().zip(texts).map(|(side, i)| &*side.set.texts[*i as usize].text);
            texts.collect::<Vec<&str>>().join("\n")
        };
        of_text.iter().map(|(texts, items)| (whole(texts), *items)).collect()
    }

    /// What a probe of this split is fitted on: its penalty is chosen on the validation part.
    pub(super) fn fitted_on(&self, round: &Round) -> FittedOn {
        let texts = self.texts(round.train.iter().chain(&round.validation).copied());
        FittedOn::of_texts(texts.iter().map(|(text, _)| text.as_str()))
    }

    /// Texts and tokens.
    pub(super) fn size(&self) -> (u64, u64) {
        let windows = || self.sides.iter().flat_map(|side| &side.plan.windows);
        (windows().count() as u64, windows().map(|w| w.ids.len() as u64).sum())
    }
}
