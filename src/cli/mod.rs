//! Commands: each a file with its arguments and a `run`.

mod args;
mod attention;
mod attribute;
mod completions;
mod config;
mod convert;
mod crash;
mod demo;
mod exit;
mod export;
mod fault;
mod future;
mod generate;
mod import;
mod info;
mod interrupt;
mod lens;
mod numbers;
mod output;
mod parse;
mod patch;
mod probe;
mod query;
mod report;
mod rerun;
mod run;
mod schedule;
mod selftest;
mod steer;
mod table;
mod think;
mod trace;
mod verify;
mod view;
mod work;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::exit::Failure;

/// Reads what a language model is thinking, layer by layer.
#[derive(Debug, Parser)]
#[command(name = "layerscope", version, max_term_width = 110)]
#[command(after_help = "Data goes to stdout, messages to stderr. Exit codes: 0 ok, 1 failed, 2 usage or \
    configuration, 3 a check failed, 4 interrupted or partial and resumable, 70 a fault of the program.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Info(info::InfoArgs),
    Verify(verify::VerifyArgs),
    View(Box<view::ViewArgs>),
    Export(Box<export::ExportArgs>),
    Attention(Box<attention::AttentionArgs>),
    Import(Box<import::ImportArgs>),
    Convert(Box<convert::ConvertArgs>),
    Generate(Box<generate::GenerateArgs>),
    Attribute(Box<attribute::AttributeArgs>),
    Lens(lens::LensCommand),
    Future(Box<future::FutureArgs>),
    Patch(Box<patch::PatchArgs>),
    Trace(Box<trace::TraceArgs>),
    Probe(probe::ProbeCommand),
    Schedule(Box<schedule::ScheduleArgs>),
    Steer(Box<steer::SteerArgs>),
    Think(think::ThinkCommand),
    Report(report::ReportArgs),
    Query(query::QueryArgs),
    Run(run::RunArgs),
    Rerun(rerun::RerunArgs),
    Work(work::WorkArgs),
    Selftest(selftest::Selftest),
    Demo(demo::Demo),
    Completions(completions::Completions),
    Fault(fault::Fault),
}

/// Parses, runs, prints one line when something is wrong, and chooses the exit code.
pub(crate) fn main() -> ExitCode {
    layerscope::job::spell_as_flags();
    crash::guard(|| {
        let argv = match config::expand(std::env::args_os().collect()) {
            Ok(argv) => argv,
            Err(failure) => return failure.report(),
        };
        match parse::parse(&argv) {
            Ok(parse::Parsed::Command(command)) => {
                run(*command).map_or_else(Failure::report, |()| ExitCode::SUCCESS)
            }
            Ok(parse::Parsed::Answered(code)) => code,
            Err(failure) => failure.report(),
        }
    })
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Info(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::View(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Attention(command) => command.run(),
        Command::Import(command) => command.run(),
        Command::Convert(command) => command.run(),
        Command::Generate(command) => command.run(),
        Command::Attribute(command) => command.run(),
        Command::Lens(command) => command.run(),
        Command::Future(command) => command.run(),
        Command::Patch(command) => command.run(),
        Command::Trace(command) => command.run(),
        Command::Probe(command) => command.run(),
        Command::Schedule(command) => command.run(),
        Command::Steer(command) => command.run(),
        Command::Think(command) => command.run(),
        Command::Report(command) => command.run(),
        Command::Query(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Rerun(command) => command.run(),
        Command::Work(command) => command.run(),
        Command::Selftest(command) => command.run(),
        Command::Demo(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Fault(command) => command.run(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use clap::CommandFactory as _;

    use super::Cli;

    /// Commands from which on an option is none of one of them: `--contexts` is of two, and means another thing in
    /// each.
    const COMMON: usize = 5;

    /// Where an option stands: the command, and the heading there.
    type Places = BTreeMap<String, BTreeSet<(String, Option<String>)>>;

    fn options(command: &clap::Command, all: &mut Places) {
        for argument in command.get_arguments().filter(|a| a.get_long().is_some()) {
            let heading = argument.get_help_heading().map(str::to_owned);
            let place = (command.get_name().to_owned(), heading);
            all.entry(argument.get_id().to_string()).or_default().insert(place);
        }
        command.get_subcommands().for_each(|command| options(command, all));
    }

    #[test]
    fn what_commands_share_stands_under_no_heading_of_one() {
        let mut command = Cli::command();
        command.build();
        let mut all = Places::new();
        options(&command, &mut all);
        assert!(all["json"].len() >= COMMON, "{:?}", all["json"]);
        assert!(all["prompt_tokens"].iter().any(|(_, heading)| heading.is_some()));
        for (option, places) in all.iter().filter(|(_, places)| places.len() >= COMMON) {
            // All of them may put it under a heading of its own, as they do with what is about chats.
            let headings: BTreeSet<_> = places.iter().map(|(_, heading)| heading).collect();
            assert!(headings.len() == 1, "--{option} stands under {places:?}");
        }
    }
}
