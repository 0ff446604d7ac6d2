//! What is drawn: marks in pixels, from the top left.

use super::font;

/// Red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub u8, pub u8, pub u8);

impl Colour {
    /// Text and axes.
    pub const INK: Self = Self(0x22, 0x22, 0x22);
    /// Captions and tick labels.
    pub const SOFT: Self = Self(0x55, 0x55, 0x55);
    /// Grid lines.
    pub const GRID: Self = Self(0xe4, 0xe4, 0xe4);
    /// The ground.
    pub const PAPER: Self = Self(0xff, 0xff, 0xff);

    /// Relative luminance (WCAG 2), 0 to 1.
    pub fn luminance(self) -> f64 {
        let linear = |v: u8| {
            let v = f64::from(v) / 255.0;
            if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(self.0) + 0.7152 * linear(self.1) + 0.0722 * linear(self.2)
    }

    /// Black or white, whichever reads better on this colour.
    #[must_use]
    pub fn letters(self) -> Self {
        if self.luminance() > 0.179 { Self(0, 0, 0) } else { Self::PAPER }
    }
}

/// Which part of a text stands at its `x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Align {
    Start,
    Middle,
    End,
}

/// A line of text.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// Where it is aligned to.
    pub x: f64,
    /// The baseline.
    pub y: f64,
    /// One line; control characters are made visible when it is added to a scene.
    pub text: String,
    /// The font's em in pixels.
    pub size: f64,
    /// Part of the text that stands at `x`.
    pub align: Align,
    /// Of the letters.
    pub colour: Colour,
    /// Turned by a quarter to the left: it runs upwards from `(x, y)`.
    pub upwards: bool,
}

/// A box, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Bounds {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Bounds {
    /// Whether two boxes share a point inside.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

impl Text {
    /// The box of the letters from the height of a capital to the depth of a `g`, by the embedded font.
    pub fn bounds(&self) -> Bounds {
        let along = font::width(&self.text, self.size);
        let before = match self.align {
            Align::Start => 0.0,
            Align::Middle => along / 2.0,
            Align::End => along,
        };
        let (up, down) = (font::CAPITAL * self.size, font::DEPTH * self.size);
        let (x, y) = (self.x, self.y);
        if self.upwards {
            Bounds { left: x - up, top: y + before - along, right: x + down, bottom: y + before }
        } else {
            Bounds { left: x - before, top: y - up, right: x - before + along, bottom: y + down }
        }
    }
}

/// One thing to draw.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Mark {
    /// A line through points; `dash` has the lengths of dashes and gaps in turn, empty for a solid line.
    Path {
        points: Vec<(f64, f64)>,
        colour: Colour,
        width: f64,
        dash: &'static [f64],
    },
    /// A filled polygon.
    Area {
        points: Vec<(f64, f64)>,
        colour: Colour,
        opacity: f64,
    },
    /// A filled box.
    Box {
        bounds: Bounds,
        colour: Colour,
        opacity: f64,
    },
    /// A filled circle.
    Dot {
        x: f64,
        y: f64,
        radius: f64,
        colour: Colour,
    },
    Text(Text),
}

/// A drawing.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Scene {
    pub width: f64,
    pub height: f64,
    /// In the order they are drawn.
    pub marks: Vec<Mark>,
}

impl Scene {
    /// Adds a text from left to right.
    pub fn text(&mut self, (x, y): (f64, f64), text: &str, size: f64, align: Align, colour: Colour) {
        self.letter(Text { x, y, text: font::clean(text), size, align, colour, upwards: false });
    }

    /// Adds a text that runs upwards.
    pub fn upwards(&mut self, (x, y): (f64, f64), text: &str, size: f64, align: Align, colour: Colour) {
        self.letter(Text { x, y, text: font::clean(text), size, align, colour, upwards: true });
    }

    fn letter(&mut self, text: Text) {
        if !text.text.is_empty() {
            self.marks.push(Mark::Text(text));
        }
    }

    /// Adds a line.
    pub fn path(&mut self, points: Vec<(f64, f64)>, colour: Colour, width: f64, dash: &'static [f64]) {
        self.marks.push(Mark::Path { points, colour, width, dash });
    }

    /// Adds a filled box.
    pub fn fill(&mut self, bounds: Bounds, colour: Colour, opacity: f64) {
        self.marks.push(Mark::Box { bounds, colour, opacity });
    }

    /// Adds the outline of a box, inside it: four strips, whose corners are sharp in every backend.
    pub fn outline(&mut self, b: Bounds, colour: Colour, width: f64) {
        let strips = [
            Bounds { bottom: b.top + width, ..b },
            Bounds { top: b.bottom - width, ..b },
            Bounds { right: b.left + width, ..b },
            Bounds { left: b.right - width, ..b },
        ];
        for strip in strips {
            self.fill(strip, colour, 1.0);
        }
    }

    /// Every text.
    pub fn texts(&self) -> impl Iterator<Item = &Text> {
        self.marks.iter().filter_map(|mark| if let Mark::Text(text) = mark { Some(text) } else { None })
    }
}
