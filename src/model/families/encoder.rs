//! What encoders have in common.

use crate::model::{
    Config, ModelError, Positions, Spec,
    spec::{Biases, EncoderSpec, NormPlacement},
};

/// Sizes under the keys of BERT.
pub(super) const KEYS: [&str; 4] =
    ["num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"];

/// An encoder whose maps have biases and whose stream is normed, embeddings included.
pub(super) fn encoding(config: &Config, plain: Spec, encoder: EncoderSpec) -> Result<Spec, ModelError> {
    config.refuse_if_true("is_decoder")?;
    config.refuse_if_true("add_cross_attention")?;
    let relative = config.stored("position_embedding_type").and_then(|kind| kind.as_str());
    if relative.is_some_and(|kind| kind.starts_with("relative")) {
        return Err(config.unsupported("position_embedding_type", "; supported: absolute"));
    }
    Ok(Spec {
        norms: NormPlacement::Stream,
        embed_norm: true,
        bias: Biases { qkv: true, o: true, mlp: true, head: true },
        tied: config.flag("tie_word_embeddings")?,
        encoder: Some(encoder),
        ..plain
    })
}

/// Positions from the row behind that of the padding token on, which itself takes none; fewer fit by as many.
pub(super) fn count_from_padding(config: &Config, spec: &mut Spec) -> Result<(), ModelError> {
    let padding = config.token("pad_token_id")?;
    let offset = padding + 1;
    if spec.n_ctx <= offset {
        let rows = spec.n_ctx;
        return Err(config.error(format!("no position is left of {rows} behind `pad_token_id` {padding}")));
    }
    spec.n_ctx -= offset;
    spec.positions = Positions::Learned { offset };
    spec.encoder.iter_mut().for_each(|encoder| encoder.padding = Some(padding));
    Ok(())
}
