//! From llama.cpp's names of tensors to those of transformers.

use super::Gguf;

/// What a tensor is called by transformers, and whether its rows are turned about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::model) struct Place {
    pub(in crate::model) name: String,
    /// Heads whose rows are in the order of another rotation: pairs side by side, not in halves.
    pub(in crate::model) paired_heads: Option<i64>,
}

/// Of the whole model.
const ENDS: [(&str, &str); 3] =
    [("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];
/// Of a block.
const BLOCK: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

impl Gguf {
    /// The place of a tensor; none for one that no model of these architectures has.
    pub(in crate::model) fn place(&self, tensor: &str) -> Option<Place> {
        let (stem, part) = tensor.rsplit_once('.')?;
        let of = |table: &[(&str, &'static str)], stem: &str| {
            table.iter().find(|(own, _)| *own == stem).map(|(_, name)| *name)
        };
        if let Some(name) = of(&ENDS, stem) {
            return Some(Place { name: format!("{name}.{part}"), paired_heads: None });
        }
        let (layer, stem) = stem.strip_prefix("blk.")?.split_once('.')?;
        let name = format!("model.layers.{}.{}.{part}", layer.parse::<u32>().ok()?, of(&BLOCK, stem)?);
        let heads = match stem {
            "attn_q" => self.heads(),
            "attn_k" => self.kv_heads(),
            _ => None,
        };
        // Only files of Llama are written for the rotation of neighbouring pairs.
        Some(Place { name, paired_heads: heads.filter(|_| self.architecture() == "llama") })
    }
}
