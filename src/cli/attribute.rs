//! `attribute`.

mod means;
mod waterfall;

use clap::Args;
use layerscope::job::{
    Job as _,
    attribute::{Attribute, Attributed, Quantity},
};

use super::{args::OutputArgs, exit::Failure, numbers::hint_clusters, output::Output};

/// Take a logit apart: what every head, MLP, bias and embedding brought to it (direct logit attribution)
///
/// The final norm's divisor is held as it is, so that all parts sum to the logit. Of a prompt the parts at one
/// position; of a text (--data) their means over tokens, with intervals over documents.
#[derive(Debug, Args)]
pub(crate) struct AttributeArgs {
    #[command(flatten)]
    job: Attribute,
    #[command(flatten)]
    output: OutputArgs,
}

impl AttributeArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let found = self.job.run(&output)?;
        if let Some(asked) = &found.asked {
            output.print(&waterfall::tables(&self.job, &found, asked))?;
        } else {
            output.print(&means::tables(&self.job, &found))?;
            hint_clusters(&found.rows, output);
        }
        if let Some(out) = &self.job.out {
            output.wrote(out, "every component");
        }
        output.result(found.json())?;
        Ok(())
    }
}

/// What is taken apart: `logit of …`.
fn quantity(found: &Attributed, answer: &str, foil: Option<&str>) -> String {
    let of = match (found.quantity, foil) {
        (Quantity::Difference, Some(foil)) => format!("logit of {answer} less that of {foil}"),
        (Quantity::LessMean, _) => format!("logit of {answer} less the mean of all"),
        _ => format!("logit of {answer}"),
    };
    found.soft_cap.map_or_else(|| of.clone(), |cap| format!("{of}, before the soft cap of {cap}"))
}
