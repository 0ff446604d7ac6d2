//! Text as it is said, on stdout.

use layerscope::{
    intervene::generate::{Prompt, Said},
    sources::text::{TextError, Tokenizer},
};
use serde_json::json;

use super::super::{
    exit::Failure,
    output::{Output, write_out},
};

/// The text that `tokens` add to a prompt: some tokenizers spell a first token otherwise than a later one.
pub(crate) fn continuation(
    tokenizer: &Tokenizer,
    prompt: &[u32],
    tokens: &[u32],
) -> Result<String, TextError> {
    let last = &prompt[prompt.len().saturating_sub(1)..];
    let before = tokenizer.decode(last)?;
    let whole = tokenizer.decode(&[last, tokens].concat())?;
    match whole.strip_prefix(&before) {
        Some(rest) => Ok(rest.to_owned()),
        None => tokenizer.decode(tokens), // the prompt ends inside a character
    }
}

/// Tells every token: as an event, and as text for people. Of several prompts text waits until a prompt is done.
pub(super) struct Voice<'a> {
    tokenizer: &'a Tokenizer,
    prompts: &'a [Prompt],
    /// Tokens that are not text.
    stop: &'a [u32],
    output: Output,
    said: Vec<Vec<u32>>,
    /// Bytes of the one prompt's text that are out.
    told: usize,
}

impl<'a> Voice<'a> {
    pub(super) fn new(
        tokenizer: &'a Tokenizer,
        prompts: &'a [Prompt],
        stop: &'a [u32],
        output: Output,
    ) -> Self {
        Self { tokenizer, prompts, stop, output, said: vec![Vec::new(); prompts.len()], told: 0 }
    }

    /// Takes one token.
    pub(super) fn hear(&mut self, said: Said) -> Result<(), Failure> {
        let text = self.tokenizer.piece(said.token).text;
        self.output.event(
            "token",
            json!({ "prompt": said.prompt, "step": said.step + 1, "token_id": said.token, "token": text }),
        )?;
        self.said[said.prompt].push(said.token);
        if self.prompts.len() == 1 && !self.output.is_json() {
            // A character may still be incomplete.
            let text = self.text(0)?;
            self.tell(text.trim_end_matches(char::REPLACEMENT_CHARACTER))?;
        }
        Ok(())
    }

    /// What is left, and an end of line.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        for prompt in 0..self.prompts.len() {
            if self.output.is_json() {
                break;
            }
            if self.prompts.len() > 1 {
                self.told = 0;
                write_out(&format!("[{}] ", prompt + 1))?;
            }
            self.tell(&self.text(prompt)?)?;
            write_out("\n")?;
        }
        Ok(())
    }

    fn text(&self, prompt: usize) -> Result<String, Failure> {
        let said = &self.said[prompt];
        let spoken = match said.split_last() {
            Some((last, rest)) if self.stop.contains(last) => rest,
            _ => said,
        };
        Ok(continuation(self.tokenizer, &self.prompts[prompt].ids, spoken)?)
    }

    /// Writes what of `text` is not out yet.
    fn tell(&mut self, text: &str) -> Result<(), Failure> {
        if let Some(new) = text.get(self.told..).filter(|new| !new.is_empty()) {
            write_out(&inert(new))?;
            self.told = text.len();
        }
        Ok(())
    }
}

/// What a model says must not draw on the terminal: control and bidirectional characters are spelled out.
fn inert(text: &str) -> String {
    let hidden = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if hidden(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::inert;

    #[test]
    fn escapes_stay_on_the_page() {
        assert_eq!(inert("a\n\tb\u{1b}[2J\u{202e}é"), "a\n\tb\\u{1b}[2J\\u{202e}é");
    }
}
