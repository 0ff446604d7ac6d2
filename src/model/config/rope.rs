//! Rotary settings, whose keys have moved: `rope_theta` and `rope_scaling` (4.x), `rope_parameters` (5.x), and names of
//! families' own.

use serde_json::{Map, Value};

use super::Config;
use crate::model::{
    ModelError,
    rope::{RopeScaling, RopeSpec},
};

/// The top-level keys of a family's rotation, and their defaults.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct RopeKeys {
    /// Base of the frequencies.
    pub(in crate::model) theta: (&'static str, f64),
    /// Share of a head that is rotated; none for a family that rotates whole heads, whatever the file says.
    pub(in crate::model) fraction: Option<(&'static str, f64)>,
    /// Whether the family takes other kinds of rotation than `default`.
    pub(in crate::model) scales: bool,
}

impl RopeKeys {
    /// Of most families: `rope_theta`, whole heads.
    pub(in crate::model) const USUAL: Self =
        Self { theta: ("rope_theta", 10_000.0), fraction: None, scales: true };
}

/// One object of rotary parameters, and the key it was found under.
struct Parameters<'a> {
    config: &'a Config,
    key: &'static str,
    values: Map<String, Value>,
}

impl Config {
    /// The rotation of every layer: as `rope_scaling` says, or `rope_parameters` where that is missing, null or empty.
    ///
    /// # Errors
    /// When the rope type is not supported, or a parameter is missing or of a wrong type.
    pub(in crate::model) fn rope(&self, d_head: usize, keys: RopeKeys) -> Result<RopeSpec, ModelError> {
        let scaling = self.parameters("rope_scaling")?.filter(|p| !p.values.is_empty());
        let parameters = match scaling {
            Some(scaling) => scaling,
            None => self.parameters("rope_parameters")?.unwrap_or_else(|| self.no_parameters()),
        };
        parameters.spec(d_head, keys)
    }

    /// The rotations of Gemma 3's full and sliding layers: an object each in `rope_parameters`; `rope_scaling` adds to the
    /// first.
    ///
    /// # Errors
    /// As [`Config::rope`]; also when `rope_parameters` holds neither object.
    pub(in crate::model) fn ropes_by_type(&self, d_head: usize) -> Result<[RopeSpec; 2], ModelError> {
        let both = self.parameters("rope_parameters")?.filter(|p| !p.values.is_empty());
        let of = |kind, key| both.as_ref().map_or(Ok(None), |both: &Parameters<'_>| both.nested(kind, key));
        let full = of("full_attention", "rope_parameters.full_attention")?;
        let sliding = of("sliding_attention", "rope_parameters.sliding_attention")?;
        if let (Some(_), None, None) = (&both, &full, &sliding) {
            let hint = "`rope_parameters` must hold `full_attention` and `sliding_attention`";
            return Err(self.error(hint));
        }
        let missing = both.is_some() && full.is_none();
        let mut full = full.unwrap_or_else(|| self.no_parameters());
        if let Some(scaling) = self.parameters("rope_scaling")? {
            scaling.is_flat()?;
            if missing {
                return Err(self.error("`rope_scaling` has no `rope_parameters.full_attention` to add to"));
            }
            // As in transformers, a kind under the old key `type` does not count here.
            full.values.entry("rope_type").or_insert_with(|| "default".into());
            full.values.extend(scaling.values);
        }
        let sliding = sliding.unwrap_or_else(|| self.no_parameters());
        let global = RopeKeys { theta: ("rope_theta", 1_000_000.0), ..RopeKeys::USUAL };
        let local = RopeKeys { theta: ("rope_local_base_freq", 10_000.0), ..RopeKeys::USUAL };
        Ok([full.spec(d_head, global)?, sliding.spec(d_head, local)?])
    }

    /// The object under `key`; none when it is missing or null.
    fn parameters(&self, key: &'static str) -> Result<Option<Parameters<'_>>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let values = value.as_object().ok_or_else(|| self.wrong(key, "an object or null", value))?;
        Ok(Some(Parameters { config: self, key, values: values.clone() }))
    }

    fn no_parameters(&self) -> Parameters<'_> {
        Parameters { config: self, key: "rope_parameters", values: Map::new() }
    }
}

