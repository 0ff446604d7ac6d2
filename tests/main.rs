//! The one integration binary: tests from the outside.

#![allow(clippy::print_stdout, clippy::print_stderr)]
// `--nocapture` shows the table of errors per family, and why a test is skipped
// Tables of cases are long, and hold closures:
#![allow(clippy::items_after_statements, clippy::needless_range_loop, clippy::semicolon_if_nothing_returned)]
#![allow(clippy::needless_for_each, clippy::too_many_lines, clippy::type_complexity)]

mod attention;
mod attribute_cli;
mod cached_fit;
mod causal_cli;
mod chat;
mod cli;
mod config_keys;
mod damage;
#[cfg(unix)]
mod docs;
mod encoders;
mod future_cli;
mod fuzz_corpus;
mod generate_golden;
mod gguf;
mod hostile;
mod hub;
mod jacobian_cli;
mod job_defaults;
mod kills;
mod leakage_cli;
mod lens_cli;
mod lens_golden;
mod models_table;
mod not_finite;
mod package_lens;
mod parity;
mod patch_cli;
mod per_token;
mod probe_cli;
mod probe_constant;
mod probe_honest;
mod probe_labels;
mod probe_options;
mod prompt_traces;
mod properties;
mod readout_cli;
mod report_cli;
mod rerun_cli;
mod rooms;
mod runs;
mod selftest_cli;
mod steer_cli;
mod text_formats;
mod text_numbers;
mod think_cli;
mod weights;
mod work_cli;
