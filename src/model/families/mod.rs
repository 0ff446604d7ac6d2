//! One file per family: `config.json` to [`Spec`], and the table of tensor names.
//!
//! `docs/adding-a-family.md` walks through adding one.

mod apertus;
mod bert;
mod bloom;
mod cohere;
mod encoder;
mod esm;
mod exaone4;
mod fairseq;
mod falcon;
mod gemma;
mod glm;
mod gpt2;
mod gpt_bigcode;
mod gpt_neo;
mod gpt_neox;
mod gptj;
mod granite;
mod hunyuan;
mod llama;
mod mistral;
mod modernbert;
mod moe;
mod mpt;
mod multimodal;
mod nemotron;
mod olmo;
mod opt;
mod phi;
mod phi3;
mod qwen;
mod smollm3;
mod stablelm;
mod starcoder2;

use multimodal::WRAPPERS;

use super::{Activation, Config, ModelError, RopeSpec, Spec, packing::Packing, spec::Sizes};

type Reader = fn(&Config) -> Result<Spec, ModelError>;

/// Every family by its `model_type`.
const FAMILIES: [(&str, Reader); 67] = [
    ("apertus", apertus::spec),
    ("arcee", nemotron::arcee),
    ("bert", bert::bert),
    ("biogpt", fairseq::biogpt),
    ("bloom", bloom::spec),
    ("camembert", bert::camembert),
    ("codegen", gptj::codegen),
    ("cohere", cohere::cohere),
    ("cohere2", cohere::cohere2),
    ("cwm", mistral::cwm),
    ("distilbert", bert::distilbert),
    ("ernie4_5", glm::ernie4_5),
    ("esm", esm::spec),
    ("exaone4", exaone4::spec),
    ("falcon", falcon::spec),
    ("flex_olmo", moe::flex_olmo),
    ("gemma", gemma::gemma),
    ("gemma2", gemma::gemma2),
    ("gemma3_text", gemma::gemma3),
    ("glm", glm::glm),
    ("glm4", glm::glm4),
    ("glm4v_text", glm::glm4v_text),
    ("gpt2", gpt2::spec),
    ("gpt_bigcode", gpt_bigcode::spec),
    ("gpt_neo", gpt_neo::spec),
    ("gpt_neox", gpt_neox::spec),
    ("gptj", gptj::gptj),
    ("granite", granite::granite),
    ("granitemoe", moe::granitemoe),
    ("helium", glm::helium),
    ("hunyuan_v1_dense", hunyuan::hunyuan_v1_dense),
    ("hyperclovax", granite::hyperclovax),
    ("internlm3", llama::internlm3),
    ("iquestcoder", llama::iquestcoder),
    ("jais2", nemotron::jais2),
    ("llama", llama::llama),
    ("ministral", mistral::ministral),
    ("ministral3", mistral::ministral3),
    ("mistral", mistral::mistral),
    ("mixtral", moe::mixtral),
    ("modernbert", modernbert::spec),
    ("mpt", mpt::spec),
    ("nanochat", hunyuan::nanochat),
    ("nemotron", nemotron::nemotron),
    ("olmo", olmo::olmo),
    ("olmo2", olmo::olmo2),
    ("olmo3", olmo::olmo3),
    ("olmoe", moe::olmoe),
    ("opt", opt::spec),
    ("persimmon", stablelm::persimmon),
    ("phi", phi::spec),
    ("phi3", phi3::spec),
    ("qwen2", qwen::qwen2),
    ("qwen2_5_vl_text", qwen::qwen2_5_vl_text),
    ("qwen2_moe", moe::qwen2_moe),
    ("qwen2_vl_text", qwen::qwen2_vl_text),
    ("qwen3", qwen::qwen3),
    ("qwen3_moe", moe::qwen3_moe),
    ("qwen3_vl_text", qwen::qwen3_vl_text),
    ("roberta", bert::roberta),
    ("seed_oss", llama::seed_oss),
    ("smollm3", smollm3::spec),
    ("stablelm", stablelm::stablelm),
    ("starcoder2", starcoder2::spec),
    ("vaultgemma", gemma::vaultgemma),
    ("xglm", fairseq::xglm),
    ("xlm-roberta", bert::xlm_roberta),
];

/// A file that claims more tokens is broken, or wants our memory; rotary tables have a row for each.
const LONGEST_CONTEXT: usize = 1 << 24;

