use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::*;
use crate::{
    run::{RowKind, Status, read_metrics, write_metrics},
    trace::{LensTrace, PromptToken, TraceCell},
};

fn row(layer: i32, source_layer: Option<i32>, estimate: f64) -> MetricRow {
    MetricRow {
        subject: "tünéd</script>".into(),
        kind: RowKind::Tuned,
        hook: "resid_pre".into(),
        layer,
        source_layer,
        horizon: 1,
        metric: "ce".into(),
        unit: "nats".into(),
        estimate,
        lower: (layer % 2 == 0).then_some(estimate.next_down()),
        upper: (layer % 2 == 0).then_some(estimate.next_up()),
        n: 1 << 40,
        n_clusters: i64::from(7 + layer / 3),
        n_eff: 6.5,
        reason: (layer % 2 != 0).then(|| "one text".to_owned()),
    }
}

/// The JSON that a browser finds in the page.
fn data(html: &str) -> Value {
    let (_, rest) = html.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

fn bytes(packed: &Value, kind: &str) -> Vec<u8> {
    assert_eq!(packed[0], kind);
    STANDARD.decode(packed[1].as_str().unwrap()).unwrap()
}

fn doubles(packed: &Value) -> Vec<f64> {
    bytes(packed, "f64").as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
}

fn integers(packed: &Value) -> Vec<i32> {
    bytes(packed, "i32").as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect()
}

#[test]
fn inlined_numbers_are_those_of_metrics_parquet() {
    let dir = tempfile::tempdir().unwrap();
    let written: Vec<_> =
        (0..3000).map(|i| row(i - 1, (i % 5 > 0).then_some(i % 5), 1.0 / f64::from(i + 3))).collect();
    write_metrics(dir.path(), &written).unwrap();
    let rows = read_metrics(dir.path()).unwrap();
    let manifest = Manifest::new("lens eval");
    let run =
        RunPart { name: "r".into(), manifest: &manifest, caveats: vec![], rows: &rows, figures: vec![] };
    let page = Page { title: "t".into(), runs: vec![run], trajectories: vec![] };
    let metrics = &data(&page.html())["runs"][0]["metrics"];
    let (estimate, lower, upper) =
        (doubles(&metrics["estimate"]), doubles(&metrics["lower"]), doubles(&metrics["upper"]));
    let (layer, source) = (integers(&metrics["layer"]), integers(&metrics["source"]));
    let of: Vec<u16> =
        bytes(&metrics["of"], "u16").as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
    let some = |x: f64| (!x.is_nan()).then_some(x);
    for (i, row) in rows.iter().enumerate() {
        let series = &metrics["series"][of[i] as usize];
        let words = json!([
            row.subject,
            row.kind.as_str(),
            row.hook,
            row.metric,
            row.unit,
            row.horizon,
            row.n,
            row.n_clusters
        ]);
        assert_eq!(series, &words);
        assert_eq!((layer[i], source[i]), (row.layer, row.source_layer.unwrap_or(i32::MIN)));
        assert_eq!(estimate[i].to_bits(), row.estimate.to_bits());
        assert_eq!((some(lower[i]), some(upper[i])), (row.lower, row.upper));
    }
    assert_eq!(estimate.len(), rows.len());
}

/// A trace whose cells all have other tokens, as a large prompt in a large vocabulary.
fn large(layers: usize, positions: usize, lenses: &[(&str, usize)], text: impl Fn(u32) -> String) -> Trace {
    let id = |l: usize, i: usize, k: usize| ((l * 7919 + i * 104_729 + k * 1_299_709) % 50_000) as u32;
    let cell = |l: usize, i: usize| TraceCell {
        top: (0..10).map(|k| (id(l / 3, i, k), 0.5 / (k + 1) as f64)).collect(),
        entropy: (l + 1) as f64,
        kl: Some(0.25),
        ce: (i + 1 < positions).then_some(3.0),
        rank_of_final: Some(l as i64),
        rank_of_true: (i + 1 < positions).then_some(3),
        tracked: (0..layers).map(|l| (id(l / 3, i, 0), 0.1)).collect(),
    };
    let tokens = (0..positions).map(|i| PromptToken { id: id(0, i, 0), text: text(id(0, i, 0)) }).collect();
    let mut trace = Trace::new("gpt2", layers - 1, tokens);
    trace.lenses = lenses
        .iter()
        .map(|(lens, horizon)| LensTrace {
            lens: (*lens).into(),
            horizon: *horizon,
            layers: (0..layers).collect(),
            cells: (0..layers).map(|l| (0..positions).map(|i| cell(l, i)).collect()).collect(),
        })
        .collect();
    trace.spell(text);
    trace
}

#[test]
fn a_page_of_512_tokens_in_12_layers_and_two_lenses_is_below_3_megabytes() {
    let trace = large(13, 512, &[("logit", 1), ("tuned", 1)], |id| format!(" token{id}"));
    let part = TrajectoryPart { name: "p".into(), manifest: None, trace: &trace };
    let page = Page { title: "t".into(), runs: vec![], trajectories: vec![part] };
    let size = page.html().len();
    assert!((500_000..3_000_000).contains(&size), "{size} bytes");
}

#[test]
fn hostile_tokens_are_data() {
    let hostile = "</script><script>alert(1)</script><!--<script>\u{2028}\u{202e}\u{0}";
    let trace = large(3, 4, &[("<img src=x onerror=alert(1)>", 1)], |id| format!("{hostile}{id}"));
    let mut manifest = Manifest::new("view");
    manifest.argv = vec![hostile.into()];
    manifest.status = Status::Complete;
    let rows = [row(0, None, 1.0)];
    let run = RunPart {
        name: hostile.into(),
        manifest: &manifest,
        caveats: vec![hostile.into()],
        rows: &rows,
        figures: vec![],
    };
    let part = TrajectoryPart { name: hostile.into(), manifest: Some(&manifest), trace: &trace };
    let page = Page { title: hostile.into(), runs: vec![run], trajectories: vec![part] };
    let html = page.html();
    let plain = Page { title: "t".into(), runs: vec![], trajectories: vec![] }.html();
    for word in ["<script", "</script", "<!--", "<img"] {
        assert_eq!(html.matches(word).count(), plain.matches(word).count(), "{word}");
    }
    let data = data(&html);
    assert_eq!(data["runs"][0]["name"], hostile);
    let shown = data["prompts"][0]["vocabulary"][0].as_str().unwrap();
    assert!(shown.contains("</script>") && shown.contains("\\u{202e}\\u{0}"), "{shown}");
    assert_eq!(page.html(), html); // the same bytes
}

#[test]
fn a_file_is_written_whole() {
    let dir = tempfile::tempdir().unwrap();
    let page = Page { title: "t".into(), runs: vec![], trajectories: vec![] };
    let path = dir.path().join("report.html");
    let written = page.write(&path).unwrap();
    let html = std::fs::read_to_string(path).unwrap();
    assert_eq!(written.bytes as usize, html.len());
    assert!(html.starts_with("<!doctype html>"));
    assert_eq!(asks_the_network(&html), [""; 0]);
}

/// Addresses in a page that a browser could fetch or lead to. Names of XML vocabularies look like addresses and are
/// none.
fn asks_the_network(html: &str) -> Vec<&str> {
    const NAMES: [&str; 2] = ["http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"];
    let end = |c: char| c.is_whitespace() || "\"'`<>()\\".contains(c);
    let starts = ["http://", "https://", "ws://", "wss://", "src=\"//", "href=\"//", "url(//"];
    let found = starts.iter().flat_map(|start| html.match_indices(start)).map(|(at, _)| &html[at..]);
    let words = found.map(|rest| &rest[..rest.find(end).unwrap_or(rest.len())]);
    words.filter(|word| !NAMES.contains(word)).collect()
}

#[test]
fn a_planted_address_is_seen() {
    let page = Page { title: "t".into(), runs: vec![], trajectories: vec![] }.html();
    for planted in [
        "<img src=\"http://x.co/a.png\">",
        "<script src='https://x.co/a.js'></script>",
        "<style>@import url(https://x.co/a.css)</style>",
        "<script>fetch(\"https://x.co\")</script>",
        "<script>new WebSocket('wss://x.co')</script>",
        "<link href=\"//x.co/a.css\">",
        "<svg xmlns=\"http://www.w3.org/2000/svg/evil\"></svg>",
    ] {
        let html = page.replacen("</body>", &format!("{planted}</body>"), 1);
        assert_ne!(html, page, "the page has a body");
        assert_eq!(asks_the_network(&html).len(), 1, "{planted}");
    }
}

#[test]
fn charts_keep_every_number() {
    use crate::figure::{
        Bar, Bars, Cloud, Colours, Curve, Curves, Heatmap, Labels, Level, Panel, Point, Scatter,
    };
    let third = 1.0 / 3.0;
    let point = |x, y| Point { x, y, interval: (x > 0).then_some((y, 2.0 * y)) };
    let curve = Curve { name: "a".into(), points: vec![point(0, third), point(2, 0.1)], fitted: false };
    let levels = vec![Level { name: "model".into(), y: -third }];
    let panels = vec![Panel { title: "p".into(), levels, ..Panel::of(vec![curve]) }];
    let part =
        |chart| FigurePart { name: "f".into(), title: "t".into(), shows: "s".into(), not: "n".into(), chart };
    let lines = figures::encode(&part(Chart::Curves(Curves { log: true, panels, ..Curves::default() })));
    let of_panel = json!({
        "title": "p",
        "lines": [["a", [[0, third, null, null], [2, 0.1, 0.1, 0.2]]]],
        "levels": [["model", -third]],
    });
    assert_eq!(
        lines["lines"],
        json!({ "x": "layer", "names": [], "y": "", "log": true, "panels": [of_panel] })
    );
    let cloud = Cloud { title: "layer 3".into(), series: vec![("pca".into(), vec![(third, 0.1)])] };
    let scatter = Scatter { x_label: "x".into(), panels: vec![cloud], ..Scatter::default() };
    let scatter = figures::encode(&part(Chart::Scatter(scatter)));
    let of_panel = json!({ "title": "layer 3", "series": [["pca", [[third, 0.1]]]] });
    assert_eq!(scatter["scatter"], json!({ "x": "x", "y": "", "panels": [of_panel] }));
    let map = Heatmap {
        rows: Labels::Layers(vec![0, 4]),
        row_label: "layer".into(),
        columns: Labels::Names(vec!["</script>".into()]),
        column_label: "position".into(),
        values: vec![Some(third), None],
        colours: Colours::Diverging,
        value_label: "effect".into(),
        ..Heatmap::default()
    };
    let matrix = figures::encode(&part(Chart::Heatmap(map)));
    let want = json!({
        "rows": ["layer", [0, 4]],
        "columns": ["position", ["</script>"]],
        "legend": "effect",
        "signed": true,
        "values": [third, null],
    });
    assert_eq!(matrix["matrix"], want);
    let bar = |from, to, interval| Bar { name: "0 attn".into(), series: "attn".into(), from, to, interval };
    let bars = vec![bar(0.0, third, Some((0.1, 0.5))), bar(third, -0.1, None)];
    let bars = figures::encode(&part(Chart::Bars(Bars {
        connected: true,
        series: vec!["attn".into()],
        bars,
        ..Bars::default()
    })));
    let want = json!([["0 attn", "attn", 0.0, third, 0.1, 0.5], ["0 attn", "attn", third, -0.1, null, null]]);
    assert_eq!(bars["bars"], json!({ "x": "", "connected": true, "series": ["attn"], "bars": want }));
}
