//! `generate`: text, JSON, files, refusals.

use layerscope::results::run::read_metrics;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::{fixture, gpt2, path, refuse_all, result, run, succeed, succeed_with, tiny, words};

const TEXT: &str = "Alice was beginning to get very tired of sitting by her sister";

fn said(extra: &[&str]) -> Value {
    let model = gpt2();
    let args = ["generate", "--quiet", "--json", "--model", &model, "--text", TEXT, "--max-new-tokens", "12"];
    result(&succeed(&[&args, extra].concat()))
}

fn expected(model: &str, run: usize) -> Value {
    let text = std::fs::read_to_string(fixture("generate/expected.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let case = all["cases"].as_array().unwrap().iter().find(|case| case["model"] == model).unwrap();
    case["runs"][run]["tokens"].clone()
}

#[test]
fn the_result_holds_the_new_tokens() {
    let plain = said(&["--ignore-eos"]);
    assert_eq!(plain["token_ids"], expected("gpt2-alice-8l", 0));
    assert_eq!(said(&["--ignore-eos", "--no-cache"])["token_ids"], plain["token_ids"]);
    let prompt = &plain["prompts"][0];
    assert_eq!((&prompt["token_ids"], &prompt["text"]), (&plain["token_ids"], &Value::from(TEXT)));
    assert!(prompt["steps"]["kl"].as_array().unwrap().iter().all(|kl| kl.as_f64().unwrap().abs() < 1e-6));
    // The third run of the golden: zeroing two positions of the prompt.
    let edited = said(&["--ignore-eos", "--edit", "blocks.1.hook_resid_pre@1,2:zero"]);
    assert_eq!(edited["token_ids"], expected("gpt2-alice-8l", 2));
    assert!(edited["prompts"][0]["steps"]["kl"][0].as_f64().unwrap() > 1e-4);
    let all = said(&["--ignore-eos", "--edit", "blocks.0.hook_mlp_out:scale=0.3", "--edit-steps", "all"]);
    assert_eq!(all["token_ids"], expected("gpt2-alice-8l", 3));
    assert_eq!(said(&["--ignore-eos", "--schedule", "0-7"])["token_ids"], plain["token_ids"]);
    assert_ne!(said(&["--ignore-eos", "--schedule", "skip:1"])["token_ids"], plain["token_ids"]);
}

#[test]
fn text_goes_to_stdout_as_it_is_said() {
    let (model, plain) = (gpt2(), said(&[]));
    let args = ["generate", "--model", &model, "--text", TEXT, "--max-new-tokens", "12"];
    let ended = run(&args);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(ended.out, format!("{}\n", plain["generated"].as_str().unwrap()));
    assert!(ended.err.contains("BOS: "));
    let piped = succeed_with(
        &["generate", "--quiet", "--model", &model, "--text", "-", "--max-new-tokens", "12"],
        TEXT.as_bytes(),
    );
    assert_eq!(piped, ended.out);
    let events = succeed(&[&args[..], &["--json", "--quiet"]].concat());
    let tokens: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["event"] == "token")
        .map(|event| event["token_id"].clone())
        .collect();
    assert_eq!(Value::from(tokens), plain["token_ids"]);
}

#[test]
fn several_prompts_are_each_as_alone() {
    let model = gpt2();
    let many = |extra: &[&str]| {
        let args = [
            "generate",
            "--quiet",
            "--json",
            "--model",
            &model,
            "--max-new-tokens",
            "6",
            "--temperature",
            "0.9",
        ];
        result(&succeed(&[&args, extra].concat()))
    };
    let both = many(&["--text", "Alice was", "--text", "The old man looked at her", "--text", "Alice had"]);
    assert!(both["token_ids"].is_null());
    // The first prompt draws the same alone: its number is 0 there too.
    assert_eq!(many(&["--text", "Alice was"])["token_ids"], both["prompts"][0]["token_ids"]);
    let other = many(&["--text", "Alice was", "--seed", "1"]);
    assert_ne!(other["token_ids"], both["prompts"][0]["token_ids"]);
    assert_eq!(many(&["--text", "Alice was", "--top-k", "1"])["token_ids"], {
        let greedy = [
            "generate",
            "--quiet",
            "--json",
            "--model",
            &model,
            "--max-new-tokens",
            "6",
            "--text",
            "Alice was",
        ];
        result(&succeed(&greedy))["token_ids"].clone()
    });
    let resampled =
        many(&["--text", "Alice was", "--text", "Alice had", "--edit", "resid_pre@last:resample"]);
    assert_eq!(resampled["prompts"].as_array().unwrap().len(), 2);
}

#[test]
fn a_run_keeps_every_number() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let edit = ["--edit", "blocks.2.hook_resid_pre@-1:scale=0", "--out", out.to_str().unwrap()];
    let told = said(&edit);
    let rows = read_metrics(&out).unwrap();
    let steps = told["token_ids"].as_array().unwrap().len();
    assert_eq!(rows.len(), 4 * steps);
    for (i, metric) in ["entropy", "surprisal", "ce", "kl"].into_iter().enumerate() {
        for step in 0..steps {
            let row = &rows[4 * step + i];
            assert_eq!(
                (row.subject.as_str(), row.metric.as_str(), row.horizon),
                ("generate", metric, step as i32 + 1)
            );
            assert_eq!((row.n, row.lower), (1, None));
            assert!(
                (row.estimate - told["prompts"][0]["steps"][metric][step].as_f64().unwrap()).abs() < 1e-12
            );
        }
    }
    let manifest: Value = serde_json::from_slice(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!((&manifest["kind"], &manifest["status"]), (&"generate".into(), &"complete".into()));
    assert_eq!(manifest["config"]["edits"][0], edit[1]);
    let line: Value = serde_json::from_slice(&std::fs::read(out.join("generated.jsonl")).unwrap()).unwrap();
    assert_eq!(line["token_ids"], told["token_ids"]);
}

#[test]
fn exported_vectors_fit_edits() {
    let dir = tempfile::tempdir().unwrap();
    let file = path(dir.path().join("v.safetensors"));
    // Numbers without a pattern, so that a transposed or misplaced head shows: 4 heads of 32, width 128.
    let numbers: Vec<f32> = (0..128u32).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0).collect();
    let flat = Tensor::from_slice(&numbers);
    let tensors = [
        ("flat", flat.shallow_clone()),
        ("row", flat.view([1, 128])),
        ("deep", flat.view([1, 1, 128])),
        ("heads", flat.view([4, 32])),
        ("two", flat.view([4, 32]).index_select(0, &Tensor::from_slice(&[1i64, 3]))),
        ("one", flat.view([4, 32]).get(1)),
    ];
    Tensor::write_safetensors(&tensors, &file).unwrap();
    let kl = |place: &str, key: &str| {
        said(&["--edit", &format!("{place}:add={file}:{key}")])["prompts"][0]["steps"]["kl"].clone()
    };
    let resid = kl("blocks.3.hook_resid_pre@-1", "flat");
    assert!(resid[0].as_f64().unwrap() > 0.0);
    assert_eq!(
        [kl("blocks.3.resid-pre@-1", "row"), kl("blocks.3.hook_resid_pre@-1", "deep")],
        [resid.clone(), resid]
    );
    let all = kl("blocks.3.attn.z@-1", "heads");
    assert_eq!(
        [kl("blocks.3.attn.hook_z@-1", "flat"), kl("blocks.3.hook_z@-1", "row")],
        [all.clone(), all.clone()]
    );
    let two = kl("blocks.3.attn.hook_z#1,3@-1", "two");
    assert_ne!(two, all);
    for key in ["flat", "row", "heads"] {
        assert_eq!(kl("blocks.3.attn.hook_z#1,3@-1", key), two, "{key}");
    }
    assert_eq!(kl("blocks.3.attn.hook_z#1@-1", "one"), kl("blocks.3.attn.hook_z#1@-1", "flat"));
}

