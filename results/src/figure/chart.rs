use super::{Bars, Curves, Heatmap, Scatter, Scene};

/// A chart before it is laid out, for those who draw it themselves.
#[derive(Debug, Clone, PartialEq)]
pub enum Chart {
    /// Lines.
    Curves(Curves),
    /// Points.
    Scatter(Scatter),
    /// A matrix.
    Heatmap(Heatmap),
    /// Bars.
    Bars(Bars),
}

impl Chart {
    /// The drawing.
    pub fn scene(&self) -> Scene {
        match self {
            Self::Curves(chart) => chart.scene(),
            Self::Scatter(chart) => chart.scene(),
            Self::Heatmap(chart) => chart.scene(),
            Self::Bars(chart) => chart.scene(),
        }
    }
}
