//! `--model org/name`: the cache, the download, and what can go wrong on the way.

mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use layerscope::sources::hub::{FileStart, Hub, HubError, ModelDir, Progress, model_sha256};
use safetensors::{Dtype, tensor::TensorView};
use server::{COMMIT, Mischief, Server};

type Files = BTreeMap<String, Vec<u8>>;
const ID: &str = "layerscope/llama-alice-6l";
const INDEX: &str = "model.safetensors.index.json";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llama-alice-6l")
}

fn single() -> Files {
    let mut files: Files = ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"]
        .map(|name| (name.to_owned(), std::fs::read(fixture().join(name)).unwrap()))
        .into();
    // What a real repository also holds, and nobody needs.
    files.insert("README.md".into(), b"# a model".to_vec());
    files.insert("pytorch_model.bin".into(), b"pickle".to_vec());
    files
}

/// The same tokenizer and configuration with two shards of one small tensor each.
fn sharded() -> Files {
    let mut files = single();
    files.remove("model.safetensors");
    let mut map = serde_json::Map::new();
    for (i, name) in ["wte", "ln_f"].into_iter().enumerate() {
        let data = vec![i as u8 + 1; 4096];
        let view = TensorView::new(Dtype::F32, vec![32, 32], &data).unwrap();
        let shard = format!("model-0000{}-of-00002.safetensors", i + 1);
        files.insert(shard.clone(), safetensors::serialize([(name, view)], None).unwrap());
        map.insert(name.into(), shard.into());
    }
    let index = serde_json::json!({"metadata": {"total_size": 8192}, "weight_map": map});
    files.insert(INDEX.into(), index.to_string().into_bytes());
    files
}

struct World {
    server: Server,
    hub: Hub,
    home: tempfile::TempDir,
}

fn world(files: Files) -> World {
    let server = Server::start(&[(ID, files)]);
    let home = tempfile::tempdir().unwrap();
    let hub = Hub {
        cache: home.path().join("hub"),
        endpoint: server.url.clone(),
        token: None,
        offline: false,
        patience: Duration::from_secs(20),
    };
    World { server, hub, home }
}

impl World {
    fn get(&self) -> Result<ModelDir, HubError> {
        self.hub.resolve(ID, None, &mut ())
    }

    fn repo(&self) -> PathBuf {
        self.hub.cache.join("models--layerscope--llama-alice-6l")
    }

    fn offline(&self) -> Hub {
        Hub { offline: true, endpoint: "http://127.0.0.1:1".into(), ..self.hub.clone() }
    }

    /// Nothing passes as whole: not for us, and not for a reader that trusts the branch's reference.
    fn assert_nothing_whole(&self) {
        let error = self.offline().resolve(ID, None, &mut ()).unwrap_err();
        assert!(matches!(error, HubError::Offline { .. }), "{error}");
        assert!(!self.repo().join("refs/main").exists());
        let weights = self.repo().join("snapshots").join(COMMIT).join("model.safetensors");
        assert!(!weights.exists());
    }
}

/// Writes down what it hears.
#[derive(Default)]
struct Log {
    files: Vec<(String, usize, usize)>,
    announced: u64,
    heard: u64,
}

impl Progress for Log {
    fn start(&mut self, file: FileStart<'_>) {
        let entry = (file.name.to_owned(), file.number, file.of);
        if self.files.last() != Some(&entry) {
            self.files.push(entry);
            self.announced += file.bytes;
        }
    }
    fn advance(&mut self, bytes: u64) {
        self.heard += bytes;
    }
    fn finish(&mut self) {}
}

#[test]
fn a_download_is_whole_and_serves_the_next_call_without_a_request() {
    let w = world(single());
    let mut log = Log::default();
    let dir = w.hub.resolve(ID, None, &mut log).unwrap();
    assert_eq!((dir.id.as_deref(), dir.revision.as_deref()), (Some(ID), Some(COMMIT)));
    for name in ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"] {
        assert_eq!(std::fs::read(dir.path.join(name)).unwrap(), single()[name], "{name}");
    }
    assert_eq!(model_sha256(&dir.path, |_| ()).unwrap(), model_sha256(&fixture(), |_| ()).unwrap());
    assert_eq!(log.files.last().unwrap(), &("model.safetensors".to_owned(), 4, 4));
    assert_eq!(log.heard, log.announced);
    assert!(!w.server.state().requests.iter().any(|r| r.contains("README") || r.contains(".bin")));

    let before = w.server.requests();
    assert_eq!(w.get().unwrap(), dir);
    assert_eq!(w.offline().resolve(ID, None, &mut ()).unwrap(), dir);
    assert_eq!(w.offline().resolve(format!("{ID}@{COMMIT}"), None, &mut ()).unwrap(), dir);
    assert_eq!(w.server.requests(), before);
}

