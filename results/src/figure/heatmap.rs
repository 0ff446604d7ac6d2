//! Matrices: cells of colour, their values where they fit.

use super::{
    axis::{Axis, layer_ticks, minus},
    bar, font,
    frame::{self, LABEL, LEADING, MARGIN, SMALL},
    palette,
    scene::{Align, Bounds, Colour, Scene},
};

/// The em of values in cells.
const CELL: f64 = 9.5;
/// Ground of a cell without a value.
const NONE: Colour = Colour(0xec, 0xec, 0xec);
/// No narrower than this, for the title's sake.
const NARROWEST: f64 = 480.0;

/// What rows or columns are.
#[derive(Debug, Clone, PartialEq)]
pub enum Labels {
    /// Layers: labelled at round numbers where they are many.
    Layers(Vec<i32>),
    /// Names: every one is labelled.
    Names(Vec<String>),
}

impl Labels {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Layers(all) => all.len(),
            Self::Names(all) => all.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Places that get a label, where each has `room` pixels and a label needs `need`.
    fn ticks(&self, room: f64, need: f64) -> Vec<(usize, String)> {
        match self {
            Self::Names(all) => all.iter().cloned().enumerate().collect(),
            Self::Layers(all) => {
                // Layers are one cell apart, however far their numbers are.
                let even = all.windows(2).all(|w| w[1] == w[0] + 1);
                let places: Vec<i32> = (0..all.len() as i32).collect();
                let ticks =
                    if even { layer_ticks(all, room, need) } else { layer_ticks(&places, room, need) };
                let place = |t: i32| if even { all.iter().position(|l| *l == t) } else { Some(t as usize) };
                ticks.into_iter().filter_map(place).map(|i| (i, all[i].to_string())).collect()
            }
        }
    }

    fn widest(&self) -> f64 {
        let width = |text: &str| font::width(text, SMALL);
        match self {
            Self::Layers(all) => all.iter().map(|l| width(&l.to_string())).fold(0.0, f64::max),
            Self::Names(all) => all.iter().map(|name| width(&font::clean(name))).fold(0.0, f64::max),
        }
    }
}

/// What a value's colour is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Colours {
    /// Viridis from the smallest value to the largest.
    Sequential,
    /// Viridis over this range, whatever the values.
    Over(f64, f64),
    /// Blue, white, orange with zero in the middle: for signed values.
    Diverging,
}

/// What stands in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellText {
    /// Its value, in all cells or, where one is too wide, in none.
    Values,
    /// Its entry of `texts`, shortened to fit.
    Given,
}

/// A matrix as a figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Heatmap {
    /// What is shown.
    pub title: String,
    /// What it rests on.
    pub caption: String,
    /// Rows from the top.
    pub rows: Labels,
    /// What rows are.
    pub row_label: String,
    /// Columns from the left.
    pub columns: Labels,
    /// What columns are.
    pub column_label: String,
    /// Row after row; none where there is no value.
    pub values: Vec<Option<f64>>,
    /// Their colours.
    pub colours: Colours,
    /// What a value is, with its unit.
    pub value_label: String,
    /// What stands in the cells.
    pub text: CellText,
    /// Entries for [`CellText::Given`].
    pub texts: Vec<String>,
    /// Outline cells whose row and column are the same.
    pub diagonal: bool,
    /// Width and height of a cell at the most.
    pub cell: (f64, f64),
    /// Width and height of the whole matrix, to which cells shrink.
    pub most: (f64, f64),
}

impl Default for Heatmap {
    fn default() -> Self {
        let none = || Labels::Names(Vec::new());
        Self {
            title: String::new(),
            caption: String::new(),
            rows: none(),
            row_label: String::new(),
            columns: none(),
            column_label: String::new(),
            values: Vec::new(),
            colours: Colours::Sequential,
            value_label: String::new(),
            text: CellText::Values,
            texts: Vec::new(),
            diagonal: false,
            cell: (56.0, 56.0),
            most: (580.0, 580.0),
        }
    }
}

