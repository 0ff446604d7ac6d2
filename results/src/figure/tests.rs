//! Layouts: no label meets another, none leaves the paper, at any depth.

use super::{
    Bar, Bars, CellText, Cloud, Colours, Curve, Curves, Heatmap, Labels, Level, Mark, Panel, Point, Scatter,
    Scene, Trajectory, TrajectoryCell, palette, width,
};

/// Every pair of texts that overlap, and every text that is not on the paper.
fn faults(scene: &Scene) -> Vec<String> {
    let texts: Vec<_> = scene.texts().map(|t| (t.text.as_str(), t.bounds())).collect();
    let mut faults = Vec::new();
    for (i, (text, b)) in texts.iter().enumerate() {
        if b.left < 0.0 || b.top < 0.0 || b.right > scene.width || b.bottom > scene.height {
            faults.push(format!("{text:?} leaves the paper of {} × {}: {b:?}", scene.width, scene.height));
        }
        let over = texts[..i].iter().filter(|(_, other)| b.overlaps(other));
        faults.extend(over.map(|(other, _)| format!("{text:?} meets {other:?}")));
    }
    faults
}

fn curve(name: &str, layers: i32) -> Curve {
    let point = |x: i32| {
        let y = f64::from(layers - x) + name.len() as f64;
        Point { x, y, interval: Some((y * 0.9, y * 1.1)) }
    };
    Curve { name: name.into(), points: (0..=layers).map(point).collect(), fitted: false }
}

fn curves(layers: i32, panels: usize, log: bool) -> Curves {
    let names =
        ["logit", "tuned", "shared:affine", "shared:rotated-affine", "linear", "future", &"x".repeat(300)];
    let panel = Panel {
        title: "2 tokens ahead".into(),
        curves: names.iter().map(|name| curve(name, layers)).collect(),
        levels: vec![Level { name: "model".into(), y: 3.0 }, Level { name: "unigram".into(), y: 3.01 }],
        best: Some(layers),
        tied: vec![layers - 1, layers],
    };
    Curves {
        title: "A title so long that it needs a second line of the figure: KL(model ‖ lens), by layer, of many lenses".into(),
        caption: "gpt2-alice-8l. n = 20,000 tokens, 83 documents. Ribbons: 95 % intervals over documents. ".repeat(3),
        y_label: "KL(model ‖ lens), nats".into(),
        log,
        panels: vec![panel; panels],
        ..Curves::default()
    }
}

fn matrix(layers: i32, cell: f64) -> Heatmap {
    let n = (layers * layers) as usize;
    Heatmap {
        title: "Penalty".into(),
        caption: "n = 1".into(),
        rows: Labels::Layers((0..layers).collect()),
        row_label: "lens of layer".into(),
        columns: Labels::Layers((0..layers).collect()),
        column_label: "state of layer".into(),
        values: (0..n).map(|i| Some(cell * i as f64 / n as f64)).collect(),
        value_label: "penalty, nats".into(),
        diagonal: true,
        ..Heatmap::default()
    }
}

#[test]
fn labels_keep_apart_at_every_depth() {
    for layers in [1, 6, 12, 24, 48, 80, 126] {
        for (panels, log) in [(1, false), (1, true), (4, false), (3, true)] {
            let found = faults(&curves(layers, panels, log).scene());
            assert!(found.is_empty(), "{layers} layers, {panels} panels: {found:#?}");
        }
        for largest in [1.0, -3000.0] {
            let found = faults(&matrix(layers, largest).scene());
            assert!(found.is_empty(), "{layers} layers: {found:#?}");
        }
    }
}

/// Bars of as many layers, with names, numbers, intervals and a legend.
#[test]
fn bars_keep_apart_at_every_depth() {
    for (layers, size) in [(1, 1e-4), (12, 3.0), (80, 4000.0)] {
        let bar = |i: i32| Bar {
            name: format!(
                "{i} {}",
                if i % 7 == 0 { "a name of many words that is cut".repeat(3) } else { "attn".into() }
            ),
            series: ["attention", "MLP", "embeddings and biases"][i as usize % 3].into(),
            from: 0.0,
            to: size * f64::from(i - layers / 2),
            interval: (i % 2 == 0).then_some((size * f64::from(i - layers), size * f64::from(i + layers))),
        };
        let chart = Bars {
            title: "Where a logit comes from".into(),
            caption: "n = 1".into(),
            value_label: "logits".into(),
            series: ["embeddings and biases", "attention", "MLP", "none of these"]
                .map(str::to_owned)
                .to_vec(),
            bars: (0..2 * layers).map(bar).collect(),
            connected: false,
        };
        let scene = chart.scene();
        let found = faults(&scene);
        assert!(found.is_empty(), "{layers} layers: {found:#?}");
        assert!(!scene.texts().any(|t| t.text == "none of these"));
    }
}

/// 1 and -0.25 of a waterfall: the second begins where the first ends, and a line joins them.
#[test]
fn a_waterfall_goes_on_where_it_was() {
    let bar = |from: f64, to: f64| Bar { name: "a".into(), series: "s".into(), from, to, interval: None };
    let bars = vec![bar(0.0, 1.0), bar(1.0, 0.75)];
    let scene = Bars { bars, connected: true, ..Bars::default() }.scene();
    let boxes: Vec<_> = scene
        .marks
        .iter()
        .filter_map(|m| if let Mark::Box { bounds, .. } = m { Some(*bounds) } else { None })
        .collect();
    assert!((boxes[0].right - boxes[1].right).abs() < 1e-9 && boxes[1].left > boxes[0].left, "{boxes:?}");
    let quarter = (boxes[1].right - boxes[1].left) / (boxes[0].right - boxes[0].left);
    assert!((quarter - 0.25).abs() < 1e-9, "{quarter}");
    assert!(scene.texts().any(|t| t.text == "−0.250"));
}

