//! `config.json` as written by transformers 4.x and 5.x, read by name and type.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{
    ModelError,
    rope::{RopeScaling, RopeSpec},
};

/// A model's `config.json`. A key that is `null` counts as missing, as in transformers.
#[derive(Debug)]
pub struct Config {
    path: PathBuf,
    values: Value,
}

impl Config {
    /// Reads `dir/config.json`.
    ///
    /// # Errors
    /// When the file is missing, is not JSON, or is not an object.
    pub fn read(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        let text =
            std::fs::read_to_string(&path).map_err(|source| ModelError::Io { path: path.clone(), source })?;
        let values: Value = serde_json::from_str(&text)
            .map_err(|e| ModelError::Config { path: path.clone(), reason: format!("not JSON: {e}") })?;
        if !values.is_object() {
            return Err(ModelError::Config { path, reason: "not a JSON object".into() });
        }
        Ok(Self { path, values })
    }

    /// The family's name, `model_type`.
    ///
    /// # Errors
    /// When there is none.
    pub fn family(&self) -> Result<&str, ModelError> {
        self.str("model_type")
    }

    /// The checkpoint's own number type (`dtype`, formerly `torch_dtype`), if it says so.
    pub fn dtype(&self) -> Option<&str> {
        ["dtype", "torch_dtype"].iter().find_map(|key| self.values.get(key)?.as_str())
    }

