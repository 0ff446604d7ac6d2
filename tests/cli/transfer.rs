//! `lens transfer` and `view` with lenses that do not fit, and with little text.

use std::path::Path;

use super::{end, fixture, gpt2, layerscope, path, refuse_all, rewrite, tiny, words};
use crate::lens_cli::made_lens;

/// Whoever read these weights would complain of them.
#[test]
fn a_lens_that_does_not_fit_is_refused_before_weights_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    made_lens("gpt2-alice-8l", "random-gpt2", Path::new(&at("made")));
    made_lens("gpt2-alice-8l", "random-gpt2", Path::new(&at("broken")));
    let params = Path::new(&at("broken")).join("params.safetensors");
    rewrite(&params, &params, |t| drop(t.remove("layer.2.bias")));
    let model = tiny("llama");
    let weights = model.path().join("model.safetensors");
    rewrite(&weights, &weights, |tensors| {
        for (_, _, data) in tensors.values_mut() {
            data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
    });
    std::fs::write(at("text.txt"), "w1 w2 w3 w4 w5 w6 w7 ".repeat(60)).unwrap();
    let model = path(model.path());
    let view = |lens: &str| {
        [words("view --text w1 --model"), vec![model.clone(), "--lens".into(), at(lens)]].concat()
    };
    let transfer = |lens: &str| -> Vec<String> {
        let files = [model.clone(), "--data".into(), at("text.txt"), "--out".into(), at("out")];
        [words("lens transfer --model"), files.to_vec(), vec!["--lens".into(), at(lens)]].concat()
    };
    let says = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let (other, missing) = (says(&["made for 128 of d_model"]), says(&["\"layer.2.bias\" is missing"]));
    refuse_all(&[
        (view("made"), 3, other.clone()),
        (transfer("made"), 3, other),
        (view("broken"), 2, missing.clone()),
        (transfer("broken"), 2, missing),
        ([words("view --text w1 --model"), vec![model.clone()]].concat(), 1, says(&["NaN"])),
    ]);
    assert!(!Path::new(&at("out")).exists());
}

#[test]
fn one_document_is_cut_into_windows_and_the_hint_says_how_to_get_intervals() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    made_lens("gpt2-alice-8l", "random-gpt2", Path::new(&at("made")));
    let stories = std::fs::read_to_string(fixture("stories.jsonl")).unwrap();
    std::fs::write(at("one.txt"), stories.chars().take(2000).collect::<String>()).unwrap();
    let transfer = |out: &str, extra: &str| {
        let mut all = layerscope();
        all.args(["lens", "transfer", "--threads", "1", "--model", &gpt2(), "--data", &at("one.txt")]);
        all.args(["--lens", &at("made"), "--out", &at(out)]);
        all.args(words("--tokens 256 --seq-len 64 --layers 1,6 --no-corrections --replicates 20"));
        let ended = end(all.args(words(extra)));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.err
    };
    let hint = "--cluster window takes windows instead";
    assert!(transfer("documents", "").contains(hint));
    assert!(!transfer("windows", "--cluster window").contains(hint));
}
