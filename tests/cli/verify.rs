//! `verify`: pass, or exit 3 naming hook and layer.

use std::path::Path;

use super::{Stored, end, fixture, layerscope, path, refusal, result, rewrite, run, tiny};

#[test]
fn every_reference_passes() {
    // One process per layout of the decoder; tests/parity.rs goes through all cases in one.
    for family in ["gpt2", "gemma2", "falcon-40b"] {
        let dir = tiny(family);
        let reference = fixture("families").join(family).join("reference.safetensors");
        let args =
            ["verify", "--quiet", "--json", "--model", &path(dir.path()), "--reference", &path(reference)];
        let ended = run(&args);
        assert_eq!(ended.code, Some(0), "{family}: {}", ended.err);
        let result = result(&ended.out);
        assert_eq!(result["verdict"], "pass");
        assert!(result["hooks"].as_array().unwrap().len() > 10);
    }
}

#[test]
fn one_changed_value_is_found() {
    let model = tiny("llama");
    let source = fixture("families/llama/reference.safetensors");
    let changed = model.path().join("changed.safetensors");
    let names = ["blocks.1.attn.hook_z", "blocks.0.hook_resid_pre", "logits"];
    for (name, layer) in names.into_iter().zip([1, 0, 2]) {
        rewrite(&source, &changed, |tensors| {
            let (_, shape, data) = tensors.get_mut(name).unwrap_or_else(|| panic!("no {name}"));
            assert!(shape.iter().product::<usize>() > 20);
            let value = f32::from_le_bytes(data[40..44].try_into().unwrap());
            data[40..44].copy_from_slice(&(value + 0.01).to_le_bytes());
        });
        let args = ["verify", "--quiet", "--model", &path(model.path()), "--reference", &path(&changed)];
        let ended = run(&args);
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
        assert!(ended.err.starts_with("error: 1 of ") && ended.err.contains(name), "{}", ended.err);
        assert!(ended.err.contains(&format!("(layer {layer})")), "{}", ended.err);
        let line = ended.out.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.contains("DIFFERS"), "{line}");
        assert_eq!(ended.out.matches("DIFFERS").count(), 1);
    }
}

/// TransformerLens' cache has more tensors than we have hooks, and its compatibility mode subtracts means.
#[test]
fn unknown_tensors_can_be_left_aside_and_centring_is_named() {
    let model = tiny("llama");
    let source = fixture("families/llama/reference.safetensors");
    let changed = model.path().join("changed.safetensors");
    let args = ["verify", "--model", &path(model.path()), "--reference", &path(&changed)];
    let extra = |tensors: &mut std::collections::BTreeMap<String, Stored>| {
        let nothing = (safetensors::Dtype::F32, vec![1], vec![0; 4]);
        tensors.insert("blocks.0.hook_nothing".into(), nothing.clone());
        tensors.insert("blocks.0.ln1.hook_else".into(), nothing);
    };
    rewrite(&source, &changed, extra);
    let refused = run(&args);
    assert!(refused.code == Some(1) && refused.err.contains("--skip-unknown"), "{refused:?}");
    let skipped = end(layerscope().args(args).args(["--skip-unknown", "--json"]));
    assert_eq!(skipped.code, Some(0), "{skipped:?}");
    assert!(skipped.err.contains("`blocks.0.hook_nothing` and 1 more"), "{skipped:?}");
    let names = serde_json::json!(["blocks.0.hook_nothing", "blocks.0.ln1.hook_else"]);
    assert_eq!(result(&skipped.out)["skipped"], names);

    rewrite(&source, &changed, |tensors| {
        let (_, shape, data) = tensors.get_mut("logits").unwrap();
        for row in data.chunks_exact_mut(4 * shape[2]) {
            let values: Vec<f32> =
                row.chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect();
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            for (bytes, value) in row.chunks_exact_mut(4).zip(values) {
                bytes.copy_from_slice(&(value - mean).to_le_bytes());
            }
        }
    });
    let centred = run(&args);
    assert_eq!(centred.code, Some(3), "{centred:?}");
    assert!(centred.err.contains("all by a constant for each token"), "{centred:?}");
    assert!(centred.out.contains("DIFFERS by a constant for each token"), "{centred:?}");
}

#[test]
fn an_export_that_fails_its_parity_check_leaves_no_folder() {
    let model = tiny("llama");
    let at = |name: &str| path(model.path().join(name));
    rewrite(
        &fixture("families/llama/reference.safetensors"),
        &model.path().join("changed.safetensors"),
        |tensors| {
            tensors.get_mut("logits").unwrap().2[40..44].copy_from_slice(&100f32.to_le_bytes());
        },
    );
    std::fs::write(at("text.txt"), "w1 w2 w3").unwrap();
    let (data, reference, out) = (at("text.txt"), at("changed.safetensors"), at("out"));
    let folder = path(model.path());
    let args = ["export", "--quiet", "--model", &folder, "--data", &data, "--out", &out];
    let ended = end(layerscope().args(args).args(["--reference", &reference]));
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.err.contains("logits") && !Path::new(&out).exists(), "{ended:?}");
    assert_eq!(run(&args).code, Some(0));
}

#[test]
fn a_reference_that_does_not_fit_is_named() {
    let model = tiny("llama");
    let source = fixture("families/llama/reference.safetensors");
    let changed = model.path().join("changed.safetensors");
    let zeros = |shape: Vec<usize>| -> Stored {
        let bytes = vec![0; shape.iter().product::<usize>() * 4];
        (safetensors::Dtype::F32, shape, bytes)
    };
    let refuse = |says: &[&str], change: &dyn Fn(&mut std::collections::BTreeMap<String, Stored>)| {
        rewrite(&source, &changed, change);
        let args = ["verify", "--quiet", "--model", &path(model.path()), "--reference", &path(&changed)];
        refusal(layerscope().args(args), 1, says)
    };
    let mut wrong = vec![
        refuse(&["changed.safetensors", "`logits` is [1, 2, 3], the model gives"], &|t| {
            t.insert("logits".into(), zeros(vec![1, 2, 3]));
        }),
        refuse(&["`blocks.0.hook_nothing` is no hook of this model"], &|t| {
            t.insert("blocks.0.hook_nothing".into(), zeros(vec![1]));
        }),
        refuse(&["`blocks.7.hook_resid_pre` is no hook of this model"], &|t| {
            t.insert("blocks.7.hook_resid_pre".into(), zeros(vec![1]));
        }),
        refuse(&["no tensor `input_ids`"], &|t| {
            t.remove("input_ids");
        }),
        refuse(&["no activations beside `input_ids`"], &|t| t.retain(|name, _| name == "input_ids")),
        refuse(&["token id 500 is outside the vocabulary of 61"], &|t| {
            t.insert(
                "input_ids".into(),
                (safetensors::Dtype::I64, vec![1, 1], 500_i64.to_le_bytes().to_vec()),
            );
        }),
    ];
    let args =
        ["verify", "--quiet", "--model", &path(model.path()), "--reference", "/nonexistent.safetensors"];
    wrong.push(refusal(layerscope().args(args), 2, &["/nonexistent.safetensors: No such file"]));
    let wrong: Vec<_> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
