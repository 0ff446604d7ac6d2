//! config.json and stored tensors against transformers: every key of every case deleted, null and changed.
//!
//! `fixtures/families/config_keys.py` says what transformers does with each change; where it runs, so must we, with the
//! same numbers, or refuse by name.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use layerscope::{
    hook::Capture,
    model::{Config, Model, Weights, spec},
};
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

use crate::{
    cli::{Stored, fixture, rewrite},
    parity::reference,
};

/// Vocabulary entries of each row's last logits that the fixture keeps.
const KEPT: [i64; 6] = [0, 7, 19, 33, 48, 60];

/// f32 rounding through these models stays below 6e-6 of the scale (docs/verify.md); the smallest real difference among
/// the fixture's outcomes is above 1e-4.
const TOLERANCE: f64 = 1e-5;

/// What transformers runs and this program refuses, by key; `*` is every family that has such an outcome.
const REFUSED: [(&str, &str); 19] = [
    // Would let tokens see the future.
    ("is_causal", "*"),
    ("use_bidirectional_attention", "gemma gemma2 gemma3_text vaultgemma"),
    // Layer types nobody knows are ignored by families that do not slide by type.
    ("layer_types", "*"),
    // A flat object, which Gemma 3 ignores.
    ("rope_parameters", "*"),
    // Objects per layer type, which families with one rotation ignore.
    ("rope_scaling", "*"),
    // Never applied by transformers, although the class has it.
    ("attn_logit_softcapping", "gemma3_text"),
    // Frequencies of another head width than the one they rotate.
    ("head_dim", "gpt_neox stablelm"),
    // Sliding layers beside it: transformers hides what lies outside a window, or nothing, by the kind of attention.
    ("use_sliding_window", "qwen2_moe smollm3"),
    // Settings of MPT's own code that transformers passes by.
    ("expansion_ratio", "mpt"),
    ("logit_scale", "mpt"),
    ("no_bias", "mpt"),
    ("apply_residual_connection_post_layernorm", "bloom"),
    // OPT-350m's layout.
    ("do_layer_norm_before", "opt"),
    ("_remove_final_layer_norm", "opt"),
    ("layer_norm_elementwise_affine", "opt"),
    // A decoder under the name of an encoder, which transformers runs for some tasks only.
    ("is_decoder", "bert camembert distilbert esm roberta xlm-roberta"),
    ("is_folding_model", "esm"),
    // Anything but rotary and absolute is none in transformers.
    ("position_embedding_type", "esm"),
    // Rotations are those that the file keeps, whatever the config says.
    ("rope_theta", "esm"),
];

/// Where we mean to differ from transformers. A sliding window of 0 is off; there, sdpa attention fails, and eager
/// attention sees the future. BLOOM's `seq_length` is the longest text; there, nothing limits it.
///
/// A text longer than the context is refused; without its stretched rotation that of `rope-dynamic` is.
fn means_otherwise(name: &str, key: &str, change: &str) -> bool {
    let unstretched = ["deleted", "null"].contains(&change)
        && ["rope_parameters", "rope_parameters.rope_type"].contains(&key);
    [("sliding_window", "0"), ("seq_length", "9")].contains(&(last(key), change))
        || (name == "rope-dynamic" && unstretched)
}

/// A folder with the weights of a case, whose config.json changes.
struct Case {
    config: Map<String, Value>,
    dir: TempDir,
    ids: Tensor,
    /// Logits by architecture, which most changes leave as it is.
    known: HashMap<String, Result<Vec<f64>, String>>,
}

impl Case {
    fn new(name: &str) -> Self {
        let folder = fixture("families").join(name);
        let dir = tempfile::tempdir().unwrap();
        for path in folder.read_dir().unwrap().map(|e| e.unwrap().path()) {
            let file = path.file_name().unwrap().to_str().unwrap();
            if file.starts_with("model") {
                std::fs::copy(&path, dir.path().join(file)).unwrap();
            }
        }
        let config = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        let reference = Weights::open_file(&reference(&folder), Kind::Float).unwrap();
        let ids = reference.take_any("input_ids").unwrap();
        Self { config, dir, ids, known: HashMap::new() }
    }

    fn family(&self) -> &str {
        self.config["model_type"].as_str().unwrap()
    }

    /// The family of a text half, which knows most of the keys.
    fn text_family(&self) -> &str {
        self.config.get("text_config").map_or(self.family(), |text| text["model_type"].as_str().unwrap())
    }

