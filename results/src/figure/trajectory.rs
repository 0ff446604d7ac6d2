//! The prediction trajectory of one prompt: layers by tokens.

use super::{
    font,
    heatmap::{CellText, Colours, Heatmap, Labels},
    scene::Scene,
};

/// What a lens says at one layer and position.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrajectoryCell {
    /// The likeliest token, as people should see it.
    pub token: String,
    /// The value that colours the cell; none where it is not defined.
    pub value: Option<f64>,
    /// Whether that token is the true next one.
    pub hit: bool,
}

/// A prompt read at every layer, as a figure: the first layer at the bottom, one column per token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trajectory {
    /// What is shown, with the lens's name.
    pub title: String,
    /// Model, prompt, what `*` means.
    pub caption: String,
    /// The prompt's tokens, as people should see them.
    pub tokens: Vec<String>,
    /// The layers read, ascending.
    pub layers: Vec<i32>,
    /// By layer, then position.
    pub cells: Vec<Vec<TrajectoryCell>>,
    /// What the value is, with its unit.
    pub value_label: String,
    /// The range of the colours where values have one (0 to 1 for a probability).
    pub range: Option<(f64, f64)>,
}

impl Trajectory {
    /// The drawing.
    pub fn scene(&self) -> Scene {
        let upside_down = || self.cells.iter().rev().flatten();
        let text =
            |cell: &TrajectoryCell| if cell.hit { format!("{}*", cell.token) } else { cell.token.clone() };
        let mut layers: Vec<String> = self.layers.iter().map(i32::to_string).collect();
        layers.reverse();
        let widest = upside_down().map(|cell| font::width(&text(cell), 9.5)).fold(0.0, f64::max);
        Heatmap {
            title: self.title.clone(),
            caption: self.caption.clone(),
            rows: Labels::Names(layers),
            row_label: "layer".into(),
            columns: Labels::Names(self.tokens.clone()),
            column_label: "token of the prompt".into(),
            values: upside_down().map(|cell| cell.value).collect(),
            colours: self.range.map_or(Colours::Sequential, |(low, high)| Colours::Over(low, high)),
            value_label: self.value_label.clone(),
            text: CellText::Given,
            texts: upside_down().map(text).collect(),
            cell: ((widest + 8.0).clamp(28.0, 72.0), 20.0),
            most: (1300.0, 1000.0),
            ..Heatmap::default()
        }
        .scene()
    }
}
