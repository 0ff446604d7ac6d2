//! `lens fit`, `lens eval` and `lens transfer` from the outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use layerscope::{
    lens::artifact::{LensConfig, LensFolder, LensKind, ModelRef, unembed_sha256},
    model::{Model, Weights},
    results::run::{METRICS, MetricRow, RowKind, read_metrics},
};
use serde_json::{Value, json};
use tch::{Device, Kind};

use crate::cli::{end, files, gpt2, layerscope, path, refuse_all, result, rewrite, tiny, words};
use crate::properties::fixture;

const CHECKPOINT: &str = "checkpoint.safetensors";
/// A short fit of every layer.
const SHORT: &str = "--tokens 3000 --step-tokens 256 --batch-tokens 512";

pub(crate) fn llama() -> String {
    path(fixture("llama-alice-6l"))
}

pub(crate) fn stories() -> String {
    path(fixture("stories.jsonl"))
}

pub(crate) fn lens(command: &str, model: &str, data: &str, out: &Path, extra: &str) -> Command {
    let mut all = layerscope();
    all.args(["lens", command, "--quiet", "--threads", "1", "--model", model, "--data", data, "--out"]);
    all.arg(out).args(words(extra));
    all
}

/// Runs a command that must succeed with `--json`; returns its events.
pub(crate) fn events(command: &mut Command) -> Vec<Value> {
    let ended = end(command.arg("--json"));
    assert_eq!(ended.code, Some(0), "{command:?}: {}", ended.err);
    result(&ended.out);
    ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Losses per layer of every validation of `target`, in order. The first is of the identity.
pub(crate) fn validations(events: &[Value], target: &str) -> Vec<Vec<f64>> {
    let of = |e: &&Value| e["event"] == "validated" && e["target"] == target;
    let losses = |e: &Value| e["layers"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    events.iter().filter(of).map(losses).collect()
}

fn names(dir: &Path) -> BTreeSet<String> {
    files(dir).into_keys().map(path).collect()
}

/// Everything but the manifest, which quotes the command line.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = files(dir);
    files.remove(Path::new("manifest.json")).expect("a manifest");
    files
}

/// The golden's random translators as the folder of a tuned lens for this model.
pub(crate) fn made_lens(model: &str, random: &str, dir: &Path) {
    let folder = fixture(model);
    let loaded = Model::load(&folder, Kind::Float, Device::Cpu, |_, _| ()).unwrap();
    let (d_model, n_layers) = (loaded.spec().d_model, loaded.spec().n_layers);
    let params = fixture("lenses").join(random).join("params.safetensors");
    let params = Weights::open_file(&params, Kind::Float).unwrap();
    let tensor = |name: &str| (name.to_owned(), params.take_any(name).unwrap());
    let config = LensConfig {
        kind: LensKind::Tuned,
        site: "resid_pre".into(),
        model: ModelRef { name: model.into(), sha256: None },
        d_model,
        n_layers,
        unembed_sha256: Some(unembed_sha256(loaded.unembed()).unwrap()),
        tokenizer_sha256: None,
        layers: (0..n_layers).collect(),
        horizons: vec![1],
        details: json!({}),
    };
    let tensors = params.shapes().map(|(name, _)| tensor(name)).collect();
    std::fs::create_dir_all(dir).unwrap();
    LensFolder::write(dir, &config, &tensors).unwrap();
}

/// The last ten documents, which no short fit has seen.
fn unseen(dir: &Path) -> String {
    let all = std::fs::read_to_string(fixture("stories.jsonl")).unwrap();
    let lines: Vec<&str> = all.lines().collect();
    let file = dir.join("unseen.jsonl");
    std::fs::write(&file, lines[lines.len() - 10..].join("\n")).unwrap();
    path(file)
}

pub(crate) fn find<'a>(
    rows: &'a [MetricRow],
    subject: &str,
    layer: i32,
    horizon: i32,
    metric: &str,
) -> &'a MetricRow {
    let same = |r: &&MetricRow| {
        (r.subject.as_str(), r.layer, r.horizon, r.metric.as_str()) == (subject, layer, horizon, metric)
            && r.source_layer.is_none()
            && r.unit != "bits/byte"
    };
    rows.iter().find(same).unwrap_or_else(|| panic!("no {metric} of {subject} at layer {layer}"))
}

