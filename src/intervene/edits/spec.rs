//! Edits in words: `HOOK[#HEADS][@POSITIONS]:CHANGE`, such as `blocks.3.hook_resid_pre@-1:scale=0`.
//!
//! | part | |
//! |---|---|
//! | `HOOK` | as `--hooks` takes them: a TransformerLens name, a short name (every layer), a glob |
//! | `#HEADS` | of values with heads only these: `#0,3` |
//! | `@POSITIONS` | `all` (also without it), `last`, or a list of positions and ranges: `0,3,-1`, `0..4`; negative ones count from the prompt's end |
//! | `CHANGE` | `zero`, `mean`, `resample`, `scale=F`, `clip=NORM`, `add=FILE[:KEY][*F]`, `replace=FILE[:KEY]`, `project-out=FILE[:KEY]`, `swap=FILE[:KEY][*F]` |

use std::{path::Path, str::FromStr};

use super::{EditError, EditPositions};

/// An edit as it was written, not yet that of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct EditSpec {
    pub(super) text: String,
    pub(super) hook: String,
    pub(super) heads: Option<Vec<i64>>,
    pub(super) positions: EditPositions,
    pub(super) op: Op,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Op {
    Zero,
    Mean,
    Resample,
    Scale(f64),
    Clip(f64),
    Add(String, f64),
    Replace(String),
    ProjectOut(String),
    Swap(String, f64),
}

const CHANGES: &str = "zero, mean, resample, scale=F, clip=NORM, add=FILE[:KEY][*F], replace=FILE[:KEY], \
                       project-out=FILE[:KEY] and swap=FILE[:KEY][*F]";

impl FromStr for EditSpec {
    type Err = EditError;

    fn from_str(text: &str) -> Result<Self, EditError> {
        let wrong = |reason: String| EditError::Syntax { edit: text.to_owned(), reason };
        let (place, change) = text
            .split_once(':')
            .ok_or_else(|| wrong("expected HOOK[#HEADS][@POSITIONS]:CHANGE".to_owned()))?;
        let (place, positions) = place.split_once('@').map_or((place, "all"), |(p, q)| (p, q));
        let (hook, heads) = place.split_once('#').map_or((place, None), |(h, n)| (h, Some(n)));
        if hook.is_empty() {
            return Err(wrong("no hook before the `:`".to_owned()));
        }
        let heads = heads.map(|list| numbers(list).map_err(wrong)).transpose()?;
        if let Some(head) = heads.iter().flatten().find(|head| **head < 0) {
            return Err(wrong(format!("`{head}` is no head")));
        }
        let positions = match positions {
            "all" => EditPositions::All,
            "last" => EditPositions::List(vec![-1]),
            list => EditPositions::List(numbers(list).map_err(wrong)?),
        };
        let op = op(change).map_err(wrong)?;
        Ok(Self { text: text.to_owned(), hook: hook.to_owned(), heads, positions, op })
    }
}