#[test]
fn edits_say_how_far_they_reach() {
    let model = gpt2();
    let noted = |extra: &[&str]| {
        let args = ["generate", "--model", &model, "--text", "Alice was", "--max-new-tokens", "2"];
        crate::cli::run(&[&args[..], extra].concat()).err
    };
    let says = "edits reach the prompt's tokens only; --edit-steps all";
    assert!(noted(&["--edit", "resid_pre@-1:scale=0.5"]).contains(says));
    assert!(!noted(&["--edit", "resid_pre@-1:scale=0.5", "--edit-steps", "all"]).contains(says));
    assert!(!noted(&[]).contains(says));
}

#[test]
fn what_cannot_be_done_is_refused() {
    let (model, dir) = (tiny("gpt2"), tempfile::tempdir().unwrap());
    let model = path(model.path());
    let file = path(dir.path().join("v.safetensors"));
    Tensor::write_safetensors(&[("a", Tensor::ones([3], (Kind::Float, Device::Cpu)))], &file).unwrap();
    let row = |extra: &str, says: &[&str]| {
        let args = words(&format!("generate --model {model} {extra}"));
        (args, 2, says.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    };
    refuse_all(&[
        row("", &["--text"]),
        row("--text w1 --max-new-tokens 0", &["0 new ones"]),
        row("--text w1 --max-new-tokens 64", &["64 new ones do not fit the model's context of 64"]),
        row("--text w1 --top-k 3", &["--top-k is for drawn tokens"]),
        row("--text w1 --temperature -1", &["-1"]),
        row("--text w1 --temperature 1 --top-p 1.5", &["top-p is 1.5"]),
        row("--text w1 --edit resid_pre", &["edit `resid_pre`", "expected HOOK"]),
        row("--text w1 --edit resid_pree:zero", &["edit `resid_pree:zero`", "did you mean `resid_pre`?"]),
        row("--text w1 --edit resid_pre@2:zero", &["no position 2 in 2 tokens"]),
        row("--text w1 --edit resid_pre:resample", &["--text twice"]),
        row("--text w1 --text w1w --text w1,w2 --edit resid_pre:mean", &["prompts of one length"]),
        row(&format!("--text w1 --edit resid_pre:add={file}"), &["[24]", "got [3]", "v.safetensors"]),
        row("--text w1 --edit resid_pre:add=/nonexistent.safetensors", &["/nonexistent.safetensors"]),
        row("--text w1 --edit-steps some", &["'some'", "prompt, all"]),
        row("--text w1 --schedule 0,7", &["schedule `0,7`", "no block 7"]),
    ]);
}
