//! The kinds of rotation that are stretched for long texts, with their parameters and defaults as transformers has
//! them.

use std::f64::consts::PI;

use serde_json::Value;

use super::{Parameters, positive};
use crate::model::{ModelError, RopeScaling};

impl Parameters<'_> {
    /// The scaling of this `kind`, of `rotary_dim` numbers at the base `theta`.
    pub(super) fn scaling(
        &self,
        kind: &str,
        theta: f64,
        rotary_dim: usize,
    ) -> Result<RopeScaling, ModelError> {
        let need = |key: &str| self.need(kind, key).and_then(|value| self.positive(key, value));
        match kind {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: need("factor")? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: need("factor")?,
                low_freq_factor: need("low_freq_factor")?,
                high_freq_factor: need("high_freq_factor")?,
                original_context: self.original_context()?,
            }),
            "dynamic" => Ok(RopeScaling::Dynamic {
                factor: need("factor")?,
                context: self.config.usize("max_position_embeddings")? as f64,
            }),
            "yarn" => self.yarn(theta, rotary_dim as f64),
            "longrope" => self.longrope(rotary_dim / 2),
            other => Err(self.unsupported(other, "default, linear, dynamic, llama3, yarn, longrope")),
        }
    }

    /// How far long texts are stretched: `factor`, or where that is null (or may be missing) the ratio of the contexts.
    fn stretch(&self, original_context: f64) -> Result<f64, ModelError> {
        match self.optional("factor")? {
            Some(factor) => Ok(factor),
            None => Ok(self.config.usize("max_position_embeddings")? as f64 / original_context),
        }
    }

    /// Peng et al. 2023, as transformers has it: a pair that turns `beta_fast` times in the original context is kept,
    /// one that turns `beta_slow` times is divided.
    fn yarn(&self, theta: f64, dim: f64) -> Result<RopeScaling, ModelError> {
        self.need("yarn", "factor")?;
        let context = self.original_context()?;
        let factor = self.stretch(context)?;
        let truncate = match self.values.get("truncate") {
            None => true,
            Some(Value::Null) => false,
            // Where there is an object per layer type, transformers looks for it beside those objects.
            Some(Value::Bool(false)) if self.key.contains('.') => {
                let option = format!("{}.truncate = false", self.key);
                let (family, hint) = (self.config.family()?.to_owned(), String::new());
                return Err(ModelError::Unsupported { family, option, hint });
            }
            Some(value) => value.as_bool().ok_or_else(|| self.wrong("truncate", "true or false", value))?,
        };
        let pair = |turns: f64| dim * (context / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
        let mut low = pair(self.optional("beta_fast")?.unwrap_or(32.0));
        let mut high = pair(self.optional("beta_slow")?.unwrap_or(1.0));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        let scale = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
        let attention_factor = match (self.optional("mscale")?, self.optional("mscale_all_dim")?) {
            (Some(m), Some(all)) => scale(m) / scale(all),
            _ => scale(1.0),
        };
        let attention_factor = self.optional("attention_factor")?.unwrap_or(attention_factor);
        Ok(RopeScaling::Yarn { factor, ramp: [low, high], attention_factor, context: context * factor })
    }

    fn longrope(&self, pairs: usize) -> Result<RopeScaling, ModelError> {
        let divisors = |key: &str| -> Result<Vec<f64>, ModelError> {
            let value = self.need("longrope", key)?;
            let numbers =
                value.as_array().and_then(|list| list.iter().map(positive).collect::<Option<Vec<_>>>());
            numbers
                .filter(|numbers| numbers.len() == pairs)
                .ok_or_else(|| self.wrong(key, &format!("a list of {pairs} positive numbers"), value))
        };
        let original_context = self.original_context()?;
        let factor = self.stretch(original_context)?;
        let inferred = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original_context.ln()).sqrt() };
        Ok(RopeScaling::LongRope {
            short: divisors("short_factor")?,
            long: divisors("long_factor")?,
            original_context: original_context as usize,
            attention_factor: self.optional("attention_factor")?.unwrap_or(inferred),
        })
    }

    /// A top-level `original_max_position_embeddings` goes before one among the parameters (but not before one of a
    /// layer type), as in transformers; without either it is the whole context.
    pub(super) fn original_context(&self) -> Result<f64, ModelError> {
        const KEY: &str = "original_max_position_embeddings";
        let top = self.config.get(KEY).filter(|_| !self.key.contains('.'));
        match (top, self.values.get(KEY)) {
            (Some(_), _) => Ok(self.config.usize(KEY)? as f64),
            (None, Some(value)) => self.positive(KEY, value),
            (None, None) => Ok(self.config.usize("max_position_embeddings")? as f64),
        }
    }

    /// The value of `key`, without which there is no rotation of this `kind`.
    fn need(&self, kind: &str, key: &str) -> Result<&Value, ModelError> {
        let absent =
            || self.config.error(format!("rope type `{kind}` needs a positive `{}.{key}`", self.key));
        self.values.get(key).ok_or_else(absent)
    }
}
