//! Numbers in sentences.

/// `1 shard`, `2 shards`, `12345 tokens`: the noun is given in the singular and has a regular plural.
pub fn counted(n: impl TryInto<u64>, noun: &str) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    if n == 1 { format!("1 {noun}") } else { format!("{n} {}", plural(noun)) }
}

/// The plural of a regular noun: `box` is `boxes`, `copy` is `copies`.
pub fn plural(noun: &str) -> String {
    let vowel = |c: char| "aeiou".contains(c);
    match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(vowel) => format!("{stem}ies"),
        _ if noun.ends_with(['s', 'x']) || noun.ends_with("sh") || noun.ends_with("ch") => {
            format!("{noun}es")
        }
        _ => format!("{noun}s"),
    }
}

/// A name that is not taken: `base`, or else `base-2`, `base-3` …
pub fn numbered(base: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut name = base.to_owned();
    let mut number = 1;
    while taken(&name) {
        number += 1;
        name = format!("{base}-{number}");
    }
    name
}

/// A count with a unit people read: `1.3 GB`, `124.4 M`.
pub fn human(n: u64, unit: &str) -> String {
    let (mut x, mut prefix) = (n as f64, "");
    for next in ["k", "M", "G", "T", "P"] {
        if x < 999.95 {
            break;
        }
        (x, prefix) = (x / 1000.0, next);
    }
    let digits = usize::from(!prefix.is_empty());
    format!("{x:.digits$} {prefix}{unit}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_taken_get_a_number() {
        let taken = ["run", "run-2", "other"];
        let unlike = |base: &str| numbered(base, |name| taken.contains(&name));
        assert_eq!(["run", "other", "new"].map(unlike), ["run-3", "other-2", "new"]);
    }

    #[test]
    fn one_and_many() {
        let cases = [
            (0, "shard", "0 shards"),
            (1, "shard", "1 shard"),
            (2, "shard", "2 shards"),
            (1000, "copy", "1000 copies"),
            (2, "class", "2 classes"),
            (2, "batch", "2 batches"),
            (2, "key", "2 keys"),
        ];
        for (n, noun, text) in cases {
            assert_eq!(counted(n, noun), text);
        }
        assert_eq!(counted(-1i64, "shard"), format!("{} shards", u64::MAX));
    }

    #[test]
    fn counts_for_people() {
        let cases =
            [(7, "7 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (1_340_000_000, "1.3 GB")];
        assert!(cases.iter().all(|(n, text)| human(*n, "B") == *text), "{}", human(999_960, "B"));
    }
}