    /// The last logits with one key (`key`, or `part.key`) changed: `deleted`, or the JSON of its new value.
    fn changed(&mut self, key: &str, change: &str) -> Result<Vec<f64>, String> {
        let mut config = self.config.clone();
        let (object, key) = match key.split_once('.') {
            Some((part, key)) => (config[part].as_object_mut().unwrap(), key),
            None => (&mut config, key),
        };
        match change {
            "deleted" => drop(object.remove(key)),
            value => drop(object.insert(key.into(), serde_json::from_str(value).unwrap())),
        }
        std::fs::write(self.dir.path().join("config.json"), Value::from(config).to_string()).unwrap();
        let spec = spec(&Config::read(self.dir.path()).unwrap()).map_err(|e| e.to_string())?;
        let (dir, ids) = (self.dir.path(), &self.ids);
        self.known.entry(format!("{spec:?}")).or_insert_with(|| last_logits(dir, ids)).clone()
    }
}

fn last_logits(dir: &Path, ids: &Tensor) -> Result<Vec<f64>, String> {
    let model = Model::load(dir, Kind::Float, Device::Cpu, |_, _| ()).map_err(|e| e.to_string())?;
    let mut nothing = Capture::new(std::iter::empty().collect());
    let logits = model.forward(ids, &mut nothing).map_err(|e| e.to_string())?.unwrap();
    let last = logits.select(1, -1).index_select(1, &Tensor::from_slice(&KEPT));
    Ok(Vec::try_from(last.to_kind(Kind::Double).reshape(-1)).unwrap())
}

fn close(ours: &[f64], theirs: &[f64]) -> bool {
    let rms = (theirs.iter().map(|x| x * x).sum::<f64>() / theirs.len() as f64).sqrt();
    ours.len() == theirs.len()
        && ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() <= TOLERANCE * (rms + b.abs()))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// A key without the part it is in.
fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap()
}

type Outcomes = BTreeMap<String, BTreeMap<String, BTreeMap<String, Value>>>;

fn outcomes() -> Outcomes {
    let text = std::fs::read(fixture("families").join("config_keys.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The numbers transformers gives; none where it fails, or gives NaN.
fn expected(outcome: &Value, unchanged: &Value) -> Option<Vec<f64>> {
    match outcome.as_str() {
        Some("same") => Some(numbers(unchanged)),
        Some(_) => None,
        None => Some(numbers(outcome)),
    }
}

#[test]
fn every_key_deleted_null_and_changed_is_as_in_transformers() {
    tch::set_num_threads(1); // the models are too small to share
    let (mut compared, mut wrong) = (0, Vec::new());
    let mut refused: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, keys) in outcomes() {
        let mut case = Case::new(&name);
        let unchanged = &keys["kept"][""];
        for (key, changes) in keys.iter().filter(|(key, _)| !["kept", "weights"].contains(&key.as_str())) {
            for (change, outcome) in changes.iter().filter(|(change, _)| !means_otherwise(&name, key, change))
            {
                compared += 1;
                let Some(theirs) = expected(outcome, unchanged) else {
                    // We may run what transformers does not, but never panic.
                    let _either = case.changed(key, change);
                    continue;
                };
                match case.changed(key, change) {
                    Ok(ours) if close(&ours, &theirs) => {}
                    Ok(ours) => wrong.push(format!("{name} {key} {change}: {ours:.6?}, not {theirs:.6?}")),
                    Err(why) if why.contains(last(key)) && why.lines().count() == 1 => {
                        let family = case.text_family().to_owned();
                        let known = REFUSED.iter().any(|(k, families)| {
                            *k == last(key) && (*families == "*" || families.split(' ').any(|f| f == family))
                        });
                        if !known {
                            wrong.push(format!("{name} {key} {change}: refused: {why}"));
                        }
                        refused.entry(last(key).to_owned()).or_default().insert(family);
                    }
                    Err(why) => wrong.push(format!("{name} {key} {change}: {why}")),
                }
            }
        }
    }
    println!("{compared} changes compared; refused: {refused:?}");
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 5000, "{compared}");
    let never: Vec<_> = REFUSED.iter().filter(|(key, _)| !refused.contains_key(*key)).collect();
    assert!(never.is_empty(), "listed, but not refused: {never:?}");
}

/// Names of what a head and an embedding are called, and the body's prefix.
fn prefix(family: &str) -> &'static str {
    match family {
        "gpt2" | "gpt_neo" | "gptj" | "bloom" | "falcon" | "gpt_bigcode" | "codegen" | "mpt" => {
            "transformer."
        }
        "gpt_neox" => "gpt_neox.",
        "biogpt" => "biogpt.",
        "bert" => "bert.",
        "distilbert" => "distilbert.",
        "esm" => "esm.",
        "roberta" | "camembert" | "xlm-roberta" => "roberta.",
        _ => "model.",
    }
}

