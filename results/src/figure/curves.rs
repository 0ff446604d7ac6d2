//! Lines by layer, with ribbons and levels.

use std::collections::BTreeSet;

use super::{
    axis::{Axis, layer_ticks},
    font,
    frame::{self, LEADING, MARGIN, SMALL},
    palette::{self, Marker},
    scene::{Align, Bounds, Colour, Mark, Scene},
};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
/// Of one of several panels.
const SMALL_HEIGHT: f64 = 190.0;
const GAP: f64 = 26.0;
/// Ground of the layers that cannot be told from the best.
const TIED: Colour = Colour(0xff, 0xef, 0xbf);

/// A value at a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Point {
    pub x: i32,
    pub y: f64,
    /// The 95 % interval.
    pub interval: Option<(f64, f64)>,
}

/// A line.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Curve {
    pub name: String,
    /// By ascending layer.
    pub points: Vec<Point>,
    /// Without markers: computed, not measured.
    pub fitted: bool,
}

/// A value that no layer changes, drawn as a broken line: the model's own, a baseline.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Level {
    pub name: String,
    pub y: f64,
}

/// One plot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Panel {
    /// Above the plot, where there are several.
    pub title: String,
    /// Its lines.
    pub curves: Vec<Curve>,
    /// Its levels.
    pub levels: Vec<Level>,
    /// Marked with a line.
    pub best: Option<i32>,
    /// Layers that cannot be told from the best, shaded.
    pub tied: Vec<i32>,
}

impl Panel {
    /// A panel of lines.
    pub fn of(curves: Vec<Curve>) -> Self {
        Self { curves, ..Self::default() }
    }
}

/// A figure of lines by layer. Panels share their axes, and a line of one name looks the same in all of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curves {
    /// What is shown.
    pub title: String,
    /// What it rests on: n, clusters, what the ribbons are.
    pub caption: String,
    /// What lies along it; layers where nothing is said.
    pub x_label: String,
    /// Names of the places along it, from 0 on, in place of their numbers.
    pub x_names: Vec<String>,
    /// The value, with its unit.
    pub y_label: String,
    /// A logarithmic scale.
    pub log: bool,
    /// One, or several in two columns.
    pub panels: Vec<Panel>,
}

/// Where layers are.
struct Across {
    first: i32,
    last: i32,
    ticks: Vec<i32>,
}

impl Across {
    fn x(&self, plot: Bounds, layer: f64) -> f64 {
        let inner = 12.0; // so that the first and the last point stand free of the frame
        let span = f64::from((self.last - self.first).max(1));
        plot.left + inner + (layer - f64::from(self.first)) / span * (plot.right - plot.left - 2.0 * inner)
    }
}

impl Curves {
    /// The drawing.
    pub fn scene(&self) -> Scene {
        let mut scene = Scene { width: WIDTH, ..Scene::default() };
        let top = frame::header(&mut scene, &self.title, &self.caption) + 6.0;
        let columns = if self.panels.len() > 1 { 2 } else { 1 };
        let tall = if columns > 1 { SMALL_HEIGHT } else { HEIGHT };
        let head = if columns > 1 { 20.0 } else { 0.0 };
        let axis = self.axis(if columns > 1 { 4 } else { 6 });
        let left = frame::left_of(&axis);
        let wide = (WIDTH - MARGIN - left * columns as f64 - GAP * (columns - 1) as f64) / columns as f64;
        let across = self.across(wide);
        let mut y = top;
        for row in self.panels.chunks(columns) {
            let mut below = y;
            for (column, panel) in row.iter().enumerate() {
                let x = left + column as f64 * (wide + GAP + left);
                let plot = Bounds { left: x, top: y + head, right: x + wide, bottom: y + head + tall };
                if columns > 1 {
                    let title = font::fit(&panel.title, SMALL + 1.0, wide);
                    scene.text((x, y + head - 6.0), &title, SMALL + 1.0, Align::Start, Colour::INK);
                }
                below = self.panel(&mut scene, panel, plot, &axis, &across);
            }
            y = below + 8.0;
        }
        scene.height = self.legend(&mut scene, y + 4.0) + MARGIN - 6.0;
        scene
    }

    /// What lies along it.
    pub fn along(&self) -> &str {
        if self.x_label.is_empty() { "layer" } else { &self.x_label }
    }

    /// Names of lines, in the order in which they first appear: the place is the style.
    fn names(&self) -> Vec<&str> {
        unique(self.panels.iter().flat_map(|p| &p.curves).map(|c| c.name.as_str()))
    }

