//! Text as it is said, on stdout.

use layerscope::{
    job::{
        JobError,
        intervene::{Listener, NewToken},
    },
    results::inert::spelled,
};
use serde_json::json;

use super::super::output::{Output, write_out};

/// Tells every token: as an event, and as text for people. Of several prompts text waits until a prompt is done.
pub(super) struct Voice {
    prompts: usize,
    output: Output,
    /// Bytes of the one prompt's text that are out.
    told: usize,
}

impl Voice {
    pub(super) fn new(prompts: usize, output: Output) -> Self {
        Self { prompts, output, told: 0 }
    }

    /// Writes what of `text` is not out yet.
    fn tell(&mut self, text: &str) -> Result<(), JobError> {
        if let Some(new) = text.get(self.told..).filter(|new| !new.is_empty()) {
            write_out(&spelled(new, &['\n', '\t']))?;
            self.told = text.len();
        }
        Ok(())
    }
}

impl Listener for Voice {
    fn hear(&mut self, token: &NewToken<'_>) -> Result<(), JobError> {
        if self.output.is_json() {
            self.output.event(
                "token",
                json!({ "prompt": token.prompt, "step": token.step, "token_id": token.id, "token": token.piece() }),
            )?;
        } else if self.prompts == 1 {
            // A character may still be incomplete.
            self.tell(token.text()?.trim_end_matches(char::REPLACEMENT_CHARACTER))?;
        }
        Ok(())
    }

    /// What is left, and an end of line.
    fn end(&mut self, texts: &[String]) -> Result<(), JobError> {
        if self.output.is_json() {
            return Ok(());
        }
        for (prompt, text) in texts.iter().enumerate() {
            if self.prompts > 1 {
                self.told = 0;
                write_out(&format!("[{}] ", prompt + 1))?;
            }
            self.tell(text)?;
            write_out("\n")?;
        }
        Ok(())
    }

    /// For people the text is all.
    fn wants_numbers(&self) -> bool {
        self.output.is_json()
    }
}
