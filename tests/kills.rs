//! A command that is killed at any moment and repeated ends with the bytes of one that was left alone; and three that
//! race for one folder leave it as one would.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use crate::cli::{end, files, path, refusal};
use crate::lens_cli::{lens, llama, stories};
use crate::runs::{Bench, Kind, two_at_a_time};

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Runs the command to its end in a fresh folder; its files, and how long it took.
fn undisturbed(command: &mut Command, out: &Path) -> (Files, Duration) {
    let _none_yet = fs::remove_dir_all(out);
    let started = Instant::now();
    let ended = end(command);
    assert_eq!(ended.code, Some(0), "{command:?}: {}", ended.err);
    (files(out), started.elapsed())
}

/// Starts the command and kills it after `moment`; whether it was still running.
fn kill_after(command: &mut Command, moment: Duration) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(moment);
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

/// Kills the command at every share of its time in turn, each time going on from what the last left; then lets it end.
fn killed_at(make: &dyn Fn() -> Command, out: &Path, shares: &[f64]) -> usize {
    let (expected, time) = undisturbed(&mut make(), out);
    fs::remove_dir_all(out).unwrap();
    let killed = shares.iter().filter(|share| kill_after(&mut make(), time.mul_f64(**share))).count();
    let ended = end(&mut make());
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let found = files(out);
    let other: Vec<&PathBuf> =
        expected.keys().chain(found.keys()).filter(|file| expected.get(*file) != found.get(*file)).collect();
    assert!(other.is_empty(), "{:?}: {other:?} differ", make());
    killed
}

#[test]
fn killed_fits_and_transfers_end_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let tuned = dir.path().join("tuned");
    assert_eq!(
        end(&mut lens("fit", &llama(), &stories(), &tuned, "--tokens 1000 --step-tokens 256 --kind tuned"))
            .code,
        Some(0)
    );
    let through = format!("--tokens 600 --lens {}", path(&tuned));
    let commands = [
        ("fit", "--tokens 1000 --kind future --horizons 2"),
        ("fit", "--tokens 1000 --kind future --horizons 2 --refine --checkpoint-seconds 0"),
        ("fit", "--tokens 1000 --kind future-vocab --horizons 2"),
        (
            "fit",
            "--tokens 1000 --kind future-prompt --horizons 2 --contexts 24 --prompt-tokens 2 --layers 2,4",
        ),
        (
            "fit",
            "--tokens 1000 --kind jacobian --n-prompts 4 --rows-per-prompt 48 --seq-len 24 --checkpoint-seconds 0",
        ),
        ("transfer", &through),
    ];
    let killed = AtomicUsize::new(0);
    let places: Vec<usize> = (0..commands.len()).collect();
    two_at_a_time(&places, |i| {
        let (out, (command, extra)) = (dir.path().join(i.to_string()), commands[*i]);
        let make = || lens(command, &llama(), &stories(), &out, extra);
        killed.fetch_add(killed_at(&make, &out, &[0.35, 0.6, 0.8, 0.95]), Ordering::Relaxed);
    });
    let killed = killed.into_inner();
    assert!(killed >= 8, "only {killed} of 24 were still running");
}

/// Every kind of run, at many moments. `docs/reliability.md` has the figures.
#[test]
#[ignore = "hundreds of processes"]
fn every_kind_of_run_killed_at_many_moments() {
    let (bench, killed) = (Bench::new(), AtomicUsize::new(0));
    let shares: Vec<f64> = (1..=16).map(|i| f64::from(i * 7 % 17) / 17.0).collect();
    two_at_a_time(&bench.kinds(), |kind| {
        let out = bench.at(&format!("killed-{}", kind.name));
        killed.fetch_add(killed_at(&|| kind.make(&out), &out, &shares), Ordering::Relaxed);
    });
    let of = shares.len() * bench.kinds().len();
    println!(
        "{} of {of} were killed while running; every one ended with the same bytes",
        killed.into_inner()
    );
}

