use std::fs;

use super::*;
use serde_json::json;

fn manifest(hooks: &[&str]) -> Manifest {
    let mut m = Manifest::new("export");
    m.config = json!({ "hooks": hooks, "positions": "all" });
    m.runtime = json!({ "threads": 2 });
    m
}

fn start(dir: &Path, m: Manifest, force: bool) -> Result<RunDir, RunError> {
    RunDir::start(dir, m, force, &|p| p.starts_with("acts"))
}

#[test]
fn same_job_resumes_and_completes() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("out");
    drop(start(&dir, manifest(&["a"]), false).unwrap());
    let mut other_threads = manifest(&["a"]);
    other_threads.runtime = json!({ "threads": 8 });
    fs::create_dir_all(dir.join("acts")).unwrap();
    fs::write(dir.join("acts/.shard=0.npy.tmp-77"), "torn").unwrap();
    let run = start(&dir, other_threads, false).unwrap();
    assert_eq!(run.found(), Found::Unfinished);
    assert!(!dir.join("acts").exists());
    assert!(matches!(start(&dir, manifest(&["a"]), false), Err(RunError::Locked { .. })));
    run.finish(Counts { rows: 3, ..Counts::default() }, None).unwrap();
    assert_eq!(start(&dir, manifest(&["a"]), false).unwrap().found(), Found::Complete);
}

#[test]
fn a_claim_changes_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("out");
    let claim = RunDir::claim(&dir, manifest(&["a"]), false).unwrap();
    assert!(matches!(start(&dir, manifest(&["a"]), false), Err(RunError::Locked { .. })));
    drop(claim);
    assert!(!dir.exists());
    fs::create_dir(&dir).unwrap();
    drop(RunDir::claim(&dir, manifest(&["a"]), false).unwrap());
    assert!(dir.exists(), "a folder that was there stays");
    drop(start(&dir, manifest(&["a"]), false).unwrap());
    fs::create_dir(dir.join("acts")).unwrap();
    fs::write(dir.join("acts/s"), "ours").unwrap();
    let before = fs::read(dir.join(MANIFEST)).unwrap();
    let claim = RunDir::claim(&dir, manifest(&["b"]), true).unwrap();
    assert_eq!(claim.found(), Found::Nothing);
    drop(claim);
    assert!(dir.join("acts/s").exists() && fs::read(dir.join(MANIFEST)).unwrap() == before);
    drop(RunDir::claim(&dir, manifest(&["b"]), true).unwrap().begin(&|p| p.starts_with("acts")).unwrap());
    assert!(!dir.join("acts").exists() && fs::read(dir.join(MANIFEST)).unwrap() != before);
}

#[test]
fn different_job_names_the_setting_and_force_keeps_foreign_files() {
    let tmp = tempfile::tempdir().unwrap();
    drop(start(tmp.path(), manifest(&["a"]), false).unwrap());
    let message = start(tmp.path(), manifest(&["b"]), false).unwrap_err().to_string();
    assert!(message.contains("config.hooks[0] was \"a\", is now \"b\""), "{message}");
    assert!(message.contains("--force"), "{message}");
    fs::create_dir_all(tmp.path().join("acts/x")).unwrap();
    fs::write(tmp.path().join("acts/x/s"), "ours").unwrap();
    fs::write(tmp.path().join("notes.txt"), "theirs").unwrap();
    let run = start(tmp.path(), manifest(&["b"]), true).unwrap();
    assert_eq!(run.found(), Found::Nothing);
    assert!(!tmp.path().join("acts").exists());
    assert!(tmp.path().join("notes.txt").exists());
}

#[test]
fn foreign_folders_and_damaged_manifests_are_refused() {
    let tmp = tempfile::tempdir().unwrap();
    fs::write(tmp.path().join("thesis.tex"), "x").unwrap();
    for force in [false, true] {
        let message = start(tmp.path(), manifest(&[]), force).unwrap_err().to_string();
        assert!(message.contains("found thesis.tex"), "{message}");
    }
    for (text, says) in [("{", "not JSON"), ("{}", "not a manifest"), ("{\"format_version\":9}", "newer")] {
        fs::write(tmp.path().join(MANIFEST), text).unwrap();
        let message = start(tmp.path(), manifest(&[]), true).unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
    }
}

/// A run whose files are `acts/0` and `acts/1`.
fn complete(dir: &Path, m: Manifest) -> Manifest {
    let run = start(dir, m, false).unwrap();
    fs::create_dir_all(dir.join("acts")).unwrap();
    (0..2).for_each(|i| fs::write(dir.join(format!("acts/{i}")), format!("file {i}")).unwrap());
    run.finish(Counts::default(), None).unwrap()
}

#[test]
fn complete_is_what_is_all_there_and_whole() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    complete(dir, manifest(&["a"]));
    let found = || RunDir::claim(dir, manifest(&["a"]), false).unwrap().found();
    assert_eq!(found(), Found::Complete);
    let damage = [
        ("expected sha256", Some("fily 1")),
        ("found 7 bytes, expected 6 bytes", Some("file 1!")),
        ("found nothing", None),
    ];
    for (says, damage) in damage {
        match damage {
            Some(content) => fs::write(dir.join("acts/1"), content).unwrap(),
            None => fs::remove_file(dir.join("acts/1")).unwrap(),
        }
        let claim = RunDir::claim(dir, manifest(&["a"]), false).unwrap();
        let messages: Vec<String> = claim.damaged().map(RunError::finding).collect();
        assert_eq!((claim.found(), messages.len()), (Found::Unfinished, 1), "{messages:?}");
        assert!(messages[0].contains("acts/1 is damaged: ") && messages[0].contains(says), "{messages:?}");
        drop(claim);
        // Begun, the damaged file is gone and the whole one is there, and no reader takes the run for complete.
        drop(start(dir, manifest(&["a"]), false).unwrap());
        assert!(!dir.join("acts/1").exists() && dir.join("acts/0").exists());
        assert_eq!(Manifest::read(dir).unwrap().unwrap().status, Status::Running);
        complete(dir, manifest(&["a"]));
        assert_eq!(found(), Found::Complete);
    }
}

