//! An export that was interrupted, killed or ran out of disk goes on where it was, and ends with the same bytes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{end, files, fixture, gpt2, layerscope, path, words};

fn export(out: &Path) -> Command {
    let mut command = layerscope();
    command.args(words(
        "export --quiet --tokens 14000 --threads 1 --seq-len 64 --batch-tokens 128 --shard-mb 1 --layers 0,8",
    ));
    command.args(["--model", &gpt2(), "--data", &path(fixture("stories.jsonl")), "--out", &path(out)]);
    command
}

/// Everything but the manifest, which quotes the command line.
fn content(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = files(out);
    files.remove(Path::new("manifest.json")).expect("a manifest");
    files
}

fn start(out: &Path) -> Child {
    export(out).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until at least `n` shards are whole, or the export has ended.
fn wait_for_shards(child: &mut Child, out: &Path, n: usize) {
    let started = Instant::now();
    let shards = || out.join("shards").read_dir().map_or(0, Iterator::count);
    while shards() < n && child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(60), "no shard in a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn interrupted_or_killed_it_ends_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    assert_eq!(end(&mut export(&whole)).code, Some(0));
    let expected = content(&whole);
    assert!(expected.len() > 4 * 10, "{} files are too few shards", expected.len());

    let out = dir.path().join("interrupted");
    let mut child = start(&out);
    wait_for_shards(&mut child, &out, 2);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let err = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(
        (ended.status.code(), err.as_str()),
        (Some(4), "error: interrupted; repeat the command to go on\n")
    );
    assert!(content(&out).len() < expected.len());
    assert_eq!(end(&mut export(&out)).code, Some(0));
    assert!(content(&out) == expected);

    let out = dir.path().join("killed");
    for shards in [0, 1, 3, 5] {
        let mut child = start(&out);
        wait_for_shards(&mut child, &out, shards);
        std::thread::sleep(Duration::from_millis(37 * shards as u64 % 11));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(end(&mut export(&out)).code, Some(0));
    assert!(content(&out) == expected);
}

#[test]
fn a_file_size_limit_is_an_error_and_no_half_export() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let (command, limited) = (export(&out), |limit: &str| {
        let command = export(&out);
        let mut shell = Command::new("sh");
        // XFSZ ignored: the write fails with "file too large" where the signal would have ended the process.
        shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" \"$@\"")]);
        shell
            .arg(command.get_program())
            .args(command.get_args())
            .env("HF_HUB_OFFLINE", "1")
            .env_remove("RUST_BACKTRACE");
        shell
    });
    drop(command);
    let ended = end(&mut limited("64"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
    assert!(
        ended.err.starts_with("error: cannot write ")
            && ended.err.contains("shard=0.parquet: File too large"),
        "{ended:?}"
    );
    assert!(
        layerscope::states::store::ActivationStore::open(&out).is_err(),
        "half an export passes for a whole one"
    );
    assert!(
        files(&out).keys().all(|file| !file.to_str().unwrap().contains(".tmp-")),
        "a temporary file is left"
    );
    assert_eq!(end(&mut export(&out)).code, Some(0));
    layerscope::states::store::ActivationStore::open(&out).unwrap();
}

/// A folder on a file system of four megabytes, where this machine lets us mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(dir.path()).output();
        mount.is_ok_and(|m| m.status.success()).then(|| Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _left_for_the_reboot = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_before_and_while_writing() {
    let Some(disk) = SmallDisk::new() else {
        eprintln!("skipped: this user cannot mount a tmpfs");
        return;
    };
    let out = disk.0.path().join("out");
    // 14 MB of activations on 4 MB.
    let ended = end(&mut export(&out));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
    assert!(ended.err.contains("MB free, the export needs") && ended.err.contains(&path(&out)), "{ended:?}");
    // Uncompressed it does not fit, compressed it might, and it does not.
    let ended = end(export(&out).args(["--positions", "stride:2"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let error = ended.err.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(
        error.starts_with("error: no space left on device while writing ") && error.contains("MB free"),
        "{ended:?}"
    );
    let says = layerscope::states::store::ActivationStore::open(&out).err().unwrap().to_string();
    assert!(says.contains("is not complete") || says.contains("unfinished"), "{says}");
}
