//! What every part of the network brought to a logit: a prompt's waterfall, a text's means.

use super::{
    Figure, Run,
    figure::{Heading, Matrix, Rows, curves, matrix},
    words,
};
use crate::{
    figure::{Bar, Bars, Chart, Colours, Labels},
    run::{MetricRow, Parts, RowKind},
    show::show,
};

/// What bars are of: the place is the colour.
const SERIES: [&str; 4] = ["embeddings and biases", "attention", "MLP", "the model"];
/// Bars of the figure of the largest parts.
const LARGEST: usize = 25;
/// What none of the figures shows.
const NOT: &str = "what the model would say without a part: later blocks read it too, may lean on it or make up for it, and the divisor \
    would be another. That takes patching.";

/// The figures of `attribute` and of nothing else.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    if run.manifest.kind != "attribute" {
        return Vec::new();
    }
    let mut figures = vec![layers(run), largest(run)];
    figures.extend(heads(run, "attribution"));
    figures.extend(heads(run, "attribution_abs"));
    figures.extend(accumulated(run));
    figures.retain(|figure| !figure.rows.is_empty());
    figures
}

/// Whether it is of one prompt, whose parts have no intervals.
fn is_prompt(run: &Run) -> bool {
    run.manifest.config.get("prompt").is_some_and(|prompt| !prompt.is_null())
}

/// Of a prompt, what was asked: `" Paris" less " Rome", behind "…is"`.
fn asked(run: &Run) -> String {
    let text = |key: &str| {
        let request = run.manifest.request.as_ref()?.get(key)?.as_str()?;
        Some(format!("{:?}", show(request.as_bytes())))
    };
    let Some(prompt) = text("prompt").filter(|_| is_prompt(run)) else { return String::new() };
    let answer = text("answer").unwrap_or_else(|| "What the model says".into());
    let foil = text("foil").map_or_else(String::new, |foil| format!(" less {foil}"));
    format!("{answer}{foil}, behind {prompt}. ")
}

/// The model's own number, and what it is.
fn whole(run: &Run) -> Option<(&MetricRow, &'static str)> {
    let row = run.rows.iter().find(|r| r.kind == RowKind::Model)?;
    let what = match row.metric.as_str() {
        "logit_diff" => "the difference of two logits",
        "logit_less_mean" => "a logit less the mean of all",
        _ => "a logit",
    };
    Some((row, what))
}

/// The name of a row's component, and its number of a head or neuron.
fn parts(row: &MetricRow) -> (&str, Option<usize>) {
    match row.subject.parts() {
        Parts::Component { component, head, neuron } => (component, head.or(*neuron)),
        _ => ("", None),
    }
}

/// What comes before the first block and behind the last, then every block's attention and MLP.
fn in_order(run: &Run) -> Vec<&MetricRow> {
    let of: Vec<&MetricRow> = run.rows.iter().filter(|r| r.metric == "attribution").collect();
    let named = |wanted: &'static str| of.iter().copied().filter(move |r| parts(r).0 == wanted);
    let mut all: Vec<&MetricRow> =
        ["norm_bias", "head_bias", "embed", "pos_embed"].into_iter().flat_map(named).collect();
    let mut blocks: Vec<&MetricRow> = named("attn").chain(named("mlp")).collect();
    blocks.sort_by_key(|r| (r.layer, parts(r).0 != "attn"));
    all.extend(blocks);
    all
}

fn series(name: &str) -> &'static str {
    match name {
        "attn" | "head" | "attn_bias" | "attn_norm_bias" => SERIES[1],
        "mlp" | "neuron" | "mlp_bias" | "mlp_norm_bias" => SERIES[2],
        _ => SERIES[0],
    }
}

/// `12 attn`, `embed`, `9 head 6`.
fn name_of(row: &MetricRow) -> String {
    let (name, number) = parts(row);
    let number = number.map_or_else(String::new, |number| format!(" {number}"));
    match name {
        "embed" | "pos_embed" | "norm_bias" | "head_bias" => name.to_owned(),
        _ => format!("{} {name}{number}", row.layer),
    }
}

/// A bar from 0.
fn bar(row: &MetricRow) -> Bar {
    Bar {
        name: name_of(row),
        series: series(parts(row).0).into(),
        from: 0.0,
        to: row.estimate,
        interval: row.lower.zip(row.upper),
    }
}