#[test]
fn the_cache_has_the_layout_of_huggingface_hub() {
    let w = world(single());
    let dir = w.get().unwrap();
    assert_eq!(dir.path, w.repo().join("snapshots").join(COMMIT));
    assert_eq!(std::fs::read_to_string(w.repo().join("refs/main")).unwrap(), COMMIT);
    let target = std::fs::read_link(dir.path.join("model.safetensors")).unwrap();
    let hash = model_sha256(&fixture(), |_| ()).unwrap();
    assert_eq!(target, Path::new("../../blobs").join(hash));
    let mut names: Vec<_> =
        std::fs::read_dir(w.repo()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["blobs", "refs", "snapshots"]);
}

#[test]
fn shards_come_with_their_index() {
    let w = world(sharded());
    let dir = w.get().unwrap();
    for name in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", INDEX] {
        assert_eq!(std::fs::read(dir.path.join(name)).unwrap(), sharded()[name]);
    }
    // A shard that gets lost is noticed offline, and fetched again alone online.
    std::fs::remove_file(dir.path.join("model-00002-of-00002.safetensors").canonicalize().unwrap()).unwrap();
    let error = w.offline().resolve(ID, None, &mut ()).unwrap_err().to_string();
    assert!(error.contains("lacks model-00002-of-00002.safetensors"), "{error}");
    let mut log = Log::default();
    assert_eq!(w.hub.resolve(ID, None, &mut log).unwrap(), dir);
    assert_eq!(log.files, [("model-00002-of-00002.safetensors".to_owned(), 1, 1)]);
}

#[test]
fn a_broken_connection_resumes() {
    let w = world(single());
    w.server.state().truncate = 2;
    let dir = w.get().unwrap();
    let len = single()["model.safetensors"].len();
    let (half, rest) = (len / 2, (len - len / 2) / 2);
    let ranges = w.server.state().ranges.clone();
    assert_eq!(ranges, ["bytes=0-".into(), format!("bytes={half}-"), format!("bytes={}-", half + rest)]);
    assert_eq!(std::fs::read(dir.path.join("model.safetensors")).unwrap(), single()["model.safetensors"]);
}

#[test]
fn a_connection_that_stays_broken_leaves_nothing_whole_and_goes_on_later() {
    let w = world(single());
    w.server.state().truncate = 99;
    let error = w.get().unwrap_err();
    assert!(matches!(error, HubError::Network { .. }), "{error}");
    w.assert_nothing_whole();
    w.server.state().truncate = 0;
    w.server.state().ranges.clear();
    w.get().unwrap();
    let ranges = w.server.state().ranges.clone();
    assert!(ranges.len() == 1 && ranges[0] != "bytes=0-", "{ranges:?}");
}

#[test]
fn a_server_that_ignores_ranges_costs_a_fresh_start() {
    let w = world(single());
    w.server.state().truncate = 1;
    w.server.state().ignore_ranges = true;
    let dir = w.get().unwrap();
    assert_eq!(std::fs::read(dir.path.join("model.safetensors")).unwrap(), single()["model.safetensors"]);
}

#[test]
fn a_complete_part_file_does_not_block_the_download() {
    let w = world(single());
    let hash = model_sha256(&fixture(), |_| ()).unwrap();
    let staging = w.repo().join(".partial");
    std::fs::create_dir_all(&staging).unwrap();
    let part = staging.join(format!("{hash}.part"));
    std::fs::write(&part, &single()["model.safetensors"]).unwrap();
    w.get().unwrap();
    assert!(w.server.state().ranges.is_empty(), "nothing was left to fetch");
    assert!(!part.exists());
}

#[test]
fn wrong_bytes_are_refused() {
    let w = world(single());
    w.server.state().corrupt = true;
    let error = w.get().unwrap_err();
    assert!(matches!(error, HubError::WrongHash { .. }), "{error}");
    w.assert_nothing_whole();
}

#[test]
fn missing_models_and_revisions() {
    let w = world(single());
    let error = w.hub.resolve("layerscope/none", None, &mut ()).unwrap_err().to_string();
    assert_eq!(error, format!("no such model or revision on {}: layerscope/none (main)", w.hub.endpoint));
    let error = w.hub.resolve(ID, Some("v9"), &mut ()).unwrap_err();
    assert!(matches!(&error, HubError::NotFound { revision, .. } if revision == "v9"), "{error}");
}

