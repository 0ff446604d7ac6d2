//! Bars from left to right, one below the other: parts that add up, or numbers with their intervals.

use super::{
    axis::{Axis, minus},
    font,
    frame::{self, LEADING, MARGIN, SMALL},
    palette,
    scene::{Align, Bounds, Colour, Scene},
};

const WIDTH: f64 = 760.0;
/// From one bar to the next, and how much of it the bar takes.
const PITCH: f64 = 14.5;
const THICK: f64 = 9.0;
/// Widest name.
const NAME: f64 = 190.0;

/// A bar.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bar {
    /// What it is of.
    pub name: String,
    /// Bars of one series have one colour.
    pub series: String,
    /// Where it begins: 0, or where the one before ended.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// The 95 % interval of its end.
    pub interval: Option<(f64, f64)>,
}

/// A figure of bars.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bars {
    /// What is shown.
    pub title: String,
    /// What it rests on.
    pub caption: String,
    /// What lies along the bars, with its unit.
    pub value_label: String,
    /// Names that series may have: the place is the colour, the same in figures that have others of them.
    pub series: Vec<String>,
    /// From the top down.
    pub bars: Vec<Bar>,
    /// Each begins where the one before ended: a waterfall.
    pub connected: bool,
}

/// Where values are.
struct Across {
    axis: Axis,
    left: f64,
    right: f64,
}

impl Across {
    fn x(&self, value: f64) -> f64 {
        let at = self.axis.place(value).unwrap_or(0.0).clamp(0.0, 1.0);
        self.left + at * (self.right - self.left)
    }
}

impl Bars {
    /// The drawing.
    pub fn scene(&self) -> Scene {
        let mut scene = Scene { width: WIDTH, ..Scene::default() };
        let top = frame::header(&mut scene, &self.title, &self.caption) + 6.0;
        let across = self.across();
        let bottom = top + self.bars.len() as f64 * PITCH + 4.0;
        let plot = Bounds { left: across.left, top, right: across.right, bottom };
        for (value, _) in &across.axis.ticks {
            let x = across.x(*value);
            let (colour, width) = if *value == 0.0 { (Colour::SOFT, 1.0) } else { (Colour::GRID, 1.0) };
            scene.path(vec![(x, top), (x, bottom)], colour, width, &[]);
        }
        for (i, bar) in self.bars.iter().enumerate() {
            self.bar(&mut scene, (i, bar), &across, top + (i as f64 + 0.5) * PITCH + 2.0);
        }
        let ticks: Vec<(f64, String)> =
            across.axis.ticks.iter().map(|(value, label)| (across.x(*value), label.clone())).collect();
        let below = frame::horizontal(&mut scene, plot, &ticks, &self.value_label);
        scene.height = self.legend(&mut scene, below + 4.0) + MARGIN - 6.0;
        scene
    }

    fn across(&self) -> Across {
        let ends = self.bars.iter().flat_map(|bar| {
            let (low, high) = bar.interval.unwrap_or((bar.to, bar.to));
            [bar.from, bar.to, low, high]
        });
        let all: Vec<f64> = ends.chain([0.0]).filter(|value| value.is_finite()).collect();
        let axis =
            Axis::linear(all.iter().copied().fold(0.0, f64::min), all.iter().copied().fold(0.0, f64::max), 6);
        let widest = |texts: &mut dyn Iterator<Item = String>| {
            texts.map(|text| font::width(&text, SMALL)).fold(0.0, f64::max)
        };
        let names = widest(&mut self.bars.iter().map(|bar| font::fit(&bar.name, SMALL, NAME)));
        let numbers = widest(&mut self.bars.iter().map(Bar::number));
        Across { axis, left: MARGIN + names + 10.0, right: WIDTH - MARGIN - numbers - 12.0 }
    }

    /// One bar with its name on the left and its number on the right.
    fn bar(&self, scene: &mut Scene, (i, bar): (usize, &Bar), across: &Across, y: f64) {
        let (from, to) = (across.x(bar.from), across.x(bar.to));
        let place = self.series.iter().position(|name| *name == bar.series).unwrap_or(0);
        let colour = palette::line(place).colour;
        let text = y + SMALL * 0.36;
        let name = font::fit(&bar.name, SMALL, NAME);
        scene.text((across.left - 8.0, text), &name, SMALL, Align::End, Colour::INK);
        scene.text((WIDTH - MARGIN, text), &bar.number(), SMALL, Align::End, Colour::SOFT);
        if let (true, Some(next)) = (self.connected, self.bars.get(i + 1))
            && next.from == bar.to
        {
            scene.path(vec![(to, y), (to, y + PITCH)], Colour::SOFT, 0.75, &[]);
        }
        let bounds = Bounds {
            left: from.min(to),
            top: y - THICK / 2.0,
            // What is too little to be seen has a line.
            right: from.max(to).max(from.min(to) + 1.0),
            bottom: y + THICK / 2.0,
        };
        scene.fill(bounds, colour, 1.0);
        if let Some((low, high)) = bar.interval {
            let (low, high) = (across.x(low), across.x(high));
            scene.path(vec![(low, y), (high, y)], Colour::INK, 1.25, &[]);
            for end in [low, high] {
                scene.path(vec![(end, y - 3.0), (end, y + 3.0)], Colour::INK, 1.25, &[]);
            }
        }
    }

    /// Draws the legend from `y` on and returns the height below it.
    fn legend(&self, scene: &mut Scene, y: f64) -> f64 {
        const SAMPLE: f64 = 16.0;
        let (mut x, y) = (MARGIN, y + LEADING * 0.7);
        let shown = |name: &String| self.bars.iter().any(|bar| bar.series == *name);
        for (i, name) in self.series.iter().enumerate().filter(|(_, name)| shown(name)) {
            let middle = y - SMALL * 0.36;
            let sample = Bounds { left: x, top: middle - 4.0, right: x + 10.0, bottom: middle + 4.0 };
            scene.fill(sample, palette::line(i).colour, 1.0);
            let name = font::fit(name, SMALL, 200.0);
            scene.text((x + SAMPLE, y), &name, SMALL, Align::Start, Colour::INK);
            x += SAMPLE + font::width(&name, SMALL) + 16.0;
        }
        y + 6.0
    }
}

impl Bar {
    /// Its length, with its sign.
    fn number(&self) -> String {
        minus(&format!("{:+.3}", self.to - self.from))
    }
}
