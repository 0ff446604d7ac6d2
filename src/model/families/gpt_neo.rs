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
    let n_layers = config.usize("num_layers")?;
    let local = local_layers(config, n_layers)?;
    let window = config.usize_or("window_size", 256)?;
    let layer = |&local: &bool| LayerSpec { window: local.then_some(window), rope: 0, scale: 1.0 };
    let sizes = Sizes {
        n_layers,
        d_model,
        n_heads,
        d_head: even_head(config, d_model, n_heads)?,
        d_mlp: config.usize_or("intermediate_size", 4 * d_model)?,
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize("max_position_embeddings")?,
    };
    let norm = NormSpec::layer(config.f64_or("layer_norm_epsilon", 1e-5)?);
    let activation = activation(config, "activation_function")?;
    Ok(Spec {
        positions: Positions::Learned { offset: 0 },
        layers: local.iter().map(layer).collect(),
        bias: Biases { qkv: false, o: true, mlp: true, head: false },
        tied: config.bool_or("tie_word_embeddings", true)?,
        ..Spec::plain("gpt_neo", sizes, norm, activation, &NAMES)
    })
}

/// Which layers are local: `attention_layers`, or `attention_types` such as `[[["global", "local"], 12]]`.
fn local_layers(config: &Config, n_layers: usize) -> Result<Vec<bool>, ModelError> {
    let kinds: Vec<&Value> = if let Some(layers) = config.get("attention_layers").and_then(Value::as_array) {
        layers.iter().collect()
    } else {
        let types = config.get("attention_types").and_then(Value::as_array);
        let types = types.ok_or_else(|| config.error("`attention_types` is missing"))?;
        let pair = |entry: &'_ Value| {
            let pattern = entry.get(0).and_then(Value::as_array).cloned();
            Some((pattern?, entry.get(1)?.as_u64()? as usize))
        };
        let expanded: Option<Vec<(Vec<Value>, usize)>> = types.iter().map(pair).collect();
        let expanded =
            expanded.ok_or_else(|| config.error("`attention_types` must be [[[kind, …], times], …]"))?;
        let kinds = expanded.into_iter().flat_map(|(p, n)| std::iter::repeat_n(p, n.min(n_layers)).flatten());
        return check(config, &kinds.collect::<Vec<_>>().iter().collect::<Vec<_>>(), n_layers);
    };
    check(config, &kinds, n_layers)
}

fn check(config: &Config, kinds: &[&Value], n_layers: usize) -> Result<Vec<bool>, ModelError> {
    if kinds.len() != n_layers {
        return Err(
            config.error(format!("attention kinds for {} layers, but {n_layers} layers", kinds.len()))
        );
    }
    let local = |kind: &&Value| match kind.as_str() {
        Some("global") => Ok(false),
        Some("local") => Ok(true),
        _ => Err(config.error(format!("attention kind {kind} must be \"global\" or \"local\""))),
    };
    kinds.iter().map(local).collect()
}