fn head(family: &str) -> &'static str {
    match family {
        "gpt_neox" => "embed_out.weight",
        "biogpt" => "output_projection.weight",
        "bert" => "cls.predictions.decoder.weight",
        "distilbert" => "vocab_projector.weight",
        "modernbert" => "decoder.weight",
        "esm" | "roberta" | "camembert" | "xlm-roberta" => "lm_head.decoder.weight",
        _ => "lm_head.weight",
    }
}

type Tensors = BTreeMap<String, Stored>;

/// The tensors of every set in `stored` of `config_keys.py`.
fn sets(all: &Tensors, family: &str) -> BTreeMap<&'static str, Tensors> {
    let head = head(family);
    let ends = [
        "tok_embeddings.weight",
        "embed_tokens.weight",
        "wte.weight",
        "word_embeddings.weight",
        "embed_in.weight",
    ];
    let embed = all.keys().find(|name| ends.iter().any(|end| name.ends_with(end))).unwrap().clone();
    let with = |tensors: &Tensors, value: &Stored| {
        let mut tensors = tensors.clone();
        tensors.insert(head.into(), value.clone());
        tensors
    };
    let (dtype, shape, bytes) = all[&embed].clone();
    let reversed: Vec<u8> = bytes.chunks(bytes.len() / shape[0]).rev().flatten().copied().collect();
    let own = (dtype, shape.clone(), reversed);
    let body: Tensors =
        all.iter().filter(|(name, _)| *name != head).map(|(n, t)| (n.clone(), t.clone())).collect();
    let strip = |name: &str| name.strip_prefix(prefix(family)).unwrap_or(name).to_owned();
    let bare: Tensors = body.iter().map(|(name, tensor)| (strip(name), tensor.clone())).collect();
    let mut only = with(&body, &all[&embed]);
    only.remove(&embed);
    BTreeMap::from([
        ("tied", body.clone()),
        ("head too", with(&body, &own)),
        ("only the head", only),
        ("bare, head too", with(&bare, &own)),
        ("bare", bare),
    ])
}

/// Every tensor of a folder, and none of its weight files any more.
fn take_all(dir: &Path) -> Tensors {
    let mut all = Tensors::new();
    let files: Vec<PathBuf> = dir.read_dir().unwrap().map(|e| e.unwrap().path()).collect();
    for file in files {
        if file.extension().is_some_and(|e| e == "safetensors") {
            rewrite(&file, &file, |tensors| all.append(&mut tensors.clone()));
        }
        std::fs::remove_file(file).unwrap();
    }
    all
}