/// What a killed run left and a disk then damaged is not gone on from.
#[test]
fn what_is_damaged_while_a_run_is_stopped_is_made_again() {
    let bench = Bench::new();
    let slow = "--checkpoint-seconds 0";
    for (name, part) in [
        ("export", "acts"),
        ("export-npy", "shards"),
        ("sweep", "cells"),
        ("sweep", "features"),
        ("fit-future-refined", slow),
    ] {
        let (kind, out) = (bench.kind(name), bench.at(&format!("stopped-{name}-{}", part.len())));
        let (expected, _) = undisturbed(&mut kind.make(&out), &out);
        stop(&kind, &out);
        let left: Vec<PathBuf> = files(&out).into_keys().filter(|file| file.starts_with(part)).collect();
        assert!(!left.is_empty() || part == slow, "{name}: nothing in {part}");
        for file in left {
            let path = out.join(file);
            let mut content = fs::read(&path).unwrap();
            let middle = content.len() / 2;
            content[middle] ^= 0x10;
            fs::write(path, content).unwrap();
        }
        let ended = end(&mut kind.make(&out));
        assert_eq!(ended.code, Some(0), "{name}: {}", ended.err);
        assert!(files(&out) == expected, "{name}, {part}");
    }
}

/// Takes the manifest back to what it was before the run was complete, as a kill just before the end leaves it.
fn stop(kind: &Kind, out: &Path) {
    let mut manifest = layerscope::results::run::Manifest::read(out).unwrap().unwrap();
    manifest.status = layerscope::results::run::Status::Running;
    manifest.outputs = Some(BTreeMap::new());
    manifest.counts = layerscope::results::run::Counts::default();
    manifest.write(out).unwrap();
    if kind.name == "sweep" {
        fs::remove_file(out.join("metrics.parquet")).unwrap();
    }
}

#[test]
fn a_damaged_checkpoint_starts_the_fit_over() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("fit");
    let make =
        || lens("fit", &llama(), &stories(), &out, "--tokens 1500 --kind tuned --checkpoint-seconds 0");
    let (expected, _) = undisturbed(&mut make(), &out);
    fs::remove_dir_all(&out).unwrap();
    let checkpoint = out.join("checkpoint.safetensors");
    let mut child = make().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !checkpoint.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut content = fs::read(&checkpoint).expect("a checkpoint");
    let middle = content.len() / 2;
    content[middle] ^= 0x10;
    fs::write(&checkpoint, content).unwrap();
    let ended = end(&mut make());
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(
        ended.err.contains("checkpoint.safetensors is damaged") && ended.err.contains("starts over"),
        "{}",
        ended.err
    );
    assert!(files(&out) == expected);
}

#[test]
fn a_run_does_not_go_on_with_other_arithmetic() {
    let bench = Bench::new();
    for (name, change, says) in [
        ("fit-tuned", "threads", "compute.threads was 1, is now 2"),
        ("export", "avx2", "compute.instructions was"),
    ] {
        let (kind, out) = (bench.kind(name), bench.at(&format!("other-{name}")));
        let other = || {
            let mut command = kind.make(&out);
            if change == "threads" {
                let args: Vec<_> =
                    command.get_args().map(|a| if a == "1" { "2".into() } else { a.to_owned() }).collect();
                command = crate::cli::layerscope();
                command.args(args);
            } else {
                command.env("ATEN_CPU_CAPABILITY", "default");
            }
            command
        };
        let (expected, _) = undisturbed(&mut kind.make(&out), &out);
        // Complete, it is what it is, whoever asks.
        let ended = end(&mut other());
        assert_eq!(ended.code, Some(0), "{name}: {}", ended.err);
        assert!(files(&out) == expected);
        stop(&kind, &out);
        let wrong = refusal(&mut other(), 1, &[says, "--force"]);
        assert!(wrong.is_none(), "{name}: {}", wrong.unwrap_or_default());
        assert_eq!(end(&mut kind.make(&out)).code, Some(0));
        assert!(files(&out) == expected, "{name}");
    }
}

#[test]
fn three_that_race_for_a_folder_leave_it_as_one_would() {
    let bench = Bench::new();
    for name in ["export", "fit-linear"] {
        let (kind, out) = (bench.kind(name), bench.at(&format!("raced-{name}")));
        let (expected, _) = undisturbed(&mut kind.make(&out), &out);
        for round in 0..4 {
            fs::remove_dir_all(&out).unwrap();
            let ended: Vec<_> = std::thread::scope(|scope| {
                let all: Vec<_> = (0..3).map(|_| scope.spawn(|| end(&mut kind.make(&out)))).collect();
                all.into_iter().map(|one| one.join().unwrap()).collect()
            });
            let won = ended.iter().filter(|e| e.code == Some(0)).count();
            let lost = ended
                .iter()
                .filter(|e| e.code == Some(1) && e.err.contains("another layerscope process"))
                .count();
            assert!(won >= 1 && won + lost == 3, "{name}, round {round}: {ended:?}");
            assert!(files(&out) == expected, "{name}, round {round}");
        }
    }
}
