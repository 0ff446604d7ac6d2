//! `config.json` as it is stored: the tuned-lens package's keys, and all of ours under one key that the package skips.

#![allow(clippy::option_option)] // a key that is absent, and one that is null

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{LensConfig, LensKind, ModelRef};

const FORMAT_VERSION: u32 = 1;
const PACKAGE_TYPE: &str = "linear_tuned_lens";

/// Inner options are the package's nulls, outer ones say whether a key is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Config {
    base_model_name_or_path: String,
    d_model: usize,
    num_hidden_layers: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bias: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    base_model_revision: Option<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    unembed_hash: Option<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lens_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layerscope: Option<OwnConfig>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct OwnConfig {
    format_version: u32,
    kind: LensKind,
    site: String,
    model: ModelRef,
    unembed_sha256: Option<String>,
    tokenizer_sha256: Option<String>,
    layers: Vec<usize>,
    horizons: Vec<usize>,
    #[serde(default)]
    details: Value,
}

fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl From<LensConfig> for Config {
    fn from(config: LensConfig) -> Self {
        let package = config.fits_package();
        Self {
            base_model_name_or_path: config.model.name.clone(),
            d_model: config.d_model,
            num_hidden_layers: config.n_layers,
            bias: package.then_some(true),
            base_model_revision: package.then_some(None),
            // The package would compare it with a hash of 36 rounded numbers; ours is below.
            unembed_hash: package.then_some(None),
            lens_type: package.then(|| PACKAGE_TYPE.to_owned()),
            layerscope: Some(OwnConfig {
                format_version: FORMAT_VERSION,
                kind: config.kind,
                site: config.site,
                model: config.model,
                unembed_sha256: config.unembed_sha256,
                tokenizer_sha256: config.tokenizer_sha256,
                layers: config.layers,
                horizons: config.horizons,
                details: config.details,
            }),
        }
    }
}

impl TryFrom<Config> for LensConfig {
    type Error = String;

    fn try_from(wire: Config) -> Result<Self, String> {
        let (d_model, n_layers) = (wire.d_model, wire.num_hidden_layers);
        if n_layers > 100_000 {
            return Err(format!("{n_layers} layers"));
        }
        if wire.bias == Some(false) {
            return Err("bias is false; only lenses with biases are supported".into());
        }
        if let Some(other) = wire.lens_type.filter(|t| t != PACKAGE_TYPE) {
            return Err(format!("lens_type {other:?} is not supported, only {PACKAGE_TYPE:?}"));
        }
        let config = match wire.layerscope {
            Some(own) if own.format_version == FORMAT_VERSION => Self {
                kind: own.kind,
                site: own.site,
                model: own.model,
                d_model,
                n_layers,
                unembed_sha256: own.unembed_sha256,
                tokenizer_sha256: own.tokenizer_sha256,
                layers: own.layers,
                horizons: own.horizons,
                details: own.details,
            },
            Some(own) => {
                let (got, known) = (own.format_version, FORMAT_VERSION);
                return Err(format!("format_version {got}; this program reads {known}"));
            }
            None => Self {
                kind: LensKind::Tuned,
                site: "resid_pre".into(),
                model: ModelRef { name: wire.base_model_name_or_path, sha256: None },
                d_model,
                n_layers,
                unembed_sha256: None,
                tokenizer_sha256: None,
                layers: (0..n_layers).collect(),
                horizons: vec![1],
                details: Value::Null,
            },
        };
        config.validate().map(|()| config)
    }
}
