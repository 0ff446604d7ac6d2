//! The settings that only Jacobian lenses have.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::model::Rules;

/// What only Jacobian lenses have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Options of --kind jacobian"))]
#[allow(clippy::doc_markdown)] // the help of an option
pub struct JacobianSettings {
    /// Prompts to average over, of --seq-len tokens (by default 128)
    #[cfg_attr(feature = "cli", arg(long, default_value_t = PROMPTS, value_name = "N"))]
    pub n_prompts: NonZeroUsize,
    /// Places at a prompt's beginning that count neither as sources nor as targets; the last never does
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 16, value_name = "N"))]
    pub skip_first: usize,
    /// Rows that each prompt computes, in turn; by default all of them
    #[cfg_attr(feature = "cli", arg(long, value_name = "M"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_per_prompt: Option<NonZeroUsize>,
    /// How the way back goes: by the derivatives, or by RelP's rules (the R-lens)
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Rules::Exact, value_name = "RULES"))]
    pub rules: Rules,
}

/// The reference calls a hundred usable.
const PROMPTS: NonZeroUsize = NonZeroUsize::new(100).unwrap();

impl Default for JacobianSettings {
    fn default() -> Self {
        Self { n_prompts: PROMPTS, skip_first: 16, rows_per_prompt: None, rules: Rules::Exact }
    }
}
