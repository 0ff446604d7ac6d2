//! Which tokens of chats: by role, by turn, or the template's own.

use std::{collections::HashMap, ops::Range, str::FromStr};

use super::Turn;
use crate::sources::text::long::Placed;

/// `assistant`, `user:last`, `turn:2`, `turn:-1:first`, `template`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnSelector {
    who: Who,
    part: Part,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    /// Contents of messages of this role.
    Role(&'static str),
    /// The content of one message, from 0; negative numbers count from the last.
    Turn(i64),
    /// What the template puts around the contents.
    Template,
}

/// Which tokens of a run of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    First,
    Last,
}

const ROLES: [&str; 6] = ["assistant", "user", "system", "tool", "developer", "model"];

/// The text selects no tokens of chats.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` selects no tokens of chats; use a role (assistant, user, system, tool, developer, model), turn:N or template, also with :first or :last"
)]
pub struct TurnSelectorError(String);

impl FromStr for TurnSelector {
    type Err = TurnSelectorError;

    fn from_str(text: &str) -> Result<Self, TurnSelectorError> {
        let wrong = || TurnSelectorError(text.to_owned());
        let mut words = text.trim().split(':');
        let who = match words.next().unwrap_or_default() {
            "template" => Who::Template,
            "turn" => Who::Turn(words.next().and_then(|n| n.parse().ok()).ok_or_else(wrong)?),
            word => Who::Role(ROLES.iter().find(|role| **role == word).ok_or_else(wrong)?),
        };
        let part = match words.next() {
            None => Part::All,
            Some("first") => Part::First,
            Some("last") => Part::Last,
            Some(_) => return Err(wrong()),
        };
        if words.next().is_some() { Err(wrong()) } else { Ok(Self { who, part }) }
    }
}

crate::by_text::serde_by_text!(TurnSelector);

impl std::fmt::Display for TurnSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.who {
            Who::Role(role) => f.write_str(role)?,
            Who::Turn(turn) => write!(f, "turn:{turn}")?,
            Who::Template => f.write_str("template")?,
        }
        f.write_str(match self.part {
            Part::All => "",
            Part::First => ":first",
            Part::Last => ":last",
        })
    }
}

impl TurnSelector {
    /// Whether a text is meant for chats: its first word is a role, `turn` or `template`.
    pub fn is_meant(text: &str) -> bool {
        let word = text.trim().split(':').next().unwrap_or_default();
        ROLES.contains(&word) || ["turn", "template"].contains(&word)
    }

    /// The content of the last turn that is selected; none for the template's own tokens.
    pub(crate) fn last_turn<'t>(&self, turns: &'t [Turn]) -> Option<&'t Turn> {
        let count = turns.iter().map(|turn| turn.turn + 1).max().unwrap_or(0) as i64;
        turns.iter().rfind(|turn| self.means(turn, count) && self.who != Who::Template)
    }

    fn means(&self, turn: &Turn, count: i64) -> bool {
        match self.who {
            Who::Role(role) => turn.role == role,
            Who::Turn(n) => turn.turn as i64 == if n < 0 { n + count } else { n },
            Who::Template => true,
        }
    }

    /// The places of selected tokens, in order: of each turn all, the first or the last. A token belongs to a turn when
    /// it covers a byte of its content.
    pub(crate) fn select(&self, turns: &[Turn], tokens: &[Placed]) -> Vec<Range<u32>> {
        let within = |turn: &Turn| {
            let inside = |token: &Placed| token.start < turn.end && token.end > turn.start;
            let first = tokens.iter().position(inside)?;
            let last = tokens.iter().rposition(inside)?;
            Some(first as u32..last as u32 + 1)
        };
        let count = turns.iter().map(|turn| turn.turn + 1).max().unwrap_or(0) as i64;
        let meant = |turn: &&Turn| self.means(turn, count);
        let mut runs: Vec<Range<u32>> = turns.iter().filter(meant).filter_map(within).collect();
        runs.sort_by_key(|run| run.start);
        if self.who == Who::Template {
            runs = between(&runs, tokens.len() as u32);
        }
        let part = |run: Range<u32>| match self.part {
            Part::All => run,
            Part::First => run.start..run.start + 1,
            Part::Last => run.end - 1..run.end,
        };
        runs.into_iter().map(part).collect()
    }
}

/// What is in none of the runs, of `n` tokens.
fn between(runs: &[Range<u32>], n: u32) -> Vec<Range<u32>> {
    let starts = std::iter::once(0).chain(runs.iter().map(|run| run.end));
    let ends = runs.iter().map(|run| run.start).chain([n]);
    starts.zip(ends).filter(|(start, end)| start < end).map(|(start, end)| start..end).collect()
}

/// The selected tokens of every document of a corpus of chats: a few numbers each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TurnPositions {
    documents: HashMap<u64, Vec<Range<u32>>>,
}

impl TurnPositions {
    /// Adds a document.
    pub(crate) fn insert(&mut self, document: u64, runs: Vec<Range<u32>>) {
        if !runs.is_empty() {
            self.documents.insert(document, runs);
        }
    }

    /// Whether a token of a document is selected.
    pub fn selects(&self, document: u64, pos: u32) -> bool {
        self.documents.get(&document).is_some_and(|runs| runs.iter().any(|run| run.contains(&pos)))
    }

    /// How many tokens are selected.
    pub fn count(&self) -> u64 {
        self.documents.values().flatten().map(|run| u64::from(run.end - run.start)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `<u>hi there<a>yes</a><u>ok` by words.
    fn selected(text: &str) -> Vec<u32> {
        let pieces = ["<u>", "hi", " there", "<a>", "yes", "</a>", "<u>", "ok"];
        let mut at = 0;
        let mut tokens = Vec::new();
        for piece in pieces {
            tokens.push(Placed { id: 0, start: at, end: at + piece.len() });
            at += piece.len();
        }
        let turn = |turn, role: &str, tokens: &[Placed]| Turn {
            turn,
            role: role.into(),
            start: tokens[0].start,
            end: tokens[tokens.len() - 1].end,
        };
        let turns = [
            turn(0, "user", &tokens[1..3]),
            turn(1, "assistant", &tokens[4..5]),
            turn(2, "user", &tokens[7..8]),
        ];
        let selector: TurnSelector = text.parse().unwrap();
        assert_eq!(selector.to_string(), text);
        selector.select(&turns, &tokens).into_iter().flatten().collect()
    }

    #[test]
    fn by_hand() {
        for (text, tokens) in [
            ("user", &[1, 2, 7][..]),
            ("user:last", &[2, 7]),
            ("user:first", &[1, 7]),
            ("assistant", &[4]),
            ("system", &[]),
            ("turn:0", &[1, 2]),
            ("turn:-1", &[7]),
            ("turn:-3:last", &[2]),
            ("turn:9", &[]),
            ("template", &[0, 3, 5, 6]),
            ("template:last", &[0, 3, 6]),
        ] {
            assert_eq!(selected(text), tokens, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "all", "turn", "turn:x", "user:2", "user:last:last", "bot"] {
            let error = text.parse::<TurnSelector>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` selects no tokens of chats")), "{error}");
        }
        assert!(TurnSelector::is_meant("turn:x") && !TurnSelector::is_meant("last"));
    }
}
