//! A flipped bit in any file of any kind of run: whoever reads the file says so, or what is read is the same; and the
//! command that made the run makes it whole again.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::cli::{Ended, end, files, path};
use crate::runs::{Bench, Kind, content, two_at_a_time};

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What became of flips.
#[derive(Default)]
struct Tally {
    refused: AtomicUsize,
    same: AtomicUsize,
    repaired: AtomicUsize,
}

fn flip(file: &Path, bit: usize) {
    let mut content = fs::read(file).unwrap();
    content[bit / 8] ^= 1 << (bit % 8);
    fs::write(file, content).unwrap();
}

/// One line that names the file and is no panic.
fn names(ended: &Ended, file: &Path) -> bool {
    let errors: Vec<&str> = ended.err.lines().filter(|line| line.starts_with("error: ")).collect();
    ended.code.is_some_and(|code| (1..=4).contains(&code))
        && errors.len() == 1
        && !ended.err.contains("panicked")
        && errors[0].contains(&path(file))
        && ["damaged", "cannot use"].iter().any(|word| errors[0].contains(word))
}

fn made(kind: &Kind, out: &Path) -> Files {
    let ended = end(&mut kind.make(out));
    assert_eq!(ended.code, Some(0), "{}: {}", kind.name, ended.err);
    files(out)
}

/// The reader of the run at `out` refuses `file` with `bit` flipped, or finds what it found in `whole`.
fn flip_and_read(
    kind: &Kind,
    reader: &[String],
    (out, file): (&Path, &Path),
    bit: usize,
    whole: Option<&Files>,
    tally: &Tally,
) {
    let path = out.join(file);
    let good = fs::read(&path).unwrap();
    flip(&path, bit);
    let results = tempfile::tempdir().unwrap();
    let ended = end(&mut Kind::read(reader, out, &results.path().join("results")));
    fs::write(&path, good).unwrap();
    let place = format!("{}, {}: bit {bit} of {}", kind.name, reader.join(" "), file.display());
    if ended.code == Some(0) {
        let whole = whole.unwrap_or_else(|| panic!("{place} was not noticed"));
        assert!(content(&results.path().join("results")) == *whole, "{place} changed the results");
        tally.same.fetch_add(1, Ordering::Relaxed);
    } else {
        assert!(names(&ended, file), "{place}: {ended:?}");
        tally.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// The command that made the run makes the same again, whatever happened to its files. A damaged manifest may be too
/// little to go by: then the command says so, and `--force` makes the run.
fn repair(kind: &Kind, out: &Path, good: &Files, damage: &str, tally: &Tally) {
    let ended = end(&mut kind.make(out));
    let refused = matches!(ended.code, Some(1 | 2)) && names(&ended, Path::new("manifest.json"));
    if refused && damage.contains("manifest.json") {
        let forced = end(kind.make(out).arg("--force"));
        assert_eq!(forced.code, Some(0), "{}, {damage}, forced: {}", kind.name, forced.err);
        let outputs = content(out);
        assert!(outputs.iter().all(|(file, bytes)| good[file] == *bytes), "{}, {damage}, forced", kind.name);
        made(kind, out);
        fs::write(out.join("manifest.json"), &good[Path::new("manifest.json")]).unwrap();
    } else {
        assert_eq!(ended.code, Some(0), "{}, {damage}: {}", kind.name, ended.err);
        let found = files(out);
        let other: Vec<&PathBuf> =
            good.keys().chain(found.keys()).filter(|file| good.get(*file) != found.get(*file)).collect();
        assert!(other.is_empty(), "{}, {damage}: {other:?} differ", kind.name);
    }
    tally.repaired.fetch_add(1, Ordering::Relaxed);
}

/// Every second file damaged, every other one gone.
fn ruin(out: &Path, good: &Files) {
    for (i, file) in good.keys().filter(|file| *file != Path::new("manifest.json")).enumerate() {
        let path = out.join(file);
        let bits = 8 * fs::metadata(&path).unwrap().len() as usize;
        if i % 2 == 0 && bits > 0 { flip(&path, bits / 2) } else { fs::remove_file(&path).unwrap() }
    }
}

#[test]
fn no_kind_of_run_is_read_damaged_and_each_is_made_whole_again() {
    let (bench, tally) = (Bench::new(), Tally::default());
    two_at_a_time(&bench.kinds(), |kind| {
        let out = bench.at(&format!("damaged-{}", kind.name));
        let good = made(kind, &out);
        for (reader, needs) in &kind.readers {
            let manifest = ["manifest.json".to_owned()];
            for file in needs.iter().chain(&manifest) {
                let middle = 4 * good[Path::new(file)].len();
                flip_and_read(kind, reader, (&out, Path::new(file)), middle, None, &tally);
            }
        }
        ruin(&out, &good);
        repair(kind, &out, &good, "ruined", &tally);
    });
    assert!(tally.refused.into_inner() > 60 && tally.repaired.into_inner() == bench.kinds().len());
}

/// Every file of every kind, at several places, through every reader, and made whole again. Takes a while;
/// `docs/reliability.md` has the figures.
#[test]
#[ignore = "thousands of processes"]
fn every_flip_in_every_file() {
    let (bench, tally) = (Bench::new(), Tally::default());
    two_at_a_time(&bench.kinds(), |kind| {
        let out = bench.at(&format!("flipped-{}", kind.name));
        let good = made(kind, &out);
        for (reader, _) in &kind.readers {
            let results = bench.at(&format!("flipped-{}-results", kind.name));
            let ended = end(&mut Kind::read(reader, &out, &results));
            assert_eq!(ended.code, Some(0), "{}: {}", kind.name, ended.err);
            let whole = content(&results);
            fs::remove_dir_all(&results).unwrap();
            for (file, bytes) in good.iter().filter(|(_, bytes)| !bytes.is_empty()) {
                for eighth in [0, 4, 8] {
                    let bit = ((8 * bytes.len() - 1) * eighth / 8).min(8 * bytes.len() - 1);
                    flip_and_read(kind, reader, (&out, file), bit, Some(&whole), &tally);
                }
            }
        }
        for (file, bytes) in good.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            let bit = 4 * bytes.len() + 1;
            flip(&out.join(file), bit);
            repair(kind, &out, &good, &format!("bit {bit} of {}", file.display()), &tally);
        }
    });
    let [refused, same, repaired] = [tally.refused, tally.same, tally.repaired].map(AtomicUsize::into_inner);
    println!(
        "{} flips read: {refused} refused, {same} without effect; {repaired} flips repaired",
        refused + same
    );
    assert!(refused > 200, "{refused}");
}

/// A folder from before there were checksums is read as it is.
#[test]
fn folders_without_checksums_still_open() {
    let bench = Bench::new();
    for name in ["fit-tuned", "sweep"] {
        let manifest = bench.at(name).join("manifest.json");
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
        for key in ["outputs", "manifest_sha256", "compute"] {
            json.as_object_mut().unwrap().remove(key).unwrap();
        }
        fs::write(&manifest, json.to_string()).unwrap();
        let kind = bench.kind(name);
        for (reader, _) in &kind.readers {
            let results = tempfile::tempdir().unwrap();
            let mut command = Kind::read(reader, &bench.at(name), &results.path().join("out"));
            let ended = end(&mut command);
            assert_eq!(ended.code, Some(0), "{name}: {}", ended.err);
        }
        let ended = end(&mut kind.make(&bench.at(name)));
        assert_eq!(ended.code, Some(0), "{name}: {}", ended.err);
    }
}
