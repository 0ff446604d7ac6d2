//! The one integration binary: tests from the outside.

mod cli;
mod hostile;
mod hub;
mod parity;
mod properties;
mod text_numbers;
