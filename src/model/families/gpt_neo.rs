//! GPT-Neo (Black et al. 2021): global and local attention in turn, scores without a scale.

use serde_json::Value;

use super::{activation, even_head, gpt2};
use crate::model::{
    Config, ModelError, Spec,
    names::{Names, QkvNames},
    spec::{Biases, LayerSpec, NormSpec, Positions, Sizes},
};

const NAMES: Names = Names {
    qkv: QkvNames::Separate(["attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"]),
    o: "attn.attention.out_proj",
    transposed: false,
    ..gpt2::NAMES
};

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let (d_model, n_heads) = (config.usize("hidden_size")?, config.usize("num_heads")?);
    let n_layers = config.layers("num_layers")?;
    let local = local_layers(config, n_layers)?;
    let window = config.usize("window_size")?;
    let layer = |&local: &bool| LayerSpec { window: local.then_some(window), ..LayerSpec::default() };
    let sizes = Sizes {
        n_layers,
        d_model,
        n_heads,
        d_head: even_head(config, d_model, n_heads)?,
        d_mlp: config.optional_usize("intermediate_size")?.unwrap_or(4 * d_model),
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize("max_position_embeddings")?,
    };
    let norm = NormSpec::layer(config.f64("layer_norm_epsilon")?);
    let activation = activation(config, "activation_function")?;
    Ok(Spec {
        positions: Positions::Learned { offset: 0 },
        layers: local.iter().map(layer).collect(),
        bias: Biases { qkv: false, o: true, mlp: true, head: false },
        tied: config.flag("tie_word_embeddings")?,
        ..Spec::plain("gpt_neo", sizes, norm, activation, &NAMES)
    })
}

/// Which layers are local: `attention_layers`, or `attention_types` such as `[[["global", "local"], 12]]`.
fn local_layers(config: &Config, n_layers: usize) -> Result<Vec<bool>, ModelError> {
    let (key, kinds) = match config.stored("attention_layers") {
        Some(kinds) => ("attention_layers", kinds.as_array().cloned()),
        None => ("attention_types", expanded(config.get("attention_types"), n_layers)),
    };
    let local = |kind: &Value| match kind.as_str() {
        Some("global") => Some(false),
        Some("local") => Some(true),
        _ => None,
    };
    let layers: Option<Vec<bool>> = kinds.and_then(|kinds| kinds.iter().map(local).collect());
    layers.filter(|layers| layers.len() == n_layers).ok_or_else(|| {
        let value = config.stored(key).map_or("nothing".into(), Value::to_string);
        config.error(format!(
            "`{key}` must make each of {n_layers} layers \"global\" or \"local\", got {value}"
        ))
    })
}

/// `[[kinds, times], …]` written out, or up to what a count that lies needs to be found out; without a value the
/// class's default, global and local in turn for 24 layers.
fn expanded(types: Option<&Value>, n_layers: usize) -> Option<Vec<Value>> {
    let usual = serde_json::json!([[["global", "local"], 12]]);
    let pair = |entry: &Value| -> Option<(Vec<Value>, usize)> {
        Some((entry.get(0)?.as_array()?.clone(), entry.get(1)?.as_u64()? as usize))
    };
    let pairs: Option<Vec<_>> = types.unwrap_or(&usual).as_array()?.iter().map(pair).collect();
    let written = |(kinds, times)| std::iter::repeat_n(kinds, usize::min(times, n_layers + 1)).flatten();
    Some(pairs?.into_iter().flat_map(written).collect())
}
