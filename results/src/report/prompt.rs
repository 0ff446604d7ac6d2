//! Prompts layer by layer, of `view --out`.

use super::{Figure, Run, run::slug};
use crate::{
    figure::{Trajectory, TrajectoryCell},
    show::show,
    trace::{LensTrace, Trace},
    words::counted,
};

/// One figure for every prompt, lens and horizon: the first token of each cell, coloured by its probability.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    let of = |(number, trace): (usize, &Trace)| -> Vec<Figure> {
        trace.lenses.iter().map(|lens| figure(run, number + 1, trace, lens)).collect()
    };
    run.traces.iter().enumerate().flat_map(of).collect()
}

fn figure(run: &Run, number: usize, trace: &Trace, lens: &LensTrace) -> Figure {
    let ahead = if lens.horizon == 1 { "the next token" } else { "tokens further ahead" };
    let title = format!("What the {} lens reads: {ahead}", lens.lens);
    let caption = format!(
        "{}. Prompt of {}. Colour: probability of the cell's token, horizon {}. *: the true token.",
        trace.model,
        counted(trace.tokens.len(), "token"),
        lens.horizon
    );
    let shown = |id: u32| show(trace.text(id).unwrap_or_default().as_bytes());
    let cell = |layer: usize, i: usize| {
        let top = lens.cells[layer][i].top.first();
        TrajectoryCell {
            token: top.map_or_else(String::new, |(id, _)| shown(*id)),
            value: top.map(|(_, p)| *p),
            hit: top.is_some_and(|(id, _)| trace.tokens.get(i + lens.horizon).is_some_and(|t| t.id == *id)),
        }
    };
    let n = trace.tokens.len();
    let chart = Trajectory {
        title: title.clone(),
        caption: caption.clone(),
        tokens: trace.tokens.iter().map(|token| show(token.text.as_bytes())).collect(),
        layers: lens.layers.iter().map(|layer| *layer as i32).collect(),
        cells: (0..lens.layers.len()).map(|l| (0..n).map(|i| cell(l, i)).collect()).collect(),
        value_label: "probability".into(),
        range: Some((0.0, 1.0)),
    };
    let further = if lens.horizon == 1 { String::new() } else { format!("-{}", lens.horizon) };
    let name = format!("prompt-{number}-{}{further}", slug(&lens.lens));
    Figure { records: records(trace, lens), ..Figure::new(run, &name, title, caption, chart.scene()) }
}

/// Every cell, under a header.
fn records(trace: &Trace, lens: &LensTrace) -> Vec<Vec<String>> {
    let header =
        ["layer", "pos", "token_id", "token", "top_id", "top_token", "top_prob", "entropy", "kl", "ce"];
    let number = |x: Option<f64>| x.map_or_else(String::new, |x| x.to_string());
    let row = |(layer, i): (usize, usize)| {
        let (cell, token) = (&lens.cells[layer][i], &trace.tokens[i]);
        let top = cell.top.first();
        vec![
            lens.layers[layer].to_string(),
            i.to_string(),
            token.id.to_string(),
            token.text.clone(),
            top.map_or_else(String::new, |(id, _)| id.to_string()),
            top.and_then(|(id, _)| trace.text(*id)).unwrap_or_default().to_owned(),
            number(top.map(|(_, p)| *p)),
            cell.entropy.to_string(),
            number(cell.kl),
            number(cell.ce),
        ]
    };
    let places = (0..lens.layers.len()).flat_map(|l| (0..trace.tokens.len()).map(move |i| (l, i)));
    std::iter::once(header.map(str::to_owned).to_vec()).chain(places.map(row)).collect()
}
