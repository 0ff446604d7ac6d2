//! The labelled sets between which probes are transferred.

use super::Transfer;
use crate::{
    job::{JobError, Session, SetTo, Watch, probe::labelled::Labelled},
    probe::{Estimator, Kept, Protocol, RareClass, Round, Target, Treatment, rounds, without_rare},
    sources::{
        labelled::LabelValues,
        leakage::{Basis, Leakage},
        text::Tokenizer,
    },
};

/// One set, ready to run.
pub(super) struct Ready {
    pub(super) name: String,
    pub(super) labelled: Labelled,
    pub(super) round: Round,
}

impl Transfer {
    /// Every set, without the classes that are too rare in one of them, and its split.
    pub(super) fn ready(
        &self,
        session: &Session,
        tokenizer: &Tokenizer,
        watch: &dyn Watch,
    ) -> Result<Vec<Ready>, JobError> {
        let protocol = Protocol { seed: self.seed, seeds: 1, kfold: None };
        let (mut sets, mut rare, mut how) = (Vec::new(), Vec::<RareClass>::new(), self.rare.rule().how);
        for path in &self.data {
            let name = path.file_stem().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            watch.note(&name);
            let labelled = self.labels.read(std::slice::from_ref(path), session, tokenizer, watch)?;
            let kept = without_rare(&labelled.task, protocol, self.rare.rule()).map_err(JobError::usage)?;
            if let Some(kept) = kept {
                // Where they are too rare even together, they are left out everywhere.
                how = if kept.how == Treatment::Drop { Treatment::Drop } else { how };
                for class in kept.rare {
                    if rare.iter().all(|other| other.name != class.name) {
                        rare.push(class);
                    }
                }
            }
            sets.push((name, labelled));
        }
        let ready = |(name, mut labelled): (String, Labelled)| -> Result<Ready, JobError> {
            if let Target::Classes { names, .. } = &labelled.task.target {
                let own: Vec<RareClass> = rare.iter().filter(|c| names.contains(&c.name)).cloned().collect();
                let kept =
                    Kept::new(names, own, how, "3 groups in every set".into()).map_err(JobError::usage)?;
                labelled.without(Some(kept).filter(|kept| !kept.rare.is_empty()), watch);
            }
            let round = rounds(&labelled.task, protocol).map_err(JobError::usage)?.remove(0);
            Ok(Ready { name, labelled, round })
        };
        sets.into_iter().map(ready).collect()
    }
}

/// The test part of every set against what the probe of every other is fitted on.
pub(super) fn between(sets: &[Ready]) -> Vec<Leakage> {
    let mut found = Vec::new();
    for from in sets {
        let fitted = from.labelled.fitted_on(&from.round);
        for to in sets.iter().filter(|to| to.name != from.name) {
            let texts = to.labelled.texts(to.round.test.iter().copied());
            let overlap = fitted.overlap_of_texts(texts.iter().map(|(text, items)| (text.as_str(), *items)));
            let (name, part) =
                (format!("the probe of {}", from.name), format!("the test part of {}", to.name));
            found.push(Leakage::found(name, &part, Basis::Words, overlap));
        }
    }
    found
}

/// All sets must have the same classes, names of their own, and labels that the probe fits.
pub(super) fn check_sets(sets: &[Ready], probe: Estimator, paired: bool) -> Result<(), JobError> {
    let names = |set: &Ready| match &set.labelled.sides[0].plan.labels {
        LabelValues::Classes { names, .. } => Some(names.clone()),
        LabelValues::Numbers(_) => None,
    };
    for (number, set) in sets.iter().enumerate() {
        if names(set) != names(&sets[0]) {
            return Err(JobError::usage(format!(
                "{} has the classes {}, {} has {}: a probe cannot be read across them",
                sets[0].name,
                names(&sets[0]).unwrap_or_default().join(", "),
                set.name,
                names(set).unwrap_or_default().join(", ")
            )));
        }
        if sets[..number].iter().any(|other| other.name == set.name) {
            return Err(JobError::setting("data", format!("two sets are called {}", set.name)));
        }
        if !probe.suits(set.labelled.task.n_classes(), paired) {
            return Err(JobError::usage(format!(
                "{}: it does not fit the labels of {}",
                SetTo("probe", probe.name()),
                set.name
            )));
        }
    }
    Ok(())
}
