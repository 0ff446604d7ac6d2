//! Where a part of a text is among its tokens.

use super::PatchError;
use crate::sources::text::Tokenizer;

/// The ids of `text`, BOS as the tokenizer puts it, and the positions of the tokens that hold any byte of an occurrence
/// of `part`.
///
/// # Errors
/// [`PatchError::NotThere`] when it does not occur.
pub fn places(tokenizer: &Tokenizer, text: &str, part: &str) -> Result<(Vec<i64>, Vec<i64>), PatchError> {
    let ids = tokenizer.encode(text)?;
    let tokens = tokenizer.encode_placed(text, usize::MAX)?;
    let lead = ids.len() - tokens.len().min(ids.len());
    let found: Vec<_> = text.match_indices(part).map(|(start, _)| start..start + part.len()).collect();
    let held = |start: usize, end: usize| found.iter().any(|f| start < f.end && f.start < end);
    let places: Vec<i64> = tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| held(token.start, token.end))
        .map(|(i, _)| (i + lead) as i64)
        .collect();
    if part.is_empty() || places.is_empty() {
        return Err(PatchError::NotThere { part: part.to_owned(), text: text.to_owned() });
    }
    Ok((ids.into_iter().map(i64::from).collect(), places))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sources::text::BosPolicy;

    #[test]
    fn tokens_of_a_part() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gpt2-alice-8l");
        for (policy, lead) in [(BosPolicy::Always, 1), (BosPolicy::Never, 0)] {
            let tokenizer = Tokenizer::load(&dir, policy).unwrap();
            let text = "the queen, the king and the queen";
            let (ids, places) = super::places(&tokenizer, text, "the queen").unwrap();
            assert_eq!(ids.len(), tokenizer.encode(text).unwrap().len());
            let words: String =
                places.iter().map(|p| tokenizer.decode(&[ids[*p as usize] as u32]).unwrap()).collect();
            assert_eq!(words, "the queen the queen");
            assert_eq!(places[0], lead);
            assert!(matches!(super::places(&tokenizer, text, "duchess"), Err(PatchError::NotThere { .. })));
            assert!(matches!(super::places(&tokenizer, text, ""), Err(PatchError::NotThere { .. })));
        }
    }
}
