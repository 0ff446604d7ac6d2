//! The one integration binary: tests from the outside.

#![allow(clippy::print_stdout)] // `--nocapture` shows the table of errors per family

mod hub;
mod parity;
