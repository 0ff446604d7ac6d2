//! `view`: the table, its colours, its JSON.

use console::{measure_text_width, strip_ansi_codes};
use serde_json::Value;

use super::{end, gpt2, layerscope, result, run, succeed, succeed_with};

/// How the table shows a number.
type Shown = fn(f64) -> String;

const PROMPT: &str = "Alice was beginning to get very tired";

fn view(extra: &[&str]) -> String {
    let model = gpt2();
    let args = ["view", "--quiet", "--model", &model, "--text", PROMPT];
    succeed(&[&args, extra].concat())
}

/// The lines of the panels, without title and legend; all must have one width per panel.
fn panels(out: &str) -> Vec<String> {
    let plain = strip_ansi_codes(out).into_owned();
    let lines: Vec<String> = plain.lines().skip(1).map(str::to_owned).collect();
    let (legend, body) = lines.split_last().unwrap();
    assert!(legend.contains("* the true next token"));
    for panel in body.split(String::is_empty).filter(|panel| !panel.is_empty()) {
        let width = measure_text_width(&panel[0]);
        assert!(width <= 120, "{}", panel[0]);
        for line in panel {
            assert_eq!(measure_text_width(line), width, "{line:?} in\n{out}");
        }
    }
    body.to_vec()
}

#[test]
fn a_pipe_gets_plain_text() {
    let model = gpt2();
    let ended = run(&["view", "--model", &model, "--text", PROMPT]);
    assert_eq!(ended.code, Some(0));
    assert!(!ended.out.contains('\x1b') && !ended.err.contains('\x1b'), "{ended:?}");
    assert!(ended.err.contains("BOS: ") && !ended.out.contains("BOS: "), "notes go to stderr");
    let lines = panels(&ended.out);
    assert!(lines[0].starts_with("output ") && lines[8].starts_with("     0 "), "{}", ended.out);
    assert_eq!(run(&["view", "--quiet", "--model", &model, "--text", PROMPT]).err, "");
}

#[test]
fn colours_as_the_terminal_can() {
    let model = gpt2();
    let painted = |when: &str, env: &[(&str, &str)]| {
        let args = ["view", "--quiet", "--model", &model, "--text", PROMPT, "--color", when];
        let ended = end(layerscope().args(args).envs(env.iter().copied()));
        panels(&ended.out);
        ended.out
    };
    let full = painted("always", &[("COLORTERM", "truecolor")]);
    assert!(full.contains("48;2;") && !full.contains("48;5;"));
    let indexed = painted("always", &[("TERM", "xterm-256color")]);
    assert!(indexed.contains("48;5;") && !indexed.contains("48;2;"));
    for (when, env) in [("never", ("COLORTERM", "truecolor")), ("auto", ("NO_COLOR", "1"))] {
        assert!(!painted(when, &[env]).contains('\x1b'), "{when}");
    }
}

#[test]
fn json_ends_in_a_result_that_agrees_with_the_table() {
    let out = view(&["--json", "--top-k", "4"]);
    assert_eq!(
        out.matches("\"layers\"").count(),
        2,
        "every lens of one prompt: at the top, and under `prompts`"
    );
    let result = result(&out);
    assert_eq!((&result["unit"], &result["n_layers"]), (&Value::from("nats"), &Value::from(8)));
    let tokens = result["tokens"].as_array().unwrap();
    assert_eq!(tokens[0]["id"], 0);
    let layers = result["lenses"][0]["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 9);
    let metrics: [(&str, &str, Shown); 4] = [
        ("prob", "prob", |x| format!("{:.0}%", 100.0 * x)),
        ("kl", "kl", |x| format!("{x:.1}")),
        ("entropy", "entropy", |x| format!("{x:.1}")),
        ("rank", "rank_of_final", |x| format!("{x:.0}")),
    ];
    for (metric, field, shown) in metrics {
        let out = view(&["--metric", metric, "--tokens", "3", "--layers", "0,3,8"]);
        let lines = panels(&out);
        for (line, layer) in lines.iter().zip([8, 3, 0]) {
            for (pos, cell) in layers[layer]["positions"].as_array().unwrap()[..3].iter().enumerate() {
                let number = shown(cell[field].as_f64().unwrap());
                // 7 columns of label, then cells of 13 with a space between; the number is right-aligned in 5.
                let place: String = line.chars().skip(7 + 14 * pos + 8).take(5).collect();
                assert_eq!(place.trim(), number, "{metric}, layer {layer}, position {pos}:\n{out}");
            }
        }
    }
    for (layer, read) in layers.iter().enumerate() {
        let cells = read["positions"].as_array().unwrap();
        assert_eq!((read["layer"].as_u64(), cells.len()), (Some(layer as u64), tokens.len()));
        for (pos, cell) in cells.iter().enumerate() {
            let top = cell["top"].as_array().unwrap();
            assert_eq!((top.len(), cell["pos"].as_u64()), (4, Some(pos as u64)));
            assert!(top.is_sorted_by(|a, b| a["prob"].as_f64() >= b["prob"].as_f64()));
            assert_eq!(cell["prob"], top[0]["prob"]);
            let last = pos + 1 == tokens.len();
            assert_eq!((cell["ce"].is_null(), cell["rank_of_true"].is_null()), (last, last));
            if let (Some(0), Some(ce)) = (cell["rank_of_true"].as_u64(), cell["ce"].as_f64()) {
                assert_eq!(top[0]["id"], tokens[pos + 1]["id"]);
                assert!((ce + top[0]["prob"].as_f64().unwrap().ln()).abs() < 1e-9);
            }
            if layer == 8 {
                assert!(cell["kl"].as_f64().unwrap().abs() < 1e-9 && cell["rank_of_final"] == 0);
                assert_eq!(cell["prob_of_final"], cell["prob"]);
            }
        }
    }
}

#[test]
fn hostile_text_is_shown_and_not_obeyed() {
    let hostile = "\x1b]0;owned\x07 \x1b[31mred \u{202e}abc\u{2066}\u{9b}31m a\nb\tc\r \u{200b}\u{feff} 漢字かな 日本語 e\u{301} \u{1F600}";
    let model = gpt2();
    for extra in [["--color", "never"], ["--color", "always"]] {
        let args = [&["view", "--quiet", "--model", &model, "--text", hostile][..], &extra].concat();
        let out = succeed(&args);
        let plain = strip_ansi_codes(&out).into_owned();
        let bad = |c: &char| {
            (c.is_control() && *c != '\n')
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}' | '\u{feff}')
        };
        assert_eq!(plain.chars().find(bad), None, "{plain:?}");
        panels(&out);
    }
    let through_stdin =
        succeed_with(&["view", "--quiet", "--model", &model, "--text", "-"], hostile.as_bytes());
    let direct = succeed(&["view", "--quiet", "--model", &model, "--text", hostile]);
    assert_eq!(through_stdin, direct);
}

