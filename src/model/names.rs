//! Where a family keeps its weights: names of tensors, as data.

/// Tensor names of a family; those of a block are relative to `block` + index + `.`.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// Prefixes of everything but the head, tried in order.
    pub prefixes: &'static [&'static str],
    /// Token embeddings `[vocab, d_model]`.
    pub embed: &'static str,
    /// Norm of the embeddings.
    pub embed_norm: &'static str,
    /// Learned positions `[n_ctx + offset, d_model]`.
    pub pos_embed: &'static str,
    /// Token types, where there are any.
    pub token_types: &'static str,
    /// Start of a block's names, such as `h.`.
    pub block: &'static str,
    /// Norm before attention.
    pub ln1: &'static str,
    /// Norm on attention's output, where there is one.
    pub ln1_post: &'static str,
    /// Norm before the MLP, where it has its own.
    pub ln2: &'static str,
    /// Norm on the MLP's output, where there is one.
    pub ln2_post: &'static str,
    /// Queries, keys and values.
    pub qkv: QkvNames,
    /// Norms of query and key heads, where there are any.
    pub qk_norm: [&'static str; 2],
    /// Attention's output projection.
    pub o: &'static str,
    /// The MLP.
    pub mlp: MlpNames,
    /// The final norm.
    pub final_norm: &'static str,
    /// Full names the head may have.
    pub heads: &'static [&'static str],
    /// Linear weights are stored `[in, out]` (GPT-2's Conv1D).
    pub transposed: bool,
}

/// Where queries, keys and values are.
#[derive(Debug, Clone, Copy)]
pub enum QkvNames {
    /// Three maps.
    Separate([&'static str; 3]),
    /// One map whose rows are all of q, all of k, all of v.
    Joined(&'static str),
    /// One map whose rows go by key-value group: its queries, its key, its value (NeoX, BLOOM, Falcon).
    ByGroup(&'static str),
    /// One map in four parts, each a quarter of the queries, of the values, of the keys (`CodeGen`).
    InQuarters(&'static str),
}

/// Where the MLP is.
#[derive(Debug, Clone, Copy)]
pub enum MlpNames {
    /// `down(act(up(x)))`.
    Plain {
        /// `[d_mlp, d_model]`.
        up: &'static str,
        /// `[d_model, d_mlp]`.
        down: &'static str,
    },
    /// `down(act(gate(x)) · up(x))`.
    Gated {
        /// `[d_mlp, d_model]`.
        gate: &'static str,
        /// `[d_mlp, d_model]`.
        up: &'static str,
        /// `[d_model, d_mlp]`.
        down: &'static str,
    },
    /// Gated, gate and up in one map `[2 · d_mlp, d_model]` (Phi-3).
    GatedJoined {
        /// `[2 · d_mlp, d_model]`.
        gate_up: &'static str,
        /// `[d_model, d_mlp]`.
        down: &'static str,
    },
}

/// Where experts are.
#[derive(Debug, Clone, Copy)]
pub struct ExpertNames {
    /// The router's map.
    pub router: &'static str,
    /// The experts' own maps.
    pub each: EachExpert,
    /// The expert of all tokens, whose maps are called as an MLP's, and its share.
    pub shared: [&'static str; 2],
}

/// How the maps of many experts are stored.
#[derive(Debug, Clone, Copy)]
pub enum EachExpert {
    /// One by one: start of their names, then a number, then the gate's, the linear branch's and the output's.
    ByNumber(&'static str, [&'static str; 3]),
    /// As two tensors: gates and linear branches `[experts, 2 · d_expert, d_model]`, outputs.
    Stacked([&'static str; 2]),
}

/// As Qwen 2 MoE and most others have them.
pub(super) const EXPERT_NAMES: ExpertNames = ExpertNames {
    router: "mlp.gate",
    each: EachExpert::ByNumber("mlp.experts.", ["gate_proj", "up_proj", "down_proj"]),
    shared: ["mlp.shared_expert", "mlp.shared_expert_gate"],
};

impl MlpNames {
    /// Whether the MLP has a gate.
    pub fn gated(self) -> bool {
        !matches!(self, Self::Plain { .. })
    }
}

/// The names of Llama and those built like it; families change what differs.
pub(super) const LLAMA_NAMES: Names = Names {
    prefixes: &["model.", ""],
    embed: "embed_tokens",
    embed_norm: "",
    pos_embed: "",
    token_types: "",
    block: "layers.",
    ln1: "input_layernorm",
    ln1_post: "",
    ln2: "post_attention_layernorm",
    ln2_post: "",
    qkv: QkvNames::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    qk_norm: ["self_attn.q_norm", "self_attn.k_norm"],
    o: "self_attn.o_proj",
    mlp: MlpNames::Gated { gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj" },
    final_norm: "norm",
    heads: &["lm_head"],
    transposed: false,
};