#[test]
fn heads_and_prefixes_are_read_as_in_transformers() {
    tch::set_num_threads(1);
    let (mut wrong, mut families) = (Vec::new(), BTreeSet::new());
    for (name, keys) in outcomes().into_iter().filter(|(_, keys)| keys.contains_key("weights")) {
        let case = Case::new(&name);
        let (dir, unchanged) = (case.dir.path(), &keys["kept"][""]);
        let all = take_all(dir);
        let mut config = case.config.clone();
        config.insert("tie_word_embeddings".into(), true.into());
        std::fs::write(dir.join("config.json"), Value::from(config).to_string()).unwrap();
        let sets = sets(&all, case.family());
        assert_eq!(sets.keys().collect::<Vec<_>>(), keys["weights"].keys().collect::<Vec<_>>());
        for (set, tensors) in sets {
            let file = dir.join("model.safetensors");
            rewrite(&first_file(&name), &file, |t| *t = tensors);
            let Some(theirs) = expected(&keys["weights"][set], unchanged) else {
                wrong.push(format!("{name}, {set}: transformers fails"));
                continue;
            };
            match last_logits(dir, &case.ids) {
                Ok(ours) if close(&ours, &theirs) => {}
                Ok(ours) => wrong.push(format!("{name}, {set}: {ours:.6?}, not {theirs:.6?}")),
                Err(why) => wrong.push(format!("{name}, {set}: {why}")),
            }
            let tied = Model::load(dir, Kind::Float, Device::Cpu, |_, _| ()).map(|m| m.spec().tied);
            if tied.is_ok_and(|tied| tied == set.contains("too")) {
                wrong.push(format!("{name}, {set}: tied is wrong"));
            }
        }
        families.insert(case.family().to_owned());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(families.len(), 63);
}

/// Any weight file of a case, to be rewritten.
fn first_file(name: &str) -> PathBuf {
    let files = fixture("families").join(name).read_dir().unwrap().map(|e| e.unwrap().path());
    let is_weights = |path: &PathBuf| {
        let file = path.file_name().unwrap().to_string_lossy();
        file.starts_with("model") && file.ends_with(".safetensors")
    };
    files.into_iter().find(is_weights).unwrap()
}

/// Values of every JSON type, of which most are wrong for any key.
fn odd_values() -> Vec<Value> {
    vec![json!("x"), json!(true), json!(1.5), json!(-3), json!([1]), json!({"a": 1}), json!(1e300)]
}

#[test]
fn values_of_a_wrong_type_are_refused_by_key_and_value() {
    let classes: Value = serde_json::from_str(include_str!("../src/model/families/classes.json")).unwrap();
    let (mut tried, mut wrong) = (0, Vec::new());
    for name in outcomes().into_keys() {
        let case = Case::new(&name);
        let mut refused = |key: &str, value: &Value, config: Map<String, Value>| {
            tried += 1;
            std::fs::write(case.dir.path().join("config.json"), Value::from(config).to_string()).unwrap();
            match spec(&Config::read(case.dir.path()).unwrap()) {
                Ok(_) => wrong.push(format!("{name} {key} {value}: accepted")),
                Err(e) => {
                    let why = e.to_string();
                    let says =
                        why.contains(key) && why.contains(&value.to_string()) && why.lines().count() == 1;
                    if !says {
                        wrong.push(format!("{name} {key} {value}: {why}"));
                    }
                }
            }
        };
        let class = &classes[case.family()];
        if class.is_null() {
            continue; // a multimodal model, whose text half is a case of its own
        }
        for (key, entry) in class["keys"].as_object().unwrap() {
            let types: Vec<&str> = entry[0].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
            for value in odd_values().iter().filter(|value| !holds(&types, value)) {
                let mut config = case.config.clone();
                // Another name of the key would go before it.
                for (alias, target) in class["aliases"].as_object().unwrap() {
                    if target == key {
                        config.remove(alias);
                    }
                }
                config.insert(key.clone(), value.clone());
                refused(key, value, config);
            }
        }
        for key in rotary_keys(case.family()) {
            for value in odd_values().iter().chain([&json!(0), &json!(null)]) {
                if value.as_f64().is_some_and(|x| x > 0.0) {
                    continue;
                }
                for home in ["rope_scaling", "rope_parameters"] {
                    let mut config = case.config.clone();
                    for other in ["rope_scaling", "rope_parameters"] {
                        config.remove(other);
                    }
                    let object = json!({ "rope_type": "llama3", "rope_theta": 10.0, "factor": 2.0,
                        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8 });
                    let mut object = object.as_object().unwrap().clone();
                    object.insert((*key).into(), value.clone());
                    config.insert(home.into(), object.into());
                    refused(key, value, config);
                }
            }
        }
        for (key, families) in FOREIGN {
            if !families.split(' ').any(|f| f == case.family()) {
                continue;
            }
            for value in odd_values().iter().filter(|value| !value.as_f64().is_some_and(|x| x > 0.0)) {
                let mut config = case.config.clone();
                config.remove("rope_parameters");
                config.remove("layer_types");
                config.insert((*key).into(), value.clone());
                refused(key, value, config);
            }
        }
    }
    println!("{tried} values of wrong types");
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried > 4000, "{tried}");
}

/// Keys of no class that some families read.
const FOREIGN: [(&str, &str); 10] = [
    ("rope_theta", "llama mistral qwen2 qwen3 gemma gemma2 gemma3_text phi phi3 starcoder2"),
    ("rope_local_base_freq", "gemma3_text"),
    ("rotary_emb_base", "gpt_neox"),
    ("rotary_pct", "gpt_neox"),
    ("partial_rotary_factor", "phi phi3"),
    ("sliding_window_pattern", "gemma3_text"),
    ("head_dim", "qwen2 phi phi3 starcoder2 gpt_neox"),
    ("n_embed", "bloom falcon"),
    ("seq_length", "bloom"),
    ("attention_layers", "gpt_neo"),
];

/// Parameters of a rotation, of families that have one flat object of them.
fn rotary_keys(family: &str) -> &'static [&'static str] {
    const ALL: [&str; 6] = [
        "rope_type",
        "rope_theta",
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ];
    match family {
        "llama" | "mistral" | "qwen2" | "qwen3" | "gemma" | "gemma2" | "phi" | "starcoder2" | "gpt_neox" => {
            &ALL
        }
        _ => &[],
    }
}

/// Whether a key of these types may hold `value`; of whole numbers, only sizes are tried with negative ones.
fn holds(types: &[&str], value: &Value) -> bool {
    let one = |t: &&str| match *t {
        "bool" => value.is_boolean(),
        "int" => value.is_i64() || value.is_u64(),
        "list" => value.is_array(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        _ => value.is_string(),
    };
    types.iter().any(one)
}
