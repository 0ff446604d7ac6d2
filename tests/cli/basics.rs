//! `info`, `completions`, `--help`, `--config`.

use super::{fixture, gpt2, path, result, run, succeed};

#[test]
fn every_command_explains_itself() {
    for command in [
        "info",
        "verify",
        "view",
        "export",
        "attention",
        "generate",
        "attribute",
        "future",
        "patch",
        "trace",
        "schedule",
        "steer",
        "report",
        "demo",
        "completions",
    ] {
        let help = succeed(&[command, "--help"]);
        assert!(help.contains("Usage: layerscope") && help.contains("--help"), "{command}");
    }
    assert!(succeed(&["--help"]).contains("Exit codes: 0 ok"));
    assert!(succeed(&["--version"]).starts_with("layerscope "));
    assert_eq!(run(&[] as &[&str]).code, Some(2));
    assert_eq!(run(&["veiw"]).code, Some(2));
}

#[test]
fn completions_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let script = succeed(&["completions", shell]);
        assert!(script.contains("layerscope") && script.contains("export"), "{shell}");
    }
}

#[test]
fn info_names_sizes_and_hooks() {
    let info = result(&succeed(&["info", "--json", "--quiet", "--model", &gpt2()]));
    for (field, value) in [
        ("family", serde_json::json!("gpt2")),
        ("n_layers", 8.into()),
        ("d_model", 128.into()),
        ("n_heads", 4.into()),
        ("n_kv_heads", 4.into()),
        ("d_head", 32.into()),
        ("d_mlp", 512.into()),
        ("vocab", 4096.into()),
        ("tokenizer_vocab", 4096.into()),
        ("n_ctx", 256.into()),
        ("tied", true.into()),
        ("stored_dtype", "f16".into()),
        ("dtype", "f32".into()),
    ] {
        assert_eq!(info[field], value, "{field}");
    }
    assert_eq!(info["bos"]["id"], 0);
    assert_eq!(info["hooks"].as_array().unwrap().len(), 2 + 8 * 16 + 4);
    assert!(info["parameters"].as_u64().unwrap() > 2_000_000);
    let llama = path(fixture("llama-alice-6l"));
    let text = succeed(&["info", "--quiet", "--model", &llama]);
    assert!(
        text.contains("6 × 16 over 2 key-value heads") && text.contains("blocks.{0..6}.hook_resid_pre"),
        "{text}"
    );
}

#[test]
fn options_may_come_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("a.toml");
    std::fs::write(&config, format!("model = {:?}\ntext = \"Alice was\"\njson = true\ntop_k = 2\n", gpt2()))
        .unwrap();
    let view = result(&succeed(&["view", "--quiet", "--config", &path(&config), "--top-k", "3"]));
    let cell = &view["lenses"][0]["layers"][0]["positions"][0];
    assert_eq!(cell["top"].as_array().unwrap().len(), 3, "the command line wins");
    std::fs::write(&config, "no_such_option = 1").unwrap();
    let ended = run(&["view", "--model", &gpt2(), "--text", "a", "--config", &path(&config)]);
    assert!(ended.code == Some(2) && ended.err.contains("--no-such-option"), "{ended:?}");
}

#[test]
fn the_binary_needs_no_environment() {
    let model = fixture("gpt2-alice-8l");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_layerscope"));
    let ended = command.env_clear().args(["info", "--quiet", "--model"]).arg(model).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}
