//! `think`: hidden states fed back as input embeddings, what they look like, and what the answer loses without them.

mod report;
mod space;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use layerscope::job::{Job as _, intervene::Think};

use self::space::SpaceArgs;
use super::{args::OutputArgs, exit::Failure, numbers::say_why_none, output::Output};

/// Let a model think without words: a hidden state is the next input embedding, for some steps (Coconut)
#[derive(Debug, Args)]
pub(crate) struct ThinkArgs {
    #[command(flatten)]
    job: Think,
    #[command(flatten)]
    output: OutputArgs,
}

/// `think`, or `think space`.
#[derive(Debug)]
pub(crate) enum ThinkCommand {
    Think(Box<ThinkArgs>),
    Space(Box<SpaceArgs>),
}

/// By hand: clap derives no command that has required arguments of its own or a subcommand in place of them.
impl Args for ThinkCommand {
    fn augment_args(command: Command) -> Command {
        let space = SpaceArgs::augment_args(Command::new("space"));
        let command = ThinkArgs::augment_args(command).subcommand(space);
        command.args_conflicts_with_subcommands(true).subcommand_negates_reqs(true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ThinkCommand {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.subcommand() {
            Some((_, matches)) => {
                SpaceArgs::from_arg_matches(matches).map(|args| Self::Space(Box::new(args)))
            }
            None => ThinkArgs::from_arg_matches(matches).map(|args| Self::Think(Box::new(args))),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ThinkCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Think(think) => think.run(),
            Self::Space(space) => space.run(),
        }
    }
}

impl ThinkArgs {
    fn run(&self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let thinking = self.job.run(&output)?;
        output.print(report::text(&thinking)?.trim_end())?;
        if thinking.prompts.len() > 1 {
            say_why_none(&thinking.thoughts.rows, output);
        }
        if let Some(out) = &self.job.out {
            output.wrote(out, "all numbers with their intervals");
        }
        output.result(self.job.json(thinking))?;
        Ok(())
    }
}