#[test]
fn a_branch_with_a_slash() {
    let w = world(single());
    w.server.state().branch = "refs/pr/1".into();
    let dir = w.hub.resolve(format!("{ID}@refs/pr/1"), None, &mut ()).unwrap();
    assert_eq!(dir.revision.as_deref(), Some(COMMIT));
    assert!(w.repo().join("refs/refs/pr/1").is_file());
}

#[test]
fn a_renamed_model_is_found_by_its_old_name() {
    let w = world(single());
    w.server.state().renamed = Some(("alice".into(), ID.into()));
    let dir = w.hub.resolve("alice", None, &mut ()).unwrap();
    assert!(dir.path.starts_with(w.hub.cache.join("models--alice")));
    assert_eq!(std::fs::read(dir.path.join("model.safetensors")).unwrap(), single()["model.safetensors"]);
}

#[test]
fn gated_models_need_the_token() {
    let w = world(single());
    w.server.state().token = Some("hf_right".into());
    let error = w.get().unwrap_err().to_string();
    assert_eq!(error, format!("{ID}: no access (http 401): gated, private or misspelt; set HF_TOKEN"));
    let with = |token: &str| Hub { token: Some(token.into()), ..w.hub.clone() };
    let error = with("hf_wrong").resolve(ID, None, &mut ()).unwrap_err().to_string();
    assert!(error.ends_with("the token has no right to it"), "{error}");
    with("hf_right").resolve(ID, None, &mut ()).unwrap();
}

/// A hub that misbehaves, and a token for it.
fn mischievous(mischief: Mischief) -> World {
    let mut w = world(single());
    w.server.state().mischief = mischief;
    w.hub.token = Some("hf_secret".into());
    w
}

impl World {
    /// Paths at which the token arrived at the other host.
    fn leaks(&self) -> Vec<String> {
        let other = format!(":{}", self.server.other.rsplit(':').next().unwrap());
        let state = self.server.state();
        let elsewhere = state.seen.iter().filter(|(port, ..)| format!(":{port}") == other);
        elsewhere.filter(|(.., token)| token.is_some()).map(|(_, path, _)| path.clone()).collect()
    }

    /// Requests that the other host got at all.
    fn elsewhere(&self) -> usize {
        let other: u16 = self.server.other.rsplit(':').next().unwrap().parse().unwrap();
        self.server.state().seen.iter().filter(|(port, ..)| *port == other).count()
    }
}

#[test]
fn the_token_stays_with_the_hub() {
    for mischief in [Mischief::None, Mischief::OtherHost, Mischief::ApiElsewhere] {
        let w = mischievous(mischief);
        w.server.state().token = Some("hf_secret".into());
        let got = w.get();
        // The API elsewhere gets no token, and refuses.
        assert_eq!(got.is_ok(), mischief != Mischief::ApiElsewhere, "{mischief:?}: {got:?}");
        assert!(w.elsewhere() > 0, "{mischief:?}: the other host was never asked");
        assert_eq!(w.leaks(), [""; 0], "{mischief:?}");
        let own = w.server.state().seen.iter().filter(|(.., token)| token.is_some()).count();
        assert!(own > 0, "{mischief:?}: the hub itself gets the token");
    }
}

#[test]
fn redirects_end() {
    for (mischief, says, most) in [
        (Mischief::Loop, "more than 10 redirects", 12),
        (Mischief::NoLocation, "unusable redirect: \"no location\"", 2),
        (Mischief::Location(""), "unusable redirect", 2),
        (Mischief::Location("file:///etc/passwd"), "unusable redirect: \"file:///etc/passwd\"", 2),
        (Mischief::Location("/a b\\c%zz["), "unusable redirect", 2),
        (Mischief::Location("//127.0.0.1:1/config.json"), "unusable commit", 2),
    ] {
        let w = mischievous(mischief);
        let error = w.get().unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains("hf_secret"), "{mischief:?}: {error}");
        assert!(w.server.requests() <= most, "{mischief:?}: {} requests", w.server.requests());
        w.assert_nothing_whole();
    }
}

#[test]
fn answers_that_cannot_be_used() {
    for (mischief, says) in [
        (Mischief::NoEtag, "unusable etag: \"\""),
        (Mischief::EtagOutside, "../../../../evil"),
        (Mischief::CommitOutside, "unusable commit: \"../../../../evil\""),
        (Mischief::BigAnswer, "limit"),
    ] {
        let w = mischievous(mischief);
        let error = w.get().unwrap_err().to_string();
        assert!(error.contains(says), "{mischief:?}: {error}");
        w.assert_nothing_whole();
    }
}

