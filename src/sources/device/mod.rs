//! Where to compute, in which type, and with how many threads.

mod cuda;
mod dtype;
mod threads;

pub use cuda::load_cuda;
pub use dtype::{Dtype, KindChoice};
pub use threads::{physical_cores, set_threads};

use std::fmt;
use std::str::FromStr;

use tch::Device;

/// The `--device` argument.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceArg {
    /// The first CUDA device if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
}

/// Why a device or type cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not a device's name.
    #[error("unknown device {0:?}: expected auto, cpu, cuda or cuda:N")]
    UnknownDevice(String),
    /// Not a type's name.
    #[error("unknown dtype {0:?}: expected auto, f32, bf16 or f16")]
    UnknownDtype(String),
    /// CUDA was asked for and is not there.
    #[error("device cuda:{index} is not available: {reason}")]
    NoCuda {
        /// The device asked for.
        index: usize,
        /// What is missing.
        reason: String,
    },
    /// The number is too high.
    #[error("no device cuda:{index}: there {}", count_words(*.devices))]
    NoSuchDevice {
        /// The device asked for.
        index: usize,
        /// How many there are.
        devices: usize,
    },
}

/// A device and the words to print with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceChoice {
    /// Where tensors go.
    pub device: Device,
    /// For example `CPU (no CUDA libtorch found)` or `CUDA device 0 of 2`.
    pub note: String,
}

impl FromStr for DeviceArg {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::UnknownDevice(text.to_owned());
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                // `parse` alone would allow "+1".
                let digits = number.bytes().all(|b| b.is_ascii_digit());
                number.parse().ok().filter(|_| digits).map(Self::Cuda).ok_or_else(unknown)
            }
        }
    }
}

impl fmt::Display for DeviceArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl DeviceArg {
    /// Loads CUDA where there is one and picks the device.
    ///
    /// # Errors
    /// [`DeviceError::NoCuda`] and [`DeviceError::NoSuchDevice`] when CUDA was asked for by name and is not
    /// there.
    pub fn choose(self) -> Result<DeviceChoice, DeviceError> {
        if self == Self::Cpu {
            return Ok(DeviceChoice { device: Device::Cpu, note: "CPU".into() });
        }
        let devices = load_cuda().map(|()| usize::try_from(tch::Cuda::device_count()).unwrap_or(0));
        self.choose_from(devices)
    }

    fn choose_from(self, devices: Result<usize, String>) -> Result<DeviceChoice, DeviceError> {
        let cuda = |index, n| DeviceChoice {
            device: Device::Cuda(index),
            note: format!("CUDA device {index} of {n}"),
        };
        let devices = match devices {
            Ok(0) => Err("CUDA libtorch found, but no device".to_owned()),
            other => other,
        };
        match (self, devices) {
            (Self::Cpu, _) => Ok(DeviceChoice { device: Device::Cpu, note: "CPU".into() }),
            (Self::Auto, Ok(n)) => Ok(cuda(0, n)),
            (Self::Auto, Err(why)) => Ok(DeviceChoice { device: Device::Cpu, note: format!("CPU ({why})") }),
            (Self::Cuda(index), Ok(n)) if index < n => Ok(cuda(index, n)),
            (Self::Cuda(index), Ok(devices)) => Err(DeviceError::NoSuchDevice { index, devices }),
            (Self::Cuda(index), Err(reason)) => Err(DeviceError::NoCuda { index, reason }),
        }
    }
}

fn count_words(devices: usize) -> String {
    if devices == 1 { "is 1 device, cuda:0".into() } else { format!("are {devices} devices") }
}

crate::by_text::serde_by_text!(DeviceArg);

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn devices_parse_and_print() {
        for (text, arg) in
            [("auto", DeviceArg::Auto), ("cpu", DeviceArg::Cpu), ("cuda:0", DeviceArg::Cuda(0))]
        {
            assert_eq!(text.parse(), Ok(arg));
            assert_eq!(arg.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceArg::Cuda(0)));
        assert_eq!("cuda:12".parse(), Ok(DeviceArg::Cuda(12)));
        for bad in [
            "",
            "gpu",
            "CPU",
            "mps",
            "cuda:",
            "cuda:-1",
            "cuda:+1",
            "cuda:1x",
            "cuda: 1",
            "cuda:99999999999999999999",
        ] {
            assert_eq!(bad.parse::<DeviceArg>(), Err(DeviceError::UnknownDevice(bad.into())));
        }
    }

    #[test]
    fn auto_says_why_it_is_the_cpu() {
        let note = |devices| DeviceArg::Auto.choose_from(devices).unwrap().note;
        assert_eq!(note(Err("no CUDA libtorch found".into())), "CPU (no CUDA libtorch found)");
        assert_eq!(note(Ok(0)), "CPU (CUDA libtorch found, but no device)");
        assert_eq!(note(Ok(2)), "CUDA device 0 of 2");
    }

    #[test]
    fn cuda_by_name_is_there_or_an_error() {
        let choose = |index, devices| DeviceArg::Cuda(index).choose_from(devices).map(|c| c.device);
        assert_eq!(choose(1, Ok(2)), Ok(Device::Cuda(1)));
        assert_eq!(choose(7, Ok(2)).unwrap_err().to_string(), "no device cuda:7: there are 2 devices");
        assert_eq!(choose(1, Ok(1)).unwrap_err().to_string(), "no device cuda:1: there is 1 device, cuda:0");
        let error = choose(0, Ok(0)).unwrap_err().to_string();
        assert_eq!(error, "device cuda:0 is not available: CUDA libtorch found, but no device");
        let error = choose(0, Err("no CUDA libtorch found".into())).unwrap_err().to_string();
        assert!(error.contains("no CUDA libtorch found"), "{error}");
    }

    #[test]
    fn this_machine_gets_a_device_that_works() {
        let chosen = DeviceArg::Auto.choose().unwrap();
        let two = tch::Tensor::ones([2], (Kind::Int64, chosen.device)).sum(Kind::Int64);
        assert_eq!(two.int64_value(&[]), 2);
        assert_eq!(chosen.device.is_cuda(), DeviceArg::Cuda(0).choose().is_ok(), "{}", chosen.note);
    }
}
