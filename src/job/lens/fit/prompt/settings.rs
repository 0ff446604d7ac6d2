//! The settings that only learned prompts have.

use serde::{Deserialize, Serialize};

/// What only learned prompts have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Options of --kind future-prompt"))]
pub struct PromptSettings {
    /// Tokens of a prompt; the state goes into the last one
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 10, value_name = "M"))]
    pub prompt_tokens: usize,
    /// Places of the text that prompts are trained on, once per epoch
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 4000, value_name = "N"))]
    pub contexts: usize,
    /// Times through the contexts
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 1, value_name = "N"))]
    pub epochs: usize,
    /// Contexts of a step
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 8, value_name = "N"))]
    pub batch: usize,
    /// `AdamW`'s weight decay
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 1e-5, value_name = "X"))]
    pub decay: f64,
    /// Standard deviation of a prompt's numbers at the beginning
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0.02, value_name = "X"))]
    pub init_std: f64,
}

impl Default for PromptSettings {
    fn default() -> Self {
        Self { prompt_tokens: 10, contexts: 4000, epochs: 1, batch: 8, decay: 1e-5, init_std: 0.02 }
    }
}
