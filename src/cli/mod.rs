//! Commands: each a file with its arguments and a `run`.

mod args;
mod completions;
mod config;
mod demo;
mod exit;
mod export;
mod future;
mod generate;
mod info;
mod inputs;
mod interrupt;
mod lens;
mod output;
mod passes;
mod patch;
mod probe;
mod report;
mod schedule;
mod session;
mod source;
mod steer;
mod table;
mod think;
mod trace;
mod verify;
mod view;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::exit::Failure;

/// Reads what a language model is thinking, layer by layer.
#[derive(Debug, Parser)]
#[command(name = "layerscope", version, max_term_width = 110)]
#[command(after_help = "Data goes to stdout, messages to stderr. Exit codes: 0 ok, 1 failed, 2 usage or \
    configuration, 3 a check failed, 4 interrupted or partial and resumable.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Info(info::Info),
    Verify(verify::Verify),
    View(view::View),
    Export(Box<export::Export>),
    Generate(Box<generate::Generate>),
    Lens(lens::LensCommand),
    Future(Box<future::Future>),
    Patch(Box<patch::Patch>),
    Trace(Box<trace::Trace>),
    Probe(probe::ProbeCommand),
    Schedule(Box<schedule::ScheduleArgs>),
    Steer(Box<steer::SteerArgs>),
    Think(think::ThinkCommand),
    Report(report::Report),
    Demo(demo::Demo),
    Completions(completions::Completions),
}

/// Parses, runs, prints one line when something is wrong, and chooses the exit code.
pub(crate) fn main() -> ExitCode {
    let run = || -> Result<(), Failure> {
        let argv = config::expand(std::env::args_os().collect())?;
        match Cli::parse_from(argv).command {
            Command::Info(command) => command.run(),
            Command::Verify(command) => command.run(),
            Command::View(command) => command.run(),
            Command::Export(command) => command.run(),
            Command::Generate(command) => command.run(),
            Command::Lens(command) => command.run(),
            Command::Future(command) => command.run(),
            Command::Patch(command) => command.run(),
            Command::Trace(command) => command.run(),
            Command::Probe(command) => command.run(),
            Command::Schedule(command) => command.run(),
            Command::Steer(command) => command.run(),
            Command::Think(command) => command.run(),
            Command::Report(command) => command.run(),
            Command::Demo(command) => command.run(),
            Command::Completions(command) => command.run(),
        }
    };
    run().map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}
