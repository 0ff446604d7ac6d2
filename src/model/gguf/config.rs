//! From metadata to a `config.json`.

use serde_json::{Map, Value, json};

use super::{Gguf, Meta};
use crate::model::ModelError;

/// Architectures whose files are read, which are families of transformers by the same name.
const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];

impl Gguf {
    /// `general.architecture`.
    pub fn architecture(&self) -> &str {
        self.text("general.architecture").unwrap_or_default()
    }

    /// The value of the architecture under `key`.
    fn own(&self, key: &str) -> Option<&Meta> {
        self.get(&format!("{}.{key}", self.architecture()))
    }

    fn own_int(&self, key: &str) -> Option<i64> {
        if let Some(Meta::Int(n)) = self.own(key) { Some(*n) } else { None }
    }

    /// Heads of queries.
    pub(super) fn heads(&self) -> Option<i64> {
        self.own_int("attention.head_count")
    }

    /// Heads of keys and values.
    pub(super) fn kv_heads(&self) -> Option<i64> {
        self.own_int("attention.head_count_kv").or_else(|| self.heads())
    }

    /// What `config.json` of the same model would say.
    ///
    /// # Errors
    /// An architecture or an option that is not supported, by its name.
    pub fn config(&self) -> Result<Map<String, Value>, ModelError> {
        let architecture = self.architecture();
        if !ARCHITECTURES.contains(&architecture) {
            let hint = format!("; supported: {}", ARCHITECTURES.join(", "));
            return Err(
                self.unsupported(format!("general.architecture = {architecture:?} of a GGUF file"), &hint)
            );
        }
        self.refuse_options()?;
        let number = |key: &str| match self.own(key) {
            Some(Meta::Int(n)) => json!(n),
            Some(Meta::Float(x)) => json!(x),
            _ => Value::Null,
        };
        let vocab = self.tensors.iter().find(|t| t.name == "token_embd.weight").and_then(|t| t.shape.first());
        let mut config = Map::from_iter([
            ("model_type".to_owned(), json!(architecture)),
            ("vocab_size".to_owned(), json!(vocab)),
            ("tie_word_embeddings".to_owned(), json!(!self.has("output.weight"))),
            ("hidden_act".to_owned(), json!("silu")),
            ("rope_parameters".to_owned(), self.rope()?),
        ]);
        for (key, own) in [
            ("hidden_size", "embedding_length"),
            ("num_hidden_layers", "block_count"),
            ("intermediate_size", "feed_forward_length"),
            ("max_position_embeddings", "context_length"),
            ("num_attention_heads", "attention.head_count"),
            ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
        ] {
            config.insert(key.into(), number(own));
        }
        config.insert("num_key_value_heads".into(), json!(self.kv_heads()));
        let head = self.own_int("attention.key_length").or_else(|| self.own_int("rope.dimension_count"));
        config.extend(head.map(|n| ("head_dim".to_owned(), json!(n))));
        if architecture == "llama" {
            config.insert("attention_bias".into(), json!(self.has("blk.0.attn_q.bias")));
        }
        for key in ["bos", "eos"] {
            let id = self.int(&format!("tokenizer.ggml.{key}_token_id"));
            config.insert(format!("{key}_token_id"), json!(id));
        }
        Ok(config)
    }

    /// What would change the forward pass and is not read.
    fn refuse_options(&self) -> Result<(), ModelError> {
        for key in ["expert_count", "attention.sliding_window", "attention.causal", "logit_scale"] {
            match self.own(key) {
                None | Some(Meta::Int(0) | Meta::Bool(true)) => {}
                Some(value) => return Err(self.unsupported(format!("{key} = {value:?} of a GGUF file"), "")),
            }
        }
        // A tensor that no name of the family stands for would be left out without a word.
        match self.tensors.iter().find(|t| t.name != FREQUENCIES && self.place(&t.name).is_none()) {
            Some(tensor) => Err(self.unsupported(format!("the tensor {} of a GGUF file", tensor.name), "")),
            None => Ok(()),
        }
    }

    /// The rotation. Llama 3's is a tensor of divisors, which is what longrope is without its factor on attention.
    fn rope(&self) -> Result<Value, ModelError> {
        let base = if let Some(Meta::Float(x)) = self.own("rope.freq_base") { *x } else { 10_000.0 };
        let scaling = match self.own("rope.scaling.type") {
            Some(Meta::Text(kind)) if kind != "none" => Some(kind.as_str()),
            _ => None,
        };
        let factor = || if let Some(Meta::Float(x)) = self.own("rope.scaling.factor") { *x } else { 1.0 };
        if self.has(FREQUENCIES) {
            let divisors = json!(self.frequencies()?);
            let context = self.own_int("context_length");
            return Ok(json!({
                "rope_type": "longrope", "rope_theta": base, "short_factor": divisors, "long_factor": divisors,
                "original_max_position_embeddings": context, "factor": 1.0, "attention_factor": 1.0,
            }));
        }
        match scaling {
            None => Ok(json!({ "rope_type": "default", "rope_theta": base })),
            Some("linear") => Ok(json!({ "rope_type": "linear", "rope_theta": base, "factor": factor() })),
            Some(other) => Err(self.unsupported(
                format!("rope.scaling.type = {other:?} of a GGUF file"),
                "; supported: none, linear",
            )),
        }
    }

    /// The divisors of frequencies, f32.
    fn frequencies(&self) -> Result<Vec<f32>, ModelError> {
        let info = self.tensors.iter().find(|t| t.name == FREQUENCIES && t.kind == 0);
        let bytes = info
            .and_then(|t| Some((self.data.checked_add(t.offset)?, usize::try_from(*t.shape.first()?).ok()?)));
        let bad = || ModelError::Corrupt {
            path: self.path.clone(),
            reason: format!("{FREQUENCIES} is no list of f32"),
        };
        let (start, n) = bytes.filter(|(_, n)| (1..=4096).contains(n)).ok_or_else(bad)?;
        let size = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        if start.checked_add(4 * n as u64).is_none_or(|end| end > size) {
            return Err(bad());
        }
        let bytes = crate::model::weights::map(&self.path, start, Some(4 * n))?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    fn unsupported(&self, option: String, hint: &str) -> ModelError {
        let family = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        ModelError::Unsupported { family, option, hint: hint.into() }
    }
}

/// Llama 3's divisors of frequencies.
const FREQUENCIES: &str = "rope_freqs.weight";