#[test]
fn a_body_is_as_long_as_announced() {
    let len = single()["model.safetensors"].len() as u64;
    for mischief in [Mischief::Endless, Mischief::Short, Mischief::Long, Mischief::Huge] {
        let w = mischievous(mischief);
        let error = w.get().unwrap_err();
        assert!(matches!(&error, HubError::WrongSize { .. }), "{mischief:?}: {error}");
        w.assert_nothing_whole();
        let on_disk = |dir: &Path| -> u64 {
            dir.read_dir().into_iter().flatten().map(|e| e.unwrap().metadata().unwrap().len()).sum()
        };
        assert!(on_disk(&w.repo().join(".partial")) <= len, "{mischief:?}");
        // Once, and no more of it than buffers hold beyond the file.
        assert_eq!(w.server.state().ranges.len(), 1, "{mischief:?}");
        assert!(w.server.state().sent < len + (32 << 20), "{mischief:?}: {} bytes", w.server.state().sent);
        w.server.state().mischief = Mischief::None;
        w.get().unwrap();
    }
}

#[test]
fn a_hub_that_stays_silent_is_given_up() {
    let given_up = |(mischief, says): (Mischief, &str)| {
        let mut w = mischievous(mischief);
        w.hub.patience = Duration::from_millis(500);
        let start = Instant::now();
        let error = w.get().unwrap_err().to_string();
        assert!(error.contains(says), "{mischief:?}: {error}");
        // Four tries of 0.5 s, 1.75 s of pauses between them, and time for a busy machine.
        assert!(start.elapsed() < Duration::from_secs(20), "{mischief:?}: {:?}", start.elapsed());
        w.assert_nothing_whole();
    };
    let all = [
        (Mischief::Silent, "timeout"),
        (Mischief::Stalled, "timeout"),
        (Mischief::Dripping, "stalled after"),
    ];
    std::thread::scope(|scope| all.into_iter().for_each(|one| drop(scope.spawn(move || given_up(one)))));
}

#[test]
fn revisions_are_branches_tags_and_commits() {
    for branch in ["main", "v1.0", "refs/pr/1"] {
        let w = world(single());
        w.server.state().branch = branch.into();
        let dir = w.hub.resolve(ID, Some(branch), &mut ()).unwrap();
        assert_eq!(dir.revision.as_deref(), Some(COMMIT), "{branch}");
        assert!(dir.path.ends_with(COMMIT));
        assert_eq!(std::fs::read_to_string(w.repo().join("refs").join(branch)).unwrap(), COMMIT);
        // By its commit it is the same snapshot, without a request.
        let before = w.server.requests();
        assert_eq!(w.hub.resolve(ID, Some(COMMIT), &mut ()).unwrap().path, dir.path);
        assert_eq!(w.server.requests(), before);
        let error = w.hub.resolve(ID, Some("other"), &mut ()).unwrap_err();
        assert!(matches!(error, HubError::NotFound { .. }), "{error}");
    }
}

#[test]
fn the_command_line_takes_a_revision() {
    let w = world(single());
    w.server.state().branch = "v2".into();
    let info = |args: &[&str]| {
        let mut command = crate::cli::layerscope();
        command.args(["info", "--json", "--quiet", "--model", ID]).args(args);
        command.env("HF_HOME", w.home.path()).env("HF_ENDPOINT", &w.server.url).env_remove("HF_HUB_OFFLINE");
        crate::cli::end(&mut command)
    };
    for revision in ["v2", COMMIT] {
        let ended = info(&["--revision", revision]);
        assert_eq!(ended.code, Some(0), "{revision}: {}", ended.err);
        let result = crate::cli::result(&ended.out);
        assert_eq!((&result["revision"], &result["model"]), (&COMMIT.into(), &ID.into()), "{revision}");
    }
    let ended = info(&["--revision", "v3"]);
    assert!(ended.code == Some(2) && ended.err.contains(&format!("{ID} (v3)")), "{ended:?}");
    let ended = info(&[]);
    assert!(ended.code == Some(2) && ended.err.contains(&format!("{ID} (main)")), "{ended:?}");
    let local = crate::cli::run(&["info", "--model", &crate::cli::gpt2(), "--revision", "main"]);
    assert!(local.code == Some(2) && local.err.contains("has no revision \"main\""), "{local:?}");
}

