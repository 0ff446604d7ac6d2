//! The choices that a [`Spec`](super::Spec) is made of.

use layerscope_lenses::NormKind;

use crate::model::{Activation, names::ExpertNames};

/// Experts in place of an MLP: `top_k` of `n` for each token, weighted by the softmax of the router's logits.
#[derive(Debug, Clone, Copy)]
pub struct ExpertsSpec {
    /// How many there are.
    pub n: usize,
    /// How many a token goes to.
    pub top_k: usize,
    /// Width of an expert's inner state.
    pub d_expert: usize,
    /// The weights of those chosen are made to sum to one.
    pub normed: bool,
    /// Width of the expert that every token goes to, where there is one (Qwen 2 MoE).
    pub d_shared: Option<usize>,
    /// Where the weights are.
    pub names: ExpertNames,
}

/// Which ends of attention and MLP are normed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlacement {
    /// What they read.
    Before,
    /// What they put out (OLMo 2, EXAONE 4).
    After,
    /// Both (Gemma 2, GLM 4).
    Both,
    /// The stream itself, after each of them has been added to it (BERT).
    Stream,
}

impl NormPlacement {
    /// Whether what they read is normed.
    pub fn before(self) -> bool {
        matches!(self, Self::Before | Self::Both)
    }

    /// Whether what they put out is normed.
    pub fn after(self) -> bool {
        matches!(self, Self::After | Self::Both)
    }
}

/// What an encoder has and a decoder has not. Its tokens see those before and behind them.
#[derive(Debug, Clone, Copy, Default)]
pub struct EncoderSpec {
    /// Rows of the table of token types, the first of which is added to every token's embedding (BERT).
    pub token_types: Option<usize>,
    /// The padding token, which takes no position where a text has it: its row is the one before the first (`RoBERTa`).
    pub padding: Option<usize>,
    /// The mask token of a model that leaves it out and has the other embeddings grow by what they grew by in training
    /// (ESM).
    pub token_dropout: Option<usize>,
    /// End of the name under which a file may keep the rotation's frequencies, which must be those of the config (ESM).
    pub frequencies: Option<&'static str>,
    /// The masked-language-model head; none where it is not stored.
    pub head: Option<HeadSpec>,
}

/// What a masked-language-model head does before the unembedding: a map, an activation, a norm.
#[derive(Debug, Clone, Copy)]
pub struct HeadSpec {
    /// Full names of the map and the norm.
    pub names: [&'static str; 2],
    /// The activation.
    pub activation: Activation,
    /// The map has a bias.
    pub bias: bool,
}

/// How queries and keys are normed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QkNorm {
    /// Statistics.
    pub kind: NormKind,
    /// Which numbers are normed together, and the weights' shape.
    pub over: QkNormOver,
    /// There is an offset (Phi), whatever the model's other norms have.
    pub bias: bool,
    /// After rotation instead of before (Hunyuan).
    pub after_rotation: bool,
}

impl QkNorm {
    /// Each head by itself before rotation, with one set of weights for all.
    pub fn by_head(kind: NormKind) -> Self {
        Self { kind, over: QkNormOver::Head, bias: kind == NormKind::Layer, after_rotation: false }
    }
}

/// What a norm of queries or keys is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNormOver {
    /// Each head; weights `[d_head]`, as the model's other norms have them.
    Head,
    /// Each head, with weights of its own, `[heads, d_head]` (Cohere).
    HeadByItself,
    /// The same, stored as a norm per head (`StableLM`).
    HeadInList,
    /// All heads at once, `[heads · d_head]` (OLMo 2).
    All,
}

/// Queries at position `p` are `1 + beta · ln(1 + ⌊p / length⌋)` times as long (Llama 4, Ministral 3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryGrowth {
    /// How fast.
    pub beta: f64,
    /// Positions that share a factor.
    pub length: f64,
}

/// The norm all of a model's blocks use.
#[derive(Debug, Clone, Copy)]
pub struct NormSpec {
    /// Statistics.
    pub kind: NormKind,
    /// Added under the root.
    pub eps: f64,
    /// Weights are stored minus one (Gemma).
    pub plus_one: bool,
    /// There is a factor.
    pub weight: bool,
    /// There is an offset.
    pub bias: bool,
}

impl NormSpec {
    /// Layer norm with weight and bias.
    pub fn layer(eps: f64) -> Self {
        Self { kind: NormKind::Layer, eps, plus_one: false, weight: true, bias: true }
    }

    /// RMS norm with a weight.
    pub fn rms(eps: f64) -> Self {
        Self { kind: NormKind::Rms, eps, plus_one: false, weight: true, bias: false }
    }

    /// Gemma's RMS norm, whose weight is stored minus one.
    pub fn gemma(eps: f64) -> Self {
        Self { plus_one: true, ..Self::rms(eps) }
    }

    /// Layer norm without an offset (Cohere, MPT).
    pub fn layer_without_bias(eps: f64) -> Self {
        Self { bias: false, ..Self::layer(eps) }
    }

    /// A norm without weights (OLMo, nanochat).
    pub fn bare(kind: NormKind, eps: f64) -> Self {
        Self { kind, eps, plus_one: false, weight: false, bias: false }
    }
}

/// How attention and MLP share the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResidualKind {
    /// The MLP reads what attention wrote.
    Sequential,
    /// Both read the stream entering the block, through a norm each (Pythia, Falcon 40B).
    Parallel,
    /// Both read it through one norm (GPT-J, Phi, Falcon 7B).
    ParallelSharedNorm,
}

/// Where positions enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// A learned table, from row `offset` on (OPT starts at 2).
    Learned {
        /// Row of position 0.
        offset: usize,
    },
    /// A table of sines and cosines, from row `offset` on (XGLM).
    Sinusoidal {
        /// Row of position 0.
        offset: usize,
        /// A row of zeros, that of the padding token's number.
        empty: Option<usize>,
    },
    /// In queries and keys.
    Rotary,
    /// As a bias on attention scores (Press et al. 2022).
    Alibi(Alibi),
}

impl Positions {
    /// Whether they are added to the embeddings.
    pub fn are_embedded(self) -> bool {
        matches!(self, Self::Learned { .. } | Self::Sinusoidal { .. })
    }
}

/// The two variants of alibi in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alibi {
    /// BLOOM: added to the scaled scores.
    AfterScale,
    /// Falcon: rounded to bf16 and scaled together with the scores.
    BeforeScale,
}

/// What differs between the layers of one model.
#[derive(Debug, Clone, Copy)]
pub struct LayerSpec {
    /// A position sees itself and the `window - 1` before it; none: all before it. In an encoder, also as many behind
    /// it.
    pub window: Option<usize>,
    /// Index into [`Spec::ropes`]; none: this layer knows no positions.
    pub rope: Option<usize>,
    /// Factor on `q·k`.
    pub scale: f64,
    /// There are [experts](Spec::experts) in place of an MLP.
    pub sparse: bool,
    /// Attention reads the stream as it is, although others read it normed (`ModernBERT`'s first layer).
    pub bare: bool,
}

impl Default for LayerSpec {
    fn default() -> Self {
        Self { window: None, rope: Some(0), scale: 1.0, sparse: false, bare: false }
    }
}

/// Which linear maps have a bias.
#[derive(Debug, Clone, Copy, Default)]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: bool,
    /// Attention's output projection.
    pub o: bool,
    /// Both (all three) maps of the MLP.
    pub mlp: bool,
    /// The unembedding.
    pub head: bool,
}
