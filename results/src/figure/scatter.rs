//! Points between two logarithmic axes, a panel per layer.

use super::{
    axis::Axis,
    curves::marker,
    font,
    frame::{self, LEADING, MARGIN, SMALL},
    palette,
    scene::{Align, Bounds, Colour, Scene},
};

const WIDTH: f64 = 760.0;
const COLUMNS: usize = 3;
const GAP: f64 = 18.0;
const SIDE: f64 = 176.0;

/// One plot.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Cloud {
    pub title: String,
    /// Points by series; a point that is not positive on both axes has no place and is left out.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

/// A figure of points. Panels share their axes, on which a pixel is the same ratio, and a series of one name looks the
/// same in all of them; a broken line is where both numbers are one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scatter {
    /// What is shown.
    pub title: String,
    /// What it rests on.
    pub caption: String,
    /// Of the horizontal axis, with its unit.
    pub x_label: String,
    /// Of the vertical axis, with its unit.
    pub y_label: String,
    /// In three columns.
    pub panels: Vec<Cloud>,
}

impl Scatter {
    /// The drawing.
    pub fn scene(&self) -> Scene {
        let mut scene = Scene { width: WIDTH, ..Scene::default() };
        let top = frame::header(&mut scene, &self.title, &self.caption) + 6.0;
        let axis = self.axis();
        let left = frame::left_of(&axis);
        let columns = self.panels.len().clamp(1, COLUMNS);
        // A label stands half beyond the right end of its axis.
        let beyond = widest(&axis) / 2.0;
        let room = WIDTH - MARGIN - beyond - left * columns as f64 - GAP * (columns - 1) as f64;
        let side = (room / columns as f64).min(if columns == 1 { 2.0 * SIDE } else { room });
        let mut y = top;
        for row in self.panels.chunks(columns) {
            let mut below = y;
            for (column, panel) in row.iter().enumerate() {
                let x = left + column as f64 * (side + GAP + left);
                let plot = Bounds { left: x, top: y + 20.0, right: x + side, bottom: y + 20.0 + side };
                below = self.panel(&mut scene, panel, plot, &axis);
            }
            y = below + 8.0;
        }
        scene.height = self.legend(&mut scene, y + 4.0) + MARGIN - 6.0;
        scene
    }

    /// The scale of both axes of all panels, ticks at powers of ten where it covers several.
    fn axis(&self) -> Axis {
        let points = self.panels.iter().flat_map(|p| &p.series).flat_map(|(_, points)| points);
        let all: Vec<f64> = points.filter(|(x, y)| shown(*x, *y)).flat_map(|(x, y)| [*x, *y]).collect();
        let (low, high) = all.iter().fold((f64::NAN, f64::NAN), |(low, high), v| (low.min(*v), high.max(*v)));
        let mut axis = Axis::logarithmic(low, high);
        if axis.ticks.len() > 5 {
            let power = |v: f64| (v.log10() - v.log10().round()).abs() < 1e-9;
            axis.ticks.retain(|(v, _)| power(*v));
        }
        axis
    }

    /// Draws one plot and returns the height below it.
    fn panel(&self, scene: &mut Scene, panel: &Cloud, plot: Bounds, axis: &Axis) -> f64 {
        let title = font::fit(&panel.title, SMALL + 1.0, plot.right - plot.left);
        scene.text((plot.left, plot.top - 6.0), &title, SMALL + 1.0, Align::Start, Colour::INK);
        frame::vertical(scene, axis, plot, &self.y_label);
        let across =
            |v: f64| axis.place(v).map(|at| plot.left + at.clamp(0.0, 1.0) * (plot.right - plot.left));
        let ticks: Vec<(f64, String)> =
            axis.ticks.iter().filter_map(|(v, label)| across(*v).map(|x| (x, label.clone()))).collect();
        let apart = ticks.windows(2).map(|w| w[1].0 - w[0].0).fold(f64::INFINITY, f64::min);
        let every = ((widest(axis) + 8.0) / apart).ceil().max(1.0) as usize;
        let ticks: Vec<(f64, String)> = ticks.into_iter().step_by(every).collect();
        for (x, _) in &ticks {
            scene.path(vec![(*x, plot.top), (*x, plot.bottom)], Colour::GRID, 1.0, &[]);
        }
        let below =
            frame::horizontal(scene, plot, &ticks, &font::fit(&self.x_label, 12.0, plot.right - plot.left));
        let corners = vec![(plot.left, plot.bottom), (plot.right, plot.top)];
        scene.path(corners, Colour::SOFT, 1.0, palette::level_dash(0));
        let names = self.names();
        for (name, points) in &panel.series {
            let style = palette::line(names.iter().position(|other| other == name).unwrap_or(0));
            for (x, y) in points.iter().filter(|(x, y)| shown(*x, *y)) {
                if let (Some(x), Some(y)) = (across(*x), frame::height(axis, plot, *y)) {
                    marker(scene, (x, y), style.marker, style.colour);
                }
            }
        }
        below
    }

    /// Names of series, in the order in which they first appear: the place is the style.
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.panels.iter().flat_map(|p| &p.series) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// Draws the legend from `y` on and returns the height below it.
    fn legend(&self, scene: &mut Scene, y: f64) -> f64 {
        const SAMPLE: f64 = 14.0;
        let (mut x, mut y) = (MARGIN, y + LEADING * 0.7);
        for (i, name) in self.names().into_iter().enumerate() {
            let name = font::fit(name, SMALL, 330.0);
            let wide = SAMPLE + font::width(&name, SMALL) + 16.0;
            if x > MARGIN && x + wide - 16.0 > WIDTH - MARGIN {
                (x, y) = (MARGIN, y + LEADING + 2.0);
            }
            let style = palette::line(i);
            marker(scene, (x + 4.0, y - SMALL * 0.36), style.marker, style.colour);
            scene.text((x + SAMPLE, y), &name, SMALL, Align::Start, Colour::INK);
            x += wide;
        }
        y + 6.0
    }
}

fn widest(axis: &Axis) -> f64 {
    axis.ticks.iter().map(|(_, label)| font::width(label, SMALL)).fold(0.0, f64::max)
}

/// Whether a point has a place.
fn shown(x: f64, y: f64) -> bool {
    x.is_finite() && y.is_finite() && x > 0.0 && y > 0.0
}
