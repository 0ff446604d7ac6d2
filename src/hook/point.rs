use std::{cmp::Ordering, fmt, str::FromStr};

use super::names;

/// A place in the forward pass, named as in TransformerLens.
///
/// The derived order is the order in which the decoder visits them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HookPoint {
    /// `hook_embed [batch, seq, d_model]`: token embeddings (Gemma's scaling included).
    Embed,
    /// `hook_pos_embed [batch, seq, d_model]`: learned position embeddings; models with rotary or alibi positions have
    /// none.
    PosEmbed,
    /// A point of block `.0`; `(L, ResidPre)` is the residual stream leaving the last block.
    Block(usize, BlockHook),
    /// `ln_final.hook_scale [batch, seq, 1]`: the final norm's divisor; BERT has no final norm.
    FinalScale,
    /// `ln_final.hook_normalized [batch, seq, d_model]`: what the unembedding reads (weights and bias of the norm
    /// applied).
    FinalNormalized,
    /// `mlm_head.ln.hook_normalized [batch, seq, d_model]`: what the unembedding of a masked-language-model head reads,
    /// behind its transform.
    HeadNormalized,
    /// `logits [batch, seq, vocab]`: after soft cap and head bias.
    Logits,
}

/// A point inside a block, in the order of a sequential block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockHook {
    /// `hook_resid_pre [batch, seq, d_model]`: the residual stream entering the block (layer index = block).
    ResidPre,
    /// `attn.hook_q [batch, seq, head, d_head]`: queries before QK-norm and rotation.
    Q,
    /// `attn.hook_k [batch, seq, kv_head, d_head]`: keys before QK-norm and rotation.
    K,
    /// `attn.hook_v [batch, seq, kv_head, d_head]`: values.
    V,
    /// `attn.hook_rot_q [batch, seq, head, d_head]`: queries after QK-norm and rotation.
    RotQ,
    /// `attn.hook_rot_k [batch, seq, kv_head, d_head]`: keys after QK-norm and rotation.
    RotK,
    /// `attn.hook_attn_scores [batch, head, query, key]`: scaled, capped, biased, masked with -inf.
    AttnScores,
    /// `attn.hook_pattern [batch, head, query, key]`: softmax of the scores.
    Pattern,
    /// `attn.hook_z [batch, seq, head, d_head]`: mixed values, before the output projection.
    Z,
    /// `attn.hook_result [batch, seq, head, d_model]`: each head's share of the output, without the output bias.
    Result,
    /// `hook_attn_out [batch, seq, d_model]`: what attention adds to the residual stream (after a post norm).
    AttnOut,
    /// `hook_resid_mid [batch, seq, d_model]`: after attention; parallel-residual blocks have none. Where the stream
    /// itself is normed (BERT), before that norm.
    ResidMid,
    /// `mlp.hook_router_logits [batch, seq, expert]`: what a mixture of experts chooses by; other blocks have none.
    RouterLogits,
    /// `mlp.hook_expert_indices [batch, seq, top_k]`: the experts that were chosen, likeliest first.
    ExpertIndices,
    /// `mlp.hook_expert_weights [batch, seq, top_k]`: what each of them counts.
    ExpertWeights,
    /// `mlp.hook_expert_out [batch, seq, top_k, d_model]`: what each of them gives, times its weight.
    ExpertOut,
    /// `mlp.hook_pre [batch, seq, d_mlp]`: before the non-linearity (of a gated MLP: the gate's input to it).
    MlpPre,
    /// `mlp.hook_pre_linear [batch, seq, d_mlp]`: the linear branch of a gated MLP.
    MlpPreLinear,
    /// `mlp.hook_post [batch, seq, d_mlp]`: what the down projection reads.
    MlpPost,
    /// `hook_mlp_out [batch, seq, d_model]`: what the MLP adds to the residual stream (after a post norm).
    MlpOut,
    /// `hook_resid_post [batch, seq, d_model]`: the residual stream leaving the block. Where the stream itself is
    /// normed (BERT), before that norm, behind which the next block's `hook_resid_pre` is.
    ResidPost,
}

/// Every hook of a block with its TransformerLens name and its short name.
const NAMES: [(BlockHook, &str, &str); 21] = [
    (BlockHook::ResidPre, "hook_resid_pre", "resid_pre"),
    (BlockHook::Q, "attn.hook_q", "q"),
    (BlockHook::K, "attn.hook_k", "k"),
    (BlockHook::V, "attn.hook_v", "v"),
    (BlockHook::RotQ, "attn.hook_rot_q", "rot_q"),
    (BlockHook::RotK, "attn.hook_rot_k", "rot_k"),
    (BlockHook::AttnScores, "attn.hook_attn_scores", "attn_scores"),
    (BlockHook::Pattern, "attn.hook_pattern", "pattern"),
    (BlockHook::Z, "attn.hook_z", "z"),
    (BlockHook::Result, "attn.hook_result", "result"),
    (BlockHook::AttnOut, "hook_attn_out", "attn_out"),
    (BlockHook::ResidMid, "hook_resid_mid", "resid_mid"),
    (BlockHook::RouterLogits, "mlp.hook_router_logits", "router_logits"),
    (BlockHook::ExpertIndices, "mlp.hook_expert_indices", "expert_indices"),
    (BlockHook::ExpertWeights, "mlp.hook_expert_weights", "expert_weights"),
    (BlockHook::ExpertOut, "mlp.hook_expert_out", "expert_out"),
    (BlockHook::MlpPre, "mlp.hook_pre", "mlp_pre"),
    (BlockHook::MlpPreLinear, "mlp.hook_pre_linear", "mlp_pre_linear"),
    (BlockHook::MlpPost, "mlp.hook_post", "mlp_post"),
    (BlockHook::MlpOut, "hook_mlp_out", "mlp_out"),
    (BlockHook::ResidPost, "hook_resid_post", "resid_post"),
];

