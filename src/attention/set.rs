//! Heads in words: `1.0` is head 0 of layer 1, `1.0+1.3` two heads together.

use std::{fmt, str::FromStr};

/// Heads that are taken away together: layers and heads, ascending, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadSet(Vec<(usize, usize)>);

/// Words that name no heads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no head; expected LAYER.HEAD, or several with + between them, such as 1.0+1.3")]
pub struct HeadSetError(String);

impl HeadSet {
    /// One head.
    pub fn one(layer: usize, head: usize) -> Self {
        Self(vec![(layer, head)])
    }

    /// Layers and heads.
    pub fn heads(&self) -> &[(usize, usize)] {
        &self.0
    }

    /// The lowest layer.
    pub fn layer(&self) -> usize {
        self.0.first().map_or(0, |(layer, _)| *layer)
    }

    /// The layers, each with its heads, as an edit takes them.
    pub(super) fn by_layer(&self) -> Vec<(usize, Vec<i64>)> {
        let of = |same: &[(usize, usize)]| (same[0].0, same.iter().map(|(_, head)| *head as i64).collect());
        self.0.chunk_by(|a, b| a.0 == b.0).map(of).collect()
    }

    /// `L1H0`, `L1H0+L1H3`.
    pub fn label(&self) -> String {
        let names: Vec<String> = self.0.iter().map(|(layer, head)| format!("L{layer}H{head}")).collect();
        names.join("+")
    }
}

impl FromStr for HeadSet {
    type Err = HeadSetError;

    fn from_str(text: &str) -> Result<Self, HeadSetError> {
        let head = |part: &str| {
            let (layer, head) = part.trim().split_once('.')?;
            let number =
                |t: &str| t.chars().all(|c| c.is_ascii_digit()).then(|| t.parse::<usize>().ok()).flatten();
            number(layer).zip(number(head))
        };
        let heads: Option<Vec<(usize, usize)>> = text.split('+').map(head).collect();
        let mut heads = heads.ok_or_else(|| HeadSetError(text.to_owned()))?;
        heads.sort_unstable();
        heads.dedup();
        Ok(Self(heads))
    }
}

impl fmt::Display for HeadSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(|(layer, head)| format!("{layer}.{head}")).collect();
        f.write_str(&names.join("+"))
    }
}

crate::by_text::serde_by_text!(HeadSet);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_in_words() {
        let set: HeadSet = "2.1+0.3 + 2.0+2.1".parse().unwrap();
        assert_eq!(set.heads(), [(0, 3), (2, 0), (2, 1)]);
        assert_eq!((set.to_string(), set.label()), ("0.3+2.0+2.1".into(), "L0H3+L2H0+L2H1".into()));
        assert_eq!(set.by_layer(), [(0, vec![3]), (2, vec![0, 1])]);
        assert_eq!(set.layer(), 0);
        for wrong in ["", "1", "1.", ".1", "1.x", "1.0+", "-1.0", "1.0,1.1", "1.0.1"] {
            assert!(wrong.parse::<HeadSet>().unwrap_err().to_string().starts_with(&format!("`{wrong}`")));
        }
    }
}
