//! What changes made of the prediction: steering, schedules of blocks, and patches by layer and position.

use super::{
    Run,
    figure::{Figure, Heading, Matrix, Rows, curves, matrix},
    run::{groups, slug},
    words,
};
use crate::{
    figure::{Colours, Labels},
    run::{MetricRow, Parts, RowKind, Subject, TOGETHER},
};

/// The figures of `steer`, `schedule`, `trace` and of nothing else.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    match run.manifest.kind.as_str() {
        "steer" => steering(run),
        "schedule" => schedules(run),
        "trace" => maps(run),
        _ => Vec::new(),
    }
}

/// By the layer that is pushed: a panel per strength, a line per direction, and one for the control.
fn steering(run: &Run) -> Vec<Figure> {
    let mut figures = Vec::new();
    let rows = &run.rows;
    let (together, each): (Vec<&MetricRow>, Vec<&MetricRow>) =
        rows.iter().partition(|r| matches!(r.subject.parts(), Parts::RandomMean { .. }));
    for metric in ["kl", "agreement", "ce_increase", "response"] {
        let mut panels: Vec<Rows> = Vec::new();
        let drawn = |r: &&&MetricRow| r.metric == metric && (r.kind == RowKind::Steer || together.is_empty());
        for row in each.iter().filter(drawn) {
            let Parts::Pushed { of: name, strength } = row.subject.parts() else { continue };
            let title = pushed(*strength);
            let place = panels.iter().position(|p| p.title == title).unwrap_or_else(|| {
                panels.push(Rows { title, ..Rows::default() });
                panels.len() - 1
            });
            panels[place].add(name, (*row).clone());
        }
        for row in together.iter().filter(|r| r.metric == metric) {
            let Parts::RandomMean { strength } = row.subject.parts() else { continue };
            let sides = [pushed(*strength), pushed(-strength)];
            panels
                .iter_mut()
                .filter(|p| sides.contains(&p.title))
                .for_each(|p| p.add(TOGETHER, (*row).clone()));
        }
        if panels.is_empty() {
            continue;
        }
        let (title, label) = match metric {
            "kl" => ("KL(model ‖ steered), by the layer that is pushed", "KL(model ‖ steered), nats"),
            "agreement" => ("Agreement of the steered model with itself", "agreement (share)"),
            "ce_increase" => ("What steering costs: cross-entropy above the model's own", "increase, nats"),
            _ => ("Change of the logit difference, by the layer that is pushed", "response, nats"),
        };
        let more = "Strengths are in mean lengths of the layer's stream; the mean of random directions, the same to both sides, is \
                    the control.";
        let heading = Heading::new(format!("steer-{metric}"), title, more).but_not(
            "whether the direction is what the model itself uses, nor what it does to a text that is generated. A push \
             that does no more than random ones of the same length says nothing about its direction.",
        );
        figures.push(curves(run, heading, (label, false), &panels));
    }
    figures.extend(found(run, rows));
    figures
}

/// The title of a strength's panel.
fn pushed(strength: f64) -> String {
    format!("strength {strength:+}").replace('-', "−")
}

/// Directions that the model was asked for: how well pairs agree on one, and what a learnt vector does.
fn found(run: &Run, rows: &[MetricRow]) -> Vec<Figure> {
    let of = |metrics: &[(&str, &str)], kinds: &[RowKind]| {
        let mut lines = Rows::default();
        for row in rows.iter().filter(|r| kinds.contains(&r.kind)) {
            let Some((_, name)) = metrics.iter().find(|(metric, _)| *metric == row.metric) else { continue };
            let name = if name.is_empty() { row.subject.as_str() } else { name };
            lines.add(name, row.clone());
        }
        lines
    };
    let pairs = of(
        &[
            ("consistency", "cosine of a pair's difference with the others' mean"),
            ("explained", "share along the first component"),
        ],
        &[RowKind::SteerPairs],
    );
    let mut figures = Vec::new();
    if !pairs.lines.is_empty() {
        let heading =
            Heading::new("steer-pairs", "Do the pairs differ in one direction?", "At the last token.");
        let heading =
            heading.but_not("whether the model goes by that direction: see what a push along it does.");
        figures.push(curves(run, heading, ("cosine, share", false), &[pairs]));
    }
    for (metric, title, label) in [
        (
            "sentence_ce",
            "A vector that makes the model say a sentence",
            "−log p of the sentence, nats per token",
        ),
        ("recovered", "How much of the sentence the model says by itself", "share of the tokens"),
        ("push_length", "Length of the learnt vector", "in mean lengths of the stream"),
    ] {
        let lines = of(&[(metric, "")], &[RowKind::SteerSentence, RowKind::SteerRandom]);
        if lines.lines.is_empty() {
            continue;
        }
        let more = "Added at every position of the layer; the random ones are as long.";
        let heading = Heading::new(format!("steer-{metric}"), title, more).but_not(
            "that the sentence is in the model: any sentence may be reached by a vector that is learnt for it.",
        );
        figures.push(curves(run, heading, (label, false), &[lines]));
    }
    figures
}

