//! Which model, and how to run it.

use std::{num::NonZeroUsize, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::sources::{
    device::{DeviceArg, Dtype},
    text::BosPolicy,
};

/// Which model, and how to run it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct ModelSettings {
    /// Model folder (config.json, tokenizer.json, safetensors), or a Hugging Face id such as `org/name`
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR|ID"))]
    pub model: PathBuf,
    /// Revision of a Hugging Face id
    #[cfg_attr(feature = "cli", arg(long, value_name = "REV"))]
    pub revision: Option<String>,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[cfg_attr(feature = "cli", arg(long, default_value = "auto", value_name = "DEVICE"))]
    pub device: DeviceArg,
    /// Number type of the model: auto (f32 on the CPU, the checkpoint's own on CUDA), f32, bf16 or f16
    #[cfg_attr(feature = "cli", arg(long, default_value = "auto", value_name = "TYPE"))]
    pub dtype: Dtype,
    /// Threads; by default one per core
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub threads: Option<NonZeroUsize>,
    /// Whether documents begin with BOS: auto (as tokenizer and config say), always or never
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = BosPolicy::Auto, value_name = "POLICY"))]
    pub bos: BosPolicy,
}

impl ModelSettings {
    /// A model folder or hub id, run as by default.
    pub fn new(model: impl Into<PathBuf>) -> Self {
        Self { model: model.into(), ..Self::default() }
    }
}