/// `0,3,-1` and `0..4`, as written and each once.
fn numbers(list: &str) -> Result<Vec<i64>, String> {
    let number = |t: &str| t.trim().parse::<i64>().map_err(|_| format!("`{t}` is not a whole number"));
    let mut all = Vec::new();
    for part in list.split(',') {
        match part.split_once("..") {
            None => all.push(number(part)?),
            Some((from, to)) => {
                let (from, to) = (number(from)?, number(to)?);
                if from >= to || (from < 0) != (to <= 0) || to.saturating_sub(from) > 1 << 24 {
                    return Err(format!("`{part}` is not an ascending range on one side of 0"));
                }
                all.extend(from..to);
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn op(change: &str) -> Result<Op, String> {
    let (name, value) = change.split_once('=').map_or((change, None), |(n, v)| (n, Some(v)));
    let number = |v: &str| match v.parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(x),
        _ => Err(format!("`{v}` is not a number")),
    };
    match (name, value) {
        ("zero", None) => Ok(Op::Zero),
        ("mean", None) => Ok(Op::Mean),
        ("resample", None) => Ok(Op::Resample),
        ("scale", Some(v)) => Ok(Op::Scale(number(v)?)),
        ("clip", Some(v)) => match number(v)? {
            norm if norm > 0.0 => Ok(Op::Clip(norm)),
            _ => Err(format!("clip={v}: a norm is above 0")),
        },
        ("add" | "swap", Some(v)) => {
            let (file, factor) = match v.rsplit_once('*') {
                Some((file, factor)) => (file.to_owned(), number(factor)?),
                None => (v.to_owned(), 1.0),
            };
            Ok(if name == "add" { Op::Add(file, factor) } else { Op::Swap(file, factor) })
        }
        ("replace", Some(v)) => Ok(Op::Replace(v.to_owned())),
        ("project-out", Some(v)) => Ok(Op::ProjectOut(v.to_owned())),
        _ => Err(format!("`{change}` is not a change; there are {CHANGES}")),
    }
}

impl EditSpec {
    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file it reads, if it reads one.
    pub fn file(&self) -> Option<&Path> {
        match &self.op {
            Op::Add(file, _) | Op::Replace(file) | Op::ProjectOut(file) | Op::Swap(file, _) => {
                Some(split_key(file).0)
            }
            _ => None,
        }
    }

    /// Whether a row's values depend on the other rows of its batch.
    pub fn mixes_rows(&self) -> bool {
        matches!(self.op, Op::Mean | Op::Resample)
    }

    /// Checks the positions against a prompt of `prompt` tokens, in a sequence of which `all` tokens are edited.
    ///
    /// # Errors
    /// [`EditError::Position`].
    pub fn check_positions(&self, prompt: usize, all: usize) -> Result<(), EditError> {
        let EditPositions::List(list) = &self.positions else { return Ok(()) };
        let outside = |p: &&i64| **p >= all as i64 || **p < -(prompt as i64);
        match list.iter().find(outside) {
            None => Ok(()),
            Some(&position) => Err(EditError::Position {
                edit: self.text.clone(),
                position,
                tokens: if position < 0 { prompt } else { all },
            }),
        }
    }
}

/// A file's name may hold a `:`; what is no file by itself has a key.
pub(super) fn split_key(file: &str) -> (&Path, Option<&str>) {
    match file.rsplit_once(':') {
        Some((path, key)) if !Path::new(file).is_file() => (Path::new(path), Some(key)),
        _ => (Path::new(file), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<EditSpec, String> {
        text.parse::<EditSpec>().map_err(|e| e.to_string())
    }

    #[test]
    fn the_grammar() {
        let edit = parse("blocks.3.attn.hook_z#2,0@0..3,-1:add=a/b.safetensors:k*-2.5").unwrap();
        assert_eq!((edit.hook.as_str(), edit.heads), ("blocks.3.attn.hook_z", Some(vec![0, 2])));
        assert_eq!(edit.positions, EditPositions::List(vec![-1, 0, 1, 2]));
        assert_eq!(edit.op, Op::Add("a/b.safetensors:k".into(), -2.5));
        let edit = parse("resid_pre:zero").unwrap();
        assert_eq!((edit.heads, edit.positions, edit.op), (None, EditPositions::All, Op::Zero));
        assert_eq!(parse("z@last:mean").unwrap().positions, EditPositions::List(vec![-1]));
        for (bad, says) in [
            ("resid_pre", "expected HOOK"),
            (":zero", "no hook"),
            ("z@x:zero", "`x` is not a whole number"),
            ("z@3..1:zero", "ascending"),
            ("z#-1:zero", "no head"),
            ("z:zeros", "there are zero, mean"),
            ("z:scale", "`scale` is not a change"),
            ("z:scale=nan", "`nan` is not a number"),
            ("z:clip=0", "above 0"),
            ("z:add=f*x", "`x` is not a number"),
        ] {
            let message = parse(bad).unwrap_err();
            assert!(message.contains(says) && message.contains(bad), "{message}");
        }
    }

    #[test]
    fn positions_from_both_ends() {
        let covered = |list: &[i64], prompt| -> Vec<usize> {
            (0..8).filter(|p| EditPositions::List(list.to_vec()).covers(*p, prompt)).collect()
        };
        assert_eq!(covered(&[0, 2], 5), [0, 2]);
        assert_eq!(covered(&[-5, -2], 5), [0, 3]);
        assert_eq!(covered(&[-1], 5), [4, 5, 6, 7]); // the prompt's last, then every newest
        let check = |text: &str, prompt, all| parse(text).unwrap().check_positions(prompt, all);
        for (text, all) in [("z@4:zero", 5), ("z@-5:zero", 5), ("z@8:zero", 9)] {
            check(text, 5, all).unwrap();
        }
        assert!(check("z@5:zero", 5, 5).unwrap_err().to_string().ends_with("no position 5 in 5 tokens"));
        let before = check("z@-6:zero", 5, 9).unwrap_err().to_string();
        assert!(before.contains("-6"), "{before}");
    }
}
