//! `patch`.

mod prompts;

use clap::Args;
use layerscope::{
    intervene::patch::Inspected,
    job::{
        Job as _,
        intervene::{Answer, Patch, Patched},
    },
    results::show::show,
};

use super::{args::OutputArgs, exit::Failure, output::Output, table::Table};

/// Put states of one prompt into another and see what the model says (Patchscopes, `SelfIE`)
#[derive(Debug, Args)]
pub(crate) struct PatchArgs {
    #[command(flatten)]
    job: Patch,
    #[command(flatten)]
    output: OutputArgs,
}

impl PatchArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::new(&self.output);
        let found = self.job.run(&output)?;
        match &found.answers {
            Some((ids, positions, answers)) => report(&found, (ids, positions), answers, output)?,
            None => prompts::report(&found.rows, found.sources, output)?,
        }
        output.result(found.json()?)?;
        if let Some(out) = &self.job.out {
            output.wrote(out, "what the answers have of the source's own");
        }
        Ok(())
    }
}

/// Every answer, layers from the top down.
fn report(
    found: &Patched,
    (ids, positions): (&[i64], &[i64]),
    answers: &[Answer],
    output: Output,
) -> Result<(), Failure> {
    let tokenizer = &found.tokenizer;
    let piece = |id: i64| tokenizer.piece(id as u32).shown;
    let text = |inspected: &Inspected| {
        let ids: Vec<u32> = inspected.words.iter().map(|w| w.token as u32).collect();
        tokenizer.decode(&ids)
    };
    let mut table = Table::new(["layer", "into", "position", "token", "says", "first", "relevance"]);
    for Answer { layer, target_layer: to, inspected } in answers.iter().rev() {
        for (inspected, position) in inspected.iter().zip(positions) {
            let (words, token) = (text(inspected)?, piece(ids[*position as usize]));
            let relevance =
                inspected.words.iter().map(|w| w.relevance).sum::<f64>() / inspected.words.len() as f64;
            let first = inspected.words.first().map_or(0.0, |w| w.probability);
            table.row([
                layer.to_string(),
                to.to_string(),
                position.to_string(),
                token,
                show(words.as_bytes()),
                format!("{first:.3}"),
                format!("{relevance:+.3}"),
            ]);
        }
    }
    output.print(
        format!("what the target says (probability of its first token, mean relevance)\n{table}").trim_end(),
    )?;
    Ok(())
}
