//! One file per family: `config.json` to [`Spec`], and the table of tensor names.
//!
//! `docs/adding-a-family.md` walks through adding one.

mod bloom;
mod falcon;
mod gemma;
mod gpt2;
mod gpt_neo;
mod gpt_neox;
mod gptj;
mod llama;
mod opt;
mod phi;
mod phi3;
mod qwen;
mod starcoder2;

use super::{Activation, Config, ModelError, Spec};

type Reader = fn(&Config) -> Result<Spec, ModelError>;

/// Every family by its `model_type`.
const FAMILIES: [(&str, Reader); 17] = [
    ("bloom", bloom::spec),
    ("falcon", falcon::spec),
    ("gemma", gemma::gemma),
    ("gemma2", gemma::gemma2),
    ("gemma3_text", gemma::gemma3),
    ("gpt2", gpt2::spec),
    ("gpt_neo", gpt_neo::spec),
    ("gpt_neox", gpt_neox::spec),
    ("gptj", gptj::spec),
    ("llama", llama::llama),
    ("mistral", llama::mistral),
    ("opt", opt::spec),
    ("phi", phi::spec),
    ("phi3", phi3::spec),
    ("qwen2", qwen::qwen2),
    ("qwen3", qwen::qwen3),
    ("starcoder2", starcoder2::spec),
];

/// A file that claims more is broken, or wants our memory.
const MOST_LAYERS: usize = 10_000;
/// As above, of tokens; rotary tables have a row for each.
const LONGEST_CONTEXT: usize = 1 << 24;

/// The architecture that `config` describes.
///
/// # Errors
/// When the family or one of its options is not supported, or a value is missing or makes no sense.
pub fn spec(config: &Config) -> Result<Spec, ModelError> {
    let family = config.family()?;
    let Some((_, read)) = FAMILIES.iter().find(|(name, _)| *name == family) else {
        let supported = FAMILIES.map(|(name, _)| name).join(", ");
        return Err(ModelError::UnknownFamily { family: family.into(), supported });
    };
    for key in ["num_hidden_layers", "n_layer", "num_layers"] {
        let layers = config.usize_or(key, 1)?;
        if layers > MOST_LAYERS {
            return Err(config.error(format!("`{key}` is {layers}, more than {MOST_LAYERS}")));
        }
    }
    let spec = read(config)?;
    check(&spec, config)?;
    Ok(spec)
}

/// What no family may get wrong.
fn check(spec: &Spec, config: &Config) -> Result<(), ModelError> {
    config.layer_types(spec.n_layers)?; // known ones only, even where nothing slides
    if spec.n_ctx > LONGEST_CONTEXT {
        let n_ctx = spec.n_ctx;
        return Err(config.error(format!("a context of {n_ctx} tokens is more than {LONGEST_CONTEXT}")));
    }
    if !spec.n_heads.is_multiple_of(spec.n_kv_heads) {
        let (n, kv) = (spec.n_heads, spec.n_kv_heads);
        return Err(config.error(format!("{n} heads cannot share {kv} key-value heads evenly")));
    }
    if let Some(rope) = spec.ropes.iter().find(|r| r.rotary_dim % 2 != 0 || r.rotary_dim > spec.d_head) {
        let (r, d) = (rope.rotary_dim, spec.d_head);
        return Err(config.error(format!("{r} rotated dimensions do not fit a head of {d} in pairs")));
    }
    Ok(())
}

/// The non-linearity under `key`.
fn activation(config: &Config, key: &str) -> Result<Activation, ModelError> {
    let hint = "; supported: gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu, silu";
    Activation::parse(config.str(key)?).ok_or_else(|| config.unsupported(key, hint))
}

/// The width of a head that is not given: `d_model / n_heads`, which must be whole.
fn even_head(config: &Config, d_model: usize, n_heads: usize) -> Result<usize, ModelError> {
    if d_model.is_multiple_of(n_heads) {
        Ok(d_model / n_heads)
    } else {
        Err(config.error(format!("width {d_model} is not a multiple of {n_heads} heads")))
    }
}
