//! Whether a lens and a model belong together.

use layerscope_lenses::{Norm, Unembed};
use sha2::{Digest as _, Sha256};
use tch::{Device, Kind, Tensor};

use super::{ArtifactError, LensConfig};
use crate::results::hash::hex;

/// Rows of the unembedding hashed at once.
const ROWS: i64 = 4096;

/// SHA-256 over the shape and the numbers of `W_U`, the final norm's weight and bias and the head bias; then of a
/// masked-language-model head's transform, where there is one.
///
/// All numbers go in as bf16, so that a model has one hash whether it was loaded in f32 or in bf16.
///
/// # Errors
/// When libtorch cannot copy a tensor.
pub fn unembed_sha256(unembed: &Unembed) -> Result<String, ArtifactError> {
    let mut hash = Sha256::new();
    let weight = unembed.weight();
    let norm = unembed.norm();
    let (gain, offset) = (norm.and_then(Norm::weight), norm.and_then(Norm::bias));
    let transform =
        unembed.transform().map(|t| [Some(t.weight()), t.bias(), t.norm().weight(), t.norm().bias()]);
    let parts = [Some(weight), gain, offset, unembed.bias()];
    for part in parts.into_iter().chain(transform.into_iter().flatten()) {
        hash_part(&mut hash, part).map_err(layerscope_lenses::Error::from)?;
    }
    Ok(hex(&hash.finalize()))
}

/// Dimensions, sizes, numbers; one byte where there is no tensor.
fn hash_part(hash: &mut Sha256, part: Option<&Tensor>) -> Result<(), tch::TchError> {
    let Some(tensor) = part else {
        hash.update([u8::MAX]);
        return Ok(());
    };
    let size = tensor.size();
    hash.update([size.len() as u8]);
    for n in &size {
        hash.update(n.to_le_bytes());
    }
    let rows = size.first().copied().unwrap_or(0);
    for start in (0..rows).step_by(ROWS as usize) {
        let some = tensor.f_narrow(0, start, ROWS.min(rows - start))?;
        let some = some.f_to_kind(Kind::BFloat16)?.f_to_device(Device::Cpu)?.f_contiguous()?;
        let mut bytes = vec![0; 2 * some.numel()];
        some.f_copy_data_u8(&mut bytes, some.numel())?;
        hash.update(&bytes);
    }
    Ok(())
}

/// Whether the lens of `config` was made for a model of this width and number of blocks: what can be told before
/// weights are read.
///
/// # Errors
/// [`ArtifactError::OtherShape`].
pub fn check_shape(config: &LensConfig, d_model: usize, n_layers: usize) -> Result<(), ArtifactError> {
    for (what, expected, got) in [("d_model", config.d_model, d_model), ("layers", config.n_layers, n_layers)]
    {
        if expected != got {
            return Err(ArtifactError::OtherShape { what, expected, got });
        }
    }
    Ok(())
}

/// Whether the lens of `config` may read the model with this unembedding, width and number of blocks. A note where that
/// cannot be told: the package's folders have no hash.
///
/// # Errors
/// [`ArtifactError::OtherUnembedding`] when the hashes differ, [`ArtifactError::OtherShape`] when the shapes do.
pub fn check(
    config: &LensConfig,
    unembed_sha256: &str,
    d_model: usize,
    n_layers: usize,
) -> Result<Option<String>, ArtifactError> {
    check_shape(config, d_model, n_layers)?;
    let model = &config.model.name;
    match &config.unembed_sha256 {
        None => Ok(Some(format!(
            "the lens for {model:?} has no hash of the unembedding: only shapes could be compared"
        ))),
        Some(expected) if expected != unembed_sha256 => Err(ArtifactError::OtherUnembedding {
            model: model.clone(),
            expected: expected.clone(),
            got: unembed_sha256.to_owned(),
        }),
        Some(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use layerscope_lenses::NormKind;

    use super::super::folder::tests::config;
    use super::*;

    fn unembed(kind: Kind, last: f64, bias: Option<f64>) -> Unembed {
        let weight =
            Tensor::arange(3 * 5000, (Kind::Float, Device::Cpu)).view([5000, 3]).to_kind(Kind::BFloat16);
        let _same = weight.get(4999).get(2).fill_(last);
        let ones = Tensor::ones([3], (kind, Device::Cpu));
        let norm = Norm::new(NormKind::Rms, Some(ones), None, 1e-5);
        let bias = bias.map(|b| Tensor::full([5000], b, (kind, Device::Cpu)));
        Unembed::new(norm, weight.to_kind(kind), bias, None).unwrap()
    }

    #[test]
    fn every_number_counts_and_the_loaded_type_does_not() {
        let hash = |kind, last, bias| unembed_sha256(&unembed(kind, last, bias)).unwrap();
        let one = hash(Kind::Float, 7.0, None);
        assert_eq!(one, hash(Kind::BFloat16, 7.0, None));
        assert_eq!(one.len(), 64);
        for other in [hash(Kind::Float, 8.0, None), hash(Kind::Float, 7.0, Some(0.0))] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn another_model_is_refused_and_an_unknown_one_noted() {
        let mut lens = config();
        lens.unembed_sha256 = Some("aa".into());
        assert_eq!(check(&lens, "aa", 3, 2).unwrap(), None);
        assert!(matches!(check(&lens, "bb", 3, 2), Err(ArtifactError::OtherUnembedding { .. })));
        for (d, n) in [(4, 2), (3, 3)] {
            assert!(matches!(check(&lens, "aa", d, n), Err(ArtifactError::OtherShape { .. })));
        }
        lens.unembed_sha256 = None;
        assert!(check(&lens, "bb", 3, 2).unwrap().unwrap().contains("no hash"));
        assert!(matches!(check(&lens, "bb", 4, 2), Err(ArtifactError::OtherShape { .. })));
    }
}
