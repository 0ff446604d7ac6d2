//! Schedules in words.
//!
//! A list of steps: blocks `3`, ranges `2-5` (`5-2` runs backwards), side by side `[2-5]` or `[1|3|4]` (the mean of
//! their outputs; with `+` behind it, what each adds is summed), several steps `(…)`, any of them `x3` times; `none`
//! runs nothing. Or a change of the model's own order: `skip:3,5`, `swap:2,4`, `reverse:2-5`, `shuffle:2-5`,
//! `parallel:2-5`, `loop:2-5x3`, `loop-parallel:2-5x3`.

use std::ops::RangeInclusive;

use super::ScheduleError;
use crate::{
    model::{Combine, Schedule, Step},
    results::draw::permutation,
};

/// A schedule runs no more blocks than this.
const MOST: usize = 10_000;

/// The schedule that `text` says, for a model of `n_layers` blocks; `seed` is that of a shuffle.
///
/// # Errors
/// [`ScheduleError`], naming the part that is wrong.
pub fn parse(text: &str, n_layers: usize, seed: u64) -> Result<Schedule, ScheduleError> {
    let wrong = |reason: String| ScheduleError::Syntax { schedule: text.to_owned(), reason };
    let steps = match text.split_once(':') {
        Some((name, rest)) => changed(name, rest, n_layers, seed),
        None if text == "none" => Ok(Vec::new()),
        None => {
            let mut parser = Parser { rest: text };
            parser.list().and_then(|steps| match parser.rest {
                "" => Ok(steps),
                rest => Err(format!("`{rest}` is not expected")),
            })
        }
    };
    Schedule::new(steps.map_err(wrong)?, n_layers).map_err(|e| wrong(e.to_string()))
}

/// The model's own order, changed.
fn changed(name: &str, rest: &str, n: usize, seed: u64) -> Result<Vec<Step>, String> {
    let own = |blocks: &mut dyn Iterator<Item = usize>| blocks.map(Step::Block).collect::<Vec<_>>();
    if name == "skip" || name == "swap" {
        let mut parser = Parser { rest };
        let listed: Vec<usize> = parser.list()?.iter().flat_map(|step| step.blocks().to_vec()).collect();
        check(listed.iter().copied(), n)?;
        if !parser.rest.is_empty() {
            return Err(format!("`{}` is not expected", parser.rest));
        }
        if name == "skip" {
            return Ok(own(&mut (0..n).filter(|i| !listed.contains(i))));
        }
        let [a, b] = listed[..] else { return Err(format!("swap takes two blocks, not `{rest}`")) };
        let swapped = |i| {
            if i == a {
                b
            } else if i == b {
                a
            } else {
                i
            }
        };
        return Ok(own(&mut (0..n).map(swapped)));
    }
    let (range, times) = match rest.split_once('x') {
        Some((range, times)) => (range, Some(number(times)?)),
        None => (rest, None),
    };
    let range = ascending(range)?;
    check(range.clone(), n)?;
    let blocks: Vec<usize> = range.clone().collect();
    let side = || Step::Parallel(blocks.clone(), Combine::Mean);
    let inner = match (name, times) {
        ("reverse", None) => own(&mut blocks.iter().rev().copied()),
        ("shuffle", None) => own(&mut permutation(seed, blocks.len()).into_iter().map(|i| blocks[i])),
        ("parallel", None) => vec![side()],
        ("loop", Some(times)) => repeat(&own(&mut blocks.iter().copied()), times)?,
        ("loop-parallel", Some(times)) => repeat(&[side()], times)?,
        ("loop" | "loop-parallel", None) => {
            return Err(format!("`{name}:{rest}` wants a number of times: A-BxN"));
        }
        _ => {
            return Err(format!(
                "`{name}:` is no change of order; there are skip, swap, reverse, shuffle, parallel, loop and loop-parallel"
            ));
        }
    };
    let before = (0..*range.start()).map(Step::Block);
    Ok(before.chain(inner).chain((range.end() + 1..n).map(Step::Block)).collect())
}

fn check(mut blocks: impl Iterator<Item = usize>, n: usize) -> Result<(), String> {
    match blocks.find(|block| *block >= n) {
        None => Ok(()),
        Some(block) => Err(format!("no block {block}; this model's blocks are 0 to {}", n.saturating_sub(1))),
    }
}

/// `A-B`, or `A` alone.
fn ascending(text: &str) -> Result<RangeInclusive<usize>, String> {
    let (a, b) = text.split_once('-').unwrap_or((text, text));
    let (a, b) = (number(a)?, number(b)?);
    if a <= b && b < MOST { Ok(a..=b) } else { Err(format!("`{text}` is not an ascending range of blocks")) }
}

fn number(text: &str) -> Result<usize, String> {
    text.trim().parse().map_err(|_| format!("`{text}` is not a number"))
}

