//! What differs between families, as data: the decoder in `decoder.rs` reads this and nothing else.

use layerscope_lenses::NormKind;

use super::{Config, ModelError, names::Names, rope::RopeSpec};

/// One model's architecture.
#[derive(Debug, Clone)]
pub struct Spec {
    /// `model_type` in config.json.
    pub family: &'static str,
    /// Number of blocks, `L`.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; a divisor of `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Width of the MLP's inner state.
    pub d_mlp: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Longest sequence.
    pub n_ctx: usize,
    /// The norms of blocks and end.
    pub norm: NormSpec,
    /// How attention and MLP share the residual stream.
    pub residual: ResidualKind,
    /// Norms on the outputs of attention and MLP as well (Gemma 2 and 3).
    pub post_norms: bool,
    /// A norm on the embeddings (BLOOM).
    pub embed_norm: bool,
    /// Factor on the token embeddings (Gemma).
    pub embed_scale: Option<f64>,
    /// Where positions enter.
    pub positions: Positions,
    /// The model's rotations; a layer names one by index.
    pub ropes: Vec<RopeSpec>,
    /// What differs between layers, one entry per block.
    pub layers: Vec<LayerSpec>,
    /// The MLP's non-linearity.
    pub activation: Activation,
    /// Norm of each query and key head before rotation (Qwen 3, Gemma 3, some Phi).
    pub qk_norm: Option<NormKind>,
    /// Which linear maps have a bias.
    pub bias: Biases,
    /// Gemma 2's cap on attention scores: `cap · tanh(s / cap)`.
    pub score_cap: Option<f64>,
    /// Gemma 2's cap on logits.
    pub logit_cap: Option<f64>,
    /// The unembedding is the embedding: as config.json says, or as [`settle`](super::settle)d by what is stored.
    pub tied: bool,
    /// Where the weights are.
    pub names: Names,
}

/// The sizes of a model, which every family keeps under its own keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) n_layers: usize,
    pub(super) d_model: usize,
    pub(super) n_heads: usize,
    pub(super) d_head: usize,
    pub(super) d_mlp: usize,
    pub(super) vocab: usize,
    pub(super) n_ctx: usize,
}

impl Spec {
    /// The plainest decoder of these sizes: a key-value head per query head, a sequential residual, full attention
    /// scaled by `1 / sqrt(d_head)`, no biases, its own head. Families say what they do otherwise (`..Spec::plain(…)`).
    pub(super) fn plain(
        family: &'static str,
        sizes: Sizes,
        norm: NormSpec,
        activation: Activation,
        names: &Names,
    ) -> Self {
        let Sizes { n_layers, d_model, n_heads, d_head, d_mlp, vocab, n_ctx } = sizes;
        Self {
            family,
            n_layers,
            d_model,
            n_heads,
            n_kv_heads: n_heads,
            d_head,
            d_mlp,
            vocab,
            n_ctx,
            norm,
            residual: ResidualKind::Sequential,
            post_norms: false,
            embed_norm: false,
            embed_scale: None,
            positions: Positions::Rotary,
            ropes: Vec::new(),
            layers: vec![LayerSpec { window: None, rope: 0, scale: (d_head as f64).powf(-0.5) }; n_layers],
            activation,
            qk_norm: None,
            bias: Biases::default(),
            score_cap: None,
            logit_cap: None,
            tied: false,
            names: *names,
        }
    }

    /// Gives the layers their windows: as `layer_types` says, else where `sliding(layer)`.
    pub(super) fn slide(
        &mut self,
        config: &Config,
        sliding: impl Fn(usize) -> bool,
    ) -> Result<(), ModelError> {
        let sliding = config.sliding_layers(self.n_layers, sliding)?;
        let needed = sliding.contains(&true);
        let window = if needed { config.window_of_sliding_layers()? } else { None };
        for (layer, sliding) in self.layers.iter_mut().zip(sliding) {
            layer.window = window.filter(|_| sliding);
        }
        Ok(())
    }

    /// Gives every layer the same window, whatever `layer_types` says.
    pub(super) fn slide_everywhere(&mut self, window: Option<usize>) {
        for layer in &mut self.layers {
            layer.window = window;
        }
    }
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
}

impl NormSpec {
    /// Layer norm with weight and bias.
    pub fn layer(eps: f64) -> Self {
        Self { kind: NormKind::Layer, eps, plus_one: false }
    }

    /// RMS norm with a weight.
    pub fn rms(eps: f64) -> Self {
        Self { kind: NormKind::Rms, eps, plus_one: false }
    }

    /// Gemma's RMS norm, whose weight is stored minus one.
    pub fn gemma(eps: f64) -> Self {
        Self { kind: NormKind::Rms, eps, plus_one: true }
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
    /// In queries and keys.
    Rotary,
    /// As a bias on attention scores (Press et al. 2022).
    Alibi(Alibi),
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
    /// A position sees itself and the `window - 1` before it; none: all before it.
    pub window: Option<usize>,
    /// Index into [`Spec::ropes`].
    pub rope: usize,
    /// Factor on `q·k`.
    pub scale: f64,
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

/// The MLP's non-linearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// With the error function.
    Gelu,
    /// With the tanh approximation.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x · sigmoid(x)`.
    Silu,
}

impl Activation {
    /// From the name transformers uses.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "gelu" | "gelu_python" => Some(Self::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_accurate" => {
                Some(Self::GeluTanh)
            }
            "relu" => Some(Self::Relu),
            "silu" | "swish" => Some(Self::Silu),
            _ => None,
        }
    }
}
