//! Falcon (Almazrouei et al. 2023): three layouts of heads and norms, rotary or alibi positions.

use super::{activation, bloom, even_head};
use crate::model::{
    Config, ModelError, Spec,
    config::RopeKeys,
    names::Names,
    spec::{Alibi, Biases, NormSpec, Positions, ResidualKind, Sizes},
};

const NAMES: Names = bloom::NAMES;

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let (d_model, n_heads) = (bloom::width(config)?, config.usize("num_attention_heads")?);
    let n_layers = config.layers("num_hidden_layers")?;
    let d_head = even_head(config, d_model, n_heads)?;
    let new = config.flag("new_decoder_architecture")?;
    let n_kv_heads = match (new, config.flag("multi_query")?) {
        (true, _) => config.optional_usize("num_kv_heads")?.unwrap_or(n_heads),
        (false, true) => 1,
        (false, false) => n_heads,
    };
    let alibi = config.flag("alibi")?;
    let (residual, names) = layout(config, new)?;
    let bias = config.flag("bias")?;
    let sizes = Sizes {
        n_layers,
        d_model,
        n_heads,
        d_head,
        d_mlp: config.optional_usize("ffn_hidden_size")?.unwrap_or(4 * d_model),
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize("max_position_embeddings")?,
    };
    let norm = NormSpec::layer(config.f64("layer_norm_epsilon")?);
    let activation = activation(config, "activation")?;
    Ok(Spec {
        n_kv_heads,
        residual,
        positions: if alibi { Positions::Alibi(Alibi::BeforeScale) } else { Positions::Rotary },
        ropes: if alibi { Vec::new() } else { vec![config.rope(d_head, RopeKeys::USUAL)?] },
        bias: Biases { qkv: bias, o: bias, mlp: bias, head: false },
        tied: config.flag("tie_word_embeddings")?,
        ..Spec::plain("falcon", sizes, norm, activation, &names)
    })
}

/// The residual's layout and the norms' names. Transformers builds the other combinations of these keys, and cannot run
/// them.
fn layout(config: &Config, new: bool) -> Result<(ResidualKind, Names), ModelError> {
    let parallel = config.flag("parallel_attn")?;
    let norms = config.optional_usize("num_ln_in_parallel_attn")?;
    if !new {
        if parallel && norms == Some(2) {
            return Err(config.unsupported("num_ln_in_parallel_attn", " without new_decoder_architecture"));
        }
        let kind = if parallel { ResidualKind::ParallelSharedNorm } else { ResidualKind::Sequential };
        return Ok((kind, NAMES));
    }
    if !parallel {
        return Err(config.unsupported("parallel_attn", " with new_decoder_architecture"));
    }
    match norms.unwrap_or(2) {
        1 => Ok((ResidualKind::ParallelSharedNorm, NAMES)),
        2 => Ok((ResidualKind::Parallel, Names { ln1: "ln_attn", ln2: "ln_mlp", ..NAMES })),
        _ => Err(config.unsupported("num_ln_in_parallel_attn", "; supported: 1, 2")),
    }
}
