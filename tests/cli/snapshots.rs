//! What people read, word by word: help, errors, tables.
//! `INSTA_UPDATE=always cargo test --release --test tests snapshots` writes what changed; look at the difference before
//! it is committed.

use insta::{Settings, assert_snapshot};

use super::{end, fixture, gpt2, layerscope, path, run, succeed};

/// Compares with `tests/cli/snapshots/NAME.snap`.
fn held(name: &str, text: &str) {
    let mut settings = Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| assert_snapshot!(name, text));
}

/// Every command with its subcommands, as its help lists them.
fn commands() -> Vec<Vec<String>> {
    fn below(command: &[String], all: &mut Vec<Vec<String>>) {
        let words = command.iter().map(String::as_str).chain(["--help"]).collect::<Vec<_>>();
        let help = succeed(&words);
        all.push(command.to_vec());
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let names = listed.take_while(|line| line.starts_with("  ")).filter(|line| !line.starts_with("   "));
        for name in names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
            below(&[command, &[name.to_owned()]].concat(), all);
        }
    }
    let mut all = Vec::new();
    below(&[], &mut all);
    all
}

#[test]
fn help_of_every_command() {
    let all = commands();
    assert!(all.len() > 20, "{all:?}");
    for command in all {
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let name = if command.is_empty() { "help".to_owned() } else { format!("help-{}", command.join("-")) };
        held(&name, &succeed(&words));
    }
}

#[test]
fn errors_of_every_kind() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| path(dir.path().join(name));
    let (model, stories) = (gpt2(), path(fixture("stories.jsonl")));
    std::fs::write(place("bad.jsonl"), "{\"text\": \"a\"}\n{\"text\": \n").unwrap();
    std::fs::write(place("table.csv"), "text,label\nAlice,1\n").unwrap();
    std::fs::create_dir(place("foreign")).unwrap();
    std::fs::write(place("foreign/notes.md"), "mine").unwrap();
    std::fs::create_dir(place("empty")).unwrap();
    succeed(&[
        "export",
        "--quiet",
        "--model",
        &model,
        "--data",
        &stories,
        "--tokens",
        "40",
        "--layers",
        "0",
        "--out",
        &place("run"),
    ]);
    let (bad, table, gone) = (place("bad.jsonl"), place("table.csv"), place("gone.jsonl"));
    let (out, own, foreign, empty) = (place("out"), place("run"), place("foreign"), place("empty"));
    let on = |data: &'static str| data;
    let export = ["export", "--model", &model, "--out", &out, "--data"];
    let with =
        |rest: &[&str]| [&export[..], rest].concat().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let view = |rest: &[&str]| {
        [&["view", "--model", &model, "--text", "Alice was"], rest]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    };
    let plain = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = vec![
        plain(&["veiw"]),
        plain(&["view", "--model", &model]),
        plain(&["info", "--model", "fixtures/gpt2-alice-8"]),
        plain(&["info", "--model", on("org/none")]),
        plain(&["info", "--model", &empty]),
        view(&["--top-k", "0"]),
        view(&["--layers", "9"]),
        view(&["--lens", "tuned"]),
        view(&["--metric", "mood"]),
        with(&[&gone]),
        with(&[&bad]),
        with(&[&table, "--text-column", "txt"]),
        with(&[&stories, "--hooks", "resid_pree"]),
        with(&[&stories, "--hooks", "blocks.0.attn.o.hook_in"]),
        with(&[&stories, "--hooks", "blocks.9.hook_resid_mid"]),
        with(&[&stories, "--hooks", "mlp_post", "--layers", "8"]),
        with(&[&stories, "--seq-len", "9999"]),
        plain(&["export", "--model", &model, "--data", &stories, "--tokens", "50", "--out", &own]),
        plain(&["export", "--model", &model, "--data", &stories, "--out", &foreign]),
        plain(&["steer", "--model", &model, "--data", &stories, "--out", &out]),
        plain(&["steer", "--model", &model, "--data", &stories, "--out", &out, "--direction", "nope"]),
        plain(&["generate", "--model", &model, "--text", "Alice", "--edit", "z:zeros"]),
        plain(&["trace", "--model", &model, "--clean", "Alice was", "--corrupted", "Alice", "--hook", "z"]),
        plain(&["report", &empty, "--out", &out]),
    ];
    let mut text = String::new();
    for row in rows {
        let ended = end(layerscope().args(&row).arg("--quiet").current_dir(env!("CARGO_MANIFEST_DIR")));
        let code = ended.code.unwrap();
        text.extend(["$ layerscope ", &row.join(" "), "\n", &ended.err, &format!("[exit {code}]\n\n")]);
    }
    held("errors", &text.replace(&place(""), "TMP/").replace(&path(fixture("")), "fixtures/"));
}

/// Digits of numbers with a point as `#`: they differ between processors in the last places.
fn shape(text: &str) -> String {
    let word = |word: &str| match word.split_once('.') {
        Some((_, rest)) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
            word.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect()
        }
        _ => word.to_owned(),
    };
    text.split(' ')
        .map(|line| line.split('\n').map(word).collect::<Vec<_>>().join("\n"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn tables_people_read() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| path(dir.path().join(name));
    let (model, stories) = (gpt2(), path(fixture("stories.jsonl")));
    let text = |args: &[&str]| {
        let ended = run(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.err);
        ended.out.replace(&place(""), "TMP/").replace(&path(fixture("")), "fixtures/")
    };
    // The machine's own threads and device are not held.
    let info = text(&["info", "--model", &model]);
    held("table-info", &info.lines().filter(|l| !l.starts_with("device")).collect::<Vec<_>>().join("\n"));
    held(
        "table-view",
        &shape(&text(&[
            "view",
            "--color",
            "never",
            "--layer-stride",
            "2",
            "--model",
            &model,
            "--text",
            "Alice was beginning",
        ])),
    );
    let fit = place("tuned");
    let common = ["--model", &model, "--data", &stories];
    let with = |command: &[&str], rest: &[&str]| text(&[command, &common[..], rest].concat());
    held(
        "table-fit",
        &shape(&with(
            &["lens", "fit"],
            &["--kind", "tuned", "--layers", "2,6", "--tokens", "2000", "--out", &fit],
        )),
    );
    let eval =
        ["--lens", "logit", "--lens", &fit, "--layers", "2,6", "--tokens", "1500", "--out", &place("eval")];
    held("table-eval", &shape(&with(&["lens", "eval"], &eval)));
    let (transfer, out) = (["--lens", &fit, "--tokens", "1500", "--out"], place("transfer"));
    held("table-transfer", &shape(&with(&["lens", "transfer"], &[&transfer[..], &[&out]].concat())));
    let statements = path(fixture("probes/statements.csv"));
    let sweep = text(&[
        "probe",
        "sweep",
        "--model",
        &model,
        "--data",
        &statements,
        "--group-column",
        "pair",
        "--layers",
        "2,6",
        "--probe",
        "mean-diff",
        "--out",
        &place("probes"),
    ]);
    held("table-probe-sweep", &shape(&sweep));
}
