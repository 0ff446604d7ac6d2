//! The table of a GGUF file, under the names of transformers.

use std::path::Path;

use tch::Kind;

use super::{
    Table,
    entry::{Coding, Entry},
};
use crate::model::{
    ModelError,
    gguf::{Block, Gguf},
};

/// Types that have no reader here, by their numbers.
const OTHERS: [(u32, &str); 18] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

/// Adds every tensor of one file.
pub(super) fn read_table(path: &Path, tensors: &mut Table) -> Result<(), ModelError> {
    let bad = |reason: String| ModelError::Corrupt { path: path.to_owned(), reason };
    let size =
        std::fs::metadata(path).map_err(|source| ModelError::Io { path: path.to_owned(), source })?.len();
    let file = Gguf::open(path)?;
    for info in &file.tensors {
        let Some(place) = file.place(&info.name) else { continue };
        let coding = coding(info.kind);
        let len = bytes(&coding, &info.shape).ok_or_else(|| {
            bad(format!("tensor {:?}: shape {:?} does not fit {}", info.name, info.shape, coding.name()))
        })?;
        let start = file.data.checked_add(info.offset);
        let start = start.filter(|start| start.checked_add(len as u64).is_some_and(|end| end <= size));
        let start =
            start.ok_or_else(|| bad(format!("cut short: tensor {:?} ends outside the file", info.name)))?;
        if place.paired_heads.is_some_and(|heads| heads < 1 || info.shape[0] % (2 * heads) != 0) {
            return Err(bad(format!("tensor {:?}: {} rows do not fit the heads", info.name, info.shape[0])));
        }
        let shape = info.shape.clone();
        let paired_heads = place.paired_heads;
        tensors.insert(place.name, Entry { file: path.to_owned(), start, len, shape, coding, paired_heads });
    }
    Ok(())
}

fn coding(kind: u32) -> Coding {
    match (kind, Block::of(kind)) {
        (_, Some(block)) => Coding::Blocks(block),
        (0, _) => Coding::Plain(Kind::Float),
        (1, _) => Coding::Plain(Kind::Half),
        (28, _) => Coding::Plain(Kind::Double),
        (30, _) => Coding::Plain(Kind::BFloat16),
        _ => {
            let name = OTHERS.iter().find(|(number, _)| *number == kind).map(|(_, name)| (*name).to_owned());
            Coding::Unknown(name.unwrap_or_else(|| format!("number {kind} of GGUF")))
        }
    }
}

/// Bytes of a tensor; none where its rows are no whole blocks.
fn bytes(coding: &Coding, shape: &[i64]) -> Option<usize> {
    let numbers = shape.iter().try_fold(1_i64, |n, d| n.checked_mul(*d))?;
    let (per_block, size) = match coding {
        Coding::Blocks(block) => block.size(),
        Coding::Plain(kind) => (1, kind.elt_size_in_bytes()),
        _ => return Some(0),
    };
    let whole = *shape.last()? % per_block as i64 == 0;
    whole.then(|| (numbers as usize / per_block).checked_mul(size)).flatten()
}