#[test]
fn every_kind_fits_and_reads_a_text_it_has_not_seen() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fits = [
        ("tuned", "", vec!["tuned"], SHORT),
        (
            "shared",
            "--layers 2,6 --rung affine --rung gain --rung affine",
            vec!["affine", "gain", "rotated-affine"],
            SHORT,
        ),
        ("linear", "--layers 2,6", vec!["linear"], SHORT),
        ("future", "--layers 2,6 --horizons 2", vec!["horizon 1", "horizon 2"], SHORT),
    ];
    for (kind, extra, targets, size) in &fits {
        let extra = format!("--kind {kind} {extra} {size}");
        let events = events(&mut lens("fit", &gpt2(), &stories(), &at(kind), &extra));
        let held_out = &events.last().unwrap()["held_out"];
        assert_eq!(held_out.as_object().unwrap().keys().collect::<BTreeSet<_>>().len(), targets.len());
        for target in targets.iter().filter(|t| **t != "rotated-affine") {
            let all = validations(&events, target);
            for (layer, identity) in all[0].iter().enumerate() {
                let best = held_out[target][layer].as_f64().unwrap();
                assert!(best < *identity, "{kind}, {target}, place {layer}: {best} from {identity}");
            }
        }
        let mut expected =
            vec!["config.json", "fit.parquet", "fitted_on.parquet", "manifest.json", "params.safetensors"];
        if *kind == "tuned" {
            expected.push("params.pt"); // a whole tuned lens, which the package knows
        }
        assert_eq!(names(&at(kind)), expected.into_iter().map(str::to_owned).collect(), "{kind}");
        let config: Value =
            serde_json::from_slice(&std::fs::read(at(kind).join("config.json")).unwrap()).unwrap();
        let own = &config["layerscope"];
        assert_eq!((&own["kind"], &own["site"]), (&json!(kind), &json!("resid_pre")));
        assert_eq!((&config["d_model"], &config["num_hidden_layers"]), (&json!(128), &json!(8)));
        assert_eq!(own["horizons"], if *kind == "future" { json!([1, 2]) } else { json!([1]) });
        for hash in [&own["unembed_sha256"], &own["tokenizer_sha256"], &own["model"]["sha256"]] {
            assert_eq!(hash.as_str().unwrap().len(), 64);
        }
        let again = events_of_a_repeat(kind, &extra, &at(kind));
        assert_eq!(again.last().unwrap()["complete"], true);
    }

    let run = at("run");
    let mut command =
        lens("eval", &gpt2(), &unseen(dir.path()), &run, "--tokens 1500 --replicates 50 --lens logit");
    for (kind, ..) in &fits {
        command.arg("--lens").arg(at(kind));
    }
    let last = events(&mut command).pop().unwrap();
    let rows = read_metrics(&run).unwrap(); // which checks the columns
    assert_eq!(last["rows"], json!(rows.len()));
    let kl = |subject: &str, layer| find(&rows, subject, layer, 1, "kl").estimate;
    for layer in 0..8 {
        assert!(kl("tuned", layer) < kl("logit", layer), "layer {layer}");
    }
    for layer in [2, 6] {
        for subject in ["shared:affine", "shared:gain"] {
            assert!(kl(subject, layer) < kl("logit", layer), "{subject}, layer {layer}");
        }
        assert!(kl("linear", layer) < kl("logit", layer), "layer {layer}");
        let ce = |horizon| find(&rows, "future", layer, horizon, "ce").estimate;
        assert!(ce(1) < ce(2) && ce(2).is_finite());
    }
    for baseline in ["unigram", "bigram", "skipgram"] {
        assert!(find(&rows, baseline, 0, 2, "accuracy").estimate > 0.0);
    }
    assert!(find(&rows, "constant", 0, 1, "kl").estimate > 0.0);
    assert_eq!(find(&rows, "model", 8, 1, "ce").kind, RowKind::Model);
    for row in rows.iter().filter(|r| r.metric != "marginal_kl" && r.subject != "constant") {
        let (lower, upper) = (row.lower.unwrap(), row.upper.unwrap());
        assert!(lower <= upper && row.n_clusters > 1, "{row:?}");
        let slack = 0.3 * row.estimate.abs();
        assert!(lower - slack <= row.estimate && row.estimate <= upper + slack, "{row:?}");
    }
    let bits =
        rows.iter().find(|r| r.unit == "bits/byte" && r.subject == "model" && r.metric == "ce").unwrap();
    assert!(bits.estimate < find(&rows, "model", 8, 1, "ce").estimate && bits.estimate > 0.5);
}

