//! Tokenizers that were made to panic, to hang or to eat memory, and settings in them that change documents.

use std::path::Path;
use std::time::{Duration, Instant};

use layerscope::sources::text::{BosPolicy, Tokenizer};
use serde_json::{Value, json};

use crate::cli::{end, fixture, gpt2, layerscope, path, refusal};

/// What is done to `tokenizer.json`, what is encoded, and what the error says; none: it must work.
type Case = (&'static str, fn(&mut Value), &'static str, Option<&'static str>);

fn regex(pattern: &str) -> Value {
    json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false })
}

fn replace(pattern: &Value, content: &str) -> Value {
    json!({ "type": "Replace", "pattern": pattern, "content": content })
}

/// Nothing that a crafted file or text leads to is a panic, and nothing is said but the error.
const CASES: [Case; 28] = [
    (
        "charsmap of one byte",
        |t| t["normalizer"] = json!({ "type": "Precompiled", "precompiled_charsmap": "AQ==" }),
        "hello",
        Some("Precompiled: Error(\"Cannot parse precompiled_charsmap\""),
    ),
    (
        "charsmap with an empty trie",
        |t| t["normalizer"] = json!({ "type": "Precompiled", "precompiled_charsmap": "AAAAAA==" }),
        "hello",
        Some("index out of bounds"),
    ),
    (
        "nothing replaced",
        |t| t["normalizer"] = replace(&json!({ "String": "" }), "x"),
        "hello",
        Some("replaces the empty text, which is everywhere, by \"x\""),
    ),
    (
        "a pattern that matches nothing, replaced",
        |t| t["normalizer"] = replace(&json!({ "Regex": "x*" }), "y"),
        "hello",
        Some("the tokenizer failed on \"hello\": index out of bounds"),
    ),
    (
        "bomb",
        |t| {
            let step = replace(&json!({ "String": "a" }), &"a".repeat(100));
            t["normalizer"] = json!({ "type": "Sequence", "normalizers": vec![step; 5] });
        },
        "a",
        Some("its normalizer makes 10100 bytes and more of \"a\""),
    ),
    (
        "catastrophic pattern",
        |t| {
            let bytes = t["pre_tokenizer"].clone();
            t["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [regex("(a|aa)+$b"), bytes] });
        },
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        Some("retry-limit-in-match over"),
    ),
    ("pattern that is none", |t| t["pre_tokenizer"] = regex("(a"), "a", Some("not a usable tokenizer: ")),
    (
        "pattern nested deeply",
        |t| t["pre_tokenizer"] = regex(&format!("{}a{}", "(".repeat(5000), ")".repeat(5000))),
        "a",
        Some("not a usable tokenizer: "),
    ),
    (
        "scores that are no numbers",
        |t| t["model"] = unigram(&json!(null), 0),
        "ab",
        Some("not a usable tokenizer: "),
    ),
    (
        "unknown beyond the pieces",
        |t| t["model"] = unigram(&json!(-1.0), 9),
        "ab",
        Some("not a usable tokenizer: "),
    ),
    ("endless scores", |t| t["model"] = unigram(&json!(-1e308), 0), "abab", None),
    (
        "no pieces",
        |t| t["model"] = json!({ "type": "Unigram", "vocab": [], "unk_id": null }),
        "ab",
        Some("tokenizer.json: "),
    ),
    (
        "merge of tokens that are not there",
        |t| t["model"]["merges"] = json!([["zzz", "yyy"]]),
        "a",
        Some("not a usable tokenizer: "),
    ),
    ("dropout beyond 1", |t| t["model"]["dropout"] = json!(1.5), "a", Some("not a usable tokenizer: ")),
    ("empty vocabulary", |t| t["model"] = words(&json!({})), "a", Some("tokenizer.json: ")),
    (
        "no unknown token",
        |t| {
            t["model"] = words(&json!({ "zz": 0 }));
            t["added_tokens"] = json!([]);
        },
        "a",
        Some("the tokenizer failed on \"a\": WordLevel error: Missing [UNK] token"),
    ),
    (
        "bytes missing",
        |t| {
            t["model"]["byte_fallback"] = json!(true);
            t["pre_tokenizer"] = Value::Null;
        },
        "\u{1F642}a",
        None,
    ),
    (
        "a space of many letters",
        |t| {
            t["pre_tokenizer"] =
                json!({ "type": "Metaspace", "replacement": "abc", "prepend_scheme": "always" })
        },
        "a b",
        Some("not a usable tokenizer: "),
    ),
    ("a model that is a number", |t| t["model"] = json!(3), "a", Some("not a usable tokenizer: ")),
    ("a vocabulary of lists", |t| t["model"]["vocab"] = json!([[]]), "a", Some("not a usable tokenizer: ")),
    (
        "a text that is doubled",
        |t| t["post_processor"] = template(&[sequence(), sequence()]),
        "a",
        Some("gives a text back 2 times, not once"),
    ),
    (
        "a text that is dropped",
        |t| t["post_processor"] = template(&[special("<s>")]),
        "a",
        Some("gives a text back 0 times, not once"),
    ),
    (
        "a special token that is not there",
        |t| t["post_processor"] = template(&[special("<none>"), sequence()]),
        "a",
        Some("not a usable tokenizer: "),
    ),
    ("an added token of no letters", |t| t["added_tokens"][0]["content"] = json!(""), "a", None),
    ("an added token at the last id", |t| t["model"] = words(&json!({ "a": 4_294_967_295_u32 })), "a", None),
    (
        "a prefix of a kilobyte in front of every piece",
        |t| {
            t["model"] = json!({
                "type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "#".repeat(1000),
                "max_input_chars_per_word": 1_000_000_000, "vocab": { "a": 0 },
            });
            t["pre_tokenizer"] = Value::Null;
        },
        "abcdefghijklmnop",
        None,
    ),
    (
        "a decoder that strips more than there is",
        |t| {
            t["decoder"] =
                json!({ "type": "Strip", "content": " ", "start": 18_446_744_073_709_551_615_u64, "stop": 9 })
        },
        "a",
        None,
    ),
    ("another version", |t| t["version"] = json!("9.9"), "a", Some("Unknown tokenizer version '9.9'")),
];

fn unigram(score: &Value, unknown: u32) -> Value {
    json!({ "type": "Unigram", "vocab": [["<unk>", 0.0], ["a", score], ["b", score]], "unk_id": unknown })
}

fn words(vocab: &Value) -> Value {
    json!({ "type": "WordLevel", "vocab": vocab, "unk_token": "<none>" })
}

fn sequence() -> Value {
    json!({ "Sequence": { "id": "A", "type_id": 0 } })
}

fn special(name: &str) -> Value {
    json!({ "SpecialToken": { "id": name, "type_id": 0 } })
}

fn template(single: &[Value]) -> Value {
    let s = json!({ "id": "<s>", "ids": [0], "tokens": ["<s>"] });
    json!({ "type": "TemplateProcessing", "single": single, "pair": [sequence()], "special_tokens": { "<s>": s } })
}

/// A folder with the small byte-level tokenizer, changed.
fn changed(change: impl Fn(&mut Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let json = std::fs::read(fixture("text/byte_level/tokenizer.json")).unwrap();
    let mut json: Value = serde_json::from_slice(&json).unwrap();
    change(&mut json);
    std::fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
    dir
}

fn said(dir: &Path, text: &str) -> Result<(), String> {
    let tokenizer = Tokenizer::load(dir, BosPolicy::Auto).map_err(|error| error.to_string())?;
    let ids = tokenizer.encode(text).map_err(|error| error.to_string())?;
    let _text = tokenizer.decode(&ids).map_err(|error| error.to_string())?;
    Ok(())
}

#[test]
fn nothing_that_a_tokenizer_does_is_a_panic() {
    let mut wrong = Vec::new();
    for (name, change, text, says) in CASES {
        let dir = changed(change);
        let start = Instant::now();
        let got = said(dir.path(), text);
        let good = match (&got, says) {
            (Ok(()), None) => true,
            (Err(error), Some(says)) => {
                error.contains(says) && !error.contains('\n') && error.contains("tokenizer.json")
            }
            _ => false,
        };
        if !good || start.elapsed() > Duration::from_secs(5) {
            wrong.push(format!("{name} after {:?}: {got:?}", start.elapsed()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Every normaliser, pre-tokenizer and decoder that there is, on texts that change their length: an error or tokens
/// whose places are in the text.
#[test]
fn places_are_in_the_text() {
    let steps = [
        json!({ "type": "NFKD" }),
        json!({ "type": "NFC" }),
        json!({ "type": "Lowercase" }),
        json!({ "type": "StripAccents" }),
        json!({ "type": "Strip", "strip_left": true, "strip_right": true }),
        json!({ "type": "Nmt" }),
        json!({ "type": "Prepend", "prepend": "▁▁" }),
        json!({ "type": "ByteLevel" }),
        json!({ "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": true, "lowercase": true }),
        replace(&json!({ "Regex": "[aeiou]" }), "日本"),
        replace(&json!({ "String": "e\u{301}" }), ""),
    ];
    let texts = ["ﬁ é e\u{301} ﷺ İ", " 日本\u{0}語\r\n ", "", "\u{301}", "🙂👨‍👩‍👧", "aeiou e\u{301}e\u{301}"];
    for first in &steps {
        for second in &steps {
            let dir =
                changed(|t| t["normalizer"] = json!({ "type": "Sequence", "normalizers": [first, second] }));
            let tokenizer = Tokenizer::load(dir.path(), BosPolicy::Never).unwrap();
            for text in texts {
                if let Err(error) = tokenizer.encode(text) {
                    assert!(!error.to_string().contains('\n'), "{error}");
                }
            }
        }
    }
}

/// A model folder with this tokenizer.
fn model(change: impl Fn(&mut Value)) -> tempfile::TempDir {
    let dir = changed(change);
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(Path::new(&gpt2()).join(file), dir.path().join(file)).unwrap();
    }
    dir
}

#[test]
fn a_hostile_tokenizer_ends_the_command_with_one_line() {
    for (name, change, text, says) in CASES.into_iter().filter(|case| case.3.is_some()) {
        let dir = model(change);
        let args = ["view", "--quiet", "--text", text, "--model", &path(dir.path())];
        assert_eq!(refusal(layerscope().args(args), 1, &[says.unwrap()]), None, "{name}");
    }
}

/// Bombs that only show when they go off, in memory and in time.
#[test]
fn what_never_ends_is_given_up() {
    let dir = model(|t| {
        let step = replace(&json!({ "Regex": "a" }), &"a".repeat(100));
        t["normalizer"] = json!({ "type": "Sequence", "normalizers": vec![step; 5] });
    });
    let args = ["view", "--quiet", "--text", "bab", "--model", &path(dir.path())];
    let says = ["tokenizer.json: the tokenizer failed on \"bab\": needs more than 512 MiB of memory"];
    assert_eq!(refusal(layerscope().args(args), 1, &says), None);

    let dir = model(|t| {
        let bytes = t["pre_tokenizer"].clone();
        t["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [regex("(a|aa)+$b"), bytes] });
    });
    let data = dir.path().join("a.jsonl");
    // Every word takes a while, none too long for the pattern's own limit.
    let text = format!("{}c", "a".repeat(27)).repeat(2000);
    std::fs::write(&data, format!("{{\"text\": \"b\"}}\n{}\n", json!({ "text": text }))).unwrap();
    let (model, data, out) = (path(dir.path()), path(&data), path(dir.path().join("out")));
    let args = ["export", "--quiet", "--layers", "0", "--model", &model, "--data", &data, "--out", &out];
    let start = Instant::now();
    assert_eq!(
        refusal(layerscope().args(args), 1, &["failed on", "a.jsonl:2: not done after 12 seconds"]),
        None
    );
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn what_would_change_documents_is_off_and_said() {
    let dir = model(|t| {
        t["truncation"] =
            json!({ "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 });
        t["padding"] = json!({
            "strategy": { "Fixed": 64 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 1, "pad_type_id": 0,
            "pad_token": "</s>",
        });
        t["model"]["dropout"] = json!(0.9);
    });
    let plain = Tokenizer::load(&fixture("text/byte_level"), BosPolicy::Never).unwrap();
    let tokenizer = Tokenizer::load(dir.path(), BosPolicy::Never).unwrap();
    let text = "Alice was beginning to get very tired of sitting by her sister on the bank";
    for _ in 0..3 {
        assert_eq!(tokenizer.encode(text).unwrap(), plain.encode(text).unwrap());
    }
    assert_eq!(tokenizer.warnings().len(), 3, "{:?}", tokenizer.warnings());
    let shown = end(layerscope().args(["view", "--quiet", "--text", text, "--model", &path(dir.path())]));
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    for says in ["warning: tokenizer.json cuts documents after 2 tokens", "pads", "dropout 0.9"] {
        assert!(shown.err.contains(says), "{}", shown.err);
    }
}

#[test]
fn a_bos_that_no_model_has_is_none() {
    for id in ["4096", "-1"] {
        let dir = model(|_| ());
        let config = dir.path().join("config.json");
        let mut json: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
        json["bos_token_id"] = serde_json::from_str(id).unwrap();
        std::fs::write(&config, json.to_string()).unwrap();
        let shown = end(layerscope().args(["view", "--text", "Alice was", "--model", &path(dir.path())]));
        assert_eq!(shown.code, Some(0), "{}", shown.err);
        let says = format!("bos_token_id {id} is outside the vocabulary of 4096: taken as none");
        assert!(shown.err.contains(&says) && shown.err.contains("BOS: none"), "{}", shown.err);
    }
}
