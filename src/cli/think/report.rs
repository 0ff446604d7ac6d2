//! What thoughts look like and what they do, in the terminal.

use std::fmt::Write as _;

use layerscope::{
    intervene::{
        generate::continuation,
        think::{Case, Thought},
    },
    job::intervene::Thinking,
    results::run::{MetricRow, Parts, RowKind},
    results::words::counted,
    sources::text::{TextError, Tokenizer, show},
};

use crate::cli::{
    numbers::{LEGEND, with_interval},
    table::Table,
};

/// Prompts whose thoughts are shown one by one.
const SHOWN: usize = 3;

/// Examples, means where there are more prompts, and the replacements.
pub(super) fn text(thinking: &Thinking) -> Result<String, TextError> {
    let (mut text, rows, steps) = (String::new(), &thinking.thoughts.rows, thinking.steps);
    let n = thinking.prompts.len();
    for i in 0..n.min(if n > SHOWN { 1 } else { SHOWN }) {
        example(&mut text, thinking, i)?;
    }
    if n > SHOWN && steps > 0 {
        let _ =
            writeln!(text, "thoughts of {}, means ({LEGEND})\n{}", counted(n, "prompt"), means(rows, steps));
    }
    if !thinking.replacements.is_empty() && steps > 0 {
        let _ = writeln!(text, "{}", replaced(rows, steps));
    }
    Ok(text)
}

/// A prompt, its thoughts and its answers.
fn example(text: &mut String, thinking: &Thinking, i: usize) -> Result<(), TextError> {
    let (prompt, found, tokenizer) = (&thinking.prompts[i], &thinking.thoughts, &thinking.tokenizer);
    let _ = writeln!(text, "[{}] {}", i + 1, show(prompt.text.as_bytes()));
    if !found.thoughts[i].is_empty() {
        let _ = write!(text, "{}", thoughts(&found.thoughts[i], found.embeddings.mean, tokenizer));
    }
    let mut answers = Table::new(["answer after", ""]);
    let words = |ids: &[u32]| -> Result<String, TextError> {
        Ok(show(continuation(tokenizer, &prompt.ids, ids)?.as_bytes()))
    };
    answers.row(["its thoughts".to_owned(), words(&found.thinkers[i].answer)?]);
    for effect in &found.effects[i] {
        if let Some(ids) = &effect.answer {
            let name = if effect.case == Case::None {
                "no thoughts".into()
            } else {
                effect.case.subject().to_string()
            };
            answers.row([name, words(ids)?]);
        }
    }
    let _ = writeln!(text, "{answers}");
    Ok(())
}

/// A row per thought of one prompt.
fn thoughts(all: &[Thought], mean_norm: f64, tokenizer: &Tokenizer) -> Table {
    let piece = |id: u32| tokenizer.piece(id).shown;
    let list = |top: &[(u32, f64)]| -> String {
        top.iter().take(2).map(|(id, x)| format!("{} {x:.2}", piece(*id))).collect::<Vec<_>>().join("  ")
    };
    let lenses = all.first().map_or(&[][..], |t| &t.lenses[..]);
    let headers = ["thought", "× embedding", "longer than"].map(str::to_owned).into_iter();
    let headers = headers.chain(lenses.iter().flat_map(|l| [format!("{} reads", l.lens), "nats".into()]));
    let more =
        ["nearest embeddings (cosine)", "cos to own token", "cos to last", "then the model says", "nats"];
    let mut table = Table::new(headers.chain(more.map(str::to_owned)));
    for t in all {
        let first = [
            t.step.to_string(),
            format!("{:.2}", t.norm / mean_norm),
            format!("{:.0} %", t.percentile * 100.0),
        ];
        let read = t.lenses.iter().flat_map(|l| [list(&l.read.top), format!("{:.2}", l.read.entropy)]);
        let rest = [
            list(&t.nearest),
            format!("{:.2}", t.greedy.1),
            t.previous.map_or_else(|| "–".into(), |cosine| format!("{cosine:.2}")),
            list(&t.after.top),
            format!("{:.2}", t.after.entropy),
        ];
        table.row(first.into_iter().chain(read).chain(rest));
    }
    table
}

fn find<'a>(rows: &'a [MetricRow], subject: &str, metric: &str) -> Option<&'a MetricRow> {
    rows.iter().find(|r| r.subject == subject && r.metric == metric)
}

fn cell(rows: &[MetricRow], subject: &str, metric: &str) -> String {
    find(rows, subject, metric).map_or_else(|| "–".into(), with_interval)
}

/// A row per step.
fn means(rows: &[MetricRow], steps: usize) -> Table {
    let columns = [
        ("× embedding", "norm_ratio"),
        ("longer than", "norm_percentile"),
        ("nearest cos", "cosine_nearest"),
        ("nearest is own token", "nearest_agreement"),
        ("cos to own token", "cosine_greedy"),
        ("cos to last", "cosine_previous"),
        ("entropy after, nats", "entropy"),
    ];
    let mut table = Table::new(std::iter::once("thought").chain(columns.map(|(name, _)| name)));
    for step in 1..=steps {
        let subject = Parts::Step { of: "thought".into(), step, anew: false }.to_string();
        let cells = columns.iter().map(|(_, metric)| cell(rows, &subject, metric));
        table.row(std::iter::once(step.to_string()).chain(cells));
    }
    table
}

/// A row per replacement: all thoughts together, then the KL of each alone.
fn replaced(rows: &[MetricRow], steps: usize) -> String {
    let mut names: Vec<&str> = Vec::new();
    let all = |r: &&MetricRow| *r.subject.parts() == Parts::Name;
    for row in rows.iter().filter(|r| r.kind == RowKind::Replacement && r.metric == "kl").filter(all) {
        names.push(&row.subject);
    }
    let columns = [
        ("KL, nats", "kl"),
        ("agreement", "agreement"),
        ("answer stays", "same_answer"),
        ("surprisal of the answer, more nats", "surprisal_increase"),
    ];
    let mut table = Table::new(std::iter::once("all replaced by").chain(columns.map(|(name, _)| name)));
    for name in &names {
        let shown = match *name {
            "none" => "no thoughts",
            "greedy" => "greedy (plain decoding)",
            "other" => "other (another prompt's)",
            "random" => "random (as long)",
            name => name,
        };
        let cells = columns.iter().map(|(_, metric)| cell(rows, name, metric));
        table.row(std::iter::once(shown.to_owned()).chain(cells));
    }
    let mut text =
        format!("KL(with its thoughts ‖ with others) of the answer's first token, and the answer\n{table}");
    for (title, anew, until) in [
        ("the same KL, one thought replaced, the others as they were", false, steps),
        ("the same KL, one thought replaced, later ones thought anew", true, steps.saturating_sub(1)),
    ] {
        if steps < 2 {
            break;
        }
        let headers = (1..=until).map(|step| format!("thought {step}"));
        let mut each = Table::new(std::iter::once("one replaced by".to_owned()).chain(headers));
        for name in names.iter().filter(|name| **name != "none") {
            let at = |step| Parts::Step { of: (*name).to_owned(), step, anew }.to_string();
            let cells = (1..=until).map(|step| cell(rows, &at(step), "kl"));
            each.row(std::iter::once((*name).to_owned()).chain(cells));
        }
        let _ = write!(text, "\n{title}\n{each}");
    }
    text
}
