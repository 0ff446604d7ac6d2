//! JSON as Python writes it: with `NaN`, `Infinity` and `-Infinity`, which JSON does not have.

use serde_json::Value;

/// Reads strict JSON, or Python's; Python's three words become texts of their own name, which no number may be.
///
/// # Errors
/// When it is neither; the error is of the text as it is.
pub(crate) fn parse_python(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(bytes).or_else(|error| {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        serde_json::from_str(&quoted(text)).map_err(|_| error)
    })
}

/// `text` with the three words in quotes, where they are not in quotes already.
fn quoted(text: &str) -> String {
    let mut result = String::with_capacity(text.len() + 16);
    let (mut rest, mut inside) = (text, false);
    while let Some(c) = rest.chars().next() {
        let word = ["NaN", "Infinity", "-Infinity"].into_iter().find(|w| !inside && rest.starts_with(w));
        let taken = match (word, c) {
            (Some(word), _) => {
                result.extend(["\"", word, "\""]);
                word.len()
            }
            // An escaped character ends no text.
            (None, '\\') if inside => {
                let two = rest.chars().take(2).map(char::len_utf8).sum();
                result.push_str(&rest[..two]);
                two
            }
            (None, c) => {
                inside ^= c == '"';
                result.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_of_python_are_texts() {
        let text = r#"{"a": [NaN, -Infinity, Infinity], "b": "say \"NaN\" \\", "c": 1}"#;
        let want = json!({"a": ["NaN", "-Infinity", "Infinity"], "b": "say \"NaN\" \\", "c": 1});
        assert_eq!(parse_python(text.as_bytes()).unwrap(), want);
    }

    #[test]
    fn other_errors_are_of_the_text_itself() {
        for (text, column) in [("{\"a\": NaN, }", 7), ("{\"a\": nan}", 8), ("{\"a\": NaN", 7), ("\\", 1)] {
            assert_eq!(parse_python(text.as_bytes()).unwrap_err().column(), column, "{text}");
        }
    }
}
