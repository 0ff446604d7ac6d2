//! Rotary settings, whose keys have moved: `rope_theta` and `rope_scaling` (4.x), `rope_parameters` (5.x), and names of
//! families' own.

mod scaling;

use serde_json::{Map, Value};

use super::Config;
use crate::model::{ModelError, RopeScaling, RopeSpec};

/// What a family makes of its rotary settings: the top-level keys, their defaults, and habits of its own.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct RopeKeys {
    /// Base of the frequencies.
    pub(in crate::model) theta: (&'static str, f64),
    /// Share of a head that is rotated; none for a family that rotates whole heads, whatever the file says.
    pub(in crate::model) fraction: Option<(&'static str, f64)>,
    /// Which kinds of rotation the family takes.
    pub(in crate::model) kinds: RopeKinds,
    /// Neighbouring numbers are a pair.
    pub(in crate::model) interleaved: bool,
    /// The parameters of a file that has none, as JSON; none: `default` with the base above.
    pub(in crate::model) missing: Option<&'static str>,
}

/// Which kinds of rotation a family takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum RopeKinds {
    /// All that there are.
    All,
    /// Those, and `mrope`, which is `default` where there is only text.
    AllAndMrope,
    /// `default` and `longrope`, as which `su` and `yarn` are read (Phi-3).
    LongRope,
    /// All; `dynamic` with an `alpha` is a larger base (Hunyuan).
    WithAlpha,
}

impl RopeKeys {
    /// Of most families: `rope_theta`, whole heads.
    pub(in crate::model) const USUAL: Self = Self::from_base(10_000.0);

    /// The same with another default base.
    pub(in crate::model) const fn from_base(theta: f64) -> Self {
        let theta = ("rope_theta", theta);
        Self { theta, fraction: None, kinds: RopeKinds::All, interleaved: false, missing: None }
    }

    /// With a share of each head that is rotated.
    pub(in crate::model) const fn partly(self, fraction: f64) -> Self {
        Self { fraction: Some(("partial_rotary_factor", fraction)), ..self }
    }

    /// With pairs of neighbours.
    pub(in crate::model) const fn interleaved(self) -> Self {
        Self { interleaved: true, ..self }
    }
}

/// What else config.json says of a rotation, beside its [`RopeSpec`].
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct RopeExtras {
    /// `llama_4_scaling_beta`.
    pub(in crate::model) beta: Option<f64>,
    /// `original_max_position_embeddings`.
    pub(in crate::model) original_context: f64,
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
        self.flat_parameters(keys)?.spec(d_head, keys)
    }

    /// What Ministral 3 reads there as well.
    ///
    /// # Errors
    /// As [`Config::rope`].
    pub(in crate::model) fn rope_extras(&self, keys: RopeKeys) -> Result<RopeExtras, ModelError> {
        let parameters = self.flat_parameters(keys)?;
        let beta = parameters.optional("llama_4_scaling_beta")?;
        Ok(RopeExtras { beta, original_context: parameters.original_context()? })
    }

    fn flat_parameters(&self, keys: RopeKeys) -> Result<Parameters<'_>, ModelError> {
        let scaling = self.parameters("rope_scaling")?.filter(|p| !p.values.is_empty());
        Ok(match scaling {
            Some(scaling) => scaling,
            None => self.parameters("rope_parameters")?.unwrap_or_else(|| {
                let values =
                    keys.missing.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
                Parameters { values, ..self.no_parameters() }
            }),
        })
    }

    /// The rotations of full and of sliding layers (Gemma 3, OLMo 3), with the defaults of `full` and `sliding`: an
    /// object each in `rope_parameters`; `rope_scaling` adds to the first.
    ///
    /// # Errors
    /// As [`Config::rope`]; also when `rope_parameters` holds neither object.
    pub(in crate::model) fn ropes_by_type(
        &self,
        d_head: usize,
        [full_keys, sliding_keys]: [RopeKeys; 2],
    ) -> Result<[RopeSpec; 2], ModelError> {
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
        Ok([full.spec(d_head, full_keys)?, sliding.spec(d_head, sliding_keys)?])
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
        let mut theta = self.number("rope_theta", keys.theta)?;
        let fraction = match keys.fraction {
            Some(default) => self.number("partial_rotary_factor", default)?,
            None => 1.0,
        };
        let rotary_dim = (d_head as f64 * fraction) as usize;
        let alpha = if keys.kinds == RopeKinds::WithAlpha { self.optional("alpha")? } else { None };
        let scaling = match (self.kind(keys.kinds)?, alpha) {
            ("dynamic", Some(alpha)) => {
                theta *= alpha.powf(d_head as f64 / (d_head as f64 - 2.0));
                RopeScaling::None
            }
            (kind, _) => self.scaling(kind, theta, rotary_dim)?,
        };
        if keys.fraction.is_none() && scaling != RopeScaling::None {
            self.rotates_whole_heads()?;
        }
        Ok(RopeSpec { theta, rotary_dim, interleaved: keys.interleaved, backwards: false, scaling })
    }

    /// `rope_type`, or `type` as it was called, by the name that the family reads it as.
    fn kind(&self, kinds: RopeKinds) -> Result<&str, ModelError> {
        let Some(key) = ["rope_type", "type"].into_iter().find(|key| self.values.contains_key(*key)) else {
            return Ok("default");
        };
        let kind = self.values[key].as_str().ok_or_else(|| self.wrong(key, "a text", &self.values[key]))?;
        match (kinds, kind) {
            (RopeKinds::AllAndMrope, "mrope") => Ok("default"),
            (RopeKinds::LongRope, "su" | "yarn") => Ok("longrope"),
            (RopeKinds::LongRope, kind) if !["default", "longrope"].contains(&kind) => {
                Err(self.unsupported(kind, "default, longrope"))
            }
            _ => Ok(kind),
        }
    }

    /// A number that may be missing, null, or zero, which transformers takes for missing.
    fn optional(&self, key: &str) -> Result<Option<f64>, ModelError> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) if value.as_f64() == Some(0.0) => Ok(None),
            Some(value) => self.positive(key, value).map(Some),
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
