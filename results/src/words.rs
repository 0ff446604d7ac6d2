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

#[cfg(test)]
mod tests {
    use super::*;

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
}
