//! The one integration binary: tests from the outside.

#![allow(clippy::print_stdout)] // `--nocapture` shows the table of errors per family

mod cli;
mod hostile;
mod hub;
mod parity;
mod properties;
mod text_numbers;
