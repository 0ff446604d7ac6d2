//! What positions are to a pair of prompts, so that maps of different prompts have a mean.

use std::fmt;

/// A position's part in a pair of prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Before anything differs: a patch brings nothing back there.
    Before,
    /// Where the prompts differ, or noise is added.
    Changed,
    /// After the first of these, the same in both.
    Between,
    /// The last one, where the answer is read; also where it differs.
    Last,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::Changed => "changed",
            Self::Between => "between",
            Self::Last => "last",
        })
    }
}

impl Role {
    /// All, from left to right.
    pub const ALL: [Self; 4] = [Self::Before, Self::Changed, Self::Between, Self::Last];

    /// Of every position of a clean prompt and a corrupted one of as many tokens; `noised` are changed too.
    pub fn of(clean: &[i64], corrupted: &[i64], noised: &[i64]) -> Vec<Self> {
        let changed = |i: usize| clean[i] != corrupted[i] || noised.contains(&(i as i64));
        let n = clean.len().min(corrupted.len());
        let first = (0..n).find(|i| changed(*i)).unwrap_or(n);
        let role = |i: usize| match i {
            _ if i + 1 == n => Self::Last,
            _ if changed(i) => Self::Changed,
            _ if i < first => Self::Before,
            _ => Self::Between,
        };
        (0..n).map(role).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Role,
        Role::{Before, Between, Changed, Last},
    };

    #[test]
    fn roles_by_hand() {
        assert_eq!(
            Role::of(&[0, 1, 2, 3, 4, 5], &[0, 9, 2, 8, 4, 5], &[]),
            [Before, Changed, Between, Changed, Between, Last]
        );
        assert_eq!(Role::of(&[0, 1, 2], &[0, 1, 2], &[1]), [Before, Changed, Last]);
        assert_eq!(Role::of(&[0, 1, 2], &[0, 1, 7], &[]), [Before, Before, Last]);
        assert_eq!(Role::of(&[], &[], &[]), []);
    }
}
