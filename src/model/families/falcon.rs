//! Falcon (Almazrouei et al. 2023): three layouts of heads and norms, rotary or alibi positions.

use super::{activation, bloom, even_head};
use crate::model::{
    Config, ModelError, Spec,
    names::Names,
    rope::WHOLE_HEAD,
    spec::{Alibi, Biases, NormSpec, Positions, ResidualKind, Sizes},
};

const NAMES: Names = Names { prefixes: &["transformer."], ..bloom::NAMES };

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let (d_model, n_heads) = (config.usize("hidden_size")?, config.usize("num_attention_heads")?);
    let n_layers = config.usize("num_hidden_layers")?;
    let d_head = even_head(config, d_model, n_heads)?;
    let new = config.bool_or("new_decoder_architecture", false)?;
    let n_kv_heads = match (new, config.bool_or("multi_query", true)?) {
        (true, _) => config.usize_or("num_kv_heads", n_heads)?,
        (false, true) => 1,
        (false, false) => n_heads,
    };
    let alibi = config.bool_or("alibi", false)?;
    let (residual, names) = layout(config, new)?;
    let bias = config.bool_or("bias", false)?;
    let sizes = Sizes {
        n_layers,
        d_model,
        n_heads,
        d_head,
        d_mlp: config.usize_or("ffn_hidden_size", 4 * d_model)?,
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize_or("max_position_embeddings", 2048)?,
    };
    let norm = NormSpec::layer(config.f64_or("layer_norm_epsilon", 1e-5)?);
    let activation = if config.get("activation").is_some() {
        activation(config, "activation")?
    } else {
        crate::model::Activation::Gelu
    };
    Ok(Spec {
        n_kv_heads,
        residual,
        positions: if alibi { Positions::Alibi(Alibi::BeforeScale) } else { Positions::Rotary },
        ropes: if alibi { Vec::new() } else { vec![config.rope(None, d_head, 10_000.0, WHOLE_HEAD)?] },
        bias: Biases { qkv: bias, o: bias, mlp: bias, head: false },
        tied: config.bool_or("tie_word_embeddings", true)?,
        ..Spec::plain("falcon", sizes, norm, activation, &names)
    })
}

/// The residual's layout and the norms' names.
fn layout(config: &Config, new: bool) -> Result<(ResidualKind, Names), ModelError> {
    if !new {
        let parallel = config.bool_or("parallel_attn", true)?;
        let kind = if parallel { ResidualKind::ParallelSharedNorm } else { ResidualKind::Sequential };
        return Ok((kind, NAMES));
    }
    match config.usize_or("num_ln_in_parallel_attn", 2)? {
        1 => Ok((ResidualKind::ParallelSharedNorm, NAMES)),
        2 => Ok((ResidualKind::Parallel, Names { ln1: "ln_attn", ln2: "ln_mlp", ..NAMES })),
        _ => Err(config.unsupported("num_ln_in_parallel_attn", "; supported: 1, 2")),
    }
}
