//! What one text gives to a plan: its window, and the rows of each of its labels.

use super::align::Ink;
use super::error::LabelledError;
use super::positions::LabelPositions;
use super::set::{LabelledSet, LabelledText, Referent};
use crate::sources::text::Tokenizer;
use std::ops::Range;

/// A text's share of a plan. Targets are places in [`LabelledSet::targets`].
#[derive(Default)]
pub(super) struct Share {
    /// The window: BOS as decided, then as many of the text's tokens as fit.
    pub(super) ids: Vec<u32>,
    /// Target, rows of the window, type.
    pub(super) items: Vec<(usize, Range<u32>, Option<String>)>,
    pub(super) uncovered: Vec<usize>,
    pub(super) beyond: Vec<usize>,
    pub(super) shared: Vec<usize>,
    pub(super) cut: bool,
    pub(super) blank_end: bool,
}

/// Why a label cannot be read.
enum Lost {
    Uncovered,
    Beyond,
}

/// A text's own tokens.
struct Tokens {
    ids: Vec<u32>,
    ink: Ink,
    /// The first one that is read: not a BOS that is written out in the text.
    first: usize,
    /// How many fit into the window.
    kept: usize,
    /// The BOS in front of them.
    lead: Vec<u32>,
}

impl Share {
    pub(super) fn new(
        set: &LabelledSet,
        text: usize,
        tokenizer: &Tokenizer,
        positions: LabelPositions,
        context: usize,
    ) -> Result<Self, LabelledError> {
        let source = &set.texts[text];
        let tokens = Tokens::new(source, tokenizer, context)?;
        let own = &tokens.ids[..tokens.kept];
        let ids = [&tokens.lead[..], own, tokenizer.end_behind(own)].concat();
        let mut share = Self { ids, cut: tokens.is_cut(), ..Self::default() };
        let mut behind = 0;
        for target in source.targets.clone() {
            let label = &set.targets[target];
            let read = tokens.pieces(label, positions).and_then(|pieces| {
                let shares = positions.of_pieces() && pieces.start < behind;
                behind = pieces.end;
                tokens.read(pieces, positions).map(|read| (read, shares))
            });
            match read {
                Ok((read, shares)) => {
                    share.shared.extend(shares.then_some(target));
                    share.blank_end |= positions == LabelPositions::Last && tokens.ink.is_blank(read.start);
                    share.add(target, label, read, &tokens, tokenizer, positions);
                }
                Err(Lost::Beyond) => share.beyond.push(target),
                Err(Lost::Uncovered) => share.uncovered.push(target),
            }
        }
        Ok(share)
    }

    /// The items of a label that is read from these tokens.
    fn add(
        &mut self,
        target: usize,
        label: &Referent,
        read: Range<usize>,
        tokens: &Tokens,
        tokenizer: &Tokenizer,
        positions: LabelPositions,
    ) {
        let bos = tokens.lead.len();
        let rows = |read: Range<usize>| (read.start + bos) as u32..(read.end + bos) as u32;
        if positions == LabelPositions::All {
            let kind = |token: usize| Some(tokenizer.piece(tokens.ids[token]).raw);
            self.items.extend(read.map(|token| (target, rows(token..token + 1), kind(token))));
        } else {
            let form = label.form.clone().filter(|_| positions.of_pieces());
            self.items.push((target, rows(read), form));
        }
    }
}

impl Tokens {
    fn new(source: &LabelledText, tokenizer: &Tokenizer, context: usize) -> Result<Self, LabelledError> {
        let text = source.text.as_str();
        // One more than fits, to see that it does not.
        let placed = tokenizer.encode_placed(text, context + 1)?;
        let ids: Vec<u32> = placed.iter().map(|token| token.id).collect();
        let lead =
            if source.chat { tokenizer.bos_before_chat(&ids) } else { tokenizer.bos_before(text, &ids) };
        let mut lead = lead.to_vec();
        lead.truncate(context);
        let bos = tokenizer.bos().prefix.len();
        let written_out = lead.is_empty() && ids.len() > bos && ids.starts_with(&tokenizer.bos().prefix);
        let end = tokenizer.end_behind(&ids).len();
        let kept = ids.len().min(context.saturating_sub(lead.len() + end));
        let ink = Ink::new(text, &placed, tokenizer);
        Ok(Self { ids, ink, first: if written_out { bos } else { 0 }, kept, lead })
    }

    fn is_cut(&self) -> bool {
        self.kept < self.ids.len()
    }

    /// The tokens of what is labelled.
    fn pieces(&self, label: &Referent, positions: LabelPositions) -> Result<Range<usize>, Lost> {
        let Some(span) = label.span.as_ref().filter(|_| positions.of_pieces()) else {
            let all = self.first..self.ids.len();
            return if all.is_empty() { Err(Lost::Uncovered) } else { Ok(all) };
        };
        // Of a text that is too long only the start is tokenized.
        let unseen = self.is_cut() && self.ink.end() <= span.start;
        self.ink.pieces(span).ok_or(if unseen { Lost::Beyond } else { Lost::Uncovered })
    }

    /// Those of the pieces that are read, if they are all in the window. Of a whole text, the ones that are.
    fn read(&self, pieces: Range<usize>, positions: LabelPositions) -> Result<Range<usize>, Lost> {
        let read = match positions {
            LabelPositions::First | LabelPositions::FirstPiece => pieces.start..pieces.start + 1,
            LabelPositions::Last | LabelPositions::LastPiece => pieces.end - 1..pieces.end,
            LabelPositions::MeanPiece => pieces,
            LabelPositions::Mean | LabelPositions::All => pieces.start..pieces.end.min(self.kept),
        };
        if read.end > self.kept || read.is_empty() { Err(Lost::Beyond) } else { Ok(read) }
    }
}
