//! The one integration binary: tests from the outside.

#![allow(clippy::print_stdout, clippy::print_stderr)]
// `--nocapture` shows the table of errors per family, and why a test is skipped
// Tables of cases are long, and hold closures:
#![allow(clippy::items_after_statements, clippy::needless_range_loop, clippy::semicolon_if_nothing_returned)]
#![allow(clippy::needless_for_each, clippy::too_many_lines, clippy::type_complexity)]

mod cached_fit;
mod causal_cli;
mod cli;
#[cfg(unix)]
mod docs;
mod future_cli;
mod generate_golden;
mod hostile;
mod hub;
mod lens_cli;
mod lens_golden;
mod package_lens;
mod parity;
mod patch_cli;
mod per_token;
mod probe_cli;
mod prompt_traces;
mod properties;
mod report_cli;
mod steer_cli;
mod text_numbers;
mod think_cli;
