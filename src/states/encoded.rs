//! Tensors as vllm-lens puts them into JSON: base64 of zstd of the numbers, bf16 as the bits of int16.

use std::io::{self, Read as _};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::store::ActDtype;

/// zstd's fastest level, as there.
const LEVEL: i32 = 1;

/// A tensor in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Encoded {
    data: String,
    /// numpy's name of what was stored.
    dtype: String,
    /// torch's name of what it was; bf16 is stored as int16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    original_dtype: Option<String>,
    /// Its shape.
    pub(crate) shape: Vec<i64>,
    /// `zstd`; the first version had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compression: Option<String>,
}

impl Encoded {
    /// Numbers of a shape, rounded to a type.
    pub(crate) fn of(values: &[f32], shape: &[usize], dtype: ActDtype) -> io::Result<Self> {
        let bytes: Vec<u8> = match dtype {
            ActDtype::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            ActDtype::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            ActDtype::Bf16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        };
        let (stored, original) = match dtype {
            ActDtype::F32 => ("float32", "torch.float32"),
            ActDtype::F16 => ("float16", "torch.float16"),
            ActDtype::Bf16 => ("int16", "torch.bfloat16"),
        };
        Ok(Self {
            data: BASE64.encode(zstd::bulk::compress(&bytes, LEVEL)?),
            dtype: stored.to_owned(),
            original_dtype: Some(original.to_owned()),
            shape: shape.iter().map(|n| *n as i64).collect(),
            compression: Some("zstd".to_owned()),
        })
    }

    fn kind(&self) -> Result<Kind, String> {
        match (self.dtype.as_str(), self.original_dtype.as_deref()) {
            ("int16", Some("torch.bfloat16")) => Ok(Kind::BFloat16),
            ("float16", _) => Ok(Kind::Half),
            // The first version stored f32 of whatever it was.
            ("float32", _) => Ok(Kind::Float),
            ("float64", _) => Ok(Kind::Double),
            (stored, original) => {
                Err(format!("numbers of type {stored} (of {}), which are no states", original.unwrap_or("?")))
            }
        }
    }

    /// Whether the numbers were rounded to f16 or bf16.
    pub(crate) fn is_half(&self) -> bool {
        let of = self.original_dtype.as_deref().unwrap_or_default();
        of == "torch.bfloat16" || of == "torch.float16" || self.dtype == "float16"
    }

    /// The tensor, if it holds as many numbers as its shape says.
    pub(crate) fn tensor(&self) -> Result<Tensor, String> {
        let kind = self.kind()?;
        let mut size = Some(kind.elt_size_in_bytes());
        for n in &self.shape {
            size = size.zip(usize::try_from(*n).ok()).and_then(|(size, n)| size.checked_mul(n));
        }
        let size = size.ok_or_else(|| format!("the shape {:?}", self.shape))?;
        let packed = BASE64.decode(&self.data).map_err(|why| format!("no base64: {why}"))?;
        let bytes = match self.compression.as_deref() {
            None => packed,
            Some("zstd") => {
                unpacked(&packed, size).map_err(|why| format!("its numbers cannot be unpacked: {why}"))?
            }
            Some(other) => return Err(format!("compressed by {other}, not zstd")),
        };
        if bytes.len() != size {
            return Err(format!(
                "{} bytes of numbers, but {size} of the shape {:?}",
                bytes.len(),
                self.shape
            ));
        }
        Tensor::f_from_data_size(&bytes, &self.shape, kind).map_err(|why| why.to_string())
    }
}

/// What was packed, to one byte more than there may be, so that more are noticed. Memory grows with what comes, whatever was claimed.
fn unpacked(packed: &[u8], size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    zstd::stream::read::Decoder::new(packed)?.take(size as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_comes_back() {
        let values = [1.0_f32, -2.5, 0.0, 384.0, 0.125, -1024.0];
        for dtype in [ActDtype::F32, ActDtype::F16, ActDtype::Bf16] {
            let encoded = Encoded::of(&values, &[3, 2], dtype).unwrap();
            assert_eq!(encoded.is_half(), dtype != ActDtype::F32);
            let tensor = encoded.tensor().unwrap();
            assert_eq!(tensor.size(), [3, 2]);
            let back: Vec<f32> = tensor.to_kind(Kind::Float).flatten(0, -1).try_into().unwrap();
            assert_eq!(back, values);
        }
    }

    #[test]
    fn what_is_no_tensor_is_named() {
        let good = Encoded::of(&[1.0, 2.0], &[2], ActDtype::F32).unwrap();
        let shaped = |shape: Vec<i64>| Encoded { shape, ..good.clone() };
        for (says, bad) in [
            ("but 12 of the shape [3]", shaped(vec![3])),
            ("5 bytes of numbers, but 4", shaped(vec![1])),
            ("8 bytes of numbers, but", shaped(vec![1 << 40])),
            ("cannot be unpacked", Encoded { data: BASE64.encode("no zstd"), ..good.clone() }),
            ("the shape [-1]", shaped(vec![-1])),
            ("the shape", shaped(vec![i64::MAX, 2])),
            ("no base64", Encoded { data: "?".into(), ..good.clone() }),
            ("type int16 (of torch.float32)", Encoded { dtype: "int16".into(), ..good.clone() }),
        ] {
            let why = bad.tensor().unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }
}
