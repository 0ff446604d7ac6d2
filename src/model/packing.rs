//! How a checkpoint says that its weights have few bits: `quantization_config`.

use std::path::Path;

use serde_json::Value;

use super::parse_python;

/// A way of packing linear maps that is undone when they are read. What a kernel would also do to activations is not
/// done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// Eight-bit floats, with a scale per tensor, row or block of these sizes.
    Fp8 { block: Option<[i64; 2]> },
    /// GPTQ: whole numbers of so many bits along the inputs; zero points may be stored less one.
    Gptq { bits: u32, less_one: bool },
    /// AWQ: four bits along the outputs.
    Awq,
    /// bitsandbytes: eight bits with a scale per row.
    Int8,
}

/// What is supported, for messages.
const SUPPORTED: &str = " (supported: fp8, fbgemm_fp8, compressed-tensors of float-quantized, gptq of 2, 4 or 8 bits, awq of 4 bits, bitsandbytes of 8 bits)";

impl Packing {
    /// From the object under `quantization_config`; an error says what is not supported.
    pub(super) fn of(config: &Value) -> Result<Self, &'static str> {
        let text = |key: &str| config[key].as_str().unwrap_or_default();
        let bits = || config["bits"].as_u64().and_then(|bits| u32::try_from(bits).ok());
        Ok(match text("quant_method") {
            "fp8" => Self::Fp8 { block: block(&config["weight_block_size"])? },
            "fbgemm_fp8" => Self::Fp8 { block: None },
            "compressed-tensors" if ["float-quantized", "naive-quantized"].contains(&text("format")) => {
                let groups = config["config_groups"].as_object().into_iter().flatten();
                let blocks = groups.map(|(_, group)| block(&group["weights"]["block_structure"]));
                Self::Fp8 { block: blocks.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().next() }
            }
            "gptq" => match bits() {
                Some(bits @ (2 | 4 | 8)) => {
                    Self::Gptq { bits, less_one: text("checkpoint_format") != "gptq_v2" }
                }
                _ => return Err(SUPPORTED),
            },
            "awq" if bits() == Some(4) && ["", "gemm", "GEMM"].contains(&text("version")) => Self::Awq,
            "bitsandbytes" if config["load_in_8bit"] == true => Self::Int8,
            _ => return Err(SUPPORTED),
        })
    }

    /// Of the model in `dir`; none where it says nothing, or something that its config is refused for.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        let config = parse_python(&std::fs::read(dir.join("config.json")).ok()?).ok()?;
        let places = [&config, &config["text_config"]].into_iter();
        let found = places.flat_map(|place| [&place["quantization_config"], &place["compression_config"]]);
        found.filter(|value| value.is_object()).find_map(|value| Self::of(value).ok())
    }
}

fn block(value: &Value) -> Result<Option<[i64; 2]>, &'static str> {
    if value.is_null() {
        return Ok(None);
    }
    let sizes: Option<Vec<i64>> = value.as_array().and_then(|list| list.iter().map(Value::as_i64).collect());
    match sizes.as_deref() {
        Some(&[rows, columns]) if rows > 0 && columns > 0 => Ok(Some([rows, columns])),
        _ => Err(" (blocks must be two sizes)"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_supported() {
        let of = |config: Value| Packing::of(&config).ok();
        let fp8 = |block| Some(Packing::Fp8 { block });
        assert_eq!(
            of(json!({"quant_method": "fp8", "weight_block_size": [128, 128]})),
            fp8(Some([128, 128]))
        );
        assert_eq!(of(json!({"quant_method": "fp8", "weight_block_size": null})), fp8(None));
        assert_eq!(of(json!({"quant_method": "fp8", "weight_block_size": [128]})), None);
        assert_eq!(of(json!({"quant_method": "compressed-tensors", "format": "float-quantized"})), fp8(None));
        assert_eq!(of(json!({"quant_method": "compressed-tensors", "format": "pack-quantized"})), None);
        let gptq = |less_one| Some(Packing::Gptq { bits: 4, less_one });
        assert_eq!(of(json!({"quant_method": "gptq", "bits": 4})), gptq(true));
        assert_eq!(
            of(json!({"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"})),
            gptq(false)
        );
        assert_eq!(of(json!({"quant_method": "gptq", "bits": 3})), None);
        assert_eq!(of(json!({"quant_method": "awq", "bits": 4, "version": "gemm"})), Some(Packing::Awq));
        assert_eq!(of(json!({"quant_method": "awq", "bits": 4, "version": "gemv"})), None);
        assert_eq!(of(json!({"quant_method": "bitsandbytes", "load_in_8bit": true})), Some(Packing::Int8));
        for other in [
            json!({"quant_method": "bitsandbytes", "load_in_4bit": true}),
            json!({"quant_method": "hqq"}),
            json!({}),
        ] {
            assert_eq!(of(other), None);
        }
    }
}
