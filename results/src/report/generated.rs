//! What a model says: its own text token by token, and what a patched prompt says of a state.

use super::{
    Run,
    figure::{Along, Figure, Heading, Rows, curves},
    words,
};
use crate::run::RowKind;

/// The figures of `generate`, `patch` and of nothing else.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    match run.manifest.kind.as_str() {
        "generate" => generated(run),
        "patch" => patched(run),
        _ => Vec::new(),
    }
}

/// By new token: how sure the model was, and how far its edits moved it.
fn generated(run: &Run) -> Vec<Figure> {
    const LINES: [(&str, &str); 3] = [
        ("entropy", "entropy of the prediction"),
        ("ce", "−log p of the token said"),
        ("surprisal", "−log p of it, model left alone"),
    ];
    let rows = &run.rows;
    let edited = rows.iter().any(|r| r.metric == "kl");
    let (mut tokens, mut moved) = (Rows::default(), Rows::default());
    for row in rows {
        if let Some((_, name)) = LINES.iter().find(|(metric, _)| *metric == row.metric) {
            let name = if !edited && row.metric == "surprisal" { LINES[1].1 } else { name };
            tokens.add(name, row.clone());
        } else if row.metric == "kl" {
            moved.add("KL(model ‖ edited)", row.clone());
        }
    }
    let along = |heading: Heading| heading.along(Along::Step("new token"));
    let mut figures = Vec::new();
    if !tokens.lines.is_empty() {
        let more = "Of the texts that have not ended by then.";
        let heading = along(Heading::new("generate", "What was said, token by token", more));
        let heading =
            heading.but_not("whether the text is good: a loop of the same words is surer than prose.");
        figures.push(curves(run, heading, ("nats", false), &[tokens]));
    }
    if !moved.lines.is_empty() {
        let title = "How far the edits move the prediction, token by token";
        let heading = along(Heading::new("generate-kl", title, "Both predictions follow the same tokens."));
        let heading = heading.but_not(
            "what the model would have said: it is asked about the text that the edits led to, not about its own.",
        );
        figures.push(curves(run, heading, ("KL(model ‖ edited), nats", false), &[moved]));
    }
    figures
}

/// By the layer that the state comes from: what the target's answer has of the source's own.
fn patched(run: &Run) -> Vec<Figure> {
    let rows = &run.rows;
    let mut figures = Vec::new();
    for metric in ["precision_at_1", "surprisal", "kl"] {
        let own: Vec<_> =
            rows.iter().filter(|r| r.metric == metric && r.kind == RowKind::Patchscope).cloned().collect();
        let Some(first) = own.first() else { continue };
        let label = match metric {
            "kl" => "KL(source ‖ patched), nats".to_owned(),
            _ => words::metric(metric, &first.unit).1,
        };
        let title = match metric {
            "precision_at_1" => "Patchscope: the answer's first token is what the model says at the source",
            "surprisal" => "Patchscope: how surprising the answer's first token is to the source",
            _ => "Patchscope: how far the answer is from the source's own prediction",
        };
        let more =
            "Means over the positions of one source. The last layer in its own place is the model itself.";
        let heading = Heading::new(format!("patchscope-{metric}"), title, more).along(Along::Source).but_not(
            "what the state holds: only what this prompt brings out of it. The prompt has words of its own to say.",
        );
        figures.push(curves(run, heading, (&label, false), &[Rows::by_subject(&own)]));
    }
    figures
}
