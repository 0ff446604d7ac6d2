//! What a logit is a sum of.

use crate::{
    hook::{BlockHook, HookPoint},
    model::Spec,
};

/// A part of the network that writes to the residual stream, or adds to the logits behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// What enters the first block; the tokens' embeddings alone where positions are a component of their own.
    Embed,
    /// The positions' embeddings, where they are added to the tokens' and nothing comes in between.
    PosEmbed,
    /// A head of a block, without the output bias.
    Head(usize, usize),
    /// The bias of attention's output projection.
    AttnBias(usize),
    /// The offset of a norm behind attention.
    AttnNormBias(usize),
    /// The whole MLP of a block, or its experts.
    Mlp(usize),
    /// A neuron of a block's MLP.
    Neuron(usize, usize),
    /// The bias of the MLP's output.
    MlpBias(usize),
    /// The offset of a norm behind the MLP.
    MlpNormBias(usize),
    /// The offset of the final norm.
    NormBias,
    /// The bias of the unembedding.
    HeadBias,
}

impl Component {
    /// What it is called in tables, without its numbers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::PosEmbed => "pos_embed",
            Self::Head(..) => "head",
            Self::AttnBias(_) => "attn_bias",
            Self::AttnNormBias(_) => "attn_norm_bias",
            Self::Mlp(_) => "mlp",
            Self::Neuron(..) => "neuron",
            Self::MlpBias(_) => "mlp_bias",
            Self::MlpNormBias(_) => "mlp_norm_bias",
            Self::NormBias => "norm_bias",
            Self::HeadBias => "head_bias",
        }
    }

    /// The block that it is in; none before the first and behind the last.
    pub fn block(self) -> Option<usize> {
        match self {
            Self::Embed | Self::PosEmbed | Self::NormBias | Self::HeadBias => None,
            Self::Head(block, _)
            | Self::AttnBias(block)
            | Self::AttnNormBias(block)
            | Self::Mlp(block)
            | Self::Neuron(block, _)
            | Self::MlpBias(block)
            | Self::MlpNormBias(block) => Some(block),
        }
    }

    /// Which head it is.
    pub fn head(self) -> Option<usize> {
        if let Self::Head(_, head) = self { Some(head) } else { None }
    }

    /// Which neuron it is.
    pub fn neuron(self) -> Option<usize> {
        if let Self::Neuron(_, neuron) = self { Some(neuron) } else { None }
    }

    /// Whether it is of a block's attention.
    pub fn is_attention(self) -> bool {
        matches!(self, Self::Head(..) | Self::AttnBias(_) | Self::AttnNormBias(_))
    }

    /// Whether it is of a block's MLP.
    pub fn is_mlp(self) -> bool {
        matches!(self, Self::Mlp(_) | Self::Neuron(..) | Self::MlpBias(_) | Self::MlpNormBias(_))
    }

    /// Whether it is added behind the last block, whatever the stream is.
    pub fn is_constant(self) -> bool {
        matches!(self, Self::NormBias | Self::HeadBias)
    }

    /// The hook that it is nearest to.
    pub fn point(self) -> HookPoint {
        use BlockHook::{AttnOut, MlpOut, MlpPost, Result};
        match self {
            Self::Embed => HookPoint::Embed,
            Self::PosEmbed => HookPoint::PosEmbed,
            Self::Head(block, _) => HookPoint::Block(block, Result),
            Self::AttnBias(block) | Self::AttnNormBias(block) => HookPoint::Block(block, AttnOut),
            Self::Neuron(block, _) => HookPoint::Block(block, MlpPost),
            Self::Mlp(block) | Self::MlpBias(block) | Self::MlpNormBias(block) => {
                HookPoint::Block(block, MlpOut)
            }
            Self::NormBias => HookPoint::FinalNormalized,
            Self::HeadBias => HookPoint::Logits,
        }
    }
}

/// The components of a model in the order of the pass, MLPs whole or as `neurons`. Biases that a model does not have
/// are none.
pub fn components(spec: &Spec, neurons: bool) -> Vec<Component> {
    let mut all = vec![Component::Embed];
    if has_positions(spec) {
        all.push(Component::PosEmbed);
    }
    let post_bias = spec.norms.after() && spec.norm.bias;
    for block in 0..spec.n_layers {
        all.extend((0..spec.n_heads).map(|head| Component::Head(block, head)));
        all.extend(spec.bias.o.then_some(Component::AttnBias(block)));
        all.extend(post_bias.then_some(Component::AttnNormBias(block)));
        if neurons {
            all.extend((0..spec.d_mlp).map(|neuron| Component::Neuron(block, neuron)));
            all.extend(spec.bias.mlp.then_some(Component::MlpBias(block)));
            all.extend(post_bias.then_some(Component::MlpNormBias(block)));
        } else {
            all.push(Component::Mlp(block));
        }
    }
    all.extend(spec.norm.bias.then_some(Component::NormBias));
    all.extend(spec.bias.head.then_some(Component::HeadBias));
    all
}

/// Whether positions are a component of their own: a norm of the embeddings mixes them with the tokens'.
pub(super) fn has_positions(spec: &Spec) -> bool {
    spec.positions.are_embedded() && !spec.embed_norm
}