fn events_of_a_repeat(kind: &str, extra: &str, out: &Path) -> Vec<Value> {
    let before = files(out);
    let events = events(&mut lens("fit", &gpt2(), &stories(), out, extra));
    assert!(files(out) == before, "{kind}: a complete fit was changed");
    events
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until `dir` has had `n` checkpoints, each a new file under the old name, or the command has ended.
fn wait_for_checkpoints(child: &mut Child, dir: &Path, n: usize) {
    let started = Instant::now();
    let mut seen = BTreeSet::new();
    while seen.len() < n && child.try_wait().unwrap().is_none() {
        if let Ok(checkpoint) = dir.join(CHECKPOINT).metadata() {
            seen.insert((checkpoint.ino(), checkpoint.mtime_nsec()));
        }
        assert!(started.elapsed() < Duration::from_secs(120), "no {n} checkpoints in two minutes");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Ends a started command with SIGINT; it must say so.
fn interrupt(child: Child, says: &str) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let err = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), err.as_str()), (Some(4), says));
}

/// A fit that is killed after several numbers of checkpoints, interrupted and repeated, against one that is not.
fn resumes(extra: &str) {
    let dir = tempfile::tempdir().unwrap();
    let extra = format!("{extra} --checkpoint-seconds 0");
    let fit = |out: &Path| lens("fit", &llama(), &stories(), out, &extra);
    // One name: it is the lens's.
    let (whole, out) = (dir.path().join("a/lens"), dir.path().join("b/lens"));
    assert_eq!(end(&mut fit(&whole)).code, Some(0));
    let expected = content(&whole);
    assert!(!expected.contains_key(Path::new(CHECKPOINT)));
    for checkpoints in [0, 2, 3] {
        let mut child = start(&mut fit(&out));
        wait_for_checkpoints(&mut child, &out, checkpoints);
        assert!(child.try_wait().unwrap().is_none(), "{extra}: ended before it was killed");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!out.join("config.json").exists(), "{extra}: half a lens passes for a whole one");
    }
    assert!(out.join(CHECKPOINT).exists());
    let mut child = start(&mut fit(&out));
    wait_for_checkpoints(&mut child, &out, 2);
    interrupt(child, "error: interrupted; repeat the command to go on\n");
    assert_eq!(end(&mut fit(&out)).code, Some(0));
    let got = content(&out);
    assert!(got.keys().eq(expected.keys()), "{extra}: {:?}", got.keys());
    for (file, bytes) in &expected {
        assert!(got[file] == *bytes, "{extra}: {} differs", file.display());
    }
}

#[test]
fn a_killed_fit_ends_with_the_same_bytes() {
    resumes(&format!("--kind tuned {SHORT}"));
}

#[test]
#[ignore = "slow; .ci/run runs it"]
fn every_killed_fit_ends_with_the_same_bytes() {
    for extra in [
        "--kind tuned --optimizer sgd",
        "--kind tuned --optimizer adam",
        "--kind tuned --optimizer muon --loss ce",
        "--kind shared --rung gain --rung rank-4 --rung standardised",
        "--kind future --refine --horizons 2",
    ] {
        resumes(&format!("{extra} --layers 1,4 {SHORT}"));
    }
}