impl Heatmap {
    /// The drawing.
    pub fn scene(&self) -> Scene {
        let (n, m) = (self.rows.len().max(1) as f64, self.columns.len().max(1) as f64);
        // Whole pixels, so that no seam shows between cells.
        let wide = (self.most.0 / m).clamp(3.0, self.cell.0).floor();
        let tall = (self.most.1 / n).clamp(3.0, self.cell.1).floor();
        let axis = self.axis(if n * tall < 150.0 { 3 } else { 6 });
        let names = self.rows.widest().min(180.0);
        let left = (MARGIN + LABEL * 1.5 + names + 8.0).ceil();
        let right = left + m * wide;
        let mut scene =
            Scene { width: (right + 18.0 + bar::room(&axis) + MARGIN).max(NARROWEST), ..Scene::default() };
        let top = (frame::header(&mut scene, &self.title, &self.caption) + 10.0).ceil();
        let plot = Bounds { left, top, right, bottom: top + n * tall };
        self.cells(&mut scene, plot, (wide, tall), &axis);
        scene.outline(plot, Colour::SOFT, 0.75);
        let below = self.column_labels(&mut scene, plot, wide);
        self.row_labels(&mut scene, plot, tall, names);
        let bottom = plot.bottom.max(top + 90.0);
        bar::draw(&mut scene, (right + 18.0, top, bottom), &axis, &self.value_label, &|v| {
            self.colour(&axis, v)
        });
        scene.height = below.max(bottom) + MARGIN - 4.0;
        scene
    }

    /// The range of the colours.
    fn axis(&self, ticks: usize) -> Axis {
        let all = || self.values.iter().flatten().copied().filter(|v| v.is_finite());
        let (low, high) = (all().fold(f64::NAN, f64::min), all().fold(f64::NAN, f64::max));
        match self.colours {
            Colours::Sequential => Axis::within(low, high, ticks),
            Colours::Over(low, high) => Axis::within(low, high, ticks),
            Colours::Diverging => {
                let far = low.abs().max(high.abs());
                let far = if far > 0.0 { far } else { 1.0 };
                Axis::within(-far, far, ticks)
            }
        }
    }

    fn colour(&self, axis: &Axis, value: f64) -> Colour {
        let at = axis.place(value).unwrap_or(0.0);
        if self.colours == Colours::Diverging { palette::diverging(at) } else { palette::viridis(at) }
    }

    fn cells(&self, scene: &mut Scene, plot: Bounds, (wide, tall): (f64, f64), axis: &Axis) {
        let m = self.columns.len();
        let bounds = |i: usize| {
            let (x, y) = (plot.left + (i % m) as f64 * wide, plot.top + (i / m) as f64 * tall);
            Bounds { left: x, top: y, right: x + wide, bottom: y + tall }
        };
        let ground =
            |value: &Option<f64>| value.filter(|v| v.is_finite()).map_or(NONE, |v| self.colour(axis, v));
        // Neighbours of one colour are one box: files of large matrices stay small.
        for (row, values) in self.values.chunks(m.max(1)).enumerate() {
            let mut start = 0;
            for end in 1..=values.len() {
                if end == values.len() || ground(&values[end]) != ground(&values[start]) {
                    let ends = (bounds(row * m + start), bounds(row * m + end - 1));
                    scene.fill(Bounds { right: ends.1.right, ..ends.0 }, ground(&values[start]), 1.0);
                    start = end;
                }
            }
        }
        if self.diagonal {
            let inset = (wide.min(tall) * 0.06).max(0.5);
            for i in 0..self.rows.len().min(m) {
                let b = bounds(i * m + i);
                let inner = Bounds {
                    left: b.left + inset,
                    top: b.top + inset,
                    right: b.right - inset,
                    bottom: b.bottom - inset,
                };
                let colour = ground(&self.values.get(i * m + i).copied().flatten()).letters();
                scene.outline(inner, colour, (inset * 0.8).clamp(0.5, 1.5));
            }
        }
        for (i, text) in self.cell_texts(wide - 3.0, tall).into_iter().enumerate() {
            let b = bounds(i);
            let colour = ground(&self.values.get(i).copied().flatten()).letters();
            let at = (f64::midpoint(b.left, b.right), f64::midpoint(b.top, b.bottom) + CELL * 0.36);
            if !text.is_empty() {
                scene.text(at, &text, CELL, Align::Middle, colour);
            }
        }
    }