impl BlockHook {
    /// Every hook of a block, in the order of a sequential block.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|&(hook, ..)| hook)
    }

    /// The part of the TransformerLens name after `blocks.{i}.`.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// The name in file paths and tables, such as `resid_pre`.
    pub fn short_name(self) -> &'static str {
        NAMES[self as usize].2
    }
}

impl HookPoint {
    /// The residual stream at `layer`: what enters that block, at layer L what leaves the last one.
    pub fn resid_pre(layer: usize) -> Self {
        Self::Block(layer, BlockHook::ResidPre)
    }

    /// The name in file paths and tables, such as `resid_pre`; the layer goes beside it.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::PosEmbed => "pos_embed",
            Self::Block(_, hook) => hook.short_name(),
            Self::FinalScale => "ln_final_scale",
            Self::FinalNormalized => "ln_final_normalized",
            Self::HeadNormalized => "mlm_head_normalized",
            Self::Logits => "logits",
        }
    }

    /// The layer a result at this point is filed under: the block, 0 for embeddings, `n_layers` for the end.
    pub fn layer(self, n_layers: usize) -> usize {
        match self {
            Self::Embed | Self::PosEmbed => 0,
            Self::Block(block, _) => block,
            Self::FinalScale | Self::FinalNormalized | Self::HeadNormalized | Self::Logits => n_layers,
        }
    }

    /// The point with this TransformerLens name in any spelling (`blocks.3.resid_pre`, `embed`), or one of the newer
    /// aliases (`blocks.{i}.hook_in`, `hook_out`, `attn.hook_out`, `mlp.hook_out`, `ln2.hook_in`, `unembed.hook_out`).
    pub fn parse(name: &str) -> Option<Self> {
        let name = names::canonical(name);
        if let Some(point) = names::outside(&name) {
            return Some(point);
        }
        let (Some(block), hook) = names::in_block(&name) else { return None };
        let hook = match hook {
            "hook_in" => "hook_resid_pre",
            "hook_out" => "hook_resid_post",
            "attn.hook_out" => "hook_attn_out",
            "mlp.hook_out" => "hook_mlp_out",
            "ln2.hook_in" => "hook_resid_mid",
            other => other,
        };
        Some(Self::Block(block, BlockHook::parse(hook)?))
    }

    /// Whether `other` is visited later in the pass.
    pub fn is_before(self, other: Self) -> bool {
        self.cmp(&other) == Ordering::Less
    }
}

impl fmt::Display for BlockHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short_name())
    }
}

impl FromStr for BlockHook {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::parse(name).ok_or_else(|| format!("{name}: no such hook in a block"))
    }
}

crate::by_text::serde_by_text!(BlockHook);

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embed => f.write_str("hook_embed"),
            Self::PosEmbed => f.write_str("hook_pos_embed"),
            Self::Block(block, hook) => write!(f, "blocks.{block}.{}", hook.name()),
            Self::FinalScale => f.write_str("ln_final.hook_scale"),
            Self::FinalNormalized => f.write_str("ln_final.hook_normalized"),
            Self::HeadNormalized => f.write_str("mlm_head.ln.hook_normalized"),
            Self::Logits => f.write_str("logits"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for hook in BlockHook::all() {
            let point = HookPoint::Block(11, hook);
            assert_eq!(HookPoint::parse(&point.to_string()), Some(point));
        }
        for point in [HookPoint::Embed, HookPoint::PosEmbed, HookPoint::FinalScale, HookPoint::Logits] {
            assert_eq!(HookPoint::parse(&point.to_string()), Some(point));
        }
        assert_eq!(HookPoint::parse("blocks.x.hook_resid_pre"), None);
        assert_eq!(HookPoint::parse("blocks.0.hook_resid"), None);
    }

    #[test]
    fn the_name_table_is_in_the_order_of_the_enum() {
        assert!(NAMES.iter().enumerate().all(|(i, (hook, ..))| *hook as usize == i));
    }

    #[test]
    fn order_is_the_order_of_the_pass() {
        let pre = HookPoint::Block(1, BlockHook::ResidPre);
        assert!(HookPoint::Block(0, BlockHook::ResidPost).is_before(pre));
        assert!(HookPoint::Embed.is_before(pre) && pre.is_before(HookPoint::FinalScale));
    }
}
