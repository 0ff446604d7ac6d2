//! `lens vectors`.

use clap::Args;
use layerscope::job::{
    Job as _,
    lens::{LensVectors, VectorsFound},
};
use serde_json::{Value, json};

use crate::cli::{
    args::OutputArgs,
    exit::Failure,
    output::{Output, shown},
    table::Table,
};

/// Write the directions that move tokens' logits most, as a lens sees them, for --edit and --direction
///
/// Of a lens that maps a state h to J h + b these are Jᵀu, with u the row of the unembedding: add them to steer, project
/// them out, swap two.
#[derive(Debug, Args)]
pub(crate) struct VectorsArgs {
    #[command(flatten)]
    job: LensVectors,
    #[command(flatten)]
    output: OutputArgs,
}

impl VectorsArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let output = Output::stoppable(&self.output)?;
        let found = self.job.run(&output)?;
        output.print(table(&found).trim_end())?;
        if let Some(layer) = found.layers.iter().find(|layer| layer.alike()) {
            let layer = layer.layer;
            output.note(format!(
                "layer {layer}: two of the directions are nearly one; a swap of them says little"
            ));
        }
        let file = self.job.out.join("directions.safetensors");
        if let (Some(name), Some(layer)) = (found.names.first(), found.layers.last()) {
            let (file, layer) = (file.display(), layer.layer);
            output.note(format!(
                "next: layerscope generate --edit 'blocks.{layer}.hook_resid_pre:project-out={file}:{name}.{layer}' …, or \
                 layerscope steer --direction {file}:{name} …"
            ));
        }
        let layers: Vec<Value> = found
            .layers
            .iter()
            .map(|one| json!({ "layer": one.layer, "lengths": one.lengths, "cosine": one.cosine }))
            .collect();
        output.result(json!({ "out": shown(&self.job.out), "names": found.names, "layers": layers }))?;
        Ok(())
    }
}

/// Lengths by layer, and how alike the two most alike are.
fn table(found: &VectorsFound) -> String {
    let several = found.names.len() > 1;
    let names = found.names.iter().map(|name| format!("‖{name}‖"));
    let mut table = Table::new(
        ["layer".to_owned()].into_iter().chain(names).chain(several.then(|| "largest cosine".to_owned())),
    );
    for one in &found.layers {
        let lengths = one.lengths.iter().map(|x| format!("{x:.3}"));
        let cosine = one.cosine.map(|x| format!("{x:.3}"));
        table.row([one.layer.to_string()].into_iter().chain(lengths).chain(cosine));
    }
    table.to_string()
}
