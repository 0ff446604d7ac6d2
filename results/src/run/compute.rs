//! What numbers are computed with: as far as results, to the last bit, depend on the machine.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::hash_bytes;

/// Extensions that libtorch, MKL, oneDNN and our own kernels choose their code by.
const EXTENSIONS: [&str; 12] = [
    "avx2",
    "fma",
    "avx512f",
    "avx512bw",
    "avx512dq",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "sve",
    "bf16",
];
/// Variables of the environment that change their choice.
const SETTINGS: [&str; 4] = ["MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA", "OMP_DYNAMIC"];
/// libtorch as a file, on Linux.
const LIBRARY: &str = "libtorch_cpu.so";

/// Processor, libtorch and settings; threads only of a job that goes on from numbers whose last bits depend on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compute {
    /// Instruction set of libtorch's own kernels: `default`, `avx2`, `avx512`; `ATEN_CPU_CAPABILITY` overrides the
    /// processor's.
    pub instructions: String,
    /// Maker of the processor: MKL has other code for others.
    pub processor: String,
    /// Extensions of the processor that kernels are chosen by.
    pub extensions: Vec<String>,
    /// Settings of the environment that are set.
    pub settings: BTreeMap<String, String>,
    /// The build of libtorch: XXH64 of its size and its first mebibyte, where the file can be found.
    pub libtorch_build: Option<String>,
    /// Threads, of a fit: libtorch adds up in another order with another number of them, and a checkpoint holds such
    /// sums.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Models of the graphics processors, of a run on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graphics: Option<Vec<String>>,
}

impl Compute {
    /// This machine and this process; with `graphics` also its graphics processors.
    pub fn here(graphics: bool) -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let mut compute = Self::of(&cpu, variable);
        compute.libtorch_build = library().and_then(|path| build(&path));
        compute.graphics = graphics.then(cards);
        compute
    }

    /// What `/proc/cpuinfo` and the environment say.
    fn of(cpu: &str, variable: impl Fn(&str) -> Option<String>) -> Self {
        let field = |names: &[&str]| {
            let line =
                cpu.lines().find(|l| names.iter().any(|n| l.split(':').next().unwrap_or("").trim() == *n));
            line.and_then(|l| l.split_once(':')).map_or("", |(_, value)| value.trim())
        };
        let flags: Vec<&str> = field(&["flags", "Features"]).split_whitespace().collect();
        let has = |all: &[&str]| all.iter().all(|one| flags.contains(one));
        let own = if has(&["avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"]) {
            "avx512"
        } else if has(&["avx2", "fma"]) {
            "avx2"
        } else {
            "default"
        };
        let asked =
            variable("ATEN_CPU_CAPABILITY").filter(|a| ["default", "avx2", "avx512"].contains(&a.as_str()));
        let maker = field(&["vendor_id", "CPU implementer"]);
        Self {
            instructions: asked.unwrap_or_else(|| own.to_owned()),
            processor: if maker.is_empty() { env::consts::ARCH.into() } else { maker.into() },
            extensions: EXTENSIONS.iter().filter(|e| flags.contains(e)).map(ToString::to_string).collect(),
            settings: SETTINGS.iter().filter_map(|n| Some(((*n).to_owned(), variable(n)?))).collect(),
            libtorch_build: None,
            threads: None,
            graphics: None,
        }
    }
}

/// Where this process has loaded libtorch from.
fn library() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps
        .lines()
        .find_map(|line| line.find('/').map(|at| &line[at..]).filter(|p| p.ends_with(LIBRARY)))?;
    Some(path.into())
}

/// A build by the start of its file, which has the identity that the linker gave it, and its size.
fn build(path: &Path) -> Option<String> {
    let mut file = fs::File::open(path).ok()?;
    let mut start = file.metadata().ok()?.len().to_le_bytes().to_vec();
    file.by_ref().take(1 << 20).read_to_end(&mut start).ok()?;
    Some(format!("{:016x}", hash_bytes(&start)))
}

/// Names of NVIDIA's cards, each once.
fn cards() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc/driver/nvidia/gpus") else { return Vec::new() };
    let name =
        |text: String| text.lines().find_map(|line| Some(line.strip_prefix("Model:")?.trim().to_owned()));
    let mut all: Vec<String> = entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("information")).ok().and_then(name))
        .collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(flags: &str) -> String {
        format!(
            "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: flags of a kind\nflags\t\t: fpu {flags} sse\n\nprocessor\t: 1\n"
        )
    }

    #[test]
    fn the_processor_decides_unless_the_environment_does() {
        let all = "avx2 fma avx512f avx512bw avx512dq avx512vl avx512_bf16";
        for (flags, asked, instructions) in [
            (all, None, "avx512"),
            (all, Some("avx2"), "avx2"),
            (all, Some("default"), "default"),
            (all, Some("nonsense"), "avx512"), // libtorch ignores it too
            ("avx2 fma avx512f", None, "avx2"),
            ("avx2", None, "default"),
            ("", None, "default"),
        ] {
            let compute = Compute::of(&cpu(flags), |name| {
                (name == "ATEN_CPU_CAPABILITY").then(|| asked.map(str::to_owned)).flatten()
            });
            assert_eq!(
                (compute.instructions.as_str(), compute.processor.as_str()),
                (instructions, "AuthenticAMD")
            );
            assert_eq!(compute.extensions.join(" "), flags, "{flags}");
        }
        let set = Compute::of("", |name| (name == "MKL_CBWR").then(|| "AVX2".to_owned()));
        assert_eq!(set.settings, BTreeMap::from([("MKL_CBWR".to_owned(), "AVX2".to_owned())]));
        assert_eq!(set.processor, env::consts::ARCH);
    }
}
