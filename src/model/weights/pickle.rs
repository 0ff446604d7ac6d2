//! The table of a `pytorch_model.bin`. Its pickle is read by a machine that can describe tensors and nothing else;
//! numbers stay in the file until they are asked for.

use std::path::Path;

use layerscope_lenses::torch_file::{self, Placed};

use super::{
    Table,
    entry::{Coding, Entry, map},
};
use crate::model::ModelError;

/// Adds every tensor of one file.
pub(super) fn read_table(path: &Path, tensors: &mut Table) -> Result<(), ModelError> {
    let corrupt = |reason: String| ModelError::Corrupt { path: path.to_owned(), reason };
    let io = |source| ModelError::Io { path: path.to_owned(), source };
    // An empty file cannot be mapped.
    if std::fs::metadata(path).map_err(io)?.len() == 0 {
        return Err(corrupt("not a whole torch.save file: it is empty".into()));
    }
    let bytes = map(path, 0, None)?;
    for Placed { name, kind, start, len, size, stride } in
        torch_file::table(&bytes).map_err(|e| corrupt(e.to_string()))?
    {
        let coding =
            if is_contiguous(&size, &stride) { Coding::Plain(kind) } else { Coding::Strided(kind, stride) };
        tensors.insert(
            name,
            Entry { file: path.to_owned(), start, len, shape: size, coding, paired_heads: None },
        );
    }
    Ok(())
}

/// Whether the last dimension varies fastest, without gaps.
fn is_contiguous(size: &[i64], stride: &[i64]) -> bool {
    let mut step = 1;
    size.iter().zip(stride).rev().all(|(n, stride)| {
        let fits = *n == 1 || *stride == step;
        step *= n;
        fits
    }) || size.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_told_from_whole_tensors() {
        for (size, stride, whole) in [
            (&[2, 3][..], &[3, 1][..], true),
            (&[3, 2], &[1, 3], false),
            (&[1, 4], &[9, 1], true),
            (&[2, 3], &[4, 1], false),
            (&[], &[], true),
            (&[0, 3], &[7, 7], true),
        ] {
            assert_eq!(is_contiguous(size, stride), whole, "{size:?} {stride:?}");
        }
    }
}
