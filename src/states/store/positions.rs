//! Which token positions of a document are exported: `last`, `first`, `all`, Python slices, `stride:K`; of chats also
//! by role and turn.

use std::str::FromStr;

use crate::sources::chat::TurnSelector;

/// A selection of positions, as in Python: `start:end:step`, negative bounds count from the document's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    start: Option<i64>,
    end: Option<i64>,
    step: u32,
    /// Of chats, by role and turn, in place of the others.
    turns: Option<TurnSelector>,
    text: String,
}

/// The text is no selection of positions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "bad positions `{text}`: {reason}; use all, first, last, I, I:J, I:J:K, ::K or stride:K; of chats a role, turn:N or template"
)]
pub struct PositionsError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl FromStr for Positions {
    type Err = PositionsError;

    fn from_str(text: &str) -> Result<Self, PositionsError> {
        let error = |reason: String| PositionsError { text: text.into(), reason };
        let number = |part: &str| -> Result<Option<i64>, PositionsError> {
            let part = part.trim();
            if part.is_empty() {
                return Ok(None);
            }
            let n = part.parse::<i64>().ok().filter(|n| u32::try_from(n.unsigned_abs()).is_ok());
            n.map(Some).ok_or_else(|| error(format!("`{part}` is not a position")))
        };
        let step = |part: &str| match number(part)? {
            None => Ok(1),
            Some(k) => u32::try_from(k)
                .ok()
                .filter(|k| *k > 0)
                .ok_or_else(|| error(format!("step {k} is not positive"))),
        };
        let make = |start, end, step| Self { start, end, step, turns: None, text: text.trim().into() };
        if TurnSelector::is_meant(text) {
            let turns = text.parse::<TurnSelector>().map_err(|e| error(e.to_string()))?;
            return Ok(Self { turns: Some(turns), ..make(None, None, 1) });
        }
        let parts: Vec<&str> = text.trim().split(':').collect();
        match parts[..] {
            ["all"] => Ok(make(None, None, 1)),
            ["first"] => Ok(make(None, Some(1), 1)),
            ["last"] => Ok(make(Some(-1), None, 1)),
            ["stride", k] if !k.trim().is_empty() => Ok(make(None, None, step(k)?)),
            ["stride", ..] => Err(error("stride needs a number".into())),
            [i] => match number(i)? {
                None => Err(error("empty".into())),
                Some(-1) => Ok(make(Some(-1), None, 1)),
                Some(i) => Ok(make(Some(i), Some(i + 1), 1)),
            },
            [i, j] => Ok(make(number(i)?, number(j)?, 1)),
            [i, j, k] => Ok(make(number(i)?, number(j)?, step(k)?)),
            _ => Err(error("too many colons".into())),
        }
    }
}

impl Default for Positions {
    /// All of them.
    fn default() -> Self {
        Self { start: None, end: None, step: 1, turns: None, text: "all".to_owned() }
    }
}

crate::by_text::serde_by_text!(Positions);

impl std::fmt::Display for Positions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Positions {
    /// The selection by role and turn, if it is one.
    pub fn turns(&self) -> Option<&TurnSelector> {
        self.turns.as_ref()
    }

    /// Whether position `pos` of a document of `doc_len` tokens is selected.
    pub fn selects(&self, pos: u32, doc_len: u32) -> bool {
        self.any_in(pos, 1, doc_len)
    }

    /// Whether any of the `len` positions from `doc_pos` on is selected; a window without one need not be run.
    pub fn any_in(&self, doc_pos: u32, len: u32, doc_len: u32) -> bool {
        let (start, end) = self.bounds(doc_len);
        let (from, step) = (u64::from(doc_pos), u64::from(self.step));
        let first = start + from.saturating_sub(start).div_ceil(step) * step;
        first < end.min(from + u64::from(len))
    }

    /// How many positions of a document of `doc_len` tokens are selected.
    pub fn count(&self, doc_len: u32) -> u64 {
        let (start, end) = self.bounds(doc_len);
        end.saturating_sub(start).div_ceil(u64::from(self.step))
    }

    /// Start and end as in Python, both in 0..=`doc_len`.
    fn bounds(&self, doc_len: u32) -> (u64, u64) {
        let len = i64::from(doc_len);
        let absolute = |i: i64| (if i < 0 { i + len } else { i }).clamp(0, len) as u64;
        (self.start.map_or(0, absolute), self.end.map_or(u64::from(doc_len), absolute))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(text: &str, len: u32) -> Vec<u32> {
        let p: Positions = text.parse().unwrap();
        (0..len + 3).filter(|&pos| p.selects(pos, len)).collect()
    }

    #[test]
    fn by_hand() {
        assert_eq!(Positions::default(), "all".parse().unwrap());
        assert_eq!(selected("all", 4), [0, 1, 2, 3]);
        assert_eq!(selected("first", 4), [0]);
        assert_eq!(selected("last", 4), [3]);
        assert_eq!(selected("2", 4), [2]);
        assert_eq!(selected("-1", 4), [3]);
        assert_eq!(selected("-2", 4), [2]);
        assert_eq!(selected("1:3", 4), [1, 2]);
        assert_eq!(selected("-3:-1", 4), [1, 2]);
        assert_eq!(selected("-9:2", 4), [0, 1]);
        assert_eq!(selected("1::2", 6), [1, 3, 5]);
        assert_eq!(selected("::3", 7), [0, 3, 6]);
        assert_eq!(selected("stride:3", 7), [0, 3, 6]);
        assert!(selected("3:1", 7).is_empty());
        assert!(selected("last", 0).is_empty());
    }

    #[test]
    fn windows_and_counts_agree_with_single_positions() {
        for text in ["all", "last", "first", "1:-1:2", "-5:", "::7", "3", "9:2", "-4"] {
            let p: Positions = text.parse().unwrap();
            for len in 0..12 {
                let one_by_one: Vec<u32> = (0..len).filter(|&i| p.selects(i, len)).collect();
                assert_eq!(p.count(len), one_by_one.len() as u64, "{text} of {len}");
                for (from, n) in (0..len).flat_map(|from| (0..5).map(move |n| (from, n))) {
                    let expected = one_by_one.iter().any(|&i| i >= from && i < from + n);
                    assert_eq!(p.any_in(from, n, len), expected, "{text} of {len}: {from}+{n}");
                }
            }
        }
    }

    #[test]
    fn bad_text_is_named() {
        for (text, says) in [
            ("", "empty"),
            ("lst", "`lst`"),
            ("1:2:0", "step 0"),
            ("::-1", "step -1"),
            ("1:2:3:4", "too many"),
            ("stride:", "needs a number"),
            ("stride:x", "`x`"),
            ("1:99999999999", "`99999999999`"),
            ("1.5", "`1.5`"),
        ] {
            let message = text.parse::<Positions>().unwrap_err().to_string();
            assert!(message.contains(says) && message.contains(&format!("`{text}`")), "{message}");
        }
    }
}