    fn level_names(&self) -> Vec<&str> {
        unique(self.panels.iter().flat_map(|p| &p.levels).map(|l| l.name.as_str()))
    }

    /// The scale of all panels.
    fn axis(&self, ticks: usize) -> Axis {
        let ends = |p: &Point| [Some(p.y), p.interval.map(|i| i.0), p.interval.map(|i| i.1)];
        let points =
            self.panels.iter().flat_map(|p| &p.curves).flat_map(|c| &c.points).flat_map(ends).flatten();
        let all = points.chain(self.panels.iter().flat_map(|p| &p.levels).map(|l| l.y));
        let all: Vec<f64> = all.filter(|v| v.is_finite() && (!self.log || *v > 0.0)).collect();
        let (low, high) =
            (all.iter().copied().fold(f64::NAN, f64::min), all.iter().copied().fold(f64::NAN, f64::max));
        if self.log { Axis::logarithmic(low, high) } else { Axis::linear(low, high, ticks) }
    }

    fn across(&self, wide: f64) -> Across {
        let points = self.panels.iter().flat_map(|p| &p.curves).flat_map(|c| &c.points);
        let layers: Vec<i32> = points.map(|p| p.x).collect::<BTreeSet<_>>().into_iter().collect();
        let (first, last) = (layers.first().copied().unwrap_or(0), layers.last().copied().unwrap_or(0));
        let spacing = (wide - 24.0) / f64::from((last - first).max(1));
        let ticks = if self.x_names.is_empty() {
            layer_ticks(&layers, spacing, frame::tick_room(&layers))
        } else {
            layers // every name is said
        };
        Across { first, last, ticks }
    }

    /// Draws one plot and returns the height below it.
    fn panel(&self, scene: &mut Scene, panel: &Panel, plot: Bounds, axis: &Axis, across: &Across) -> f64 {
        for layer in &panel.tied {
            let ends =
                [-0.5, 0.5].map(|half| across.x(plot, f64::from(*layer) + half).clamp(plot.left, plot.right));
            scene.fill(Bounds { left: ends[0], right: ends[1], ..plot }, TIED, 1.0);
        }
        frame::vertical(scene, axis, plot, &self.y_label);
        let name = |x: i32| self.x_names.get(x as usize).map_or_else(|| x.to_string(), String::clone);
        let at = |x: &i32| (across.x(plot, f64::from(*x)), name(*x));
        let ticks: Vec<(f64, String)> = across.ticks.iter().map(at).collect();
        let below = frame::horizontal(scene, plot, &ticks, self.along());
        if let Some(best) = panel.best {
            let x = across.x(plot, f64::from(best));
            scene.path(vec![(x, plot.top), (x, plot.bottom)], Colour::INK, 1.0, &[]);
            let label = format!("best: layer {best}");
            let over = font::width(&label, SMALL) / 2.0;
            let x = x.clamp(plot.left + over, plot.right - over);
            scene.text((x, plot.top - 3.0), &label, SMALL, Align::Middle, Colour::INK);
        }
        let (names, levels) = (self.names(), self.level_names());
        for level in &panel.levels {
            let Some(y) = frame::height(axis, plot, level.y) else { continue };
            let (colour, dash) = level_style(place(&levels, &level.name), &level.name);
            scene.path(vec![(plot.left, y), (plot.right, y)], colour, 1.5, dash);
        }
        for curve in &panel.curves {
            ribbon(scene, curve, place(&names, &curve.name), &|p| across.x(plot, p), &|v| {
                frame::height(axis, plot, v)
            });
        }
        for curve in &panel.curves {
            let style = palette::line(place(&names, &curve.name));
            let spots: Vec<(i32, (f64, f64))> = curve
                .points
                .iter()
                .filter_map(|p| {
                    frame::height(axis, plot, p.y).map(|y| (p.x, (across.x(plot, f64::from(p.x)), y)))
                })
                .collect();
            scene.path(spots.iter().map(|s| s.1).collect(), style.colour, 1.75, style.dash);
            let few = spots.len() == 1;
            if curve.fitted {
                continue;
            }
            for (_, spot) in spots.iter().filter(|(layer, _)| few || across.ticks.contains(layer)) {
                marker(scene, *spot, style.marker, style.colour);
            }
        }
        below
    }