/// The logit lens under every schedule, and the blocks left out one by one.
fn schedules(run: &Run) -> Vec<Figure> {
    let mut figures = Vec::new();
    let rows = &run.rows;
    for metric in ["kl", "agreement", "ce"] {
        let own = |r: &&MetricRow| r.metric == metric && r.unit != "bits/byte" && r.kind != RowKind::Model;
        let model =
            rows.iter().find(|r| r.metric == metric && r.kind == RowKind::Model && r.unit != "bits/byte");
        let level: Vec<_> =
            model.filter(|_| metric == "ce").map(|r| ("model".to_owned(), r.clone())).into_iter().collect();
        let (mut single, mut lines) = (Rows::default(), Rows::default());
        for row in rows.iter().filter(own) {
            match row.subject.parts() {
                // Drawn, and in its CSV, where the block was.
                Parts::Scheduled { skipped: Some(block), .. } if row.kind == RowKind::Schedule => {
                    single.add("left out", MetricRow { layer: *block as i32, ..row.clone() });
                }
                Parts::Scheduled { skipped: Some(_), .. } => (),
                _ => lines.add(&row.subject, row.clone()),
            }
        }
        let (_, label) =
            words::metric(metric, &rows.iter().find(own).map_or_else(String::new, |r| r.unit.clone()));
        let label = label.replace("lens", "schedule");
        if !single.lines.is_empty() {
            single.levels.clone_from(&level);
            let log = words::wants_log(metric, &single.lines[0].1);
            let heading = Heading::new(
                format!("deletions-{metric}"),
                format!("One block left out: {label}"),
                "By the block that is left out.",
            )
            .but_not(
                "what the block does: later blocks may make up for it, or depend on it for another reason.",
            );
            figures.push(curves(run, heading, (&label, log), &[single]));
        }
        if !lines.lines.is_empty() {
            lines.levels = level;
            let all: Vec<MetricRow> = lines.lines.iter().flat_map(|(_, rows)| rows).cloned().collect();
            let log = words::wants_log(metric, &all);
            let more = "Lenses (the logit lens unless named) by the block whose stream is read; at the last layer the schedule's own prediction.";
            let heading = Heading::new(
                format!("schedules-{metric}"),
                format!("Blocks in another order: {label}"),
                more,
            )
            .but_not(
                "how well the reordered model writes: these are predictions on a given text, token by token.",
            );
            figures.push(curves(run, heading, (&label, log), &[lines]));
        }
    }
    figures
}

/// Layers by positions, a map per hook and measure.
fn maps(run: &Run) -> Vec<Figure> {
    let mut figures = Vec::new();
    for rows in groups(&run.rows, |r| (r.hook.as_str(), r.metric.as_str())) {
        let own: Vec<&MetricRow> = rows.iter().filter(|r| r.kind != RowKind::Model).collect();
        let Some(first) = own.first() else { continue };
        let (mut places, mut layers): (Vec<Subject>, Vec<i32>) = (Vec::new(), Vec::new());
        for row in &own {
            if !places.contains(&row.subject) {
                places.push(row.subject.clone());
            }
            layers.push(row.layer);
        }
        layers.sort_unstable();
        layers.dedup();
        let find = |(layer, place): (i32, &Subject)| {
            own.iter().find(|r| r.layer == layer && r.subject == *place).map(|r| (*r).clone())
        };
        let values = layers.iter().flat_map(|l| places.iter().map(|p| (*l, p))).map(find).collect();
        let token = |place: &Subject| match place.parts() {
            Parts::Token { token, .. } => token.clone(),
            _ => place.to_string(),
        };
        let negative = own.iter().any(|r| r.estimate < -0.1);
        let (hook, metric) = (&first.hook, first.metric.replace('_', " "));
        let heading = Heading::new(
            format!("patch-{}-{}", slug(hook), slug(&first.metric)),
            format!("{hook} put into the other run: effect on the {metric}"),
            if first.n_clusters > 1 {
                "0: as corrupted, 1: as clean. Means over prompts, by what positions are to the two."
            } else {
                "0: as corrupted, 1: as clean. One pair of prompts is an example."
            },
        )
        .but_not(
            "that this state is the only way: effects of patches do not add up, and other pairs of prompts may differ.",
        );
        figures.push(matrix(
            run,
            heading,
            Matrix {
                rows: Labels::Layers(layers.clone()),
                row_label: "layer",
                columns: Labels::Names(places.iter().map(token).collect()),
                column_label: "position",
                value_label: "effect".into(),
                colours: if negative { Colours::Diverging } else { Colours::Sequential },
                values,
            },
        ));
    }
    figures
}
