//! What transformers' config classes say of their keys, so that a missing key has the class's default.

use std::{collections::BTreeMap, fmt::Write as _, sync::LazyLock};

use serde_json::Value;

/// Written by `scripts/config_classes.py`.
const TABLE: &str = include_str!("../families/classes.json");

static CLASSES: LazyLock<BTreeMap<String, Class>> =
    LazyLock::new(|| serde_json::from_str(TABLE).unwrap_or_default());

/// The config class of one family.
#[derive(Debug, serde::Deserialize)]
pub(in crate::model) struct Class {
    /// Other names of keys, by which they are set last.
    aliases: BTreeMap<String, String>,
    keys: BTreeMap<String, (Vec<Type>, Value)>,
}

/// What a key may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    Bool,
    Int,
    List,
    Null,
    Number,
    Object,
    Text,
}

impl Class {
    /// The class of `family`, its `model_type`.
    pub(in crate::model) fn of(family: &str) -> Option<&'static Self> {
        CLASSES.get(family)
    }

    /// Every key, by name.
    #[cfg(test)]
    pub(in crate::model) fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// The value of a missing key.
    pub(super) fn default(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).map(|(_, default)| default)
    }

    /// The other names of `key`: those that stand for it, and the one it stands for.
    pub(super) fn aliases<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.aliases.iter().filter_map(move |(alias, target)| match key {
            _ if target == key => Some(alias.as_str()),
            _ if alias == key => Some(target.as_str()),
            _ => None,
        })
    }

    /// What `key`, or the key it is another name of, must hold, when it may not hold `value`.
    pub(in crate::model) fn refuses(&self, key: &str, value: &Value) -> Option<String> {
        let own = self.keys.get(key);
        let (types, _) = own.or_else(|| self.aliases(key).find_map(|name| self.keys.get(name)))?;
        (!types.iter().any(|t| t.holds(value))).then(|| listed(types))
    }
}

impl Type {
    fn holds(self, value: &Value) -> bool {
        match self {
            Self::Bool => value.is_boolean(),
            Self::Int => value.is_i64() || value.is_u64(),
            Self::List => value.is_array(),
            Self::Null => value.is_null(),
            Self::Number => value.is_number(),
            Self::Object => value.is_object(),
            Self::Text => value.is_string(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Int => "a whole number",
            Self::List => "a list",
            Self::Null => "null",
            Self::Number => "a number",
            Self::Object => "an object",
            Self::Text => "a text",
        }
    }
}

/// `a whole number, a list or null`.
fn listed(types: &[Type]) -> String {
    let names: Vec<_> = types.iter().filter(|t| **t != Type::Null).map(|t| t.name()).collect();
    let mut text = names.join(", ");
    if types.contains(&Type::Null) {
        let _infallible = write!(text, " or null");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_is_read() {
        assert_eq!(CLASSES.len(), 67);
        let gemma2 = Class::of("gemma2").unwrap();
        assert_eq!(gemma2.default("attn_logit_softcapping"), Some(&json!(50.0)));
        assert_eq!(gemma2.refuses("query_pre_attn_scalar", &json!(1.5)).unwrap(), "a whole number");
        assert_eq!(gemma2.refuses("eos_token_id", &json!("a")).unwrap(), "a whole number, a list or null");
        assert_eq!(gemma2.refuses("sliding_window", &json!(null)), None);
        assert_eq!(gemma2.refuses("a_foreign_key", &json!([])), None);
        // Whole numbers below and above what 63 bits hold.
        assert_eq!(gemma2.refuses("bos_token_id", &json!(-1)), None);
        assert_eq!(gemma2.refuses("bos_token_id", &json!(u64::MAX)), None);
    }

    #[test]
    fn other_names_lead_to_their_keys() {
        let gpt2 = Class::of("gpt2").unwrap();
        assert_eq!(gpt2.aliases("n_layer").collect::<Vec<_>>(), ["num_hidden_layers"]);
        assert_eq!(gpt2.refuses("hidden_size", &json!(true)).unwrap(), "a whole number");
    }
}
