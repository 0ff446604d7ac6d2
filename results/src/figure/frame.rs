//! What stands round a plot: title, caption, axes, labels.

use super::{
    axis::Axis,
    font,
    scene::{Align, Bounds, Colour, Scene},
};

/// Distance of everything from the edge.
pub(super) const MARGIN: f64 = 16.0;
/// The em of tick labels, legends and captions.
pub(super) const SMALL: f64 = 11.0;
/// The em of the labels of axes.
pub(super) const LABEL: f64 = 12.0;
const TITLE: f64 = 15.0;
/// From one line of small text to the next.
pub(super) const LEADING: f64 = 15.0;

/// Draws title and caption and returns the height below them. The scene has its width already.
pub(super) fn header(scene: &mut Scene, title: &str, caption: &str) -> f64 {
    let room = scene.width - 2.0 * MARGIN;
    let mut y = MARGIN + TITLE * 0.8;
    for line in font::wrap(title, TITLE, room, 2) {
        scene.text((MARGIN, y), &line, TITLE, Align::Start, Colour::INK);
        y += TITLE * 1.25;
    }
    for line in font::wrap(caption, SMALL, room, 4).iter().filter(|line| !line.is_empty()) {
        scene.text((MARGIN, y), line, SMALL, Align::Start, Colour::SOFT);
        y += LEADING;
    }
    y
}

/// Room that the labels of a vertical axis take to its left.
pub(super) fn left_of(axis: &Axis) -> f64 {
    let widest = axis.ticks.iter().map(|(_, label)| font::width(label, SMALL)).fold(0.0, f64::max);
    MARGIN + LABEL * 1.5 + widest + 8.0
}

/// The height of `value` in `plot`; none where the axis has no place for it.
pub(super) fn height(axis: &Axis, plot: Bounds, value: f64) -> Option<f64> {
    axis.place(value).map(|at| plot.bottom - at.clamp(0.0, 1.0) * (plot.bottom - plot.top))
}

/// Grid lines, tick labels and the name of a vertical axis.
pub(super) fn vertical(scene: &mut Scene, axis: &Axis, plot: Bounds, label: &str) {
    for (value, text) in &axis.ticks {
        let Some(y) = height(axis, plot, *value) else { continue };
        scene.path(vec![(plot.left, y), (plot.right, y)], Colour::GRID, 1.0, &[]);
        scene.text((plot.left - 6.0, y + SMALL * 0.36), text, SMALL, Align::End, Colour::SOFT);
    }
    let middle = f64::midpoint(plot.top, plot.bottom);
    let x = plot.left - left_of(axis) + MARGIN + LABEL * 0.75;
    scene.upwards(
        (x, middle),
        &font::fit(label, LABEL, plot.bottom - plot.top + 24.0),
        LABEL,
        Align::Middle,
        Colour::INK,
    );
}

/// Tick labels and the name of a horizontal axis below `plot`; returns the height below them.
pub(super) fn horizontal(scene: &mut Scene, plot: Bounds, ticks: &[(f64, String)], label: &str) -> f64 {
    for (x, text) in ticks {
        scene.path(vec![(*x, plot.bottom), (*x, plot.bottom + 4.0)], Colour::SOFT, 1.0, &[]);
        scene.text((*x, plot.bottom + 6.0 + SMALL), text, SMALL, Align::Middle, Colour::SOFT);
    }
    scene.path(vec![(plot.left, plot.bottom), (plot.right, plot.bottom)], Colour::SOFT, 1.0, &[]);
    let y = plot.bottom + 6.0 + SMALL + 5.0 + LABEL;
    scene.text((f64::midpoint(plot.left, plot.right), y), label, LABEL, Align::Middle, Colour::INK);
    y + 6.0
}

/// Room that a tick label needs so that the next one is told from it.
pub(super) fn tick_room(layers: &[i32]) -> f64 {
    let widest = layers.iter().map(|layer| font::width(&layer.to_string(), SMALL)).fold(0.0, f64::max);
    widest + 8.0
}
