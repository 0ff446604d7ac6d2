//! A job's defaults are said twice, in its `Default` and to clap; this holds them equal.

use clap::{Args, Command};
use layerscope::job::{
    Job, attention::Attention, attribute::Attribute, export::Export, import::Import, intervene, lens, probe,
};
use serde_json::Value;

/// The job of a command line with these options, as its manifest would record it.
fn parsed<J: Job + Args>(options: &[&str]) -> Value {
    let words = std::iter::once("layerscope").chain(options.iter().copied());
    let matches = J::augment_args(Command::new("layerscope")).get_matches_from(words);
    serde_json::to_value(J::from_arg_matches(&matches).unwrap()).unwrap()
}

/// The job of an object with these settings and nothing else.
fn read<J: Job>(settings: &Value) -> Value {
    let job: J = serde_json::from_value(settings.clone()).unwrap();
    let whole = serde_json::to_value(&job).unwrap();
    // And what is recorded is read back as the same job.
    let again: J = serde_json::from_value(whole.clone()).unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), whole);
    whole
}

fn same<J: Job + Args>(options: &[&str], settings: &Value) {
    assert_eq!(parsed::<J>(options), read::<J>(settings), "{}", J::COMMAND);
}

#[test]
fn defaults_are_those_of_the_command_line() {
    use serde_json::json;

    same::<lens::Eval>(
        &["--model", "m", "--data", "a", "b", "--lens", "logit", "--out", "o"],
        &json!({ "model": "m", "data": ["a", "b"], "lens": ["logit"], "out": "o" }),
    );
    same::<lens::Fit>(
        &["--model", "m", "--data", "a", "--kind", "future-prompt", "--out", "o", "--rung", "all"],
        &json!({ "model": "m", "data": ["a"], "kind": "future-prompt", "out": "o", "rung": ["all"] }),
    );
    same::<lens::Fit>(
        &["--model", "m", "--activations", "e", "--kind", "tuned", "--out", "o"],
        &json!({ "model": "m", "activations": "e", "kind": "tuned", "out": "o" }),
    );
    same::<lens::Concepts>(
        &["--model", "m", "--prompts", "p", "--lens", "logit", "--out", "o"],
        &json!({ "model": "m", "prompts": "p", "lens": ["logit"], "out": "o" }),
    );
    same::<lens::LensVectors>(
        &["--model", "m", "--lens", "l", "--token", " a", "--out", "o"],
        &json!({ "model": "m", "lens": "l", "token": [" a"], "out": "o" }),
    );
    same::<lens::Audit>(
        &["--model", "m", "--data", "a", "--lens", "l", "--out", "o"],
        &json!({ "model": "m", "data": ["a"], "lens": ["l"], "out": "o" }),
    );
    same::<lens::ImportLens>(
        &["f.pt", "--model", "m", "--out", "o"],
        &json!({ "source": "f.pt", "model": "m", "out": "o" }),
    );
    same::<lens::Transfer>(
        &["--model", "m", "--data", "a", "--lens", "l", "--out", "o"],
        &json!({ "model": "m", "data": ["a"], "lens": ["l"], "out": "o" }),
    );
    same::<lens::Causal>(
        &["--model", "m", "--data", "a", "--out", "o", "--directions", "12", "--mode", "zero"],
        &json!({ "model": "m", "data": ["a"], "out": "o", "directions": 12, "mode": "zero" }),
    );
    let (words, settings) =
        (["--model", "m", "--data", "a", "--out", "o"], json!({ "model": "m", "data": ["a"], "out": "o" }));
    same::<Export>(&words, &settings);
    same::<Attention>(&words, &settings);
    same::<Import>(
        &["s", "--as", "tl", "--model", "m", "--out", "o"],
        &json!({ "source": "s", "as": "tl", "model": "m", "out": "o" }),
    );
    same::<probe::Sweep>(&words, &settings);
    same::<probe::Law>(&words, &settings);
    same::<probe::Transfer>(&words, &settings);
    same::<probe::Apply>(
        &["--model", "m", "--probe", "p", "--data", "a", "--out", "o"],
        &json!({ "model": "m", "probe": ["p"], "data": ["a"], "out": "o" }),
    );
    // An export names the model.
    same::<probe::Sweep>(
        &["--activations", "e", "--data", "a", "--out", "o"],
        &json!({ "activations": "e", "data": ["a"], "out": "o" }),
    );
    same::<intervene::Generate>(
        &["--model", "m", "--text", "a", "--text", "b"],
        &json!({ "model": "m", "text": ["a", "b"] }),
    );
    same::<Attribute>(
        &["--model", "m", "--prompt", "a", "--answer", "b", "--position", "-2", "--neurons", "4"],
        &json!({ "model": "m", "prompt": "a", "answer": "b", "position": -2, "neurons": 4 }),
    );
    same::<Attribute>(
        &["--model", "m", "--data", "a", "--target", "top-1", "--accumulated", "lens"],
        &json!({ "model": "m", "data": ["a"], "target": "top-1", "accumulated": "lens" }),
    );
    same::<intervene::Think>(&["--model", "m", "--text", "a"], &json!({ "model": "m", "text": ["a"] }));
    same::<intervene::ThinkSpace>(
        &["--model", "m", "--data", "a", "--out", "o"],
        &json!({ "model": "m", "data": ["a"], "out": "o" }),
    );
    same::<intervene::Steer>(
        &["--model", "m", "--data", "a", "--direction", "d", "--out", "o"],
        &json!({ "model": "m", "data": ["a"], "direction": ["d"], "out": "o" }),
    );
}
