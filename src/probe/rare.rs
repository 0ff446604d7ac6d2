//! Classes too rare to be in every part of every split: left out, or taken together as one, and named either way.

use std::{collections::BTreeSet, fmt};

use layerscope_probes::Error;
use serde_json::{Value, json};

use super::{ProbeError, Protocol, Target, Task, rounds};

/// The class that rare ones become together.
pub const TOGETHER: &str = "(rare)";

/// Names in a line for people.
const SHOWN: usize = 24;

/// What becomes of rare classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Treatment {
    /// Their items are left out
    Drop,
    /// They are one class, "(rare)"
    Group,
}

/// When a class is rare, and what becomes of it.
#[derive(Debug, Clone, Copy)]
pub struct RareRule {
    /// Fewest items of a class. It must be in as many groups as the splits need, whatever this says.
    pub min: usize,
    /// What becomes of it.
    pub how: Treatment,
}

/// A rare class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RareClass {
    /// Its name.
    pub name: String,
    /// Items of it.
    pub items: usize,
    /// Groups that have one.
    pub groups: usize,
}

/// The classes of a task without the rare ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// By old class the new one; none for a class that is left out.
    pub to: Vec<Option<u32>>,
    /// The new classes.
    pub names: Vec<String>,
    /// The rare ones.
    pub rare: Vec<RareClass>,
    /// What became of them; [`Treatment::Drop`] also where they are too rare even together.
    pub how: Treatment,
    /// What a class needs, in words.
    needs: String,
}

/// The classes that every split of `protocol` can have in every part; none where that is all of them, or labels are
/// numbers.
///
/// # Errors
/// [`ProbeError::TooRare`] when fewer than two are left; what [`rounds`] says of the groups themselves.
pub fn without_rare(task: &Task, protocol: Protocol, rule: RareRule) -> Result<Option<Kept>, ProbeError> {
    let Target::Classes { names, .. } = &task.target else { return Ok(None) };
    let (all, need) = (classes(task), protocol.groups_of_a_class());
    let few = |c: &RareClass| c.items < rule.min || c.groups < need;
    let mut rare: BTreeSet<usize> = (0..all.len()).filter(|c| few(&all[*c])).collect();
    let mut how = rule.how;
    let needs = match (need, rule.min) {
        (groups, 0 | 1) => format!("{groups} groups"),
        (groups, labels) => format!("{labels} labels and {groups} groups"),
    };
    loop {
        let some: Vec<RareClass> = rare.iter().map(|c| all[*c].clone()).collect();
        let kept = Kept::new(names, some, how, needs.clone())?;
        if kept.names.len() < 2 {
            return Err(ProbeError::TooRare { left: quoted(&kept.names), needs, rare: kept.listed() });
        }
        let place = match rounds(&task.regrouped(&kept.to, &kept.names), protocol) {
            Ok(_) => return Ok(Some(kept).filter(|kept| !kept.rare.is_empty())),
            Err(error) => lacking(&error).ok_or(error)?,
        };
        // The class that some part lacks is rare too; of the rare ones together nothing is left to do.
        match kept.to.iter().position(|to| *to == Some(place as u32)) {
            Some(old) if !rare.contains(&old) => drop(rare.insert(old)),
            _ => how = Treatment::Drop,
        }
    }
}

/// The class that a split cannot have in every part.
fn lacking(error: &ProbeError) -> Option<usize> {
    match error {
        ProbeError::Probe {
            source: Error::ClassInTooFewGroups { class, .. } | Error::PartLacksClass { class, .. },
            ..
        } => Some(class.number),
        _ => None,
    }
}

/// How often each class occurs.
fn classes(task: &Task) -> Vec<RareClass> {
    let Target::Classes { y, names } = &task.target else { return Vec::new() };
    let (mut items, mut groups) = (vec![0; names.len()], vec![BTreeSet::new(); names.len()]);
    for (class, group) in y.iter().zip(&task.groups) {
        items[*class as usize] += 1;
        groups[*class as usize].insert(*group);
    }
    let one = |((name, items), groups): ((&String, usize), BTreeSet<u64>)| RareClass {
        name: name.clone(),
        items,
        groups: groups.len(),
    };
    names.iter().zip(items).zip(groups).map(one).collect()
}

impl Kept {
    /// The classes `names` without those of `rare`.
    ///
    /// # Errors
    /// When there is a class with the name of the rare ones together.
    pub fn new(
        names: &[String],
        rare: Vec<RareClass>,
        how: Treatment,
        needs: String,
    ) -> Result<Self, ProbeError> {
        let gone = |name: &String| rare.iter().any(|class| class.name == *name);
        let mut kept: Vec<String> = names.iter().filter(|name| !gone(name)).cloned().collect();
        let together = (how == Treatment::Group && rare.len() > 1).then_some(kept.len() as u32);
        if together.is_some() {
            if names.iter().any(|name| name == TOGETHER) {
                return Err(ProbeError::NameTaken(TOGETHER));
            }
            kept.push(TOGETHER.into());
        }
        let new = |name: &String| kept.iter().position(|other| other == name).map(|place| place as u32);
        let to = names.iter().map(|name| if gone(name) { together } else { new(name) }).collect();
        let how = if together.is_some() { how } else { Treatment::Drop };
        Ok(Self { to, names: kept, rare, how, needs })
    }

