//! Labels as a saved probe knows them.

use crate::{
    job::{JobError, Setting, Watch, probe::labelled::Labelled},
    probe::{Target, saved::Facts},
    sources::labelled::place_of_class,
};

/// Gives the items the probe's classes, in its order; those of classes that were too rare to be fitted are left out, or
/// the class that the rare ones are together.
pub(super) fn as_fitted(facts: &Facts, labelled: &mut Labelled, watch: &dyn Watch) -> Result<(), JobError> {
    let (known, names) = match (&facts.classes, &labelled.task.target) {
        (Some(known), Target::Classes { names, .. }) => (known, names),
        (None, Target::Numbers(_)) => return Ok(()),
        (Some(_), Target::Numbers(_)) => return Err(JobError::setting("numbers", "the probe tells classes")),
        (None, _) => {
            let how = format!("the probe gives numbers: read the labels with {}", Setting("numbers"));
            return Err(JobError::usage(how));
        }
    };
    let place = |name: &String, among: &[String]| place_of_class(name, among).map(|place| place as u32);
    let together = facts.rare.as_ref().and_then(|rare| place(rare.together.as_ref()?, known));
    let is_rare =
        |name: &String| facts.rare.as_ref().is_some_and(|rare| place(name, &rare.classes).is_some());
    let strange: Vec<String> =
        names.iter().filter(|n| place(n, known).is_none() && !is_rare(n)).map(|n| format!("{n:?}")).collect();
    if !strange.is_empty() {
        return Err(JobError::usage(format!(
            "the probe does not know the class{} {}; it knows {}",
            if strange.len() == 1 { "" } else { "es" },
            strange.join(", "),
            known.join(", ")
        )));
    }
    let to: Vec<Option<u32>> =
        names.iter().map(|name| place(name, known).or(together.filter(|_| is_rare(name)))).collect();
    let gone: Vec<String> =
        names.iter().zip(&to).filter(|(_, to)| to.is_none()).map(|(name, _)| format!("{name:?}")).collect();
    let (before, known) = (labelled.task.len(), known.clone());
    labelled.regroup(&to, &known);
    if labelled.task.is_empty() {
        let gone = gone.join(", ");
        return Err(JobError::usage(format!(
            "every label is of a class that was too rare to be fitted: {gone}"
        )));
    }
    if !gone.is_empty() {
        let n = before - labelled.task.len();
        let gone = gone.join(", ");
        watch.note(&format!("{:<10} {n} of classes too rare to be fitted: {gone}", "left out"));
    }
    Ok(())
}
