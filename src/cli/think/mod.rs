//! `think`: hidden states fed back as input embeddings, what they look like, and what the answer loses without them.

mod args;
mod found;
mod job;
mod report;
mod run;
mod space;

use anyhow::anyhow;
use args::ThinkArgs;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use layerscope::{
    results::run::{Claim, RunDir},
    sources::text::Tokenizer,
};
use serde_json::{Value, json};

use self::{found::Found, job::Job, space::SpaceArgs};
use super::{
    exit::Failure,
    generate::{THOUGHTS, write_texts},
    lens::load,
    numbers::say_why_none,
    output::{Output, shown},
    session::{Session, bos_line},
};

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
        let output = Output::new(self.common.output);
        let asked = load::read(&self.lens)?;
        if load::site(&asked) != "resid_pre" {
            return Err(Failure::usage(anyhow!("--lens reads {}, not resid_pre", load::site(&asked))));
        }
        let session = Session::open(&self.model, output)?;
        load::check_shapes(&asked, &session.spec)?;
        let tokenizer = session.tokenizer(&self.model)?;
        let job = Job::new(self, &session, &tokenizer, output)?;
        let (layer, last) = (job.feedback.layer, session.spec.n_layers);
        for lens in &asked {
            let itself = layer == last && lens.horizons() == 1;
            if !(itself || lens.reads(layer)) {
                return Err(Failure::usage(anyhow!(
                    "--lens {}: it has nothing for layer {layer}",
                    lens.name()
                )));
            }
        }
        session.announce(output);
        output.note(format!("BOS: {}", bos_line(tokenizer.bos())));
        output.note(job.describe(self.rescale, last));
        let claim = self.claim(&job, &asked, &session, &tokenizer, output)?;
        let found = self.think(&job, &asked, &session, output)?;
        output.note(found.embedding_line());
        let lines = found.lines(&job, &tokenizer)?;
        if let (Some(claim), Some(out)) = (claim, &self.out) {
            write_texts(claim, (out, THOUGHTS), &found.rows, &lines)?;
        }
        output.print(report::text(&job, &found, &tokenizer)?.trim_end())?;
        if job.prompts.len() > 1 {
            say_why_none(&found.rows, output);
        }
        if let Some(out) = &self.out {
            output.wrote(out, "all numbers with their intervals");
        }
        output.result(self.result(&job, &found, lines, &session))?;
        Ok(())
    }

    fn claim(
        &self,
        job: &Job,
        asked: &[load::Asked],
        session: &Session,
        tokenizer: &Tokenizer,
        output: Output,
    ) -> Result<Option<Claim>, Failure> {
        let Some(out) = &self.out else { return Ok(None) };
        let mut manifest = session.manifest("think", tokenizer, self.model.bos, output)?;
        manifest.seed = self.common.seed;
        manifest.data.clone_from(&job.data);
        manifest.lenses =
            asked.iter().filter_map(|lens| lens.record().transpose()).collect::<Result<_, _>>()?;
        manifest.config = self.config(job, session);
        Ok(Some(output.claimed(RunDir::claim(out, manifest, self.force)?)))
    }

    /// The settings, for a manifest and for `--json`.
    fn config(&self, job: &Job, session: &Session) -> Value {
        json!({
            "model_name": session.name(),
            "n_layers": session.spec.n_layers,
            "text": self.text,
            "text_column": self.text_column,
            "prompt_tokens": self.prompt_tokens,
            "prompts": job.prompts.len(),
            "steps": job.feedback.steps,
            "layer": job.feedback.layer,
            "norm": job.feedback.norm,
            "rescale": format!("{:?}", self.rescale).to_lowercase(),
            "decay": job.feedback.decay,
            "max_new_tokens": job.settings.max_new_tokens,
            "stop": job.settings.stop,
            "cache": job.settings.cache,
            "replace": job.replacements.iter().map(|r| r.name()).collect::<Vec<_>>(),
            "lenses": self.lens.iter().map(shown).collect::<Vec<_>>(),
            "top_k": self.top_k,
            "intervals": self.intervals.config(),
        })
    }

    fn result(&self, job: &Job, found: &Found, lines: Vec<Value>, session: &Session) -> Value {
        let effects = found.rows.iter().filter(|r| r.kind == "replacement").map(|r| {
            json!({ "replacement": r.subject, "metric": r.metric, "unit": r.unit, "estimate": r.estimate,
                    "lower": r.lower, "upper": r.upper, "n_prompts": r.n_clusters })
        });
        let mut result = json!({
            "model": session.name(),
            "settings": self.config(job, session),
            "embedding_norm": found.embedding_norm(),
            "effects": effects.collect::<Vec<_>>(),
            "out": self.out.as_ref().map(shown),
            "rows": found.rows.len(),
        });
        if let [only] = &lines[..] {
            result["token_ids"] = only["token_ids"].clone();
            result["generated"] = only["generated"].clone();
        }
        result["prompts"] = Value::from(lines);
        result
    }
}