    /// What a manifest says of it.
    pub fn facts(&self) -> Value {
        let one = |c: &RareClass| (c.name.clone(), json!({ "labels": c.items, "groups": c.groups }));
        let how = if self.how == Treatment::Group { "grouped" } else { "dropped" };
        json!({ "how": how, "needs": self.needs, "classes": self.rare.iter().map(one).collect::<serde_json::Map<_, _>>() })
    }

    fn listed(&self) -> String {
        let counted = |n: usize, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
        let one = |c: &RareClass| {
            format!("{:?} ({} in {})", c.name, counted(c.items, "label"), counted(c.groups, "group"))
        };
        let mut shown: Vec<String> = self.rare.iter().take(SHOWN).map(one).collect();
        if self.rare.len() > SHOWN {
            shown.push(format!("{} more, all in manifest.json", self.rare.len() - SHOWN));
        }
        shown.join(", ")
    }
}

/// A line for people.
impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.rare.len();
        let classes = if n == 1 { "1 class".to_owned() } else { format!("{n} classes") };
        let (done, hint) = match self.how {
            Treatment::Drop if n > 1 => ("left out", "; --rare group keeps them as one"),
            Treatment::Drop => ("left out", ""),
            Treatment::Group => ("together as \"(rare)\"", ""),
        };
        write!(f, "{:<10} {classes} {done}, a class needs {}{hint}: {}", "rare", self.needs, self.listed())
    }
}

fn quoted(names: &[String]) -> String {
    match names {
        [] => "no class is left".into(),
        [one] => format!("one class is left, {one:?}"),
        _ => format!("{} classes are left", names.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::labelled::Unit;

    /// Classes by letter, a group of its own each unless a digit says which.
    fn task(labels: &str) -> Task {
        let mut names: Vec<String> = labels.split(' ').map(|l| l[..1].to_owned()).collect();
        names.sort();
        names.dedup();
        let class = |l: &str| names.iter().position(|name| *name == l[..1]).unwrap() as u32;
        let y = labels.split(' ').map(class).collect();
        let group = |(i, l): (usize, &str)| l[1..].parse().unwrap_or(100 + i as u64);
        let groups: Vec<u64> = labels.split(' ').enumerate().map(group).collect();
        let windows = (0..groups.len() as u32).collect();
        Task { target: Target::Classes { y, names }, groups, types: None, windows, unit: Unit::Text }
    }

    fn kept(labels: &str, kfold: Option<usize>, min: usize, how: Treatment) -> Result<Option<Kept>, String> {
        let protocol = Protocol { seed: 0, seeds: 3, kfold };
        without_rare(&task(labels), protocol, RareRule { min, how }).map_err(|error| error.to_string())
    }

    #[test]
    fn rare_classes_are_left_out_or_taken_together() {
        let labels = "a a a a b b b b c c d e e e1 e1 e1";
        let found = kept(labels, None, 0, Treatment::Drop).unwrap().unwrap();
        assert_eq!(
            (found.names.join(""), found.to.clone()),
            ("abe".into(), vec![Some(0), Some(1), None, None, Some(2)])
        );
        let says = "rare       2 classes left out, a class needs 3 groups; --rare group keeps them as one: \
                    \"c\" (2 labels in 2 groups), \"d\" (1 label in 1 group)";
        assert_eq!(found.to_string(), says);
        assert_eq!(found.facts()["classes"]["d"], json!({ "labels": 1, "groups": 1 }));
        let found = kept(labels, None, 0, Treatment::Group).unwrap().unwrap();
        assert_eq!(
            (found.names.last().unwrap().as_str(), found.to[2], found.to[3]),
            (TOGETHER, Some(3), Some(3))
        );
        // Four folds need a class in four groups: e is in three; c, d and e together are in six.
        let found = kept(labels, Some(4), 0, Treatment::Group).unwrap().unwrap();
        assert_eq!((found.names.join(" "), found.rare.len()), ("a b (rare)".into(), 3));
        // Five labels at least: only e has them, and it is in three groups.
        let error = kept(labels, None, 5, Treatment::Drop).unwrap_err();
        assert!(
            error.starts_with("one class is left, \"e\", where a class needs 5 labels and 3 groups"),
            "{error}"
        );
        assert!(error.contains("\"a\" (4 labels in 4 groups)"), "{error}");
        assert_eq!(kept("a a a b b b", None, 0, Treatment::Drop).unwrap(), None);
    }

    #[test]
    fn too_rare_even_together_and_one_alone_are_left_out() {
        let found = kept("a a a b b b c d", None, 0, Treatment::Group).unwrap().unwrap();
        assert_eq!((found.names.join(""), found.how), ("ab".into(), Treatment::Drop));
        let found = kept("a a a b b b c c", None, 0, Treatment::Group).unwrap().unwrap();
        assert_eq!(
            (found.names.join(""), found.how, found.rare[0].name.as_str()),
            ("ab".into(), Treatment::Drop, "c")
        );
    }

    #[test]
    fn a_class_that_some_part_lacks_is_rare_too() {
        // Every class is in three groups, but no three parts of the four groups have all of them.
        let labels = "a1 b1 a2 c2 b3 c3 a4 b4 c4 a b a b a b a b";
        let found = kept(labels, None, 0, Treatment::Drop).unwrap();
        assert!(found.is_none_or(|found| found.names.join("") == "ab"));
        let error = kept("a1 b1 a2 b2", None, 0, Treatment::Drop).unwrap_err();
        assert!(
            error.starts_with("no class is left, where a class needs 3 groups; too rare: \"a\""),
            "{error}"
        );
    }
}
