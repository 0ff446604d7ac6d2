//! Commands as a shell takes them.

/// A word as a shell would take it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Words as a shell would take them: split at spaces, but not between double quotes.
pub fn typed(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (i, part) in line.split('"').enumerate() {
        if i % 2 == 1 {
            words.last_mut().into_iter().for_each(|word| word.push_str(part));
            continue;
        }
        let mut plain = part.split(' ');
        let rest = plain.next().unwrap_or_default();
        words.last_mut().into_iter().for_each(|word| word.push_str(rest));
        words.extend(plain.map(str::to_owned));
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_comes_back() {
        assert_eq!(quoted("--layers=0,2"), "--layers=0,2");
        assert_eq!((quoted(" it's"), quoted("")), (r"' it'\''s'".to_owned(), "''".to_owned()));
    }

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(
            typed(r#"--away " he" --strengths=-1,1  "a b""#),
            ["--away", " he", "--strengths=-1,1", "a b"]
        );
    }
}