/// Layer by layer: of a prompt a waterfall that ends at the logit, of a text means with intervals.
fn layers(run: &Run) -> Figure {
    let rows: Vec<MetricRow> = in_order(run).into_iter().cloned().collect();
    let (prompt, whole) = (is_prompt(run), whole(run));
    let what = whole.map_or("a logit", |(_, what)| what);
    let (title, more) = if prompt {
        (
            format!("Where {what} comes from, layer by layer"),
            "Every bar begins where the one before ended; together they are the logit, before any soft cap.",
        )
    } else {
        (
            format!("What brings {what}, layer by layer: means over tokens"),
            "Whiskers: 95 % intervals. The means sum to the mean logit, before any soft cap.",
        )
    };
    let mut bars: Vec<Bar> = rows.iter().map(bar).collect();
    if prompt {
        let mut sum = 0.0;
        for bar in &mut bars {
            bar.from = sum;
            sum += bar.to;
            bar.to = sum;
        }
        bars.extend(whole.map(|(row, _)| Bar {
            name: "the model".into(),
            series: SERIES[3].into(),
            to: row.estimate,
            ..Bar::default()
        }));
    }
    drawn(run, Heading::new("attribution-layers", title, more), rows, bars, prompt)
}

/// The heads, MLPs, embeddings and neurons that brought most.
fn largest(run: &Run) -> Figure {
    let own = |metric: &'static str| {
        run.rows.iter().filter(move |r| {
            let part = r.kind == RowKind::AttributionPart && parts(r).0 == "neuron";
            r.metric == metric && (r.kind == RowKind::Attribution || part)
        })
    };
    // By the mean absolute value where there is one: what is large to both sides is large.
    let sizes: Vec<f64> = if is_prompt(run) {
        own("attribution").map(|r| r.estimate.abs()).collect()
    } else {
        own("attribution_abs").map(|r| r.estimate).collect()
    };
    let mut sized: Vec<(&MetricRow, f64)> = own("attribution").zip(sizes).collect();
    sized.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    sized.truncate(LARGEST);
    let rows: Vec<MetricRow> = sized.into_iter().map(|(row, _)| row.clone()).collect();
    let more = if is_prompt(run) {
        "Largest first, to either side. Neurons are parts of their MLP."
    } else {
        "By the mean of the absolute value; drawn is the mean, with its 95 % interval."
    };
    let bars = rows.iter().map(bar).collect();
    drawn(run, Heading::new("attribution-largest", "The parts that bring most", more), rows, bars, false)
}

fn drawn(run: &Run, heading: Heading, rows: Vec<MetricRow>, bars: Vec<Bar>, connected: bool) -> Figure {
    let heading = heading.but_not(NOT);
    let caption = words::caption(run, &rows, &format!("{}{}", asked(run), heading.more));
    let chart = Bars {
        title: heading.title.clone(),
        caption: caption.clone(),
        value_label: "logits".into(),
        series: SERIES.map(str::to_owned).to_vec(),
        bars,
        connected,
    };
    Figure::of(run, heading, caption, Chart::Bars(chart), rows)
}

/// Layers by heads.
fn heads(run: &Run, metric: &str) -> Option<Figure> {
    let own: Vec<&MetricRow> =
        run.rows.iter().filter(|r| r.metric == metric && parts(r).0 == "head").collect();
    let heads = own.iter().filter_map(|r| parts(r).1).max()? + 1;
    let layers = own.iter().map(|r| r.layer).max()? + 1;
    let mut values: Vec<Option<MetricRow>> = vec![None; heads * layers as usize];
    for row in own {
        let place = row.layer as usize * heads + parts(row).1?;
        values[place] = Some(row.clone());
    }
    let absolute = metric == "attribution_abs";
    let (name, title, value) = if absolute {
        ("attribution-heads-abs", "What heads bring, to either side", "mean absolute value, logits")
    } else {
        ("attribution-heads", "What heads bring", "logits")
    };
    let heading = Heading::new(name, title, "Without the output bias of attention.").but_not(NOT);
    let of = Matrix {
        rows: Labels::Layers((0..layers).collect()),
        row_label: "layer",
        columns: Labels::Layers((0..heads as i32).collect()),
        column_label: "head",
        value_label: value.into(),
        colours: if absolute { Colours::Sequential } else { Colours::Diverging },
        values,
    };
    Some(matrix(run, heading, of))
}

/// Sums layer by layer, with the divisor of the end and with a divisor of their own.
fn accumulated(run: &Run) -> Option<Figure> {
    let mut lines = Rows::default();
    for row in run.rows.iter().filter(|r| r.metric == "accumulated") {
        let name = match parts(row).0 {
            "frozen" => "sum so far, the divisor of the end",
            _ => "logit lens, a divisor of its own",
        };
        lines.add(name, row.clone());
    }
    if lines.lines.is_empty() {
        return None;
    }
    let heading = Heading::new(
        "attribution-accumulated",
        "The sum so far, and what would be said if the model stopped there",
        "Differences of the first line are what blocks brought; those of the other are that and the growth of the stream.",
    )
    .but_not(NOT);
    Some(curves(run, heading, ("logits", false), &[lines]))
}