/// Moments of a whole text take a while before the first step.
#[test]
fn a_closed_form_can_be_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("lens");
    let mut child = start(&mut lens("fit", &llama(), &stories(), &out, "--kind linear"));
    while !out.join("manifest.json").exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    interrupt(child, "error: interrupted; repeat the command to go on\n");
    assert!(!out.join("config.json").exists());
}

#[test]
fn a_killed_evaluation_ends_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made");
    made_lens("llama-alice-6l", "random-llama", &made);
    let extra = format!("--tokens 8000 --replicates 20 --lens logit --lens {}", path(&made));
    let eval = |out: &Path| lens("eval", &llama(), &stories(), out, &extra);
    let (whole, out) = (dir.path().join("whole"), dir.path().join("out"));
    assert_eq!(end(&mut eval(&whole)).code, Some(0));
    let into_the_run = |out: &Path| {
        let mut child = start(&mut eval(out));
        while !out.join("manifest.json").exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(100));
        child
    };
    interrupt(into_the_run(&out), "error: interrupted; repeat the command to start over\n");
    for _ in 0..2 {
        let mut child = into_the_run(&out);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!out.join(METRICS).exists());
    }
    assert_eq!(end(&mut eval(&out)).code, Some(0));
    assert!(content(&out) == content(&whole));
}

#[test]
fn the_references_optimisers_lower_the_loss_too() {
    let dir = tempfile::tempdir().unwrap();
    for optimizer in ["sgd", "adam", "muon"] {
        let extra = format!("--kind tuned --optimizer {optimizer} --layers 3 {SHORT}");
        let events = events(&mut lens("fit", &llama(), &stories(), &dir.path().join(optimizer), &extra));
        let losses: Vec<f64> = validations(&events, "tuned").iter().map(|l| l[0]).collect();
        assert!(losses.len() >= 5 && losses.last().unwrap() < &(0.97 * losses[0]), "{optimizer}: {losses:?}");
    }
}

#[test]
fn a_transfer_ends_in_a_verdict_and_its_diagonal_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    made_lens("llama-alice-6l", "random-llama", &at("made"));
    let shared = format!("--kind shared --layers 1,3,5 {SHORT}");
    events(&mut lens("fit", &llama(), &stories(), &at("shared"), &shared));
    let extra =
        format!("--tokens 2000 --layers 1,3,5 --lens {} --lens {}", path(at("made")), path(at("shared")));
    let transfer = |out: &str| lens("transfer", &llama(), &stories(), &at(out), &extra);
    let last = events(&mut transfer("run")).pop().unwrap();
    let rows = read_metrics(&at("run")).unwrap();
    assert_eq!(last["rows"], json!(rows.len()));
    let verdict = last["verdict"].as_str().unwrap();
    assert!(verdict.contains("Verdict: ") && verdict.contains("shared:affine"), "{verdict}");
    assert_eq!(std::fs::read_to_string(at("run").join("verdict.txt")).unwrap(), verdict);
    for (kind, cells) in [(RowKind::Transfer, 9), (RowKind::TransferCorrected, 27)] {
        let penalties: Vec<_> =
            rows.iter().filter(|r| r.kind == kind && r.metric.starts_with("penalty_")).collect();
        assert_eq!(penalties.len(), 2 * cells);
        let own = penalties.iter().filter(|r| r.source_layer == Some(r.layer));
        // Nothing varies there, so that there is no interval.
        assert!(own.clone().all(|r| r.estimate == 0.0 && r.lower.is_none() && r.reason.is_some()));
        assert_eq!(own.count(), 2 * cells / 3);
    }
    for reader in ["logit", "shared:affine", "shared:rotated-affine"] {
        assert_eq!(rows.iter().filter(|r| r.subject == reader && r.metric == "kl").count(), 3, "{reader}");
    }
    let geometry = rows.iter().filter(|r| r.kind == RowKind::Geometry && r.metric == "cka");
    assert!(geometry.clone().count() == 3 && geometry.clone().all(|r| (0.0..=1.0).contains(&r.estimate)));
    events(&mut transfer("again"));
    assert!(content(&at("run")) == content(&at("again")));
}

