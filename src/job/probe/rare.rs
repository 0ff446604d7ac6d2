//! What is done about rare classes.

use serde::{Deserialize, Serialize};

use crate::probe::{RareRule, Treatment};

/// What is done about rare classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct RareSettings {
    /// Fewest labels of a class; a class must be in as many groups as the splits need in any case
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 1, value_name = "N"))]
    pub min_class_size: usize,
    /// What becomes of rarer classes, which are named
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Treatment::Drop, value_name = "WHAT"))]
    pub rare: Treatment,
}

impl Default for RareSettings {
    fn default() -> Self {
        Self { min_class_size: 1, rare: Treatment::Drop }
    }
}

impl RareSettings {
    /// When a class is rare, and what becomes of it.
    pub fn rule(&self) -> RareRule {
        RareRule { min: self.min_class_size, how: self.rare }
    }
}
