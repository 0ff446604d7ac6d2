//! Safetensors: tensors `row_id`, `doc_id` (U64), `pos`, `token_id` (U32) and `act` `[rows, width]`, each at an aligned
//! place.

use std::io::Write;

use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use super::{Acts, BoxError, widen};
use crate::states::store::ActDtype;

/// Writes the file piece by piece; the crate's own writer would need all of it in memory.
pub(super) fn write(out: &mut impl Write, acts: &Acts<'_>) -> Result<(), BoxError> {
    let (rows, width) = (acts.ids.len(), acts.column.width);
    let dtype = acts.dtype.name().to_uppercase();
    let tensors = [
        ("row_id", "U64", vec![rows], rows * 8),
        ("doc_id", "U64", vec![rows], rows * 8),
        ("pos", "U32", vec![rows], rows * 4),
        ("token_id", "U32", vec![rows], rows * 4),
        ("act", dtype.as_str(), vec![rows, width], acts.act.len()),
    ];
    let metadata: Map<String, Value> =
        acts.metadata().into_iter().map(|(k, v)| (k, Value::String(v))).collect();
    let mut header = Map::from_iter([("__metadata__".to_owned(), Value::Object(metadata))]);
    let mut start = 0;
    for (name, dtype, shape, bytes) in tensors {
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, start + bytes] });
        header.insert(name.to_owned(), entry);
        start += bytes;
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let bytes_of_u64 = |ids: &[u64]| -> Vec<u8> { ids.iter().flat_map(|x| x.to_le_bytes()).collect() };
    let bytes_of_u32 = |ids: &[u32]| -> Vec<u8> { ids.iter().flat_map(|x| x.to_le_bytes()).collect() };
    out.write_all(&bytes_of_u64(&acts.ids.row_id))?;
    out.write_all(&bytes_of_u64(&acts.ids.doc_id))?;
    out.write_all(&bytes_of_u32(&acts.ids.pos))?;
    out.write_all(&bytes_of_u32(&acts.ids.token_id))?;
    out.write_all(acts.act)?;
    Ok(())
}

/// Reads the tensor `act`.
pub(super) fn read(file: &[u8], width: usize, dtype: ActDtype, out: &mut [f32]) -> Result<(), BoxError> {
    let tensors = SafeTensors::deserialize(file)?;
    let act = tensors.tensor("act")?;
    let kind = match dtype {
        ActDtype::F32 => Dtype::F32,
        ActDtype::F16 => Dtype::F16,
        ActDtype::Bf16 => Dtype::BF16,
    };
    let shape = [out.len() / width, width];
    if act.dtype() != kind || act.shape() != shape {
        return Err(
            format!("`act` is {:?} {:?}, expected {kind:?} {shape:?}", act.dtype(), act.shape()).into()
        );
    }
    widen(act.data(), dtype, out)
}
