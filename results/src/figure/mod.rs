//! Static figures: one description of a drawing, played to SVG and to PNG.
//!
//! A chart ([`Curves`], [`Heatmap`], [`Trajectory`]) is plain data and knows nothing of runs. It lays itself out as a
//! [`Scene`], a list of marks in pixels, which [`svg`] and [`png()`] play through `plotters`: what a test measures in a
//! scene is what both files show. Text is measured with the embedded font (`DejaVu Sans`), so that a machine without
//! fonts draws the same PNG. In the SVG text stays text, to be searched, read aloud and edited; where `DejaVu Sans` is
//! missing, Verdana (which has its widths) or the narrower sans-serif of the machine takes its place, and nothing
//! overflows.
//!
//! ```
//! use layerscope_results::figure::{Curve, Curves, Panel, Point, svg};
//! let point = |x: i32| Point { x, y: f64::from(8 - x), interval: None };
//! let curve = Curve { name: "tuned".into(), points: (0..8).map(point).collect(), fitted: false };
//! let chart = Curves { title: "KL by layer".into(), y_label: "nats".into(), panels: vec![Panel::of(vec![curve])], ..Curves::default() };
//! assert!(svg(&chart.scene(), "KL by layer").unwrap().starts_with("<svg"));
//! ```

mod axis;
mod bar;
mod bars;
mod chart;
mod curves;
mod draw;
mod font;
mod frame;
mod heatmap;
mod multiples;
pub mod palette;
mod scatter;
mod scene;
#[cfg(test)]
mod tests;
mod trajectory;

pub use axis::{Axis, layer_ticks};
pub use bars::{Bar, Bars};
pub use chart::Chart;
pub use curves::{Curve, Curves, Level, Panel, Point};
pub use draw::{FigureError, png, svg};
pub use font::{clean, fit, width};
pub use heatmap::{CellText, Colours, Heatmap, Labels};
pub use multiples::Multiples;
pub use scatter::{Cloud, Scatter};
pub use scene::{Align, Bounds, Colour, Mark, Scene, Text};
pub use trajectory::{Trajectory, TrajectoryCell};