/// Keys of config classes that change nothing that is computed here: training, generation, tasks, what transformers
/// returns.
const IGNORED: [&str; 63] = [
    "activation_dropout",
    "architectures",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attention_softmax_in_fp32",
    "attn_pdrop",
    "bos_token_id",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "classifier_pooling",
    "cls_token_id",
    "decoder_start_token_id",
    "deterministic_flash_attn",
    "dropout",
    "dtype",
    "emb_pdrop",
    "embd_pdrop",
    "embed_dropout",
    "embedding_dropout",
    "embedding_fraction",
    "eod_token_id",
    "eos_token_id",
    "hidden_dropout",
    "hidden_dropout_prob",
    "id2label",
    "init_device",
    "init_std",
    "initializer_cutoff_factor",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "layerdrop",
    // MPT is read with alibi and without biases, whatever its original code would do.
    "learned_pos_emb",
    "mlp_dropout",
    "norm_type",
    "output_hidden_states",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "problem_type",
    "qa_dropout",
    "reorder_and_upcast_attn",
    "resid_dropout",
    "resid_pdrop",
    "residual_dropout",
    "return_dict",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "scale_attention_softmax_in_fp32",
    "sep_token_id",
    "seq_classif_dropout",
    "sinusoidal_pos_embds",
    "slow_but_exact",
    "sparse_pred_ignore_index",
    "sparse_prediction",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "transformers_version",
    "use_cache",
];

/// The same for one family alone: transformers has the key in the class, and passes it by.
#[cfg(test)]
const IGNORED_BY: [(&str, &str); 4] = [
    ("biogpt", "layer_norm_eps"),
    ("codegen", "n_ctx"),
    // Of ESMFold, which is refused.
    ("esm", "esmfold_config"),
    ("esm", "vocab_list"),
];

/// The architecture that `config` describes.
///
/// # Errors
/// When the family or one of its options is not supported, or a value is missing or makes no sense.
pub fn spec(config: &Config) -> Result<Spec, ModelError> {
    let family = config.family()?;
    if let Some((family, text)) = WRAPPERS.iter().find(|(name, _)| *name == family) {
        check_foreign(config)?;
        return multimodal::spec(config, family, text);
    }
    let Some((_, read)) = FAMILIES.iter().find(|(name, _)| *name == family) else {
        let names = FAMILIES.iter().map(|(name, _)| *name).chain(WRAPPERS.iter().map(|(name, _)| *name));
        let supported = names.collect::<Vec<_>>().join(", ");
        return Err(ModelError::UnknownFamily { family: family.into(), supported });
    };
    checked(config, *read)
}

/// What `read` makes of a config, with the checks of all families.
fn checked(config: &Config, read: Reader) -> Result<Spec, ModelError> {
    config.check_types(&IGNORED)?;
    check_foreign(config)?;
    let mut spec = read(config)?;
    // A stretched rotation says itself how long texts may be.
    let stretched = spec.ropes.iter().map(RopeSpec::context).fold(0.0, f64::max);
    spec.n_ctx = spec.n_ctx.max(stretched as usize);
    check(&spec, config)?;
    Ok(spec)
}

/// Keys of no family's class that transformers obeys in every family.
fn check_foreign(config: &Config) -> Result<(), ModelError> {
    // Transformers takes a null for false.
    if config.stored("is_causal").is_some_and(|value| *value != serde_json::Value::Bool(true)) {
        return Err(config.unsupported("is_causal", " (tokens would see the future)"));
    }
    for key in ["quantization_config", "compression_config"] {
        if let Some(Err(hint)) = config.get(key).map(Packing::of) {
            return Err(config.unsupported(key, hint));
        }
    }
    if config.get("per_layer_config").is_some() {
        return Err(config.unsupported("per_layer_config", " (layers with settings of their own)"));
    }
    Ok(())
}

/// What no family may get wrong.
fn check(spec: &Spec, config: &Config) -> Result<(), ModelError> {
    config.sliding_layers(spec.n_layers, |_| false)?; // known types only, even where nothing slides
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
    let hint = "; supported: gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu, relu2, silu";
    Activation::parse(config.str(key)?).ok_or_else(|| config.unsupported(key, hint))
}

/// Fails for a `head_dim` that does not fill the width, in families that have the key in no class.
fn fills_the_width(config: &Config, spec: &Spec) -> Result<(), ModelError> {
    if spec.d_head * spec.n_heads == spec.d_model {
        return Ok(());
    }
    let hint = " (transformers would rotate heads at the frequencies of another width)";
    Err(config.unsupported("head_dim", hint))
}

