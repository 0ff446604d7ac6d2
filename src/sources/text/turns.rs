//! Tokens of chats by role and turn.

use super::{Corpus, TextError, Tokenizer};
use crate::sources::chat::{TurnPositions, TurnSelector};

/// The tokens that `selector` selects, of every chat of a corpus; texts that are no chats have none. `pack` puts one
/// token in front of every document.
///
/// # Errors
/// A document that cannot be read or encoded.
pub fn turn_positions(
    corpus: Corpus,
    tokenizer: &Tokenizer,
    selector: &TurnSelector,
    pack: bool,
) -> Result<TurnPositions, TextError> {
    let mut positions = TurnPositions::default();
    for document in corpus {
        let document = document?;
        let Some(turns) = &document.turns else { continue };
        let tokens =
            tokenizer.encode_placed(&document.text, usize::MAX).map_err(|e| e.on(&document.origin))?;
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        let lead = if pack { 1 } else { tokenizer.bos_before_chat(&ids).len() as u32 };
        let runs = selector.select(turns, &tokens).into_iter();
        positions.insert(document.id, runs.map(|run| run.start + lead..run.end + lead).collect());
    }
    Ok(positions)
}
