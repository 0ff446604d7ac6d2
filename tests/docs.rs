//! Every command of the documentation runs as it is pasted: on the bundled model, on less text.

use std::{
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Pages in the order in which a reader makes what later ones use.
const PAGES: [&str; 19] = [
    "lenses",
    "attribution",
    "probes",
    "causal",
    "jacobian",
    "steer",
    "future",
    "generate",
    "attention",
    "hooks",
    "export",
    "patch",
    "schedule",
    "think",
    "report",
    "page",
    "verify",
    "adding-a-family",
    "adding-a-lens",
];

/// The program, on at most so much text that the whole documentation takes a minute.
const WRAPPER: &str = r#"#!/bin/sh
had= last=
for word in "$@"; do
    shift
    case "$last $word" in
        "--tokens "*) [ "$word" -gt 1500 ] && word=1500; had=1 ;;
        "--n-prompts 8") word=2 ;;
        "--contexts "*) [ "$word" -gt 24 ] && word=24 ;;
    esac
    last=$word
    set -- "$@" "$word"
done
case "$1 $2" in
    "steer "*) set -- "$@" --random 2 ;;
    "lens causal") set -- "$@" --directions 4 ;;
    "lens fit"|"lens eval"|"probe law"|"future "*|"export "*) [ "$had" ] || set -- "$@" --tokens 3000 ;;
esac
exec "$LAYERSCOPE" "$@"
"#;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The commands of a page's `sh` blocks, a line each.
fn commands(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs").join(format!("{page}.md"))).unwrap();
    let mut blocks = Vec::new();
    let mut inside = false;
    for line in text.replace("\\\n", " ").lines() {
        match line.trim_start() {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => blocks.push(line.to_owned()),
            _ => {}
        }
    }
    blocks.retain(|line| ["layerscope ", "head ", "data="].iter().any(|start| line.starts_with(start)));
    blocks
}

/// Whether a command names something of the reader's own: `DIR`, `PAIRS.csv`, a lens that is not written yet.
fn is_example(command: &str) -> bool {
    let outside: String = command.split(['"', '\'']).step_by(2).collect();
    let placeholder = |word: &str| {
        let name = word.split('.').next().unwrap_or(word);
        !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase()) && !word.starts_with('-')
    };
    outside.split_whitespace().any(placeholder) || outside.contains('…') || outside.contains("shift")
}

/// The blocks of a language on a page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs").join(format!("{page}.md"))).unwrap();
    let opening = format!("```{language}\n");
    let blocks = text.split(opening.as_str()).skip(1);
    blocks.map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
}

/// The code of the page about families is code of the program, line for line, so that it cannot go stale; that of the
/// page about lenses is built into a copy of the tree by `scripts/adding_a_lens.py`.
#[test]
fn the_page_about_families_shows_code_that_there_is() {
    let dir = root().join("src/model/families");
    let files = dir.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let files =
        files.chain(["fixtures/families/cases.py", "scripts/hf_reference.py"].map(|file| root().join(file)));
    let words = |text: &str| {
        let line = |line: &str| line.split("  #").next().unwrap().trim().to_owned(); // the page adds comments
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    };
    let files: Vec<String> =
        files.filter_map(|file| std::fs::read_to_string(file).ok()).map(|text| words(&text)).collect();
    let shown: Vec<String> = ["rust", "python"].iter().flat_map(|of| blocks("adding-a-family", of)).collect();
    assert!(shown.len() >= 4, "{shown:?}");
    for block in shown {
        assert!(files.iter().any(|file| file.contains(&words(&block))), "no file has\n{block}");
    }
}

#[test]
#[ignore = "takes minutes: cargo test --release --test tests -- --ignored the_documentation_runs_as_pasted"]
fn the_documentation_runs_as_pasted() {
    let dir = tempfile::tempdir().unwrap();
    symlink(root().join("fixtures"), dir.path().join("fixtures")).unwrap();
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("layerscope"), WRAPPER).unwrap();
    std::fs::set_permissions(bin.join("layerscope"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let (mut ran, mut bad) = (0, Vec::new());
    for page in PAGES {
        let all = commands(page);
        let (examples, runnable): (Vec<_>, Vec<_>) = all.into_iter().partition(|line| is_example(line));
        assert!(examples.len() <= 4, "{page}: {examples:?}");
        ran += runnable.iter().filter(|line| line.starts_with("layerscope")).count();
        let script =
            runnable.iter().map(|line| format!("{line} || echo FAILED: '{}' >&2\n", line.replace('\'', "")));
        let script = script.collect::<String>();
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(dir.path()).env("PATH", &path).stdin(Stdio::null());
        shell.env("LAYERSCOPE", env!("CARGO_BIN_EXE_layerscope")).env("HF_HUB_OFFLINE", "1");
        shell.env("OMP_WAIT_POLICY", "PASSIVE");
        let output = shell.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let lines = said.lines().filter(|line| line.starts_with("FAILED") || line.starts_with("error"));
        bad.extend(lines.map(|line| format!("{page}: {line}")));
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert!(ran >= 35, "only {ran} commands were found");
}
