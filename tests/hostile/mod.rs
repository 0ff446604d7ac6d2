//! Bad input: one clear line and a non-zero exit for each.

mod arguments;
mod models;
mod texts;
mod tokenizers;
