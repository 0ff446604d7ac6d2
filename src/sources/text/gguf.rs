//! The tokenizer in the metadata of a GGUF file, as a `tokenizer.json`.

use crate::model::Gguf;
use serde_json::{Map, Value, json};

/// Numbers of token types: `<s>`, and what users added.
const CONTROL: f64 = 3.0;
const USER_DEFINED: f64 = 4.0;

/// GPT-4's pattern, as Llama 3 has it; `{1,3}` digits there, one in Qwen 2.
const PATTERN: [&str; 2] = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];

/// The same tokenizer as a `tokenizer.json`.
///
/// # Errors
/// A kind of tokenizer that is not supported, by its name.
pub fn tokenizer_json(file: &Gguf) -> Result<Value, String> {
    let tokens = file.texts("tokenizer.ggml.tokens").ok_or("no tokenizer in the metadata")?;
    let model = file.text("tokenizer.ggml.model").unwrap_or_default();
    let mut json = match model {
        "gpt2" => byte_level(file, &tokens)?,
        "llama" => sentencepiece(file, &tokens)?,
        other => return Err(format!("tokenizer {other:?} of GGUF is not supported; supported: gpt2, llama")),
    };
    json.insert("version".into(), "1.0".into());
    json.insert("added_tokens".into(), added(file, &tokens).into());
    let bos = file
        .int("tokenizer.ggml.bos_token_id")
        .and_then(|id| Some((id, *tokens.get(usize::try_from(id).ok()?)?)));
    if let (true, Some((id, token))) = (adds_bos(file, model), bos) {
        let special = |type_id: u32| json!({ "SpecialToken": { "id": token, "type_id": type_id } });
        let text = |id: &str, type_id: u32| json!({ "Sequence": { "id": id, "type_id": type_id } });
        let template = json!({
            "type": "TemplateProcessing",
            "single": [special(0), text("A", 0)],
            "pair": [special(0), text("A", 0), special(1), text("B", 1)],
            "special_tokens": { token: { "id": token, "ids": [id], "tokens": [token] } },
        });
        json.insert("post_processor".into(), template);
    }
    Ok(json.into())
}

/// What a `tokenizer_config.json` would say of special tokens.
pub fn tokenizer_config(file: &Gguf) -> Value {
    let tokens = file.texts("tokenizer.ggml.tokens").unwrap_or_default();
    let mut config = Map::new();
    for (key, name) in [
        ("bos", "bos_token"),
        ("eos", "eos_token"),
        ("unknown", "unk_token"),
        ("padding", "pad_token"),
        ("seperator", "sep_token"),
    ] {
        let id = file.int(&format!("tokenizer.ggml.{key}_token_id")).and_then(|id| usize::try_from(id).ok());
        config.extend(id.and_then(|id| tokens.get(id)).map(|token| (name.to_owned(), json!(token))));
    }
    let model = file.text("tokenizer.ggml.model").unwrap_or_default();
    config.insert("add_bos_token".into(), adds_bos(file, model).into());
    config.into()
}

/// Whether texts begin with BOS: as the file says, else as llama.cpp does.
fn adds_bos(file: &Gguf, model: &str) -> bool {
    let usual = model == "llama"
        || ["llama-bpe", "llama3"].contains(&file.text("tokenizer.ggml.pre").unwrap_or_default());
    file.flag("tokenizer.ggml.add_bos_token").unwrap_or(usual)
}

/// Tokens that are found in a text before anything else.
fn added(file: &Gguf, tokens: &[&str]) -> Vec<Value> {
    let types = file.numbers("tokenizer.ggml.token_type").unwrap_or_default();
    let kinds = types.into_iter().zip(tokens).enumerate();
    let found = kinds.filter(|(_, (kind, _))| [CONTROL, USER_DEFINED].contains(kind));
    let one = |(id, (kind, token)): (usize, (f64, &&str))| {
        json!({
            "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": kind == CONTROL,
        })
    };
    found.map(one).collect()
}

fn vocabulary(tokens: &[&str]) -> Map<String, Value> {
    tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id.into())).collect()
}