fn repeat(steps: &[Step], times: usize) -> Result<Vec<Step>, String> {
    let blocks: usize = steps.iter().map(|step| step.blocks().len()).sum();
    if blocks.saturating_mul(times) > MOST {
        return Err(format!("more than {MOST} blocks"));
    }
    Ok(steps.iter().cycle().take(steps.len() * times).cloned().collect())
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    /// Steps between commas.
    fn list(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = self.item()?;
        while self.eat(',') {
            steps.extend(self.item()?);
            if steps.len() > MOST {
                return Err(format!("more than {MOST} blocks"));
            }
        }
        Ok(steps)
    }

    /// Steps, a number of times.
    fn item(&mut self) -> Result<Vec<Step>, String> {
        let steps = if self.eat('(') {
            let steps = self.list()?;
            self.want(')')?;
            steps
        } else if self.eat('[') {
            vec![self.side_by_side()?]
        } else {
            self.range()?.into_iter().map(Step::Block).collect()
        };
        if self.eat('x') {
            let times = self.number()?;
            return repeat(&steps, times);
        }
        Ok(steps)
    }

    fn side_by_side(&mut self) -> Result<Step, String> {
        let mut blocks = self.range()?;
        while self.eat('|') {
            blocks.extend(self.range()?);
        }
        self.want(']')?;
        Ok(Step::Parallel(blocks, if self.eat('+') { Combine::Sum } else { Combine::Mean }))
    }

    fn range(&mut self) -> Result<Vec<usize>, String> {
        let first = self.number()?;
        if !self.eat('-') {
            return Ok(vec![first]);
        }
        let last = self.number()?;
        if first.abs_diff(last) >= MOST {
            return Err(format!("more than {MOST} blocks"));
        }
        Ok(if first <= last { (first..=last).collect() } else { (last..=first).rev().collect() })
    }

    fn number(&mut self) -> Result<usize, String> {
        let digits = self.rest.len() - self.rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = self.rest.split_at(digits);
        let found = if self.rest.is_empty() { "the end" } else { self.rest };
        let number = number.parse().map_err(|_| format!("expected a number at `{found}`"))?;
        self.rest = rest;
        Ok(number)
    }

    fn eat(&mut self, c: char) -> bool {
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn want(&mut self, c: char) -> Result<(), String> {
        let found = if self.rest.is_empty() { "the end".to_owned() } else { format!("`{}`", self.rest) };
        if self.eat(c) { Ok(()) } else { Err(format!("expected `{c}` at {found}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text, 6, 3) {
            Ok(schedule) => schedule.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_written_is_what_runs() {
        for (text, steps) in [
            ("0-5", "0,1,2,3,4,5"),
            ("0,1,4x3,5", "0,1,4,4,4,5"),
            ("0,4-1,5", "0,4,3,2,1,5"),
            ("0,[1-3|5],5", "0,[1|2|3|5],5"),
            ("[1|2]+x2", "[1|2]+,[1|2]+"),
            ("(0,2)x2,5", "0,2,0,2,5"),
            ("none", "none"),
            ("skip:3", "0,1,2,4,5"),
            ("skip:1-2,5", "0,3,4"),
            ("swap:1,4", "0,4,2,3,1,5"),
            ("reverse:1-4", "0,4,3,2,1,5"),
            ("parallel:1-4", "0,[1|2|3|4],5"),
            ("loop:2-3x2", "0,1,2,3,2,3,4,5"),
            ("loop:2x3", "0,1,2,2,2,3,4,5"),
            ("loop-parallel:4-5x2", "0,1,2,3,[4|5],[4|5]"),
        ] {
            assert_eq!(shown(text), steps, "{text}");
            assert_eq!(shown(steps), steps, "reads back");
        }
        assert!(parse("skip:9-8", 10, 0).unwrap().blocks().eq(0..8));
        assert!(parse("loop:2x1", 6, 0).unwrap().is_identity());
        let shuffled = parse("shuffle:1-4", 6, 3).unwrap();
        let mut blocks: Vec<usize> = shuffled.blocks().collect();
        assert_eq!((blocks[0], blocks[5]), (0, 5));
        blocks.sort_unstable();
        assert!(blocks.into_iter().eq(0..6));
        assert!((0..20).any(|seed| parse("shuffle:1-4", 6, seed).unwrap() != shuffled));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, says) in [
            ("", "expected a number at `the end`"),
            ("0,,1", "expected a number at `,1`"),
            ("0,[1|2", "expected `]` at the end"),
            ("(0,1", "expected `)` at the end"),
            ("0 1", "` 1` is not expected"),
            ("0,6", "no block 6; this model's blocks are 0 to 5"),
            ("skip:6", "no block 6"),
            ("swap:1", "swap takes two blocks"),
            ("mirror:1-2", "`mirror:` is no change of order"),
            ("reverse:4-1", "not an ascending range"),
            ("loop:1-2", "wants a number of times"),
            ("loop:1-2x9999999", "more than 10000 blocks"),
            ("0x99999999999999999999", "expected a number"),
            ("((0x9999)x9999)x9999", "more than 10000 blocks"),
        ] {
            let message = shown(text);
            assert!(
                message.contains(says) && message.starts_with(&format!("schedule `{text}`: ")),
                "{message}"
            );
        }
    }
}