/// A vocabulary whose own tokens are wide or dangerous.
#[test]
fn hostile_vocabularies_are_shown_and_not_obeyed() {
    let model = super::tiny("gpt2");
    let file = model.path().join("tokenizer.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    for i in 10..61 {
        vocab.remove(&format!("w{i}"));
        let piece = [
            "\x1b[2J",
            "漢字漢字漢字",
            "\u{202e}",
            "\n\n",
            "🙂🙂🙂🙂🙂",
            "a\u{301}\u{301}",
            "\u{7f}\u{9b}",
            "ｆｕｌｌ",
        ][i % 8];
        vocab.insert(format!("{piece}{i}"), i.into());
    }
    std::fs::write(&file, json.to_string()).unwrap();
    let folder = super::path(model.path());
    let out = succeed(&["view", "--quiet", "--model", &folder, "--text", "w1 w2 w3 w4 w5"]);
    assert!(!out.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{out:?}");
    panels(&out);
    assert!(out.contains('漢') || out.contains("\\u{"), "{out}");
}

#[test]
fn one_prompt_or_several_have_one_shape() {
    let model = gpt2();
    let json = |texts: &[&str]| {
        let texts: Vec<&str> = texts.iter().flat_map(|text| ["--text", *text]).collect();
        result(&succeed(
            &[&["view", "--quiet", "--json", "--layers", "4", "--model", &model], &texts[..]].concat(),
        ))
    };
    let (one, other) = (json(&["Alice was tired"]), json(&["The queen"]));
    let both = json(&["Alice was tired", "The queen"]);
    let prompts = |of: &serde_json::Value| of["prompts"].as_array().unwrap().clone();
    assert_eq!((prompts(&one).len(), prompts(&both).len()), (1, 2));
    let close = |a: &serde_json::Value, b: &serde_json::Value| {
        assert_eq!((&a["text"], &a["tokens"]), (&b["text"], &b["tokens"]));
        let loss = |of: &serde_json::Value| of["loss"].as_f64().unwrap();
        assert!((loss(a) - loss(b)).abs() < 1e-5 * loss(b), "{a} {b}");
    };
    close(&prompts(&both)[0], &prompts(&one)[0]);
    close(&prompts(&both)[1], &prompts(&other)[0]);
    for key in ["model", "n_layers", "unit", "bos"] {
        assert_eq!((&both[key], &one["prompts"][0][key]), (&one[key], &one[key]), "{key}");
    }
    // Of one prompt everything is at the top too.
    assert_eq!(
        (&one["tokens"], &one["lenses"]),
        (&one["prompts"][0]["tokens"], &one["prompts"][0]["lenses"])
    );
    // The loss is the mean of what the last layer says of every next token.
    let last = one["lenses"][0]["layers"].as_array().unwrap().last().unwrap();
    let ce: Vec<f64> =
        last["positions"].as_array().unwrap().iter().filter_map(|cell| cell["ce"].as_f64()).collect();
    let mean = ce.iter().sum::<f64>() / ce.len() as f64;
    assert!((mean - one["loss"].as_f64().unwrap()).abs() < 1e-12 * mean);
}