/// Byte-level BPE, whose texts are split as `tokenizer.ggml.pre` names it.
fn byte_level(file: &Gguf, tokens: &[&str]) -> Result<Map<String, Value>, String> {
    let merges = file.texts("tokenizer.ggml.merges").ok_or("a tokenizer without merges")?;
    let pre = file.text("tokenizer.ggml.pre").unwrap_or("gpt-2");
    let bytes = |regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex });
    let sequence = |first: Value, then: Value| json!({ "type": "Sequence", "pretokenizers": [first, then] });
    let split = |digits: &str| {
        let pattern = [PATTERN[0], digits, PATTERN[1]].concat();
        let pattern = json!({ "Regex": pattern });
        sequence(
            json!({ "type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false }),
            bytes(false),
        )
    };
    let pre_tokenizer = match pre {
        "gpt-2" => bytes(true),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" => {
            sequence(json!({ "type": "Digits", "individual_digits": true }), bytes(true))
        }
        "llama-bpe" | "llama3" | "llama-v3" => split("{1,3}"),
        "qwen2" => split(""),
        other => {
            return Err(format!(
                "tokenizer.ggml.pre = {other:?} of GGUF is not supported; supported: gpt-2, smollm, starcoder, refact, \
                 command-r, codeshell, exaone, llama-bpe, qwen2"
            ));
        }
    };
    let normalizer = if pre == "qwen2" { json!({ "type": "NFC" }) } else { Value::Null };
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": false, "byte_fallback": false, "ignore_merges": pre.starts_with("llama"),
        "vocab": vocabulary(tokens), "merges": merges,
    });
    let parts = [
        ("model", model),
        ("normalizer", normalizer),
        ("pre_tokenizer", pre_tokenizer),
        ("decoder", bytes(true)),
    ];
    Ok(parts.map(|(key, value)| (key.to_owned(), value)).into_iter().collect())
}

/// Sentencepiece's BPE: of all pairs that make a piece, the one with the largest score is joined first.
fn sentencepiece(file: &Gguf, tokens: &[&str]) -> Result<Map<String, Value>, String> {
    let scores = file.numbers("tokenizer.ggml.scores").filter(|scores| scores.len() == tokens.len());
    let scores = scores.ok_or("a sentencepiece tokenizer without scores")?;
    let ids: std::collections::HashMap<&str, usize> =
        tokens.iter().enumerate().map(|(id, token)| (*token, id)).collect();
    let mut merges: Vec<(f64, [usize; 2])> = Vec::new();
    for (token, score) in tokens.iter().zip(&scores) {
        let splits = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        let mut pairs: Vec<[usize; 2]> =
            splits.filter_map(|(l, r)| Some([*ids.get(l)?, *ids.get(r)?])).collect();
        pairs.sort_unstable_by(|a, b| b.cmp(a));
        merges.extend(pairs.into_iter().map(|pair| (*score, pair)));
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    let merges: Vec<[&str; 2]> = merges.into_iter().map(|(_, [l, r])| [tokens[l], tokens[r]]).collect();
    let unknown =
        file.int("tokenizer.ggml.unknown_token_id").and_then(|id| tokens.get(usize::try_from(id).ok()?));
    let replace =
        |from: &str, to: &str| json!({ "type": "Replace", "pattern": { "String": from }, "content": to });
    let prefix = file.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
    let spaces = replace(" ", "▁");
    let normalizer = if prefix {
        json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" }, spaces] })
    } else {
        spaces
    };
    let mut decoders = vec![replace("▁", " "), json!({ "type": "ByteFallback" }), json!({ "type": "Fuse" })];
    decoders.extend(prefix.then(|| json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 })));
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": vocabulary(tokens), "merges": merges,
    });
    let decoder = json!({ "type": "Sequence", "decoders": decoders });
    let parts =
        [("model", model), ("normalizer", normalizer), ("pre_tokenizer", Value::Null), ("decoder", decoder)];
    Ok(parts.map(|(key, value)| (key.to_owned(), value)).into_iter().collect())
}