/// Layers, width, heads and the MLP's width under these keys.
fn sizes(config: &Config, [layers, width, heads, inner]: [&str; 4]) -> Result<Sizes, ModelError> {
    let (d_model, n_heads) = (config.usize(width)?, config.usize(heads)?);
    Ok(Sizes {
        n_layers: config.layers(layers)?,
        d_model,
        n_heads,
        d_head: even_head(config, d_model, n_heads)?,
        d_mlp: config.usize(inner)?,
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize("max_position_embeddings")?,
    })
}

/// The width of a head that is not given: `d_model / n_heads`, which must be whole.
fn even_head(config: &Config, d_model: usize, n_heads: usize) -> Result<usize, ModelError> {
    if d_model.is_multiple_of(n_heads) {
        Ok(d_model / n_heads)
    } else {
        Err(config.error(format!("width {d_model} is not a multiple of {n_heads} heads")))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Map, Value, json};

    use super::*;
    use crate::model::config::Class;

    /// The tiny models of one family, as they are and with windows on; without what goes before other keys.
    fn configs(family: &str) -> Vec<Map<String, Value>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families");
        let files = root.read_dir().unwrap().map(|e| e.unwrap().path().join("config.json"));
        let configs = files.filter_map(|file| serde_json::from_slice(&std::fs::read(file).ok()?).ok());
        let halves = configs.map(|config: Map<String, Value>| match config.get("text_config") {
            Some(Value::Object(text)) => text.clone(),
            _ => config,
        });
        let own = halves.filter(|config| config.get("model_type").is_some_and(|name| name == family));
        let both = own.flat_map(|mut config| {
            let first = ["rope_scaling", "attention_layers", "no_rope_layers", "num_local_experts"];
            config.retain(|key, _| !first.contains(&key.as_str()));
            let mut sliding = config.clone();
            sliding.extend([("use_sliding_window".into(), true.into()), ("sliding_window".into(), 5.into())]);
            sliding.extend([("max_window_layers".into(), 1.into()), ("layer_types".into(), Value::Null)]);
            [config, sliding]
        });
        both.collect()
    }

    fn described(values: Map<String, Value>) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), Value::from(values).to_string()).unwrap();
        let described = spec(&Config::read(dir.path()).unwrap());
        described.map(|spec| format!("{spec:?}")).map_err(|e| e.to_string())
    }

    /// A key of a class that nobody reads would be ignored without a word.
    #[test]
    fn every_key_of_every_class_is_read_or_known_to_change_nothing() {
        let window = ["sliding_attention", "full_attention", "sliding_attention"];
        let values = [
            json!(true),
            json!(false),
            json!(1),
            json!(2),
            json!(3),
            json!(7.25),
            json!("relu"),
            json!("gelu"),
            json!(window),
            json!([[["local", "global"], 2]]),
            json!([0, 0]),
            json!({"clip_qkv": 0.25}),
            json!({"rope_theta": 77.0}),
            json!({"full_attention": {"rope_theta": 77.0}}),
        ];
        let mut unread = Vec::new();
        for (family, _) in FAMILIES {
            let class = Class::of(family).unwrap_or_else(|| panic!("no class {family}"));
            let ignored = |key: &str| IGNORED.contains(&key) || IGNORED_BY.contains(&(family, key));
            for key in class.keys().filter(|key| !ignored(key)) {
                let read = |config: &Map<String, Value>| {
                    // Without a window some sliding variants make no sense.
                    let Ok(plain) = described(config.clone()) else { return false };
                    values.iter().filter(|value| class.refuses(key, value).is_none()).any(|value| {
                        let mut changed = config.clone();
                        changed.insert(key.into(), value.clone());
                        described(changed) != Ok(plain.clone())
                    })
                };
                if !configs(family).iter().any(read) {
                    unread.push(format!("{family} {key}"));
                }
            }
        }
        assert!(unread.is_empty(), "{unread:#?}");
    }

    #[test]
    fn keys_that_change_nothing_are_in_some_class() {
        let all: Vec<&str> =
            FAMILIES.iter().flat_map(|(family, _)| Class::of(family).unwrap().keys()).collect();
        let stale: Vec<_> = IGNORED.iter().filter(|key| !all.contains(key)).collect();
        assert!(stale.is_empty(), "{stale:?}");
    }
}