#[test]
fn ticks_of_eighty_layers_by_hand() {
    // 81 columns in 580 px: cells of 7 px. `80` is 2 × 1303 / 2048 × 11 = 14.0 px wide and needs 6 more: 20 px, so
    // three cells, and of the steps 1, 2, 5 the last: 35 px from label to label, 21 px free between two of them.
    let scene = matrix(81, 1.0).scene();
    let tick = |layer: i32| {
        let row =
            |t: &&super::Text| t.text == layer.to_string() && t.align == super::Align::Middle && !t.upwards;
        scene.texts().find(row).map(super::Text::bounds)
    };
    let shown: Vec<i32> = (0..=80).filter(|layer| tick(*layer).is_some()).collect();
    assert_eq!(shown, (0..=80).step_by(5).collect::<Vec<_>>());
    assert!((width("80", 11.0) - 14.0).abs() < 0.1);
    let (a, b) = (tick(70).unwrap(), tick(75).unwrap());
    assert!((b.left - a.left - 35.0).abs() < 1e-6 && (b.left - a.right - 21.0).abs() < 0.2, "{a:?} {b:?}");
}

#[test]
fn values_stand_in_cells_where_all_of_them_fit() {
    let count = |scene: &Scene| scene.texts().filter(|t| t.size == 9.5).count();
    // 12 layers: 48 px a cell, `0.99` is 21 px. 80 layers: 7 px, no room.
    assert_eq!(count(&matrix(12, 1.0).scene()), 144);
    assert_eq!(count(&matrix(80, 1.0).scene()), 0);
}

#[test]
fn signed_values_are_white_at_zero() {
    let values = vec![Some(-1.0), Some(0.0), Some(3.0), None];
    let two = Labels::Names(vec!["a".into(), "b".into()]);
    let map = Heatmap {
        rows: two.clone(),
        columns: two,
        values,
        colours: Colours::Diverging,
        ..Heatmap::default()
    };
    let scene = map.scene();
    let boxes = scene
        .marks
        .iter()
        .filter_map(|m| if let Mark::Box { colour, .. } = m { Some(*colour) } else { None });
    let expected = [1.0 / 3.0, 0.5, 1.0].map(palette::diverging);
    assert_eq!(boxes.take(3).collect::<Vec<_>>(), expected);
    assert_eq!(palette::diverging(0.5), super::Colour::PAPER);
}

#[test]
fn a_trajectory_has_its_first_layer_at_the_bottom() {
    let cell = |token: &str, value: f64, hit| TrajectoryCell { token: token.into(), value: Some(value), hit };
    let row =
        |layer: i32| (0..20).map(|i| cell(&format!("·tok{layer}"), 0.1 * f64::from(layer), i == 3)).collect();
    let shown = Trajectory {
        title: "logit lens".into(),
        caption: "* is the true next token".into(),
        tokens: (0..20).map(|i| format!("·a-rather-long-token-{i}")).collect(),
        layers: (0..=8).collect(),
        cells: (0..=8).map(row).collect(),
        value_label: "probability".into(),
        range: Some((0.0, 1.0)),
    };
    let scene = shown.scene();
    assert!(faults(&scene).is_empty(), "{:#?}", faults(&scene));
    let find =
        |text: &str| scene.texts().find(|t| t.text == text).unwrap_or_else(|| panic!("no {text}")).bounds();
    assert!(find("·tok8").bottom < find("·tok0").top && find("·tok8*").left > find("·tok8").left);
    assert_eq!(shown.scene().texts().filter(|t| t.text.ends_with('*')).count(), 9);
    let many = Trajectory {
        tokens: vec!["token".into(); 400],
        cells: vec![vec![cell("x", 0.5, false); 400]; 9],
        ..shown
    };
    assert!(faults(&many.scene()).is_empty() && many.scene().width < 1600.0);
    assert_eq!(Heatmap::default().text, CellText::Values);
}

fn scatter(panels: usize, low: f64) -> Scatter {
    let cloud = |layer: usize| {
        let points =
            |k: usize| (1..20).map(|i| (low * f64::from(i), low * f64::from(i * i) / k as f64)).collect();
        let names = ["logit, own basis", "pca", "random", &"x".repeat(200)];
        Cloud {
            title: format!("layer {layer}"),
            series: names.iter().enumerate().map(|(k, name)| ((*name).to_owned(), points(k + 1))).collect(),
        }
    };
    Scatter {
        title: "Energy and effect".into(),
        caption: "n = 1".into(),
        x_label: "KL(lens ‖ lens without the direction), nats".into(),
        y_label: "KL(model ‖ model without the direction), nats".into(),
        panels: (0..panels).map(cloud).collect(),
    }
}

#[test]
fn points_keep_their_labels_apart() {
    for panels in [0, 1, 2, 3, 9, 25] {
        for low in [1e-7, 0.01, 20.0] {
            let found = faults(&scatter(panels, low).scene());
            assert!(found.is_empty(), "{panels} panels, {low}: {found:#?}");
        }
    }
    // A point without a logarithm has no place; the others keep theirs.
    let dots = |chart: &Scatter| chart.scene().marks.iter().filter(|m| matches!(m, Mark::Dot { .. })).count();
    let (mut chart, whole) = (scatter(1, 0.01), dots(&scatter(1, 0.01)));
    chart.panels[0].series[0].1[3].1 = 0.0;
    chart.panels[0].series[0].1[4].0 = f64::NAN;
    assert_eq!(dots(&chart) + 2, whole);
}
