//! Where to compute, in which type, and with how many threads.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::OnceLock;

use tch::{Device, Kind};

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

/// A type and what the user should know about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindChoice {
    /// The type of weights and activations.
    pub kind: Kind,
    /// To print on stderr.
    pub warning: Option<&'static str>,
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
    /// [`DeviceError::NoCuda`] and [`DeviceError::NoSuchDevice`] when CUDA was asked for by name and is not there.
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

#[cfg(target_os = "linux")]
const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// Opens the CUDA half of libtorch, which registers its kernels with the CPU half that this binary is linked to. Must come
/// before anything asks libtorch for CUDA, because libtorch remembers its first answer. Later calls repeat the first's.
///
/// # Errors
/// In words: there is none, or it could not be opened and why.
pub fn load_cuda() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(open_cuda).clone()
}

#[cfg(target_os = "linux")]
fn open_cuda() -> Result<(), String> {
    let folders = [
        option_env!("LAYERSCOPE_LIBTORCH_LIB").map(PathBuf::from),
        std::env::var_os("LIBTORCH").map(|dir| PathBuf::from(dir).join("lib")),
    ];
    let in_folders = folders.into_iter().flatten().map(|dir| dir.join(CUDA_LIBRARY));
    // The plain name first: the loader then looks where this binary's other libraries came from.
    open_first(std::iter::once(PathBuf::from(CUDA_LIBRARY)).chain(in_folders.filter(|path| path.exists())))
}

#[cfg(target_os = "linux")]
fn open_first(candidates: impl Iterator<Item = PathBuf>) -> Result<(), String> {
    let mut failure = None;
    for path in candidates {
        match open_library(&path) {
            Ok(()) => return Ok(()),
            // "libtorch_cuda.so: cannot open": absent. Anything else is about a file that is there, or about its needs.
            Err(reason) if reason.starts_with(CUDA_LIBRARY) => {}
            Err(reason) => failure = Some(reason),
        }
    }
    Err(failure.map_or_else(
        || "no CUDA libtorch found".into(),
        |reason| format!("CUDA libtorch found, but it does not load: {reason}"),
    ))
}

#[cfg(not(target_os = "linux"))]
fn open_cuda() -> Result<(), String> {
    Err("no CUDA libtorch found".into())
}

#[cfg(target_os = "linux")]
fn open_library(path: &std::path::Path) -> Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: opening runs the library's initialisers. They are libtorch's own: they add kernels to the dispatcher of the
    // libtorch this binary is linked to, once, before any tensor exists (OnceLock above). RTLD_NOW makes a library of
    // another libtorch version fail here, by an unresolved symbol, and not later in a call.
    #[allow(unsafe_code)]
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    // Never closed: kernels stay registered until the process ends.
    library.map(std::mem::forget).map_err(|error| {
        // The loader's own words are the source; the error itself says only that opening failed.
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
    })
}

/// Sets the threads of libtorch and of rayon, and returns their number; `None` takes one per physical core that this
/// process may use. Must come before the first parallel work: rayon keeps the pool that it has by then.
pub fn set_threads(threads: Option<usize>) -> usize {
    let threads = threads.unwrap_or_else(physical_cores).clamp(1, 1024);
    tch::set_num_threads(threads as i32);
    // An error means that the pool exists, as the doc comment says.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    threads
}

/// Physical cores among the processors that this process may use: two hyperthreads of a core share its multipliers.
pub fn physical_cores() -> usize {
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    // Where the system does not tell, every processor counts as a core.
    allowed_cores().map_or(logical, |cores| cores.clamp(1, logical))
}

fn allowed_cores() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let siblings = |cpu: usize| {
        std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"))
            .ok()
    };
    let cores: Option<std::collections::BTreeSet<String>> =
        parse_cpu_list(list)?.into_iter().map(siblings).collect();
    cores.map(|cores| cores.len())
}

/// `0-3,8` as Linux writes it.
fn parse_cpu_list(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
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
        assert!(choose(0, Err("no CUDA libtorch found".into())).is_err());
    }

    #[test]
    fn this_machine_gets_a_device_that_works() {
        let chosen = DeviceArg::Auto.choose().unwrap();
        let two = tch::Tensor::ones([2], (Kind::Int64, chosen.device)).sum(Kind::Int64);
        assert_eq!(two.int64_value(&[]), 2);
        assert_eq!(chosen.device.is_cuda(), DeviceArg::Cuda(0).choose().is_ok(), "{}", chosen.note);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_library_that_is_absent_differs_from_one_that_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        let broken = folder.path().join(CUDA_LIBRARY);
        std::fs::write(&broken, "not a library").unwrap();
        // The test binary's own search path holds none where libtorch is the CPU one.
        if load_cuda().is_err() {
            let absent = open_first([PathBuf::from(CUDA_LIBRARY)].into_iter()).unwrap_err();
            assert_eq!(absent, "no CUDA libtorch found");
        }
        let error = open_first([broken.clone()].into_iter()).unwrap_err();
        assert!(error.contains("does not load") && error.contains(broken.to_str().unwrap()), "{error}");
    }

    #[test]
    fn types_parse_and_resolve() {
        for text in ["auto", "f32", "bf16", "f16"] {
            assert_eq!(text.parse::<Dtype>().unwrap().to_string(), text);
        }
        assert!("f64".parse::<Dtype>().is_err());
        let choose = |dtype: Dtype, device| dtype.choose(device, Kind::BFloat16);
        assert_eq!(choose(Dtype::Auto, Device::Cpu).kind, Kind::Float);
        assert_eq!(choose(Dtype::Auto, Device::Cuda(0)).kind, Kind::BFloat16);
        assert_eq!(choose(Dtype::F32, Device::Cuda(0)).kind, Kind::Float);
        assert_eq!(choose(Dtype::Bf16, Device::Cpu), KindChoice { kind: Kind::BFloat16, warning: None });
        assert!(choose(Dtype::F16, Device::Cpu).warning.is_some());
        assert!(choose(Dtype::F16, Device::Cuda(0)).warning.is_none());
    }

    #[test]
    fn cores_are_counted() {
        assert_eq!(parse_cpu_list("\t0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse_cpu_list("x"), None);
        let logical = std::thread::available_parallelism().unwrap().get();
        assert!((1..=logical).contains(&physical_cores()));
    }
}