#[test]
fn a_damaged_manifest_is_repaired_only_by_its_own_job() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let written = complete(dir, manifest(&["a"]));
    let text = fs::read_to_string(dir.join(MANIFEST)).unwrap();
    fs::write(dir.join(MANIFEST), text.replace("\"rows\": 0", "\"rows\": 4")).unwrap();
    let message = start(dir, manifest(&["b"]), false).unwrap_err().to_string();
    assert!(message.contains("damaged or changed") && message.ends_with("--force"), "{message}");
    assert_eq!(start(dir, manifest(&["a"]), false).unwrap().found(), Found::Unfinished);
    assert_eq!(complete(dir, manifest(&["a"])), written);
    for broken in [text.replace("export", "exqort"), text[1..].to_owned()] {
        fs::write(dir.join(MANIFEST), broken).unwrap();
        assert!(matches!(start(dir, manifest(&["a"]), false), Err(RunError::BadManifest { .. })));
        assert!(dir.join("acts/0").exists());
        drop(start(dir, manifest(&["a"]), true).unwrap());
        assert!(!dir.join("acts").exists());
        complete(dir, manifest(&["a"]));
    }
}

#[test]
fn what_another_machine_began_does_not_go_on_here() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let on = |instructions: &str| {
        let compute =
            json!({ "instructions": instructions, "processor": "p", "extensions": [], "settings": {} });
        Manifest { compute: serde_json::from_value(compute).unwrap(), ..manifest(&["a"]) }
    };
    assert_ne!(on("avx2").job_key(), on("avx512").job_key());
    drop(start(dir, on("avx512"), false).unwrap());
    let message = start(dir, on("avx2"), false).unwrap_err().to_string();
    assert!(message.contains("compute.instructions was \"avx512\", is now \"avx2\""), "{message}");
    let there = complete(dir, on("avx512"));
    // Complete, it is what it is; damaged, it cannot be made whole here.
    let claim = RunDir::claim(dir, on("avx2"), false).unwrap();
    assert_eq!((claim.found(), &claim.manifest().job), (Found::Complete, &there.job));
    drop(claim);
    fs::remove_file(dir.join("acts/0")).unwrap();
    assert!(matches!(start(dir, on("avx2"), false), Err(RunError::OtherCompute { .. })));
    assert_eq!(start(dir, on("avx2"), true).unwrap().found(), Found::Nothing);
}

#[test]
fn a_run_inside_a_run_is_left_alone() {
    let tmp = tempfile::tempdir().unwrap();
    complete(&tmp.path().join("acts/other"), manifest(&["b"]));
    fs::rename(tmp.path().join("acts"), tmp.path().join("kept")).unwrap();
    let outer = tmp.path().join("outer");
    complete(&outer, manifest(&["a"]));
    fs::rename(tmp.path().join("kept/other"), outer.join("acts/other")).unwrap();
    let again = complete(&outer, manifest(&["a"]));
    assert_eq!(again.outputs.unwrap().keys().collect::<Vec<_>>(), ["acts/0", "acts/1"]);
    drop(start(&outer, manifest(&["c"]), true).unwrap());
    assert!(!outer.join("acts/0").exists() && outer.join("acts/other/acts/0").exists());
}

/// Three processes' worth of writers, many times: the folder is one run's, whole, or refused.
#[test]
fn racing_writers_leave_one_whole_run() {
    let tmp = tempfile::tempdir().unwrap();
    let barrier = std::sync::Barrier::new(3);
    let run = |writer: usize, round: usize| {
        let dir = tmp.path().join(round.to_string());
        barrier.wait();
        let Ok(claim) = RunDir::claim(&dir, manifest(&["a"]), false) else { return 0 };
        if writer == 0 && round.is_multiple_of(3) {
            return 0; // gives up, as a command does whose model cannot be read
        }
        if claim.found() == Found::Complete {
            return 0;
        }
        let run = claim.begin(&|p| p.starts_with("acts")).unwrap();
        fs::create_dir_all(dir.join("acts")).unwrap();
        fs::write(dir.join("acts/0"), "the same bytes").unwrap();
        run.finish(Counts::default(), None).unwrap();
        1
    };
    let rounds = |writer| (0..200).map(|round| run(writer, round)).sum::<usize>();
    let finished: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..3).map(|writer| scope.spawn(move || rounds(writer))).collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    let mut whole = 0;
    for round in 0..200 {
        let dir = tmp.path().join(round.to_string());
        let claim = RunDir::claim(&dir, manifest(&["a"]), false).unwrap();
        assert_ne!(claim.found(), Found::Unfinished, "round {round}");
        whole += usize::from(claim.found() == Found::Complete);
    }
    assert_eq!(finished, whole, "every run that was finished is there, and was made once");
    assert!(whole > 100, "{whole}");
}