    /// Draws the legend from `y` on and returns the height below it.
    fn legend(&self, scene: &mut Scene, y: f64) -> f64 {
        const SAMPLE: f64 = 28.0;
        let room = WIDTH - 2.0 * MARGIN;
        let (mut x, mut y) = (MARGIN, y + LEADING * 0.7);
        let mut entry = |scene: &mut Scene, name: &str, sample: &dyn Fn(&mut Scene, f64, f64)| {
            let name = font::fit(name, SMALL, (room - SAMPLE - 6.0).min(330.0));
            let wide = SAMPLE + 6.0 + font::width(&name, SMALL) + 16.0;
            if x > MARGIN && x + wide - 16.0 > MARGIN + room {
                (x, y) = (MARGIN, y + LEADING + 2.0);
            }
            sample(scene, x, y - SMALL * 0.36);
            scene.text((x + SAMPLE + 6.0, y), &name, SMALL, Align::Start, Colour::INK);
            x += wide;
        };
        for (i, name) in self.names().into_iter().enumerate() {
            let style = palette::line(i);
            let fitted = self.panels.iter().flat_map(|p| &p.curves).any(|c| c.name == name && c.fitted);
            entry(scene, name, &|scene, x, y| {
                scene.path(vec![(x, y), (x + SAMPLE, y)], style.colour, 1.75, style.dash);
                if !fitted {
                    marker(scene, (x + SAMPLE / 2.0, y), style.marker, style.colour);
                }
            });
        }
        for (i, name) in self.level_names().into_iter().enumerate() {
            let (colour, dash) = level_style(i, name);
            entry(scene, name, &|scene, x, y| scene.path(vec![(x, y), (x + SAMPLE, y)], colour, 1.5, dash));
        }
        if self.panels.iter().any(|p| !p.tied.is_empty()) {
            entry(scene, "cannot be told from the best (95 %)", &|scene, x, y| {
                scene.fill(Bounds { left: x, top: y - 5.0, right: x + SAMPLE, bottom: y + 5.0 }, TIED, 1.0);
            });
        }
        y + 6.0
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut out: Vec<&str> = Vec::new();
    for name in names {
        if !out.contains(&name) {
            out.push(name);
        }
    }
    out
}

fn place(names: &[&str], name: &str) -> usize {
    names.iter().position(|other| *other == name).unwrap_or(0)
}

/// The model's own value is black, baselines are grey.
fn level_style(i: usize, name: &str) -> (Colour, &'static [f64]) {
    let model = name == "model" || name.starts_with("model ");
    (if model { Colour::INK } else { Colour(0x77, 0x77, 0x77) }, palette::level_dash(i))
}

/// The intervals of a line; a gap where a point has none.
fn ribbon(
    scene: &mut Scene,
    curve: &Curve,
    i: usize,
    x: &dyn Fn(f64) -> f64,
    y: &dyn Fn(f64) -> Option<f64>,
) {
    let end = |v: f64| y(v).or_else(|| y(f64::MIN_POSITIVE)); // a lower end at 0 on a logarithmic axis is its bottom
    let ends = |p: &Point| {
        let (lower, upper) = p.interval?;
        Some((x(f64::from(p.x)), end(lower)?, end(upper)?))
    };
    let all: Vec<Option<(f64, f64, f64)>> = curve.points.iter().map(ends).collect();
    for run in all.split(Option::is_none) {
        let run: Vec<_> = run.iter().flatten().copied().collect();
        let up = run.iter().map(|(x, _, upper)| (*x, *upper));
        let down = run.iter().rev().map(|(x, lower, _)| (*x, *lower));
        if let [(x, lower, upper)] = run[..] {
            scene.path(vec![(x, lower), (x, upper)], palette::line(i).colour, 1.0, &[]);
        } else if run.len() > 1 {
            scene.marks.push(Mark::Area {
                points: up.chain(down).collect(),
                colour: palette::line(i).colour,
                opacity: 0.18,
            });
        }
    }
}

pub(super) fn marker(scene: &mut Scene, (x, y): (f64, f64), marker: Marker, colour: Colour) {
    let r = 3.4;
    let corners: &[(f64, f64)] = match marker {
        Marker::Circle => return scene.marks.push(Mark::Dot { x, y, radius: r, colour }),
        Marker::Square => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        Marker::Triangle => &[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
        Marker::Diamond => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
        Marker::Wedge => &[(0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)],
    };
    let points = corners.iter().map(|(dx, dy)| (x + dx * r, y + dy * r)).collect();
    scene.marks.push(Mark::Area { points, colour, opacity: 1.0 });
}
