//! What differs between families, as data: the decoder in `decoder.rs` reads this and nothing else.

mod parts;

pub(super) use parts::{
    Alibi, Biases, EncoderSpec, ExpertsSpec, HeadSpec, LayerSpec, NormSpec, QkNorm, QkNormOver, QueryGrowth,
};
pub use parts::{NormPlacement, Positions, ResidualKind};

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
    /// The experts of sparse layers.
    pub experts: Option<ExpertsSpec>,
    /// What an encoder has and a decoder has not; none: a decoder, whose tokens see those before them.
    pub encoder: Option<EncoderSpec>,
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
            experts: None,
            encoder: None,
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

    /// Puts experts in place of the MLP of those layers where `sparse(layer)`.
    pub(super) fn put_experts(&mut self, experts: ExpertsSpec, sparse: impl Fn(usize) -> bool) {
        self.experts = Some(experts);
        for (i, layer) in self.layers.iter_mut().enumerate() {
            layer.sparse = sparse(i);
        }
    }

    /// Gives every layer the same factor on `q·k`.
    pub(super) fn scale_scores(&mut self, scale: f64) {
        for layer in &mut self.layers {
            layer.scale = scale;
        }
    }

    /// Whether there are logits: an encoder may have been stored without its head.
    pub fn has_head(&self) -> bool {
        self.encoder.is_none_or(|encoder| encoder.head.is_some())
    }

    /// Whether the residual stream is normed before it is read out; BERT's has been by the last block.
    pub fn has_final_norm(&self) -> bool {
        !self.names.final_norm.is_empty()
    }

    /// Whether texts of `first` to `last` tokens are rotated alike, so that keys of the shorter serve the longer.
    pub fn rotates_alike(&self, first: usize, last: usize) -> bool {
        self.ropes.iter().all(|rope| rope.same_at(first, last))
    }
}
