//! Arguments that make no sense, and output folders that are not ours.

use crate::cli::{files, gpt2, path, refuse_all, succeed, tiny, words};

fn row(args: &[&str], code: i32, says: &[&str]) -> (Vec<String>, i32, Vec<String>) {
    let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    (own(args), code, own(says))
}

#[test]
fn view_refuses_what_it_cannot_do() {
    let model = gpt2();
    let view = |extra: &[&str], says: &[&str]| {
        row(&[&["view", "--model", &model, "--text", "Alice was"], extra].concat(), 2, says)
    };
    let mut rows = vec![
        view(&["--metric", "mood"], &["'mood'", "prob, entropy, kl, rank, ce"]),
        view(&["--lens", "/tmp/some-lens"], &["--lens /tmp/some-lens", "no such folder"]),
        view(&["--layers", "0,99"], &["no layer 99", "0 to 8"]),
        view(&["--top-k", "0"], &["--top-k"]),
        view(&["--layers", "x"], &["`x` is not a layer number"]),
        view(&["--dtype", "f64x"], &["f64x", "auto, f32, bf16 or f16"]),
        view(&["--device", "tpu"], &["tpu", "auto, cpu, cuda"]),
        view(&["--tokens", "0"], &["--tokens"]),
        view(&["--config", "/nonexistent.toml"], &["/nonexistent.toml", "No such file"]),
        row(&["view", "--model", &model], 2, &["--text"]),
        row(&["view", "--model", &model, "--text", ""], 2, &["--text is empty"]),
        row(&["info", "--model", "./no/such/folder"], 2, &["./no/such/folder"]),
        row(&["info", "--model", "no-such/model"], 2, &["no-such/model"]),
    ];
    if !tch::Cuda::is_available() {
        rows.push(view(&["--device", "cuda"], &["cuda:0 is not available"]));
    }
    refuse_all(&rows);
}

#[test]
fn export_refuses_what_it_cannot_do() {
    let (model, parallel) = (gpt2(), tiny("falcon-7b"));
    let dir = tempfile::tempdir().unwrap();
    let data = path(dir.path().join("a.txt"));
    std::fs::write(&data, "w1 Alice was").unwrap();
    let out = path(dir.path().join("out"));
    let export = |extra: &[&str], says: &[&str]| {
        row(&[&["export", "--model", &model, "--data", &data, "--out", &out], extra].concat(), 2, says)
    };
    let parallel = path(parallel.path());
    refuse_all(&[
        export(&["--hooks", "resid_pree"], &["`resid_pree`", "did you mean `resid_pre`?"]),
        export(&["--hooks", "blocks.[0-"], &["`blocks.[0-` is not a glob"]),
        export(&["--hooks", "pattern"], &["hook_pattern", "cannot be exported"]),
        export(&["--hooks", "mlp_pre_linear"], &["`mlp_pre_linear`", "not gated"]),
        export(&["--layers", "9"], &["layer 9", "0 to 8"]),
        export(&["--hooks", "mlp-post", "--layers", "8"], &["no layer 8: mlp_post has layers 0 to 7"]),
        export(&["--hooks", "blocks.9.resid_pre"], &["no layer 9: resid_pre has layers 0 to 8"]),
        export(&["--hooks", "blocks.0.attn.o.hook_in"], &["here it is `blocks.0.attn.hook_z`"]),
        export(&["--positions", "lst"], &["`lst`", "stride:K"]),
        export(&["--positions", "200:300"], &["200:300", "selects no token"]),
        export(&["--seq-len", "257"], &["--seq-len 257", "context length 256"]),
        export(&["--tokens", "0"], &["--tokens must be at least 1"]),
        export(&["--batch-tokens", "0"], &["--batch-tokens"]),
        export(&["--shard-mb", "0"], &["--shard-mb"]),
        row(
            &["export", "--model", &model, "--data", "-", "-", "--out", &out],
            2,
            &["stdin (-) can be read only once"],
        ),
        row(
            &["export", "--model", &parallel, "--data", &data, "--out", &out, "--hooks", "resid_mid"],
            2,
            &["resid_mid", "parallel"],
        ),
        row(
            &["export", "--model", &parallel, "--data", &data, "--out", &out, "--hooks", "pos_embed"],
            2,
            &["rotary"],
        ),
    ]);
    assert!(!std::path::Path::new(&out).exists());
}

