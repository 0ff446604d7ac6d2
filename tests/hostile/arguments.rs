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
        view(&["--layers", "x"], &["`x` is not a layer number"]),
        view(&["--dtype", "f64x"], &["f64x", "auto, f32, bf16 or f16"]),
        view(&["--device", "tpu"], &["tpu", "auto, cpu, cuda"]),
        view(&["--tokens", "0"], &["--tokens"]),
        view(&["--config", "/nonexistent.toml"], &["/nonexistent.toml", "No such file"]),
        row(&["view", "--model", &model], 2, &["--text"]),
        row(&["info", "--model", "./no/such/folder"], 1, &["./no/such/folder"]),
        row(&["info", "--model", "no-such/model"], 1, &["no-such/model"]),
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
        (export(&place("foreign"), ""), 1, says(&["foreign is not empty", "notes.md"])),
        (export(&place("foreign"), "--force"), 1, says(&["foreign is not empty", "notes.md"])),
        (export(&place("damaged"), ""), 1, says(&["damaged/manifest.json"])),
        (
            export(&place("other"), "--layers 0 --positions first"),
            1,
            says(&["config.positions was \"last\", is now \"first\""]),
        ),
        (export(&place("other"), "--layers 1 --positions last"), 1, says(&["holds another job", "--force"])),
    ]);
    assert!(files(dir.path()) == before, "a refused export changed something");
}
