//! Model folders that are broken, foreign or meant to harm.

use std::path::Path;

use layerscope::model::{Config, Model, spec};
use safetensors::Dtype;
use serde_json::{Value, json};
use tch::{Device, Kind};
use tempfile::TempDir;

use crate::cli::{edit_config, end, layerscope, path, refusal, rewrite, tiny, write_tokenizer};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A tensor of the second block.
const FC: &str = "`transformer.h.1.mlp.c_fc.weight`";

type Break = Box<dyn Fn(&Path)>;
/// A broken tokenizer: what it is, what the error must say, how it is made.
type BadTokenizer<'a> = (&'a str, &'a [&'a str], fn(&TempDir));

/// Every way to break the folder of a tiny GPT-2, and what the error must say.
#[allow(clippy::too_many_lines)] // a table
fn broken() -> Vec<(&'static str, Break, Vec<&'static str>)> {
    fn case(
        name: &'static str,
        says: &[&'static str],
        change: impl Fn(&Path) + 'static,
    ) -> (&'static str, Break, Vec<&'static str>) {
        (name, Box::new(change), says.to_vec())
    }
    let bytes = |edit: fn(&mut Vec<u8>)| {
        move |dir: &Path| {
            let file = dir.join(WEIGHTS);
            let mut bytes = std::fs::read(&file).unwrap();
            edit(&mut bytes);
            std::fs::write(file, bytes).unwrap();
        }
    };
    let tensor = |edit: fn(&mut crate::cli::Stored)| {
        move |dir: &Path| {
            let file = dir.join(WEIGHTS);
            rewrite(&file, &file, |t| edit(t.get_mut("transformer.h.1.mlp.c_fc.weight").unwrap()));
        }
    };
    let index = |json: &'static str| {
        move |dir: &Path| {
            std::fs::remove_file(dir.join(WEIGHTS)).unwrap();
            std::fs::write(dir.join(INDEX), json).unwrap();
        }
    };
    let write = |name: &'static str, text: &'static str| {
        move |dir: &Path| std::fs::write(dir.join(name), text).unwrap()
    };
    let remove = |name: &'static str| move |dir: &Path| std::fs::remove_file(dir.join(name)).unwrap();
    let config = |key: &'static str, value: Value| move |dir: &Path| edit_config(dir, key, value.clone());
    vec![
        case("header cut", &[WEIGHTS, "cut short"], bytes(|b| b.truncate(100))),
        case("data cut", &[WEIGHTS, "cut short"], bytes(|b| b.truncate(b.len() - 4))),
        case("bytes added", &[WEIGHTS, "cut short or not safetensors"], bytes(|b| b.push(0))),
        case("empty file", &[WEIGHTS, "only 0 bytes"], bytes(Vec::clear)),
        case(
            "noise",
            &[WEIGHTS, "not safetensors"],
            bytes(|b| *b = (0..5000).map(|i| (i * 7919 % 251) as u8).collect()),
        ),
        case(
            "absurd header",
            &[WEIGHTS, "header of 18446744073709551615 bytes"],
            bytes(|b| b[..8].fill(0xFF)),
        ),
        case("header is not JSON", &[WEIGHTS, "not safetensors"], bytes(|b| b[8..40].fill(b'['))),
        case("wrong shape", &[FC, "expected shape [24, 96], got [96, 24]"], tensor(|t| t.1.reverse())),
        case("int32", &[FC, "type I32 is not supported"], tensor(|t| t.0 = Dtype::I32)),
        case(
            "int64",
            &[FC, "type I64 is not supported"],
            tensor(|t| {
                t.0 = Dtype::I64;
                t.2.extend(t.2.clone());
            }),
        ),
        case(
            "NaN",
            &[FC, "NaN or infinite"],
            tensor(|t| t.2[40..44].copy_from_slice(&f32::NAN.to_le_bytes())),
        ),
        case(
            "infinity",
            &[FC, "NaN or infinite"],
            tensor(|t| t.2[..4].copy_from_slice(&f32::INFINITY.to_le_bytes())),
        ),
        case("missing tensor", &[FC, "is missing from"], |dir: &Path| {
            let file = dir.join(WEIGHTS);
            rewrite(&file, &file, |t| drop(t.remove(FC.trim_matches('`'))));
        }),
        case("no weights", &["no model.safetensors"], remove(WEIGHTS)),
        case("a pickle that is none", &["pytorch_model.bin", "not a whole torch.save file"], |dir: &Path| {
            std::fs::rename(dir.join(WEIGHTS), dir.join("pytorch_model.bin")).unwrap();
        }),
        case(
            "parent in index",
            &[INDEX, "\"../x.safetensors\""],
            index(r#"{"weight_map":{"a":"../x.safetensors"}}"#),
        ),
        case(
            "nested parent",
            &[INDEX, "not a plain *.safetensors file name"],
            index(r#"{"weight_map":{"a":"b/../../x.safetensors"}}"#),
        ),
        case("absolute path", &[INDEX, "\"/etc/passwd\""], index(r#"{"weight_map":{"a":"/etc/passwd"}}"#)),
        case(
            "missing shard",
            &["part.safetensors: No such file"],
            index(r#"{"weight_map":{"a":"part.safetensors"}}"#),
        ),
        case("index is not JSON", &[INDEX, "not a shard index"], index("{")),
        case("index without map", &[INDEX, "missing field `weight_map`"], index("{}")),
        case("index with an empty map", &[INDEX, "names no tensor"], index(r#"{"weight_map":{}}"#)),
        case("index with a number", &[INDEX, "expected a string"], index(r#"{"weight_map":{"a":1}}"#)),
        case("no config", &["config.json"], remove("config.json")),
        case("config is not JSON", &["config.json", "not JSON"], write("config.json", "{\n\"a\": ")),
        case("config is a list", &["config.json", "not a JSON object"], write("config.json", "[]")),
        case("config is not text", &["config.json"], |dir: &Path| {
            std::fs::write(dir.join("config.json"), [0xFF, 0xFE]).unwrap();
        }),
        case("words of Python", &["`layer_norm_epsilon` must be a number, got \"NaN\""], |dir: &Path| {
            edit_config(dir, "layer_norm_epsilon", json!("NaN"));
            let file = dir.join("config.json");
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(file, text.replace("\"NaN\"", "NaN")).unwrap();
        }),
        case("no family", &["config.json: `model_type` is missing"], write("config.json", "{}")),
        case("unknown family", &["`mamba` is not supported", "gpt2"], config("model_type", json!("mamba"))),
        case(
            "escapes in the family",
            &["not supported"],
            config("model_type", json!("\u{1b}]0;x\u{7}\u{202e}")),
        ),
        case("negative size", &["config.json: `n_embd` must be a positive"], config("n_embd", json!(-1))),
        case("fraction", &["`n_head` must be a whole number, got 1.5"], config("n_head", json!(1.5))),
        case("text for a number", &["`n_layer` must be"], config("n_layer", json!("two"))),
        case("no heads", &["`n_head` must be a positive"], config("n_head", json!(0))),
        case("uneven heads", &["config.json", "24"], config("n_head", json!(5))),
        case("absurd layers", &["`n_layer` is 4000000000"], config("n_layer", json!(4_000_000_000_u64))),
        case(
            "absurd context",
            &["config.json", "4000000000 tokens"],
            config("n_positions", json!(4_000_000_000_u64)),
        ),
        case(
            "one layer too many",
            &["`transformer.h.2.ln_1.weight` is missing"],
            config("n_layer", json!(3)),
        ),
        case(
            "other vocabulary",
            &["wte.weight", "expected shape [62, 24], got [61, 24]"],
            config("vocab_size", json!(62)),
        ),
        case(
            "unknown activation",
            &["gpt2: activation_function = \"swish42\""],
            config("activation_function", json!("swish42")),
        ),
    ]
}

#[test]
fn every_broken_folder_is_refused_by_name() {
    let mut wrong = Vec::new();
    for (name, change, says) in broken() {
        let dir = tiny("gpt2");
        change(dir.path());
        match Model::load(dir.path(), Kind::Float, Device::Cpu, |_, _| ()) {
            Ok(_) => wrong.push(format!("{name}: loads")),
            Err(error) => {
                let message = error.to_string();
                let good = says.iter().all(|s| message.contains(s)) && !message.contains('\n');
                if !good {
                    wrong.push(format!("{name}: {message}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The same through the command line, where each class of error has another way to the end.
#[test]
fn broken_folders_end_the_command_with_one_line() {
    let named = ["data cut", "NaN", "parent in index", "missing shard", "no config", "escapes in the family"];
    let mut wrong = Vec::new();
    for (name, change, says) in broken().into_iter().filter(|(name, ..)| named.contains(name)) {
        let dir = tiny("gpt2");
        change(dir.path());
        let args = ["view", "--quiet", "--text", "w1 w2", "--model", &path(dir.path())];
        // What is not there was named wrongly; what is there and damaged failed.
        let code = if ["missing shard", "no config"].contains(&name) { 2 } else { 1 };
        wrong.extend(refusal(layerscope().args(args), code, &says).map(|why| format!("{name}: {why}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn tokenizers_that_do_not_fit_are_refused() {
    let cases: [BadTokenizer<'_>; 3] = [
        ("missing", &["tokenizer.json: no such file"], |dir| {
            std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
        }),
        ("broken", &["tokenizer.json: not a usable tokenizer"], |dir| {
            std::fs::write(dir.path().join("tokenizer.json"), "{\"model\":{}}").unwrap();
        }),
        ("larger than the model", &["vocabulary mismatch", "largest id is 61", "61 embedding rows"], |dir| {
            write_tokenizer(dir.path(), 62);
        }),
    ];
    let mut wrong = Vec::new();
    for (name, says, change) in cases {
        let dir = tiny("gpt2");
        change(&dir);
        let args = ["view", "--quiet", "--text", "w1 w2", "--model", &path(dir.path())];
        wrong.extend(refusal(layerscope().args(args), 1, says).map(|why| format!("{name}: {why}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Python writes `Infinity` and `NaN` into JSON; where nobody reads the key, that is no reason to stop.
#[test]
fn words_of_python_in_unread_keys_do_no_harm() {
    let dir = tiny("llama");
    let file = dir.path().join("config.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replacen('{', "{\"time_step_limit\": [0.0, Infinity], \"note\": [NaN, -Infinity],", 1);
    std::fs::write(file, text).unwrap();
    let ended = end(layerscope().args(["view", "--text", "w1 w2", "--model", &path(dir.path())]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// config.json ties the head to the embedding, and a file holds another one.
#[test]
fn a_stored_head_goes_before_a_tied_one_and_says_so() {
    let dir = tiny("llama-head-dim");
    let file = dir.path().join(WEIGHTS);
    let info = || end(layerscope().args(["info", "--model", &path(dir.path())]));
    let tied = info();
    assert!(tied.out.contains("head tied to the embedding") && tied.err.is_empty(), "{tied:?}");
    rewrite(&file, &file, |tensors| {
        let embedding = tensors["model.embed_tokens.weight"].clone();
        tensors.insert("lm_head.weight".into(), embedding);
    });
    assert!(info().out.contains("head tied to the embedding"));
    rewrite(&file, &file, |tensors| tensors.get_mut("lm_head.weight").unwrap().2.reverse());
    let own = info();
    assert!(own.out.contains("head its own matrix"), "{own:?}");
    assert!(own.err.starts_with("warning: the head is tied by config.json, but another one"), "{own:?}");
}

/// A fine-tuned tokenizer often has a `[PAD]` that the model has no embedding for; texts do not use it.
#[test]
fn an_added_token_without_an_embedding_is_a_warning_until_it_is_used() {
    let dir = tiny("gpt2");
    let file = dir.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let pad = json!({ "id": 61, "content": "[PAD]", "special": true, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false });
    tokenizer["added_tokens"] = json!([pad]);
    std::fs::write(file, tokenizer.to_string()).unwrap();
    let view = |text: &str| end(layerscope().args(["view", "--text", text, "--model", &path(dir.path())]));
    let plain = view("w1 w2");
    assert_eq!(plain.code, Some(0), "{plain:?}");
    let warned = plain.err.lines().filter(|line| line.starts_with("warning: ") && line.contains("`[PAD]`"));
    assert_eq!(warned.count(), 1, "{plain:?}");
    let used = view("w1 [PAD] w2");
    assert_eq!(used.code, Some(1), "{used:?}");
    assert!(used.err.contains("token id 61 is outside the vocabulary of 61"), "{used:?}");
}

/// Options that would change the computation and are not implemented are named, never ignored.
#[test]
fn unsupported_options_of_every_family_are_named() {
    let rope = |kind: &str| json!({ "rope_type": kind, "rope_theta": 10000.0, "factor": 2.0 });
    let cases = [
        ("gpt2", "add_cross_attention", json!(true), "add_cross_attention = true"),
        ("gpt-neo", "activation_function", json!("mish"), "activation_function = \"mish\""),
        ("gpt-neox", "hidden_act", json!("mish"), "hidden_act = \"mish\""),
        ("gpt-neox", "rope_parameters", rope("proportional"), "rope_parameters.rope_type = \"proportional\""),
        ("gptj", "activation_function", json!("mish"), "activation_function = \"mish\""),
        ("opt", "do_layer_norm_before", json!(false), "do_layer_norm_before = false"),
        ("opt", "word_embed_proj_dim", json!(7), "word_embed_proj_dim = 7"),
        ("opt", "layer_norm_elementwise_affine", json!(false), "layer_norm_elementwise_affine = false"),
        ("opt", "_remove_final_layer_norm", json!(true), "_remove_final_layer_norm = true"),
        (
            "bloom",
            "apply_residual_connection_post_layernorm",
            json!(true),
            "apply_residual_connection_post_layernorm = true",
        ),
        ("llama", "rope_parameters", rope("proportional"), "rope_parameters.rope_type = \"proportional\""),
        ("llama", "hidden_act", json!("mish"), "hidden_act = \"mish\""),
        ("mistral", "rope_parameters", rope("proportional"), "rope_parameters.rope_type = \"proportional\""),
        (
            "qwen2",
            "layer_types",
            json!(["full_attention", "linear_attention"]),
            "layer_types with \"linear_attention\"",
        ),
        ("qwen3", "rope_parameters", rope("proportional"), "rope_parameters.rope_type = \"proportional\""),
        ("gemma", "use_bidirectional_attention", json!(true), "use_bidirectional_attention = true"),
        ("gemma2", "use_bidirectional_attention", json!(true), "use_bidirectional_attention = true"),
        ("gemma3", "use_bidirectional_attention", json!(true), "use_bidirectional_attention = true"),
        ("phi", "rope_parameters", rope("proportional"), "rope_parameters.rope_type = \"proportional\""),
        ("phi3", "rope_parameters", rope("llama3"), "rope_parameters.rope_type = \"llama3\""),
        ("falcon-11b", "num_ln_in_parallel_attn", json!(3), "num_ln_in_parallel_attn = 3"),
        ("llama", "is_causal", json!(false), "is_causal = false"),
        ("gemma2", "is_causal", Value::Null, "is_causal = null"),
        (
            "mistral",
            "quantization_config",
            json!({ "quant_method": "gptq" }),
            "quantization_config = {\"quant_method\":\"gptq\"}",
        ),
        ("qwen2", "per_layer_config", json!({ "0": {} }), "per_layer_config = {\"0\":{}}"),
        ("falcon-40b", "parallel_attn", json!(false), "parallel_attn = false"),
        ("falcon-7b", "num_ln_in_parallel_attn", json!(2), "num_ln_in_parallel_attn = 2"),
        ("phi3-partial", "rope_scaling", rope("linear"), "rope_scaling.rope_type = \"linear\""),
        ("gpt-neox", "head_dim", json!(8), "head_dim = 8"),
        (
            "falcon-7b",
            "rope_parameters",
            rope("proportional"),
            "rope_parameters.rope_type = \"proportional\"",
        ),
    ];
    let mut wrong = Vec::new();
    for (family, key, value, says) in cases {
        let dir = tiny(family);
        edit_config(dir.path(), key, value);
        match spec(&Config::read(dir.path()).unwrap()) {
            Ok(_) => wrong.push(format!("{family} {key}: accepted")),
            Err(error) if !error.to_string().contains(says) => wrong.push(format!("{family} {key}: {error}")),
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn grouped_heads_must_divide() {
    for (key, value) in [("num_key_value_heads", 4), ("num_key_value_heads", 7), ("head_dim", 5)] {
        let dir = tiny("llama");
        edit_config(dir.path(), key, json!(value));
        let error = Model::load(dir.path(), Kind::Float, Device::Cpu, |_, _| ()).unwrap_err().to_string();
        assert!(error.contains("config.json: ") || error.contains("expected shape"), "{key}: {error}");
    }
}