#[test]
fn output_folders_of_others_are_left_alone() {
    let model = gpt2();
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| path(dir.path().join(name));
    std::fs::write(place("a.txt"), "Alice was beginning").unwrap();
    std::fs::write(place("file"), "mine").unwrap();
    std::fs::create_dir(place("foreign")).unwrap();
    std::fs::write(dir.path().join("foreign/notes.md"), "mine").unwrap();
    std::fs::create_dir(place("damaged")).unwrap();
    std::fs::write(dir.path().join("damaged/manifest.json"), "{").unwrap();
    let data = place("a.txt");
    let export = |out: &str, extra: &str| -> Vec<String> {
        let args = ["export", "--model", &model, "--data", &data, "--out", out].map(str::to_owned);
        [args.to_vec(), words(extra)].concat()
    };
    succeed(&export(&place("other"), "--quiet --layers 0 --positions last"));
    let before = files(dir.path());
    let says = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    refuse_all(&[
        (export(&place("file"), ""), 1, says(&["cannot create", "file"])),
        (export("/dev/full", ""), 1, says(&["/dev/full"])),
        (export(&place("a.txt/x"), ""), 1, says(&["a.txt/x", "Not a directory"])),
        (export(&place("foreign"), ""), 2, says(&["foreign is not empty", "notes.md"])),
        (export(&place("foreign"), "--force"), 2, says(&["foreign is not empty", "notes.md"])),
        (export(&place("damaged"), ""), 1, says(&["damaged/manifest.json"])),
        (
            export(&place("other"), "--layers 0 --positions first"),
            2,
            says(&["config.positions was \"last\", is now \"first\""]),
        ),
        (export(&place("other"), "--layers 1 --positions last"), 2, says(&["holds another job", "--force"])),
    ]);
    assert!(files(dir.path()) == before, "a refused export changed something");
}

/// Bytes that are no text, at the end of a name.
#[cfg(unix)]
fn broken(name: &str) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStringExt as _;
    std::ffi::OsString::from_vec([name.as_bytes(), b"\xff"].concat())
}

#[test]
#[cfg(unix)]
fn paths_need_not_be_utf8() {
    use std::ffi::OsString;
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(broken(name));
    let model = place("model");
    std::os::unix::fs::symlink(crate::cli::fixture("gpt2-alice-8l"), &model).unwrap();
    let data = place("folder").join("stories.jsonl");
    std::fs::create_dir(place("folder")).unwrap();
    std::fs::copy(crate::cli::fixture("stories.jsonl"), &data).unwrap();
    let command = |text: &str, paths: &[(&str, OsString)]| {
        let mut args: Vec<OsString> = words(text).into_iter().map(OsString::from).collect();
        for (flag, path) in paths {
            args.extend((!flag.is_empty()).then(|| (*flag).into()));
            args.push(path.clone());
        }
        succeed(&args)
    };
    let (model, data) = (("--model", model.into_os_string()), ("--data", data.into_os_string()));
    let out = |name: &str| ("--out", place(name).into_os_string());
    let lens = place("lens").into_os_string();
    command("info --json --quiet", std::slice::from_ref(&model));
    command("export --json --quiet --layers 0 --tokens 500", &[model.clone(), data.clone(), out("acts")]);
    command(
        "view --json --quiet --text Alice",
        &[model.clone(), out("prompt"), ("--html", place("page").into())],
    );
    command(
        "lens fit --json --quiet --kind linear --layers 2 --tokens 2000",
        &[model.clone(), data.clone(), ("--out", lens.clone())],
    );
    command(
        "lens eval --json --quiet --layers 2 --tokens 1000",
        &[model.clone(), data.clone(), ("--lens", "logit".into()), ("--lens", lens), out("eval")],
    );
    command("generate --json --quiet --text Alice --max-new-tokens 2", &[model.clone(), out("said")]);
    command("trace --json --quiet --clean He --corrupted She --layers 2", &[model, out("trace")]);
    command(
        "report --json --quiet",
        &[("", place("eval").into()), ("", place("prompt").into()), out("report")],
    );
    assert!(place("report").join("report.html").is_file());
}

#[test]
#[cfg(unix)]
fn text_that_is_not_utf8_is_named() {
    let model = gpt2();
    let says = |args: &[std::ffi::OsString], says: &str| {
        let ended = crate::cli::run(args);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert_eq!(ended.err.trim_end(), format!("error: {says}"));
    };
    let view = |rest: Vec<std::ffi::OsString>| {
        ["view", "--model", &model].into_iter().map(Into::into).chain(rest).collect::<Vec<_>>()
    };
    says(&view(vec!["--text".into(), broken("Alice")]), "--text: text must be UTF-8, \"Alice\\xff\" is not");
    says(&view(vec![broken("--text=Alice")]), "--text: text must be UTF-8, \"--text=Alice\\xff\" is not");
}