    /// The value under `key`, unless it is missing or null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|v| !v.is_null())
    }

    fn need(&self, key: &str) -> Result<&Value, ModelError> {
        self.get(key).ok_or_else(|| self.error(format!("`{key}` is missing")))
    }

    /// An error about this file.
    pub fn error(&self, reason: impl Into<String>) -> ModelError {
        ModelError::Config { path: self.path.clone(), reason: reason.into() }
    }

    /// An option of this family that is not supported, named with its value.
    pub fn unsupported(&self, key: &str, hint: &str) -> ModelError {
        let family = self.family().unwrap_or("model").to_owned();
        let value = self.get(key).map_or("null".into(), Value::to_string);
        ModelError::Unsupported { family, option: format!("{key} = {value}"), hint: hint.to_owned() }
    }

    /// Fails unless `key` is missing or false.
    ///
    /// # Errors
    /// Naming the option when it is on.
    pub fn refuse_if_true(&self, key: &str) -> Result<(), ModelError> {
        if self.bool_or(key, false)? { Err(self.unsupported(key, "")) } else { Ok(()) }
    }

    /// A positive whole number.
    ///
    /// # Errors
    /// When it is missing or is something else.
    pub fn usize(&self, key: &str) -> Result<usize, ModelError> {
        let value = self.need(key)?;
        let number = value.as_u64().filter(|n| (1..=u64::from(u32::MAX)).contains(n));
        number.map(|n| n as usize).ok_or_else(|| self.wrong(key, "a positive whole number", value))
    }

    /// As [`Config::usize`], with a default.
    ///
    /// # Errors
    /// When it is something else.
    pub fn usize_or(&self, key: &str, default: usize) -> Result<usize, ModelError> {
        if self.get(key).is_some() { self.usize(key) } else { Ok(default) }
    }

    /// A number, with a default.
    ///
    /// # Errors
    /// When it is something else.
    pub fn f64_or(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        match self.get(key) {
            Some(value) => value.as_f64().ok_or_else(|| self.wrong(key, "a number", value)),
            None => Ok(default),
        }
    }

    /// A truth value, with a default.
    ///
    /// # Errors
    /// When it is something else.
    pub fn bool_or(&self, key: &str, default: bool) -> Result<bool, ModelError> {
        match self.get(key) {
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "true or false", value)),
            None => Ok(default),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// When it is missing or is something else.
    pub fn str(&self, key: &str) -> Result<&str, ModelError> {
        let value = self.need(key)?;
        value.as_str().ok_or_else(|| self.wrong(key, "a text", value))
    }

    fn wrong(&self, key: &str, expected: &str, value: &Value) -> ModelError {
        self.error(format!("`{key}` must be {expected}, got {value}"))
    }

    /// The sliding window of each layer: `layer_types` when given, else `sliding(layer)`.
    ///
    /// # Errors
    /// When `layer_types` has another length or an unknown entry, or a sliding layer has no `sliding_window`.
    pub fn windows(
        &self,
        n_layers: usize,
        sliding: impl Fn(usize) -> bool,
    ) -> Result<Vec<Option<usize>>, ModelError> {
        let is_sliding = match self.layer_types(n_layers)? {
            Some(types) => types.iter().map(|t| t == "sliding_attention").collect(),
            None => (0..n_layers).map(sliding).collect::<Vec<_>>(),
        };
        let window = |on: bool| if on { self.usize("sliding_window").map(Some) } else { Ok(None) };
        is_sliding.into_iter().map(window).collect()
    }

    /// `layer_types`, checked; none when the file does not have it.
    pub(super) fn layer_types(&self, n_layers: usize) -> Result<Option<Vec<String>>, ModelError> {
        let Some(types) = self.get("layer_types").and_then(Value::as_array) else { return Ok(None) };
        if types.len() != n_layers {
            return Err(
                self.error(format!("`layer_types` has {} entries for {n_layers} layers", types.len()))
            );
        }
        let known = |t: &Value| match t.as_str() {
            Some(name @ ("sliding_attention" | "full_attention")) => Ok(name.to_owned()),
            _ => Err(ModelError::Unsupported {
                family: self.family()?.to_owned(),
                option: format!("layer type {t}"),
                hint: "; supported: full_attention, sliding_attention".into(),
            }),
        };
        types.iter().map(known).collect::<Result<_, _>>().map(Some)
    }

    /// Rotary parameters: `rope_parameters` (5.x; per layer type where `layer_type` is given) or
    /// `rope_theta` and `rope_scaling` (4.x), over the first part of a head: `partial_rotary_factor` of
    /// `rope_parameters`, else the family's own `fraction`, a key and its default.
    ///
    /// # Errors
    /// When the rope type is not supported, or a parameter it needs is missing.
    pub fn rope(
        &self,
        layer_type: Option<&str>,
        d_head: usize,
        theta: f64,
        fraction: (&str, f64),
    ) -> Result<RopeSpec, ModelError> {
        let nested = self.get("rope_parameters");
        let nested = layer_type.and_then(|t| nested?.get(t)).or(nested);
        let scaling = nested.or_else(|| self.get("rope_scaling"));
        let theta = match nested.and_then(|p| p.get("rope_theta")).and_then(Value::as_f64) {
            Some(theta) => theta,
            None => self.f64_or("rope_theta", theta)?,
        };
        let fraction = match nested.and_then(|p| p.get("partial_rotary_factor")).and_then(Value::as_f64) {
            Some(fraction) => fraction,
            None => self.f64_or(fraction.0, fraction.1)?,
        };
        let rotary_dim = (d_head as f64 * fraction) as usize;
        Ok(RopeSpec { theta, rotary_dim, interleaved: false, scaling: self.rope_scaling(scaling)? })
    }

    fn rope_scaling(&self, parameters: Option<&Value>) -> Result<RopeScaling, ModelError> {
        let Some(p) = parameters else { return Ok(RopeScaling::None) };
        let kind = ["rope_type", "type"].iter().find_map(|key| p.get(key)?.as_str()).unwrap_or("default");
        let number = |key: &str| {
            let value = p.get(key).and_then(Value::as_f64).filter(|v| v.is_finite() && *v > 0.0);
            value.ok_or_else(|| self.error(format!("rope type `{kind}` needs a positive `{key}`")))
        };
        match kind {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: number("factor")? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_context: number("original_max_position_embeddings")?,
            }),
            other => Err(ModelError::Unsupported {
                family: self.family()?.to_owned(),
                option: format!("rope type `{other}`"),
                hint: "; supported: default, linear, llama3".into(),
            }),
        }
    }
}
