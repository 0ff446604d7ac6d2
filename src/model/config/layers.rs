//! What a config says of its layers: how many, and which of them slide.

use serde_json::Value;

use super::Config;
use crate::model::ModelError;

/// A file that claims more is broken, or wants our memory.
const MOST_LAYERS: usize = 10_000;

impl Config {
    /// The number of layers, under `key`.
    ///
    /// # Errors
    /// When it is no positive whole number, or absurd.
    pub(in crate::model) fn layers(&self, key: &str) -> Result<usize, ModelError> {
        match self.usize(key)? {
            n if n > MOST_LAYERS => Err(self.error(format!("`{key}` is {n}, more than {MOST_LAYERS}"))),
            n => Ok(n),
        }
    }

    /// `sliding_window` in tokens; none when it is off, by null or by 0.
    ///
    /// In transformers 5 a window of 0 fails with sdpa attention, and with eager attention every token sees all others,
    /// the future too; nobody can mean that.
    ///
    /// # Errors
    /// When it is something else.
    pub(in crate::model) fn sliding_window(&self) -> Result<Option<usize>, ModelError> {
        let zero = self.get("sliding_window").is_some_and(|value| value.as_u64() == Some(0));
        if zero { Ok(None) } else { self.optional_usize("sliding_window") }
    }

    /// The same for layers that slide, where null makes no sense.
    ///
    /// # Errors
    /// As [`Config::sliding_window`]; also for null.
    pub(in crate::model) fn window_of_sliding_layers(&self) -> Result<Option<usize>, ModelError> {
        let window = self.sliding_window()?;
        if window.is_none() && self.get("sliding_window").is_none() {
            return Err(self.error("layers slide, but `sliding_window` is null"));
        }
        Ok(window)
    }

    /// Which layers slide: as `layer_types` says, else where `sliding(layer)`.
    ///
    /// # Errors
    /// When `layer_types` has another length or an unknown entry.
    pub(in crate::model) fn sliding_layers(
        &self,
        n_layers: usize,
        sliding: impl Fn(usize) -> bool,
    ) -> Result<Vec<bool>, ModelError> {
        Ok(match self.layer_types(n_layers)? {
            Some(types) => types.iter().map(|t| t == "sliding_attention").collect(),
            None => (0..n_layers).map(sliding).collect(),
        })
    }

    /// `layer_types`, checked; none when the file does not have it.
    fn layer_types(&self, n_layers: usize) -> Result<Option<Vec<String>>, ModelError> {
        let Some(value) = self.get("layer_types") else { return Ok(None) };
        let types = value.as_array().ok_or_else(|| self.wrong("layer_types", "a list", value))?;
        if types.len() != n_layers {
            return Err(
                self.error(format!("`layer_types` has {} entries for {n_layers} layers", types.len()))
            );
        }
        let known = |t: &Value| match t.as_str() {
            // What transformers called full attention once.
            Some("attention") => Ok("full_attention".to_owned()),
            Some(name @ ("sliding_attention" | "full_attention")) => Ok(name.to_owned()),
            Some(_) => Err(ModelError::Unsupported {
                family: self.family()?.to_owned(),
                option: format!("layer_types with {t}"),
                hint: "; supported: full_attention, sliding_attention".into(),
            }),
            None => Err(self.wrong("layer_types", "a list of texts", value)),
        };
        types.iter().map(known).collect::<Result<_, _>>().map(Some)
    }
}
