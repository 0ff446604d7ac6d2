//! What differs between families, as data: the decoder in `decoder.rs` reads this and nothing else.

use layerscope_lenses::NormKind;

use super::{Config, ModelError, activation::Activation, config::RopeKeys, names::Names, rope::RopeSpec};

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
    /// Which of a branch's two ends are normed.
    pub norms: NormPlacement,
    /// A norm on the embeddings (BLOOM).
    pub embed_norm: bool,
    /// Factor on the token embeddings (Gemma).
    pub embed_scale: Option<f64>,
    /// Factor on what attention and MLP add to the residual stream (Granite).
    pub residual_scale: Option<f64>,
    /// Where positions enter.
    pub positions: Positions,
    /// The model's rotations; a layer names one by index.
    pub ropes: Vec<RopeSpec>,
    /// What differs between layers, one entry per block.
    pub layers: Vec<LayerSpec>,
    /// The MLP's non-linearity.
    pub activation: Activation,
    /// Norm of queries and keys (Qwen 3, Gemma 3, OLMo 2, some Phi).
    pub qk_norm: Option<QkNorm>,
    /// Queries, keys and values are held between this and its negative (OLMo, MPT).
    pub qkv_clip: Option<f64>,
    /// Queries grow with their position (Ministral 3).
    pub query_growth: Option<QueryGrowth>,
    /// Which linear maps have a bias.
    pub bias: Biases,
    /// Gemma 2's cap on attention scores: `cap · tanh(s / cap)`.
    pub score_cap: Option<f64>,
    /// Gemma 2's cap on logits.
    pub logit_cap: Option<f64>,
    /// Factor on the logits (Cohere, Granite).
    pub logit_scale: Option<f64>,
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
            norms: NormPlacement::Before,
            embed_norm: false,
            embed_scale: None,
            residual_scale: None,
            positions: Positions::Rotary,
            ropes: Vec::new(),
            layers: vec![LayerSpec { scale: (d_head as f64).powf(-0.5), ..LayerSpec::default() }; n_layers],
            activation,
            qk_norm: None,
            qkv_clip: None,
            query_growth: None,
            bias: Biases::default(),
            score_cap: None,
            logit_cap: None,
            logit_scale: None,
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

    /// The same, where full and sliding layers rotate in two ways.
    pub(super) fn slide_by_rope(
        &mut self,
        config: &Config,
        keys: [RopeKeys; 2],
        sliding: impl Fn(usize) -> bool,
    ) -> Result<(), ModelError> {
        let slides = config.sliding_layers(self.n_layers, sliding)?;
        self.slide(config, |i| slides[i])?;
        self.ropes = config.ropes_by_type(self.d_head, keys)?.to_vec();
        for (layer, slides) in self.layers.iter_mut().zip(slides) {
            layer.rope = Some(usize::from(slides));
        }
        Ok(())
    }

    /// Layers without a window know no positions.
    pub(super) fn rotate_sliding_only(&mut self) {
        for layer in self.layers.iter_mut().filter(|layer| layer.window.is_none()) {
            layer.rope = None;
        }
    }

    /// Gives every layer the same window, whatever `layer_types` says.
    pub(super) fn slide_everywhere(&mut self, window: Option<usize>) {
        for layer in &mut self.layers {
            layer.window = window;
        }
    }

    /// Gives every layer the same factor on `q·k`.
    pub(super) fn scale_scores(&mut self, scale: f64) {
        for layer in &mut self.layers {
            layer.scale = scale;
        }
    }

    /// Whether texts of `first` to `last` tokens are rotated alike, so that keys of the shorter serve the longer.
    pub fn rotates_alike(&self, first: usize, last: usize) -> bool {
        self.ropes.iter().all(|rope| rope.same_at(first, last))
    }
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
}

impl NormPlacement {
    /// Whether what they read is normed.
    pub fn before(self) -> bool {
        self != Self::After
    }

    /// Whether what they put out is normed.
    pub fn after(self) -> bool {
        self != Self::Before
    }
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
    /// A position sees itself and the `window - 1` before it; none: all before it.
    pub window: Option<usize>,
    /// Index into [`Spec::ropes`]; none: this layer knows no positions.
    pub rope: Option<usize>,
    /// Factor on `q·k`.
    pub scale: f64,
}

impl Default for LayerSpec {
    fn default() -> Self {
        Self { window: None, rope: Some(0), scale: 1.0 }
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
