//! Charts as they stand in the page, with every number that they show.

use serde_json::{Value, json};

use super::FigurePart;
use crate::figure::{Bar, Bars, Chart, Cloud, Colours, Curves, Heatmap, Labels, Panel, Scatter};

/// `{id, title, shows, not, lines | scatter | matrix | bars}`.
pub(super) fn encode(part: &FigurePart) -> Value {
    let FigurePart { name, title, shows, not, chart } = part;
    let (kind, of) = match chart {
        Chart::Curves(chart) => ("lines", lines(chart)),
        Chart::Scatter(chart) => ("scatter", scatter(chart)),
        Chart::Heatmap(chart) => ("matrix", matrix(chart)),
        Chart::Bars(chart) => ("bars", bars(chart)),
    };
    json!({ "id": name, "title": title, "shows": shows, "not": not, kind: of })
}

/// `{x, names, y, log, panels: [{title, lines: [[name, [[x, y, lower, upper]…]]…], levels: [[name, y]…]}]}`
fn lines(chart: &Curves) -> Value {
    let panel = |panel: &Panel| {
        let lines = panel.curves.iter().map(|curve| {
            let points = curve
                .points
                .iter()
                .map(|p| json!([p.x, p.y, p.interval.map(|i| i.0), p.interval.map(|i| i.1)]));
            json!([curve.name, points.collect::<Vec<_>>()])
        });
        let levels = panel.levels.iter().map(|level| json!([level.name, level.y]));
        json!({ "title": panel.title, "lines": lines.collect::<Vec<_>>(), "levels": levels.collect::<Vec<_>>() })
    };
    let panels: Vec<Value> = chart.panels.iter().map(panel).collect();
    json!({ "x": chart.along(), "names": chart.x_names, "y": chart.y_label, "log": chart.log, "panels": panels })
}

/// `{x, y, panels: [{title, series: [[name, [[x, y]…]]…]}]}`
fn scatter(chart: &Scatter) -> Value {
    let panel = |cloud: &Cloud| json!({ "title": cloud.title, "series": cloud.series });
    let panels: Vec<Value> = chart.panels.iter().map(panel).collect();
    json!({ "x": chart.x_label, "y": chart.y_label, "panels": panels })
}

/// `{x, connected, series: [name…], bars: [[name, series, from, to, lower, upper]…]}`
fn bars(chart: &Bars) -> Value {
    let bar = |bar: &Bar| {
        let (lower, upper) = (bar.interval.map(|i| i.0), bar.interval.map(|i| i.1));
        json!([bar.name, bar.series, bar.from, bar.to, lower, upper])
    };
    let all: Vec<Value> = chart.bars.iter().map(bar).collect();
    json!({ "x": chart.value_label, "connected": chart.connected, "series": chart.series, "bars": all })
}

/// `{rows: [label, names], columns: [label, names], legend, signed, values: row after row}`
fn matrix(chart: &Heatmap) -> Value {
    let names = |labels: &Labels| match labels {
        Labels::Layers(all) => json!(all),
        Labels::Names(all) => json!(all),
    };
    json!({
        "rows": [chart.row_label, names(&chart.rows)],
        "columns": [chart.column_label, names(&chart.columns)],
        "legend": chart.value_label,
        "signed": chart.colours == Colours::Diverging,
        "values": chart.values,
    })
}
