//! What can be seen in a `tokenizer.json` before the library reads it: growth without end, and settings that would
//! change documents without a word.

use super::display::flatten;
use super::error::list;
use serde_json::Value;

/// How much longer than itself a text may become by replacements.
const GROWTH: usize = 1000;

/// Refuses replacements that make a text endlessly longer.
///
/// The chain of replacements of plain strings is followed for every string that it replaces. Patterns are not followed:
/// for them there is the [guard](super::guard).
pub(super) fn check_growth(json: &Value) -> Result<(), String> {
    for stage in ["normalizer", "decoder"] {
        let mut steps = Vec::new();
        flatten(&json[stage], &mut steps);
        let chain: Vec<(&str, &str)> = steps.into_iter().filter_map(replacement).collect();
        if let Some((_, content)) = chain.iter().find(|(from, _)| from.is_empty()) {
            return Err(format!("its {stage} replaces the empty text, which is everywhere, by {content:?}"));
        }
        for (seed, _) in &chain {
            let mut text = (*seed).to_owned();
            for (from, to) in &chain {
                let grown = text.len() + text.matches(from).count() * to.len();
                if grown > GROWTH * seed.len() + to.len() {
                    return Err(format!(
                        "its {stage} makes {grown} bytes and more of {seed:?} by replacements"
                    ));
                }
                text = text.replace(from, to);
            }
        }
    }
    Ok(())
}

/// What a step replaces by what, where these are plain strings.
fn replacement(step: &Value) -> Option<(&str, &str)> {
    let is_replace = step["type"] == "Replace";
    is_replace.then(|| Some((step["pattern"]["String"].as_str()?, step["content"].as_str()?))).flatten()
}

/// Settings that are not followed, a line each.
pub(super) fn notes(json: &Value, id_of: impl Fn(&str) -> Option<u32>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(most) = json["truncation"]["max_length"].as_u64() {
        notes.push(format!("tokenizer.json cuts documents after {most} tokens: not done here, a document has all of its tokens"));
    }
    if json["padding"].is_object() {
        notes.push("tokenizer.json pads documents: not done here".into());
    }
    if let Some(dropout) = json["model"]["dropout"].as_f64().filter(|dropout| *dropout > 0.0) {
        notes.push(format!("tokenizer.json draws merges at random (dropout {dropout}): not done here"));
    }
    let moved: Vec<String> = json["added_tokens"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|token| moved(token, &id_of))
        .collect();
    if !moved.is_empty() {
        notes.push(format!(
            "tokenizer.json gives added tokens ids that the vocabulary does not: {}",
            list(&moved)
        ));
    }
    notes
}

/// An added token whose id is not the one that the file says: the library numbers them itself.
fn moved(token: &Value, id_of: &impl Fn(&str) -> Option<u32>) -> Option<String> {
    let (content, said) = (token["content"].as_str()?, token["id"].as_u64()?);
    let got = id_of(content)?;
    (u64::from(got) != said).then(|| format!("{content} is {got}, not {said}"))
}

/// Whether one of `ids` is what the model gives for a character that it does not know.
pub(super) fn unknown_is_among(json: &Value, ids: &[u32], id_of: impl Fn(&str) -> Option<u32>) -> bool {
    let model = &json["model"];
    let by_name = model["unk_token"].as_str().and_then(id_of);
    let by_id = model["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok());
    by_name.or(by_id).is_some_and(|unknown| ids.contains(&unknown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn chain(steps: &[(&str, &str)]) -> Value {
        let step = |(from, to): &(&str, &str)| json!({ "type": "Replace", "pattern": { "String": from }, "content": to });
        json!({ "normalizer": { "type": "Sequence", "normalizers": steps.iter().map(step).collect::<Vec<_>>() } })
    }

    #[test]
    fn bombs_are_seen_and_long_chains_of_replacements_are_not_bombs() {
        let hundred = "a".repeat(100);
        let error = check_growth(&chain(&[("a", &hundred), ("a", &hundred), ("a", &hundred)])).unwrap_err();
        assert_eq!(error, "its normalizer makes 10100 bytes and more of \"a\" by replacements");
        // By turns, and the second of them not the start.
        assert!(check_growth(&chain(&[("x", "y"), ("y", "zzzzzzzzzzzzzzzz"), ("z", &hundred)])).is_err());
        let error = check_growth(&chain(&[("", "x")])).unwrap_err();
        assert_eq!(error, "its normalizer replaces the empty text, which is everywhere, by \"x\"");
        let one = json!({ "decoder": { "type": "Replace", "pattern": { "String": "" }, "content": "x" } });
        assert!(check_growth(&one).unwrap_err().starts_with("its decoder"));
        let names: Vec<(String, String)> =
            (0..40).map(|n| (format!("<{n}>"), format!("[a longer name {n}]"))).collect();
        let names: Vec<_> = names.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
        assert_eq!(check_growth(&chain(&names)), Ok(()));
        assert_eq!(check_growth(&chain(&[(" ", "▁"), ("▁▁", "▁")])), Ok(()));
        assert_eq!(check_growth(&json!({ "normalizer": null })), Ok(()));
    }

    #[test]
    fn what_is_not_followed_is_said() {
        let id_of = |token: &str| if token == "<a>" { Some(7) } else { None };
        let json = json!({
            "truncation": { "max_length": 8 }, "padding": { "strategy": "BatchLongest" }, "model": { "dropout": 0.5 },
            "added_tokens": [{ "content": "<a>", "id": 9 }, { "content": "<b>", "id": 1 }],
        });
        let notes = notes(&json, id_of);
        assert_eq!(notes.len(), 4, "{notes:?}");
        assert!(notes[0].contains("after 8 tokens") && notes[2].contains("dropout 0.5"), "{notes:?}");
        assert!(notes[3].ends_with("\"<a> is 7, not 9\""), "{notes:?}");
        assert!(super::notes(&json!({ "model": { "dropout": 0.0 } }), id_of).is_empty());
    }
}
