//! Responses as the server of vllm-lens gives them.

use std::io::Write as _;

use serde_json::json;

use super::{Conversion, ConvertError, Converted, runs};
use crate::{
    results::run::{RunError, write_atomic},
    states::encoded::Encoded,
};

/// Writes `NUMBER.json` for every document, or window of one: `activations.residual_stream [layers, tokens, d]` and the
/// token ids, which stand where `return_token_ids` puts them. Layer k there is what leaves block k;
/// `output_residual_stream` lists them.
///
/// # Errors
/// When no column is such a layer; what the export or the disk says.
pub fn vllm_lens(conversion: &Conversion<'_>) -> Result<Converted, ConvertError> {
    let store = conversion.store;
    let mut blocks: Vec<(usize, usize)> =
        conversion.columns.iter().filter_map(|column| Some((conversion.block(*column)?, *column))).collect();
    blocks.sort_unstable();
    blocks.dedup_by_key(|(block, _)| *block);
    if blocks.is_empty() {
        return Err(ConvertError::NoStream);
    }
    let (layers, columns): (Vec<usize>, Vec<usize>) = blocks.into_iter().unzip();
    let width = store.columns()[columns[0]].width;
    let conversion = &Conversion { columns: &columns, ..*conversion };
    let mut found = Converted::default();
    runs::each(conversion, &mut |run| {
        let shape = [layers.len(), run.ids.len(), width];
        let stream = Encoded::of(&run.acts.concat(), &shape, store.dtype())?;
        let response = json!({
            "choices": [{ "index": 0, "text": "", "prompt_token_ids": run.ids }],
            "activations": { "residual_stream": stream },
            "output_residual_stream": layers,
        });
        let path = conversion.out.join(format!("{:06}.json", found.records));
        let text = response.to_string();
        write_atomic(&path, |file| {
            file.write_all(text.as_bytes()).map_err(|e| RunError::io("write", &path, e))
        })?;
        found.records += 1;
        found.tokens += run.ids.len() as u64;
        Ok(())
    })?;
    Ok(found)
}
