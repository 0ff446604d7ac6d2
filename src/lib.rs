//! Reads what a language model is thinking, layer by layer.

pub mod text;
