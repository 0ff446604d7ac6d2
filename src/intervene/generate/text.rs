//! Tokens after a prompt as text.

use crate::sources::text::{TextError, Tokenizer};

/// The text that `tokens` add to a prompt: some tokenizers spell a first token otherwise than a later one.
///
/// # Errors
/// [`TextError::Tokenizer`].
pub fn continuation(tokenizer: &Tokenizer, prompt: &[u32], tokens: &[u32]) -> Result<String, TextError> {
    let last = &prompt[prompt.len().saturating_sub(1)..];
    let before = tokenizer.decode(last)?;
    let whole = tokenizer.decode(&[last, tokens].concat())?;
    match whole.strip_prefix(&before) {
        Some(rest) => Ok(rest.to_owned()),
        None => tokenizer.decode(tokens), // the prompt ends inside a character
    }
}