    /// One text per cell, or none at all.
    fn cell_texts(&self, room: f64, tall: f64) -> Vec<String> {
        if tall < CELL * 1.2 {
            return Vec::new();
        }
        match self.text {
            CellText::Given if room < CELL * 1.5 => Vec::new(),
            CellText::Given => self.texts.iter().map(|text| font::fit(text, CELL, room)).collect(),
            CellText::Values => {
                let fits = |texts: &Vec<String>| texts.iter().all(|text| font::width(text, CELL) <= room);
                let with = |digits: usize| -> Vec<String> {
                    let text = |v: &Option<f64>| v.map_or_else(String::new, |v| number(v, digits));
                    self.values.iter().map(text).collect()
                };
                [2, 1].into_iter().map(with).find(fits).unwrap_or_default()
            }
        }
    }

    /// Draws the labels of the columns and their name, and returns the height below.
    fn column_labels(&self, scene: &mut Scene, plot: Bounds, wide: f64) -> f64 {
        let middle = |i: usize| plot.left + (i as f64 + 0.5) * wide;
        let need = self.columns.widest() + 6.0;
        let names = matches!(self.columns, Labels::Names(_));
        if !names || need <= wide + 4.0 {
            let ticks = self.columns.ticks(wide, need);
            let ticks: Vec<(f64, String)> = ticks.into_iter().map(|(i, text)| (middle(i), text)).collect();
            return frame::horizontal(scene, plot, &ticks, &self.column_label);
        }
        let long = self.columns.widest().min(150.0);
        // Where columns are narrower than a line of letters, only some are named.
        let stride = ((SMALL + 1.0) / wide).ceil().max(1.0) as usize;
        for (i, text) in self.columns.ticks(wide, need).into_iter().step_by(stride) {
            let text = font::fit(&text, SMALL, long);
            scene.upwards(
                (middle(i) + SMALL * 0.36, plot.bottom + 6.0),
                &text,
                SMALL,
                Align::End,
                Colour::SOFT,
            );
        }
        let y = plot.bottom + 6.0 + long + LEADING + 2.0;
        scene.text(
            (f64::midpoint(plot.left, plot.right), y),
            &self.column_label,
            LABEL,
            Align::Middle,
            Colour::INK,
        );
        y + 6.0
    }

    fn row_labels(&self, scene: &mut Scene, plot: Bounds, tall: f64, room: f64) {
        let stride = match self.rows {
            Labels::Names(_) => ((SMALL + 1.0) / tall).ceil().max(1.0) as usize,
            Labels::Layers(_) => 1,
        };
        for (i, text) in self.rows.ticks(tall, SMALL * 2.2).into_iter().step_by(stride) {
            let y = plot.top + (i as f64 + 0.5) * tall;
            let text = font::fit(&text, SMALL, room.max(20.0));
            scene.text((plot.left - 6.0, y + SMALL * 0.36), &text, SMALL, Align::End, Colour::SOFT);
        }
        let label = font::fit(&self.row_label, LABEL, (plot.bottom - plot.top).max(90.0));
        let at = (MARGIN + LABEL * 0.75, f64::midpoint(plot.top, plot.bottom));
        scene.upwards(at, &label, LABEL, Align::Middle, Colour::INK);
    }
}

/// A value for a cell; zero has no sign.
fn number(v: f64, digits: usize) -> String {
    let text = format!("{v:.digits$}");
    if text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
        return text.trim_start_matches('-').to_owned();
    }
    minus(&text)
}