#[test]
fn a_shard_index_cannot_lead_out_of_the_folder() {
    for bad in ["../../x.safetensors", "/tmp/x.safetensors", "sub/x.safetensors"] {
        let mut files = sharded();
        files.insert(INDEX.into(), serde_json::json!({"weight_map": {"w": bad}}).to_string().into_bytes());
        let w = world(files);
        let error = w.get().unwrap_err();
        assert!(matches!(&error, HubError::Weights(e) if e.to_string().contains(bad)), "{error}");
        assert!(!w.server.state().requests.iter().any(|r| r.contains("x.safetensors")));
    }
}

#[test]
fn repositories_that_lack_a_needed_file() {
    let without = |names: &[&str]| {
        let mut files = single();
        files.retain(|name, _| !names.contains(&name.as_str()));
        let w = world(files);
        let error = w.get().unwrap_err().to_string();
        assert_eq!(w.server.requests(), 1, "nothing is fetched before the plan stands");
        error
    };
    assert_eq!(without(&["tokenizer.json"]), format!("{ID} (main) has no tokenizer.json on the hub"));
    let error = without(&["model.safetensors", "pytorch_model.bin"]);
    assert_eq!(error, format!("{ID} (main) has no model.safetensors on the hub"));
    let mut files = single();
    files.retain(|name, _| !["model.safetensors", "pytorch_model.bin"].contains(&name.as_str()));
    files.insert("model.ckpt".into(), b"pickle".to_vec());
    let error = world(files).get().unwrap_err().to_string();
    assert!(error.contains("only as a pickle (model.ckpt)"), "{error}");
}

#[test]
fn a_repository_of_pickles_is_fetched_like_any_other() {
    let mut files = single();
    files.remove("model.safetensors");
    let w = world(files);
    let dir = w.get().unwrap().path;
    assert_eq!(std::fs::read(dir.join("pytorch_model.bin")).unwrap(), b"pickle");
    let requests = w.server.requests();
    w.get().unwrap();
    assert_eq!(w.server.requests(), requests, "it is whole in the cache");
}

#[test]
fn no_network() {
    let w = world(single());
    let hub = Hub { offline: true, ..w.hub.clone() };
    let error = hub.resolve(ID, None, &mut ()).unwrap_err().to_string();
    assert!(error.contains("it lacks this model") && error.contains("HF_HUB_OFFLINE"), "{error}");
    assert_eq!(w.server.requests(), 0);
    let hub = Hub { endpoint: "http://127.0.0.1:1".into(), ..w.hub.clone() };
    let error = hub.resolve(ID, None, &mut ()).unwrap_err();
    assert!(matches!(error, HubError::Network { .. }), "{error}");
}

#[test]
fn two_processes_download_once() {
    let w = world(single());
    std::thread::scope(|scope| {
        let both = [scope.spawn(|| w.get().unwrap()), scope.spawn(|| w.get().unwrap())];
        let [a, b] = both.map(|one| one.join().unwrap());
        assert_eq!(a, b);
    });
    assert_eq!(w.server.state().ranges.len(), 1);
}

#[test]
#[ignore = "needs PYTHON with huggingface_hub"]
fn huggingface_hub_reads_our_cache_and_we_read_its_cache() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let snapshot = |w: &World, arguments: &str| {
        let code =
            format!("from huggingface_hub import snapshot_download as s; print(s('{ID}', {arguments}))");
        let mut command = std::process::Command::new(&python);
        command.args(["-c", &code]).env("HF_HOME", w.home.path()).env("HF_ENDPOINT", &w.hub.endpoint);
        let output = command.env("HF_HUB_DISABLE_XET", "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    };
    for files in [single(), sharded()] {
        let theirs = world(files.clone());
        let path = snapshot(&theirs, "");
        assert_eq!(theirs.offline().resolve(ID, None, &mut ()).unwrap().path, path);

        // What a tokenizer alone leaves behind is no model, and gets completed.
        let partial = world(files.clone());
        let path = snapshot(&partial, "allow_patterns=['config.json', 'tokenizer.json']");
        assert!(matches!(partial.offline().resolve(ID, None, &mut ()), Err(HubError::Offline { .. })));
        assert_eq!(partial.get().unwrap().path, path);

        let ours = world(files);
        let dir = ours.get().unwrap();
        let before = ours.server.requests();
        assert_eq!(snapshot(&ours, "local_files_only=True"), dir.path);
        assert_eq!(ours.server.requests(), before);
        // Online it keeps our blobs and adds only what we left out.
        assert_eq!(snapshot(&ours, ""), dir.path);
        assert!(ours.server.state().ranges.len() <= 2, "weights were fetched again");
        assert!(dir.path.join("README.md").is_file());
    }
}
