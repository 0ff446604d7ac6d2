//! Everything that reads bytes which somebody else made: each target takes the bytes of one such file and must return,
//! with a value or with a typed error, whatever they are. A panic, a hang or gigabytes of memory is a finding.
//!
//! `cargo fuzz run TARGET` explores them (`fuzz/README.md`); `tests/fuzz_corpus.rs` replays the corpora, with
//! mutations, in every `cargo test`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use layerscope::{
    lens::artifact::LensFolder,
    lenses::torch_file,
    model::{Config, INDEX, Weights, shard_names, spec},
    results::run::{MANIFEST, METRICS, Manifest, read_metrics},
    sources::labelled::{LabelledOptions, LabelledSet},
    sources::text::{BosPolicy, Corpus, Tokenizer},
    states::store::ActivationStore,
};
use tch::Kind;

/// What is done with one input.
pub(crate) type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub(crate) const TARGETS: [(&str, Target); 12] = [
    ("config", config),
    ("safetensors", safetensors),
    ("index", index),
    ("torch_file", torch_file),
    ("manifest", manifest),
    ("marker", marker),
    ("lens_config", lens_config),
    ("metrics", metrics),
    ("table", table),
    ("json", json),
    ("conllu", conllu),
    ("tokenizer", tokenizer),
];

/// Runs the target of a name.
///
/// # Panics
/// When there is none of the name, or when the target does: a finding.
#[allow(dead_code, reason = "the harnesses of cargo-fuzz call it, each for its own name")]
pub(crate) fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target of this name");
    target(bytes);
}

/// A folder of its own that holds `files`, removed at the end.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("the fuzzer needs a folder for temporary files");
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder inside ours");
        fs::write(path, bytes).expect("a file inside ours");
    }
    dir
}

fn file(dir: &tempfile::TempDir, name: &str) -> PathBuf {
    dir.path().join(name)
}

/// `config.json` of a model.
fn config(bytes: &[u8]) {
    let dir = folder(&[("config.json", bytes)]);
    let _outcome = Config::read(dir.path()).and_then(|config| spec(&config));
}

/// Header and tensors of a weight file.
fn safetensors(bytes: &[u8]) {
    let dir = folder(&[("model.safetensors", bytes)]);
    let Ok(weights) = Weights::open_file(&file(&dir, "model.safetensors"), Kind::Float) else { return };
    let names: Vec<String> = weights.shapes().map(|(name, _)| name.to_owned()).collect();
    for name in names {
        let _outcome = weights.take_any(&name);
    }
}

/// `model.safetensors.index.json`: no name of a shard may lead out of the folder.
fn index(bytes: &[u8]) {
    let dir = folder(&[(INDEX, bytes)]);
    for name in shard_names(&file(&dir, INDEX)).unwrap_or_default() {
        let plain = Path::new(&name).components().all(|c| matches!(c, std::path::Component::Normal(_)));
        assert!(plain, "{name:?} leads out of the folder");
    }
}

/// What `torch.save` wrote, or says it did.
fn torch_file(bytes: &[u8]) {
    let _outcome = torch_file::read(bytes);
}

/// `manifest.json` of a run.
fn manifest(bytes: &[u8]) {
    let dir = folder(&[(MANIFEST, bytes)]);
    if let Ok(Some(manifest)) = Manifest::read(dir.path()) {
        let _key = manifest.job_key();
    }
}

/// A marker of an export's shard, beside the manifest of a small export.
fn marker(bytes: &[u8]) {
    let manifest = include_bytes!("corpus/manifest/export.json");
    let dir = folder(&[(MANIFEST, manifest), ("shards/0.done", bytes)]);
    if let Ok(store) = ActivationStore::open_finished_part(dir.path()) {
        let _rows = store.rows();
        let _matrix = store.matrix("resid_pre", 0);
    }
}

/// `config.json` of a lens.
fn lens_config(bytes: &[u8]) {
    let dir = folder(&[("config.json", bytes)]);
    let _outcome = LensFolder::read(dir.path());
}

/// `metrics.parquet` of a run.
fn metrics(bytes: &[u8]) {
    let dir = folder(&[(METRICS, bytes)]);
    let _outcome = read_metrics(dir.path());
}

/// Documents of one file under a name, to the end or to the first error.
fn documents(name: &str, bytes: &[u8]) {
    let dir = folder(&[(name, bytes)]);
    if let Ok(corpus) = Corpus::open(&[file(&dir, name)], None, None) {
        for document in corpus {
            if document.is_err() {
                break;
            }
        }
    }
}

/// Comma- and tab-separated tables, as texts and as labelled texts.
fn table(bytes: &[u8]) {
    for name in ["table.csv", "table.tsv"] {
        documents(name, bytes);
        labelled(name, bytes);
    }
}

/// JSON and JSON Lines, as texts and as labelled texts.
fn json(bytes: &[u8]) {
    for name in ["texts.jsonl", "texts.json"] {
        documents(name, bytes);
        labelled(name, bytes);
    }
}

/// CoNLL-U.
fn conllu(bytes: &[u8]) {
    labelled("words.conllu", bytes);
}

fn labelled(name: &str, bytes: &[u8]) {
    let dir = folder(&[(name, bytes)]);
    let _outcome = LabelledSet::open(&[file(&dir, name)], &LabelledOptions::default());
}

/// `tokenizer.json`, and a text encoded by it.
fn tokenizer(bytes: &[u8]) {
    let dir = folder(&[("tokenizer.json", bytes)]);
    if let Ok(tokenizer) = Tokenizer::load(dir.path(), BosPolicy::Auto)
        && let Ok(ids) = tokenizer.encode("The old man, 12 – naïve\u{301} 漢字\n\0")
    {
        let _text = tokenizer.decode(&ids);
    }
}
