//! Chats as text, against `apply_chat_template` of transformers (fixtures/chat/make.py), and as prompts and data.

use std::path::{Path, PathBuf};

use layerscope::{
    results::run::{MetricRow, read_metrics},
    sources::{
        chat::{Chat, ChatTemplate, Ending, TemplateSettings},
        text::{BosPolicy, Tokenizer},
    },
    states::store::ActivationStore,
};
use serde_json::{Value, json};

use crate::cli;

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/chat").join(format!("{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A folder with a template and three special tokens.
fn folder(template: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "unk_token": "<unk>", "chat_template": template});
    std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    dir
}

fn open(template: &str, options: &Value) -> ChatTemplate {
    let options = options.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let settings = TemplateSettings {
        template_option: options.collect(),
        chat_date: Some("2025-01-31".parse().unwrap()),
        ..TemplateSettings::default()
    };
    ChatTemplate::open(folder(template).path(), &settings).unwrap()
}

fn ending(chat: &Value) -> Ending {
    match chat["ending"].as_str() {
        None => Ending::Closed,
        Some("prompt") => Ending::Prompt,
        _ => Ending::Continue,
    }
}

#[test]
fn templates_of_sixteen_kinds_render_as_in_transformers() {
    let (templates, chats, golden) = (fixture("templates"), fixture("chats"), fixture("golden"));
    let (mut texts, mut wrong) = (0, Vec::new());
    for (kind, template) in templates.as_object().unwrap() {
        for (name, chat) in chats.as_object().unwrap() {
            let template = open(template.as_str().unwrap(), &chat["options"]);
            let (want, got) =
                (&golden[kind][name], template.text(&Chat::new(chat.clone()).unwrap(), ending(chat)));
            match (want["text"].as_str(), &got) {
                (Some(want), Ok(got)) if want == got => texts += 1,
                (Some(want), got) => wrong.push(format!("{kind} {name}:\n want {want:?}\n got  {got:?}")),
                // What Python finds in attributes that are not there is said in other words; a template's own refusal
                // is not.
                (None, Err(error)) => {
                    let said = want["error"].as_str().unwrap();
                    let own = ["Roles must", "Only user"].iter().any(|start| said.starts_with(start));
                    if own && !error.to_string().contains(said) {
                        wrong.push(format!("{kind} {name}: {error} for {said}"));
                    }
                }
                (None, Ok(got)) => wrong.push(format!("{kind} {name}: {got:?} for {}", want["error"])),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(texts, 161);
}

#[test]
fn contents_are_found_in_what_templates_make_of_them() {
    let (templates, chats) = (fixture("templates"), fixture("chats"));
    for (kind, name, want) in [
        (
            "smollm2",
            "three",
            &["You are terse.", "Hello there,\nwhat is <b>1 & 1</b>?", "It's 2.", "Grüße aus 東京 🙂  again"]
                [..],
        ),
        // In front of its own message, and trimmed.
        (
            "brackets",
            "three",
            &["You are terse.", "Hello there,\nwhat is <b>1 & 1</b>?", "It's 2.", "Grüße aus 東京 🙂  again"],
        ),
        (
            "thinker",
            "thought",
            &[
                "Hello there,\nwhat is <b>1 & 1</b>?",
                "Two.",
                "Grüße aus 東京 🙂  again",
                "<think>\nhm\n</think>\n\nTwo.",
            ],
        ),
        ("turns", "parts", &["What is this?"]),
        ("marked", "continued", &["Hello there,\nwhat is <b>1 & 1</b>?", "It is, of course,"]),
    ] {
        let chat = &chats[name];
        let template = open(templates[kind].as_str().unwrap(), &chat["options"]);
        let rendered = template.render(&Chat::new(chat.clone()).unwrap(), ending(chat)).unwrap();
        let found: Vec<&str> =
            rendered.turns.iter().map(|turn| &rendered.text[turn.start..turn.end]).collect();
        assert_eq!(found, want, "{kind} {name}");
        let roles: Vec<&str> = rendered.turns.iter().map(|turn| turn.role.as_str()).collect();
        let own: Vec<&str> =
            rendered.turns.iter().map(|t| chat["messages"][t.turn]["role"].as_str().unwrap()).collect();
        assert_eq!(roles, own);
    }
    let counts = open("{% for m in messages %}{{ m.content | length }}{% endfor %}", &Value::Null);
    let error = counts.render(&Chat::question("hi there"), Ending::Closed).map(|rendered| rendered.turns);
    assert!(error.unwrap_err().to_string().contains("message 0 (user)"));
}

#[test]
fn templates_are_found_where_models_keep_them() {
    let render = |dir: &Path, settings: &TemplateSettings| {
        let template = ChatTemplate::open(dir, settings).map_err(|e| e.to_string())?;
        template.text(&Chat::question("hi"), Ending::Closed).map_err(|e| e.to_string())
    };
    let named =
        |name: &str| TemplateSettings { chat_template: Some(name.into()), ..TemplateSettings::default() };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    let shown = dir.path().display();
    let none = format!(
        "{shown}: no chat template (no chat_template.jinja, none in tokenizer_config.json); give a file that holds one"
    );
    assert_eq!(render(dir.path(), &TemplateSettings::default()).unwrap_err(), none);

    let list = json!({"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]});
    std::fs::write(path("tokenizer_config.json"), list.to_string()).unwrap();
    std::fs::write(path("tools.json"), "[{}]").unwrap();
    assert_eq!(render(dir.path(), &TemplateSettings::default()).unwrap(), "D");
    let tools = TemplateSettings { tools: Some(path("tools.json")), ..TemplateSettings::default() };
    assert_eq!(render(dir.path(), &tools).unwrap(), "T");
    assert_eq!(
        render(dir.path(), &named("rag")).unwrap_err(),
        format!("{shown}: no chat template \"rag\"; there are default, tool_use")
    );

    std::fs::write(path("chat_template.jinja"), "{{ messages[0].content }} J\n").unwrap();
    assert_eq!(render(dir.path(), &TemplateSettings::default()).unwrap(), "hi J");
    std::fs::create_dir(path("additional_chat_templates")).unwrap();
    std::fs::write(path("additional_chat_templates/rag.jinja"), "R").unwrap();
    assert_eq!(render(dir.path(), &named("rag")).unwrap(), "R");
    std::fs::write(path("own.jinja"), "{% if %}").unwrap();
    let own = path("own.jinja").display().to_string();
    assert!(
        render(dir.path(), &named(&own))
            .unwrap_err()
            .starts_with(&format!("chat template of {own}: syntax error"))
    );
}

/// The bundled GPT-2 with a template of its own, which begins with BOS.
fn alice() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(cli::fixture("gpt2-alice-8l").join(file), dir.path().join(file)).unwrap();
    }
    let template = "<|endoftext|>{% for m in messages %}({{ m.role }}) {{ m.content }}\n{% endfor %}\
                    {% if add_generation_prompt %}(assistant){% endif %}";
    std::fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    dir
}

fn result(args: &[&str]) -> Value {
    cli::result(&cli::succeed(&[args, &["--quiet", "--json"]].concat()))
}

#[test]
fn a_chat_is_answered_and_begins_with_bos_once() {
    let (dir, model) = (alice(), alice());
    let (model, file) = (model.path().to_str().unwrap(), dir.path().join("chat.json"));
    std::fs::write(&file, r#"{"messages": [{"role": "user", "content": "Who is Alice?"}]}"#).unwrap();
    let generate = |more: &[&str]| {
        let args = ["generate", "--model", model, "--max-new-tokens", "4", "--chat", file.to_str().unwrap()];
        result(&[&args[..], more].concat())["prompts"][0].clone()
    };
    let said = generate(&[]);
    assert_eq!(said["text"], "<|endoftext|>(user) Who is Alice?\n(assistant)");
    let text = [
        "generate",
        "--model",
        model,
        "--max-new-tokens",
        "4",
        "--text",
        "(user) Who is Alice?\n(assistant)",
    ];
    // As a text the tokenizer puts BOS in front of it; the model goes on alike.
    let plain = &result(&text)["prompts"][0];
    assert_eq!((&said["prompt_ids"], &said["token_ids"]), (&plain["prompt_ids"], &plain["token_ids"]));
    assert_eq!(generate(&["--bos", "always"])["prompt_ids"], said["prompt_ids"]);
    assert_eq!(generate(&["--continue-final-message"])["text"], "<|endoftext|>(user) Who is Alice?");
    let template = dir.path().join("bare.jinja");
    std::fs::write(&template, "{{ messages[0].content }}").unwrap();
    let bare = generate(&["--chat-template", template.to_str().unwrap()]);
    let with_bos = generate(&["--chat-template", template.to_str().unwrap(), "--bos", "always"]);
    assert_eq!(bare["text"], "Who is Alice?");
    let [bare, with_bos] = [bare, with_bos].map(|one| one["prompt_ids"].as_array().unwrap().clone());
    assert_eq!(
        (&with_bos[..1], &with_bos[1..]),
        (&[json!(0)][..], &bare[..]),
        "what the template does not write is not added"
    );
}

/// The text of every exported token, by document.
fn exported(model: &Path, data: &Path, positions: &str) -> Vec<(u64, String)> {
    let out = tempfile::tempdir().unwrap();
    let store = out.path().join("e");
    let [model_name, data, to] = [model, data, &store].map(|path| path.to_str().unwrap());
    let args = [
        "export",
        "--model",
        model_name,
        "--data",
        data,
        "--out",
        to,
        "--positions",
        positions,
        "--layers",
        "1",
    ];
    result(&args);
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(store.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["chat"]["template_sha256"].as_str().unwrap().len(), 64);
    assert!(
        manifest["bos"]["reason"].as_str().unwrap().starts_with("chats begin as their template writes them")
    );
    let tokenizer = Tokenizer::load(model, BosPolicy::Auto).unwrap();
    let store = ActivationStore::open(&store).unwrap();
    let rows = store.rows().unwrap();
    let ids: Vec<(u64, u32)> = rows.doc_id.iter().copied().zip(rows.token_id.iter().copied()).collect();
    let runs = ids.chunk_by(|a, b| a.0 == b.0).map(|run| {
        let ids: Vec<u32> = run.iter().map(|(_, id)| *id).collect();
        (run[0].0, tokenizer.decode(&ids).unwrap())
    });
    runs.collect()
}

#[test]
fn tokens_of_chats_are_chosen_by_role_and_turn() {
    let (dir, model) = (tempfile::tempdir().unwrap(), alice());
    let lines = [
        json!({"messages": [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "I am Alice."}]}),
        json!({"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Off with her head!"}]}),
    ];
    let jsonl = dir.path().join("a.jsonl");
    std::fs::write(&jsonl, lines.map(|line| line.to_string()).join("\n")).unwrap();
    let chosen = |positions: &str| exported(model.path(), &jsonl, positions);
    let two = |a: &str, b: &str| vec![(0, a.to_owned()), (1, b.to_owned())];
    assert_eq!(chosen("user"), two(" Who are you?", " Off with her head!"));
    assert_eq!(chosen("assistant"), [(0, " I am Alice.".to_owned())]);
    assert_eq!(chosen("turn:-1:last"), two(".", "!"));
    assert_eq!(chosen("turn:0"), two(" Who are you?", " Be kind."));
    assert_eq!(
        chosen("template"),
        two("<|endoftext|>(user)\n(assistant)\n", "<|endoftext|>(system)\n(user)\n")
    );

    // A table has every key in every message; a row without messages is an empty document.
    let parquet = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/chat/chats.parquet");
    let said = exported(model.path(), &parquet, "assistant");
    assert_eq!(said.len(), 2);
    assert!(said.iter().all(|(_, text)| text.trim() == "It's 2."), "{said:?}");
}

#[test]
fn chats_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let bare = cli::fixture("gpt2-alice-8l").display().to_string();
    let model = alice();
    let file = |name: &str, content: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let chat = file("a.jsonl", r#"{"messages": [{"role": "user", "content": "hi"}]}"#);
    let no_role = file("b.jsonl", r#"{"messages": [{"content": "hi"}]}"#);
    let empty = file("c.json", "");
    let refusing = file("d.jinja", "{{ raise_exception('never') }}");
    let alice = model.path().display().to_string();
    let row = |words: &str, says: &[&str]| {
        let args = words.split(' ').map(str::to_owned).collect();
        (args, 2, says.iter().map(|s| (*s).to_owned()).collect())
    };
    cli::refuse_all(&[
        row(&format!("generate --model {bare} --chat {chat}"), &["no chat template"]),
        row(&format!("generate --model {alice} --chat {empty}"), &["c.json: no chat is given"]),
        row(&format!("generate --model {alice} --chat {no_role}"), &["message 0 of the chat has no `role`"]),
        row(
            &format!("generate --model {alice} --chat {chat} --chat-template {refusing}"),
            &["never (line 1)"],
        ),
        row(&format!("generate --model {alice} --chat {chat} --chat-date soon"), &["no date"]),
    ]);
}

/// Chats of two kinds of questions; the answer names the kind.
fn labelled(dir: &Path) -> PathBuf {
    let path = dir.join("labelled.jsonl");
    let line = |i: usize| {
        let (kind, question) =
            [("sea", "Where does the whale number"), ("land", "Where does the horse number")][i % 2];
        let messages =
            [("user", format!("{question} {i} live?")), ("assistant", format!("On its {kind}, I think."))];
        let messages = messages.map(|(role, content)| json!({ "role": role, "content": content }));
        json!({ "messages": messages, "label": kind }).to_string()
    };
    std::fs::write(&path, (0..40).map(line).collect::<Vec<_>>().join("\n")).unwrap();
    path
}

#[test]
fn probes_read_a_message_of_a_chat() {
    let (dir, model) = (tempfile::tempdir().unwrap(), alice());
    let data = labelled(dir.path()).display().to_string();
    let model = model.path().display().to_string();
    let sweep = |name: &str, turn: &[&str]| {
        let out = dir.path().join(name);
        let args = [
            "probe",
            "sweep",
            "--model",
            &model,
            "--data",
            &data,
            "--layers",
            "4",
            "--out",
            out.to_str().unwrap(),
        ];
        result(&[&args[..], turn].concat());
        serde_json::from_slice::<Value>(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap()["config"]
            .clone()
    };
    let config = sweep("turn", &["--turn", "user"]);
    assert_eq!((&config["turn"], &config["unit"]), (&json!("user"), &json!("span")));
    assert_eq!(config["chat"]["template_sha256"].as_str().unwrap().len(), 64);
    let whole = sweep("whole", &[]);
    assert_eq!((&whole["turn"], &whole["unit"]), (&Value::Null, &json!("text")));
    let args =
        ["probe", "sweep", "--model", &model, "--data", &data, "--turn", "tool", "--out", "x", "--quiet"];
    let error = cli::run(&args);
    assert!(
        error.code == Some(2) && error.err.contains("labelled.jsonl:1: no message that `tool` selects"),
        "{}",
        error.err
    );
}

/// The mean over chosen tokens is the mean over their rows in the table of all tokens.
#[test]
fn lenses_are_measured_at_chosen_tokens() {
    let (dir, model) = (tempfile::tempdir().unwrap(), alice());
    let data = labelled(dir.path()).display().to_string();
    let model = model.path().display().to_string();
    let eval = |name: &str, more: &[&str]| {
        let out = dir.path().join(name);
        let args = [
            "lens",
            "eval",
            "--model",
            &model,
            "--data",
            &data,
            "--lens",
            "logit",
            "--layers",
            "4",
            "--out",
            out.to_str().unwrap(),
        ];
        result(&[&args[..], more].concat());
        read_metrics(&out).unwrap()
    };
    let (all, user, rest) = (
        eval("all", &[]),
        eval("user", &["--positions", "user"]),
        eval("rest", &["--positions", "template"]),
    );
    let answers = eval("answers", &["--positions", "assistant"]);
    let kl = |rows: &[MetricRow]| {
        let row = rows
            .iter()
            .find(|row| row.metric == "kl" && row.layer == 4 && row.subject == "logit" && row.unit == "nats");
        row.map(|row| (row.estimate, row.n as f64)).unwrap()
    };
    let parts = [kl(&user), kl(&rest), kl(&answers)];
    let (n, sum): (f64, f64) = (parts.iter().map(|p| p.1).sum(), parts.iter().map(|p| p.0 * p.1).sum());
    assert_eq!(n, kl(&all).1);
    // Sums of some thousand numbers in f64, of readings in f32 that do not depend on who else is read.
    assert!((sum / n - kl(&all).0).abs() < 1e-9 * kl(&all).0, "{parts:?} {:?}", kl(&all));
    assert!(
        all.iter().any(|row| row.unit.contains("bit"))
            && !user.iter().any(|row| row.unit.contains("bits per byte"))
    );
}
