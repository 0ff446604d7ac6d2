//! The type to compute in.

use std::fmt;
use std::str::FromStr;

use tch::{Device, Kind};

use super::DeviceError;

/// The `--dtype` argument.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dtype {
    /// f32 on the CPU, the checkpoint's own type on CUDA.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
    /// 16-bit floats.
    F16,
}

/// A type and what the user should know about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindChoice {
    /// The type of weights and activations.
    pub kind: Kind,
    /// To print on stderr.
    pub warning: Option<&'static str>,
}

impl FromStr for Dtype {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" | "float32" => Ok(Self::F32),
            "bf16" | "bfloat16" => Ok(Self::Bf16),
            "f16" | "float16" => Ok(Self::F16),
            _ => Err(DeviceError::UnknownDtype(text.to_owned())),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

impl Dtype {
    /// The type to compute in on `device`, for a checkpoint stored as `checkpoint`.
    pub fn choose(self, device: Device, checkpoint: Kind) -> KindChoice {
        let kind = match self {
            Self::Auto if device.is_cuda() => checkpoint,
            Self::Auto | Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::F16 => Kind::Half,
        };
        let slow = kind == Kind::Half && !device.is_cuda();
        KindChoice { kind, warning: slow.then_some("f16 is slow on a CPU: f32 is faster, and bf16 as small") }
    }
}

crate::by_text::serde_by_text!(Dtype);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_parse_and_resolve() {
        for text in ["auto", "f32", "bf16", "f16"] {
            assert_eq!(text.parse::<Dtype>().unwrap().to_string(), text);
        }
        assert!(matches!("f64".parse::<Dtype>(), Err(DeviceError::UnknownDtype(name)) if name == "f64"));
        let choose = |dtype: Dtype, device| dtype.choose(device, Kind::BFloat16);
        assert_eq!(choose(Dtype::Auto, Device::Cpu).kind, Kind::Float);
        assert_eq!(choose(Dtype::Auto, Device::Cuda(0)).kind, Kind::BFloat16);
        assert_eq!(choose(Dtype::F32, Device::Cuda(0)).kind, Kind::Float);
        assert_eq!(choose(Dtype::Bf16, Device::Cpu), KindChoice { kind: Kind::BFloat16, warning: None });
        assert!(choose(Dtype::F16, Device::Cpu).warning.is_some());
        assert!(choose(Dtype::F16, Device::Cuda(0)).warning.is_none());
    }
}