impl Parameters<'_> {
    /// The object under `kind` of this one, whose full name is `key`.
    fn nested(&self, kind: &str, key: &'static str) -> Result<Option<Self>, ModelError> {
        match self.values.get(kind) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(values)) => {
                Ok(Some(Self { config: self.config, key, values: values.clone() }))
            }
            Some(value) => Err(self.wrong(kind, "an object or null", value)),
        }
    }

    /// Fails when there is an object for a layer type, which nobody would read.
    fn is_flat(&self) -> Result<(), ModelError> {
        let holds = |kind: &&str| self.values.get(*kind).is_some_and(Value::is_object);
        match ["full_attention", "sliding_attention"].into_iter().find(holds) {
            Some(kind) => {
                let reason = format!(
                    "`{}.{kind}` is never read: all layers that this describes rotate alike",
                    self.key
                );
                Err(self.config.error(reason))
            }
            None => Ok(()),
        }
    }

    fn spec(&self, d_head: usize, keys: RopeKeys) -> Result<RopeSpec, ModelError> {
        self.is_flat()?;
        let theta = self.number("rope_theta", keys.theta)?;
        let kind = self.kind()?;
        if !keys.scales && kind != "default" {
            return Err(self.unsupported(kind, "default"));
        }
        let fraction = match keys.fraction {
            Some(default) => self.number("partial_rotary_factor", default)?,
            None => 1.0,
        };
        let scaling = self.scaling(kind)?;
        if keys.fraction.is_none() && scaling != RopeScaling::None {
            self.rotates_whole_heads()?;
        }
        let rotary_dim = (d_head as f64 * fraction) as usize;
        Ok(RopeSpec { theta, rotary_dim, interleaved: false, scaling })
    }

    /// `rope_type`, or `type` as it was called.
    fn kind(&self) -> Result<&str, ModelError> {
        let Some(key) = ["rope_type", "type"].into_iter().find(|key| self.values.contains_key(*key)) else {
            return Ok("default");
        };
        self.values[key].as_str().ok_or_else(|| self.wrong(key, "a text", &self.values[key]))
    }

    fn scaling(&self, kind: &str) -> Result<RopeScaling, ModelError> {
        let need = |key: &str| {
            let absent = || format!("rope type `{kind}` needs a positive `{}.{key}`", self.key);
            let value = self.values.get(key).ok_or_else(|| self.config.error(absent()))?;
            self.positive(key, value)
        };
        match kind {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: need("factor")? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: need("factor")?,
                low_freq_factor: need("low_freq_factor")?,
                high_freq_factor: need("high_freq_factor")?,
                original_context: self.original_context()?,
            }),
            other => Err(self.unsupported(other, "default, linear, llama3")),
        }
    }

    /// A top-level `original_max_position_embeddings` goes before one among the parameters, as in transformers; without
    /// either it is the whole context.
    fn original_context(&self) -> Result<f64, ModelError> {
        const KEY: &str = "original_max_position_embeddings";
        match (self.config.get(KEY), self.values.get(KEY)) {
            (Some(_), _) => Ok(self.config.usize(KEY)? as f64),
            (None, Some(value)) => self.positive(KEY, value),
            (None, None) => Ok(self.config.usize("max_position_embeddings")? as f64),
        }
    }

    /// Scaled frequencies of a part of a head do not fit a family that rotates whole ones.
    fn rotates_whole_heads(&self) -> Result<(), ModelError> {
        const KEY: &str = "partial_rotary_factor";
        let off = !self.values.contains_key(KEY) && self.config.get(KEY).is_none();
        let fraction = if off { 1.0 } else { self.number(KEY, (KEY, 1.0))? };
        if fraction == 1.0 {
            return Ok(());
        }
        let reason = format!("`partial_rotary_factor` = {fraction}: this family rotates whole heads");
        Err(self.config.error(reason))
    }

    /// The number under `key`, else at the file's top under the name of `default`, else its value.
    fn number(&self, key: &str, default: (&str, f64)) -> Result<f64, ModelError> {
        if let Some(value) = self.values.get(key) {
            return self.positive(key, value);
        }
        let (top, default) = default;
        let Some(value) = self.config.stored(top) else { return Ok(default) };
        positive(value).ok_or_else(|| self.config.wrong(top, "a positive number", value))
    }

    fn positive(&self, key: &str, value: &Value) -> Result<f64, ModelError> {
        positive(value).ok_or_else(|| self.wrong(key, "a positive number", value))
    }

    fn wrong(&self, key: &str, expected: &str, value: &Value) -> ModelError {
        self.config.wrong(&format!("{}.{key}", self.key), expected, value)
    }

    fn unsupported(&self, kind: &str, supported: &str) -> ModelError {
        let family = self.config.family().unwrap_or("model").to_owned();
        let option = format!("{}.rope_type = \"{}\"", self.key, kind.escape_default());
        ModelError::Unsupported { family, option, hint: format!("; supported: {supported}") }
    }
}

fn positive(value: &Value) -> Option<f64> {
    value.as_f64().filter(|v| v.is_finite() && *v > 0.0)
}
