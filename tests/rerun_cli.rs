//! `rerun` and `run`: a run says what made it, and that makes it again.

use std::fs;

use crate::cli::{end, layerscope, path};
use crate::runs::{Bench, two_at_a_time};

#[test]
fn every_kind_of_run_comes_out_the_same_from_its_manifest() {
    let bench = Bench::new();
    let kinds = bench.kinds();
    two_at_a_time(&kinds, |kind| {
        let out = bench.at(&format!("again-{}", kind.name));
        let made = end(&mut kind.make(&out));
        assert_eq!(made.code, Some(0), "{}: {}", kind.name, made.err);
        let ended = end(layerscope().args(["rerun", "--quiet"]).arg(&out));
        assert_eq!(ended.code, Some(0), "{}: {}{}", kind.name, ended.out, ended.err);
        assert!(ended.out.contains("all the same bytes"), "{}: {}", kind.name, ended.out);
    });
    let left = fs::read_dir(bench.at(""))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".rerun-"));
    assert_eq!(left.count(), 0, "a folder of a rerun was left behind");
}

#[test]
fn another_result_is_named_and_other_folders_are_refused() {
    let bench = Bench::new();
    let (kind, out) = (bench.kind("trace"), bench.at("trace"));
    assert_eq!(end(&mut kind.make(&out)).code, Some(0));
    // A manifest that asks for something else than what lies beside it.
    let mut manifest = layerscope::results::run::Manifest::read(&out).unwrap().unwrap();
    manifest.request.as_mut().unwrap()["answer"] = "w8".into();
    manifest.write(&out).unwrap();
    let ended = end(layerscope().arg("rerun").arg(&out));
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert!(ended.err.contains("1 of 1 file differ: metrics.parquet"), "{}", ended.err);
    manifest.request = None;
    manifest.write(&out).unwrap();
    let refused = [
        (path(&out), "does not say with which settings it was made"),
        (path(bench.at("nothing")), "no run is here"),
    ];
    for (folder, why) in refused {
        let ended = end(layerscope().args(["rerun", &folder]));
        assert_eq!(ended.code, Some(2), "{}", ended.err);
        assert!(ended.err.contains(why), "{}", ended.err);
    }
}

#[test]
fn a_job_file_is_the_command_line() {
    let bench = Bench::new();
    let (typed, filed) = (bench.at("typed"), bench.at("filed"));
    let kind = bench.kind("schedule");
    assert_eq!(end(&mut kind.make(&typed)).code, Some(0));
    let job = bench.at("job.toml");
    let (model, texts) = (bench.name("$MODEL"), bench.name("$TEXTS"));
    let lines = format!(
        "command = \"schedule\"\nmodel = {model:?}\ndata = [{texts:?}]\ntokens = 200\ndeletions = true\n\
         replicates = 50\nthreads = 1\nout = {:?}\n",
        path(&filed)
    );
    fs::write(&job, &lines).unwrap();
    let ended = end(layerscope().arg("run").arg(&job).arg("--quiet"));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let read = |run| fs::read(std::path::Path::join(run, "metrics.parquet")).unwrap();
    assert!(read(&typed) == read(&filed));
    for (text, why) in [
        (lines.replace("deletions", "deletion"), "--deletion"),
        (lines.replace("command = \"schedule\"\n", ""), "give `command`"),
        (lines.replace("\"schedule\"", "\"scedule\""), "scedule"),
        ("command = ".to_owned(), "job.toml"),
    ] {
        fs::write(&job, text).unwrap();
        let ended = end(layerscope().arg("run").arg(&job));
        assert_eq!(ended.code, Some(2), "{}", ended.err);
        assert!(ended.err.contains(why) && ended.err.lines().count() == 1, "{}", ended.err);
    }
}