#[test]
fn a_lens_of_another_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (made, out) = (dir.path().join("made"), dir.path().join("out"));
    made_lens("gpt2-alice-8l", "random-gpt2", &made);
    let eval = |model: &str| -> Vec<String> {
        let mut args = words("lens eval --tokens 300 --replicates 0 --layers 3 --model");
        args.extend([model.into(), "--data".into(), stories(), "--lens".into(), path(&made)]);
        args.extend(["--out".into(), path(&out)]);
        args
    };
    let says = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    refuse_all(&[(eval(&llama()), 3, says(&["made", "made for 128 of d_model, this model has 96"]))]);
    assert!(!out.exists(), "a refused evaluation left a folder");

    // The same shape, another head.
    let config = made.join("config.json");
    let mut other: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    let hash = other["layerscope"]["unembed_sha256"].as_str().unwrap().to_owned();
    let first = if hash.starts_with('0') { "1" } else { "0" };
    other["layerscope"]["unembed_sha256"] = json!(format!("{first}{}", &hash[1..]));
    std::fs::write(&config, other.to_string()).unwrap();
    let mut transfer = eval(&gpt2());
    for arg in &mut transfer {
        match arg.as_str() {
            "eval" => *arg = "transfer".into(),
            "3" => *arg = "2,3".into(),
            name if *name == path(&out) => *arg = path(dir.path().join("transfer")),
            _ => {}
        }
    }
    let message = says(&["gpt2-alice-8l", &hash[..12], "--other-unembedding"]);
    refuse_all(&[(eval(&gpt2()), 3, message.clone()), (transfer, 3, message)]);
    assert!(!dir.path().join("transfer").exists(), "a refused transfer left a folder");
    assert!(!out.exists(), "a refused evaluation left a folder");
    let ended = end(layerscope().args(eval(&gpt2())).args(["--quiet", "--other-unembedding"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.starts_with("warning: ") && ended.err.lines().count() == 1, "{ended:?}");
    assert!(find(&read_metrics(&out).unwrap(), "made", 3, 1, "kl").estimate > 0.0);
}

#[test]
fn fit_refuses_what_it_cannot_do_and_leaves_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let out = path(dir.path().join("out"));
    let window = path(dir.path().join("window.txt"));
    std::fs::write(&window, "Alice was beginning to get very tired of sitting by her sister on the bank")
        .unwrap();
    let tiny_text = path(dir.path().join("tiny.txt"));
    std::fs::write(&tiny_text, "w1 w2 w3 w4 w5 w6 w7 ".repeat(60)).unwrap();
    let parallel = tiny("falcon-7b");
    let fit = |model: &str, data: &str, extra: &str, says: &[&str]| {
        let mut args = words("lens fit --model");
        args.extend([model.into(), "--data".into(), data.into(), "--out".into(), out.clone()]);
        args.extend(words(extra));
        (args, 2, says.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    };
    let good =
        |extra: &str, says: &[&str]| fit(&llama(), &stories(), &format!("--tokens 3000 {extra}"), says);
    refuse_all(&[
        good("--kind shared --rung nonsense", &["--rung", "\"nonsense\"", "layer-bias"]),
        good("--kind shared --rung rank-0", &["--rung", "\"rank-0\""]),
        good("--kind shared --optimizer sgd", &["Sgd fits tuned lenses only"]),
        good("--kind mlp", &["mlp", "tuned, shared, linear, future"]),
        good("--kind tuned --site resid_end", &["resid_end", "--site", "attn_out"]),
        good("--kind tuned --layers 99", &["no layer 99", "0 to 6"]),
        good("--kind tuned --layers 6", &["--layers", "below layer 6"]),
        good("--kind linear --target 9", &["--target", "no layer 9", "6"]),
        good("--kind linear --target 0", &["--target"]),
        good("--kind future --horizons 0", &["--horizons"]),
        good("--kind future --horizons 300", &["--horizons 300", "longest window"]),
        good("--kind tuned --target 3", &["--target", "linear"]),
        good("--kind tuned --rate 0", &["--rate"]),
        good("--kind tuned --step-tokens 0", &["--step-tokens"]),
        good("--kind tuned --step-tokens 100000", &["too few", "100000", "--step-tokens"]),
        good("--kind tuned --seq-len 257", &["--seq-len 257", "256"]),
        fit(&llama(), &window, "--kind tuned --step-tokens 4", &["one window", "held out"]),
        fit(&llama(), &window, "--kind linear", &["one window", "held out"]),
        fit(
            &path(parallel.path()),
            &tiny_text,
            "--kind tuned --site resid_mid --step-tokens 16",
            &["--site resid_mid", "resid_mid"],
        ),
    ]);
    assert!(!Path::new(&out).exists(), "a refused fit left a folder");
}

#[test]
fn broken_lens_folders_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    let broken = |name: &str, change: &dyn Fn(&Path)| {
        made_lens("llama-alice-6l", "random-llama", Path::new(&at(name)));
        let params = Path::new(&at(name)).join("params.safetensors");
        change(&params);
        at(name)
    };
    let cut = broken("cut", &|file| {
        let bytes = std::fs::read(file).unwrap();
        std::fs::write(file, &bytes[..bytes.len() - 8]).unwrap();
    });
    let nan = broken("nan", &|file| {
        rewrite(file, file, |t| {
            t.get_mut("layer.2.bias").unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes())
        });
    });
    let missing = broken("missing", &|file| rewrite(file, file, |t| drop(t.remove("layer.2.bias"))));
    let turned = broken("turned", &|file| {
        rewrite(file, file, |t| t.get_mut("layer.2.weight").unwrap().1 = vec![48, 192]);
    });
    let gone = broken("gone", &|file| {
        std::fs::remove_file(file).unwrap();
        std::fs::remove_file(file.with_file_name("params.pt")).unwrap();
    });
    let eval = |lens: &str, code: i32, says: &[&str]| {
        let mut args = words("lens eval --tokens 300 --model");
        args.extend([llama(), "--data".into(), stories(), "--out".into(), at("out")]);
        args.extend(["--lens".into(), lens.into()]);
        (args, code, says.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    };
    let with = |(mut args, code, says): (Vec<String>, i32, Vec<String>), command: &str, extra: &str| {
        args[1] = command.into();
        args.extend(words(extra));
        (args, code, says)
    };
    made_lens("llama-alice-6l", "random-llama", Path::new(&at("good")));
    std::fs::write(at("one.txt"), "Alice was beginning").unwrap();
    let mut one_window = eval(&at("good"), 2, &["one window"]);
    one_window.0.iter_mut().filter(|a| **a == stories()).for_each(|a| *a = at("one.txt"));
    refuse_all(&[
        eval("/no/such/lens", 2, &["--lens /no/such/lens", "no such folder"]),
        eval(&llama(), 2, &["llama-alice-6l", "config.json"]),
        eval(&cut, 2, &["cut/params.safetensors"]),
        eval(&nan, 2, &["nan/params.safetensors", "\"layer.2.bias\"", "NaN"]),
        eval(&gone, 2, &["gone/params"]),
        with(eval(&at("good"), 2, &["no layer 99", "0 to 6"]), "eval", "--layers 99"),
        with(eval("logit", 2, &["first must be a tuned, linear or Jacobian lens"]), "transfer", ""),
        with(eval(&at("good"), 2, &["two layers", "1"]), "transfer", "--layers 3 --force"),
        with(one_window, "transfer", "--force"),
    ]);
    for (lens, name, says) in
        [(missing, "layer.2.bias", "is missing"), (turned, "layer.2.weight", "shape [48, 192]")]
    {
        refuse_all(&[with(eval(&lens, 2, &["params.safetensors", name, says]), "eval", "--force")]);
    }
    assert!(!Path::new(&at("out")).join(METRICS).exists());
}
