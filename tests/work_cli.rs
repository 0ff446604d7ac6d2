//! `work`: a worker that keeps its model.

use std::{
    any::Any,
    io::{BufRead as _, BufReader, Cursor, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::{Arc, Mutex},
};

use layerscope::{
    job::worker::{Listener, work},
    results::run::{Manifest, Status},
};
use serde_json::{Value, json};

use crate::cli::{gpt2, layerscope, path, succeed, tiny};
use crate::lens_cli::stories;

/// A worker to talk with.
struct Worker {
    child: Child,
    jobs: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start() -> Self {
        let mut child = layerscope()
            .args(["work", "--stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (jobs, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut worker = Self { child, jobs, answers };
        let ready = worker.event();
        assert_eq!(ready["event"], "ready");
        assert!(ready["commands"].as_array().unwrap().contains(&json!("lens eval")), "{ready}");
        worker
    }

    fn say(&mut self, line: &str) {
        let mut jobs = self.jobs.as_ref().unwrap();
        jobs.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn ask(&mut self, id: u32, command: &str, job: &Value) {
        self.say(&json!({ "id": id, "command": command, "job": job }).to_string());
    }

    fn event(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.answers.read_line(&mut line).unwrap() > 0, "the worker is gone");
        serde_json::from_str(&line).unwrap()
    }

    /// Events up to the last one of a job.
    fn until_over(&mut self) -> Vec<Value> {
        let mut events = vec![self.event()];
        while !["done", "error"].contains(&events.last().unwrap()["event"].as_str().unwrap()) {
            events.push(self.event());
        }
        events
    }

    fn run(&mut self, id: u32, command: &str, job: &Value) -> Vec<Value> {
        self.ask(id, command, job);
        self.until_over()
    }

    /// Code and message of a job that must fail.
    fn refusal(&mut self, command: &str, job: &Value) -> (i64, String) {
        let last = self.run(9, command, job).pop().unwrap();
        assert_eq!((&last["event"], &last["id"]), (&json!("error"), &json!(9)), "{last}");
        (last["code"].as_i64().unwrap(), last["error"].as_str().unwrap().to_owned())
    }

    fn end(mut self) -> Option<i32> {
        drop(self.jobs.take());
        self.child.wait().unwrap().code()
    }
}

fn loads(events: &[Value]) -> bool {
    events.iter().any(|event| event["event"] == "stage" && event["what"] == "loading")
}

#[test]
fn a_second_job_on_the_same_model_reads_no_weights() {
    let (mut worker, model) = (Worker::start(), gpt2());
    let view = json!({ "model": model, "text": ["Alice was beginning"], "layers": "0,8", "top_k": 2 });
    let first = worker.run(1, "view", &view);
    let second = worker.run(2, "view", &view);
    assert!(loads(&first), "{first:?}");
    assert!(!loads(&second), "{second:?}");
    let [first, second] = [first, second].map(|events| events.last().unwrap().clone());
    assert_eq!(first["result"], second["result"]);
    let words = [
        "view",
        "--json",
        "--model",
        &model,
        "--text",
        "Alice was beginning",
        "--layers",
        "0,8",
        "--top-k",
        "2",
    ];
    let mut alone: Value = serde_json::from_str(succeed(&words).lines().last().unwrap()).unwrap();
    alone.as_object_mut().unwrap().shift_remove("event");
    assert_eq!(second["result"], alone, "a worker says what the program says");
    // Another number type is another model.
    let mut half = view.clone();
    half["dtype"] = "bf16".into();
    assert!(loads(&worker.run(3, "view", &half)));
    assert!(loads(&worker.run(4, "view", &view)), "one model is kept");
    // A run's manifest has the hash of the weights, which is that of files that have not changed since.
    let dir = tempfile::tempdir().unwrap();
    let hashes = |id: u32, worker: &mut Worker| {
        let out = dir.path().join(id.to_string());
        let mut job = view.clone();
        job["out"] = path(&out).into();
        let events = worker.run(id, "view", &job);
        let hashing = events.iter().any(|event| event["what"] == "hashing");
        (hashing, Manifest::read(&out).unwrap().unwrap().model.unwrap().sha256)
    };
    let (first, second) = (hashes(5, &mut worker), hashes(6, &mut worker));
    assert_eq!((first.0, second.0), (true, false));
    assert_eq!(first.1, second.1);
    assert_eq!(worker.end(), Some(0));
}

#[test]
fn what_cannot_be_meant_is_an_event_and_not_the_end() {
    let (mut worker, model) = (Worker::start(), gpt2());
    for (line, what) in [("{\"id\": 3", "no JSON"), ("{\"id\": 3}", "missing field"), ("[]", "is no job")] {
        worker.say(line);
        let event = worker.event();
        assert_eq!((&event["event"], &event["code"]), (&json!("error"), &json!(2)), "{event}");
        assert!(event["error"].as_str().unwrap().contains(what), "{event}");
    }
    worker.jobs.as_ref().unwrap().write_all(b"\xff\xfe\n\n  \n").unwrap();
    assert_eq!(worker.event()["code"], 2, "blank lines are no lines");
    let rows = [
        ("lens evall", json!({}), 2, "there are"),
        (
            "view",
            json!({ "model": model, "text": ["a"], "layer": [1] }),
            2,
            "no setting \"layer\"; did you mean \"layers\"?",
        ),
        ("view", json!({ "model": model, "text": "a" }), 2, "invalid type: string"),
        ("view", json!([1]), 2, "settings are an object, not a list"),
        // Settings are called by the names that they have in a job, not as options.
        ("view", json!({ "model": model, "text": ["a"], "layers": "99" }), 2, "layers: no layer 99"),
        ("view", json!({ "model": model, "text": ["-"] }), 2, "the jobs come from there"),
        ("view", json!({ "model": "/nonexistent", "text": ["a"] }), 2, "/nonexistent"),
        ("lens eval", json!({ "model": model, "data": ["-"], "lens": ["logit"], "out": "x" }), 2, "stdin"),
    ];
    for (command, job, code, what) in rows {
        let (found, line) = worker.refusal(command, &job);
        assert!(found == code && line.contains(what), "{command} {job}: {found} {line}");
        assert!(!line.contains("--") && !line.contains('\n'), "{line}");
    }
    let known = worker.run(5, "info", &json!({ "model": model }));
    assert_eq!(known.last().unwrap()["result"]["n_layers"], 8);
    assert_eq!(worker.end(), Some(0));
}

#[test]
fn a_check_that_does_not_hold_is_an_error() {
    let (mut worker, model) = (Worker::start(), gpt2());
    let (dir, reference) = (tempfile::tempdir().unwrap(), Path::new(&model).join("reference.safetensors"));
    let job = |reference: &Path| json!({ "model": model, "reference": reference });
    assert_eq!(worker.run(1, "verify", &job(&reference)).last().unwrap()["result"]["verdict"], "pass");
    let (other, mut bytes) = (dir.path().join("other.safetensors"), std::fs::read(&reference).unwrap());
    let end = bytes.len();
    bytes[end - 4096..].fill(0); // the end of an activation
    std::fs::write(&other, bytes).unwrap();
    let (code, line) = worker.refusal("verify", &job(&other));
    assert_eq!(code, 3, "{line}");
    assert_eq!(worker.end(), Some(0));
}

#[test]
fn a_cancelled_job_goes_on_where_it_stopped() {
    let (dir, mut worker) = (tempfile::tempdir().unwrap(), Worker::start());
    let out = dir.path().join("tuned");
    let fit = json!({
        "model": gpt2(), "data": [stories()], "kind": "tuned", "tokens": 6000, "step_tokens": 256, "layers": "6,7",
        "out": path(&out), "threads": 1,
    });
    worker.ask(1, "lens fit", &fit);
    worker.ask(2, "lens fit", &fit);
    worker.say("{\"cancel\": 2}");
    while worker.event()["what"] != "fitting" {}
    worker.say("{\"cancel\": 1}");
    let stopped = worker.until_over().pop().unwrap();
    assert_eq!((&stopped["id"], &stopped["code"]), (&json!(1), &json!(4)), "{stopped}");
    let never = worker.until_over().pop().unwrap();
    assert_eq!((&never["id"], &never["code"]), (&json!(2), &json!(4)), "{never}");
    assert!(never["error"].as_str().unwrap().contains("before it began"), "{never}");
    assert_eq!(Manifest::read(&out).unwrap().unwrap().status, Status::Running);
    let rest = worker.run(3, "lens fit", &fit);
    assert_eq!(rest.last().unwrap()["event"], "done", "{rest:?}");
    assert!(
        rest.iter().any(|e| e["line"].as_str().is_some_and(|line| line.contains("going on from step"))),
        "{rest:?}"
    );
    assert_eq!(Manifest::read(&out).unwrap().unwrap().status, Status::Complete);
    assert_eq!(worker.end(), Some(0));
}

#[test]
fn relative_paths_begin_where_a_job_says() {
    let (dir, mut worker) = (tempfile::tempdir().unwrap(), Worker::start());
    std::fs::write(dir.path().join("text.txt"), "Alice was beginning to get very tired").unwrap();
    let job = json!({ "model": gpt2(), "data": ["text.txt"], "layers": "0", "out": "acts" });
    let mut line = json!({ "id": 1, "command": "export", "job": job, "folder": dir.path() });
    worker.say(&line.to_string());
    let done = worker.until_over().pop().unwrap();
    assert_eq!((&done["event"], &done["out"]), (&json!("done"), &json!("acts")), "{done}");
    assert!(dir.path().join("acts/manifest.json").is_file());
    line["folder"] = "/nonexistent".into();
    worker.say(&line.to_string());
    let refused = worker.until_over().pop().unwrap();
    assert!(refused["error"].as_str().unwrap().starts_with("folder: /nonexistent: "), "{refused}");
    assert_eq!(worker.end(), Some(0));
}

#[test]
fn a_worker_that_nobody_hears_ends() {
    let Worker { mut child, jobs, answers } = Worker::start();
    drop(answers);
    let view = json!({ "id": 1, "command": "view", "job": { "model": gpt2(), "text": ["Alice was"] } });
    jobs.as_ref().unwrap().write_all(format!("{view}\n").as_bytes()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

/// Panics at the first note, in the middle of a job, and keeps what else it hears.
struct Jumpy(Mutex<Vec<Value>>);

impl Listener for Jumpy {
    fn hear(&self, event: Value) -> bool {
        assert!(event["event"] != "note" || event["id"] != 1, "startled");
        self.0.lock().unwrap().push(event);
        true
    }

    fn fault(&self, payload: &(dyn Any + Send)) -> String {
        format!("a panic: {}", payload.downcast_ref::<&str>().unwrap())
    }
}

#[test]
fn a_panic_is_an_event_and_the_next_job_runs() {
    let model = tiny("gpt2");
    let job = json!({ "model": path(model.path()), "text": ["w1 w2"] });
    let line = |id| json!({ "id": id, "command": "view", "job": job }).to_string() + "\n";
    let lines: String = (1..=2).map(line).collect();
    let heard = Arc::new(Jumpy(Mutex::new(Vec::new())));
    let listener: Arc<dyn Listener> = Arc::<Jumpy>::clone(&heard);
    work(Cursor::new(lines.into_bytes()), 1.try_into().unwrap(), &listener).unwrap();
    let heard = heard.0.lock().unwrap();
    let fault = heard.iter().find(|event| event["event"] == "error").unwrap();
    assert_eq!((&fault["id"], &fault["code"]), (&json!(1), &json!(70)));
    assert!(fault["error"].as_str().unwrap().contains("a panic: startled"), "{fault}");
    assert_eq!(heard.last().unwrap()["event"], "done");
}
