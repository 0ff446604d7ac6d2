//! The lens table in the terminal: layers × tokens, the output on top, the prompt below.

use console::{measure_text_width, truncate_str};
use layerscope::{
    lenses::{LayerIndex, stats::Readings},
    sources::text::TokenText,
};

use super::{Metric, color::ColorDepth};

/// Width of the column of layer numbers.
pub(super) const GUTTER: usize = 7;
/// Letters of a token in a cell.
const TOKEN: usize = 8;
/// Digits of the metric in a cell, when there is no colour.
const VALUE: usize = 5;

/// How to draw.
pub(super) struct Style {
    pub(super) metric: Metric,
    pub(super) depth: ColorDepth,
    /// Columns of the terminal.
    pub(super) width: usize,
    pub(super) vocab: usize,
    /// The layer that is the model's own output.
    pub(super) n_layers: usize,
}

/// What to draw.
pub(super) struct Table<'a> {
    pub(super) prompt: &'a [TokenText],
    pub(super) ids: &'a [u32],
    pub(super) readings: &'a [Readings],
    pub(super) layers: &'a [LayerIndex],
    /// Prediction depth of every position.
    pub(super) depth: &'a [LayerIndex],
    pub(super) piece: &'a dyn Fn(i64) -> String,
}

impl Table<'_> {
    /// Panels as wide as the terminal, one below the other, and a legend.
    pub(super) fn draw(&self, style: &Style) -> String {
        let cell = cell_width(style);
        let per_panel = ((style.width.saturating_sub(GUTTER)) / (cell + 1)).max(1);
        let scale = Scale::new(style.metric, self.readings, style.vocab);
        let mut text = String::new();
        for start in (0..self.ids.len()).step_by(per_panel) {
            let range = start..self.ids.len().min(start + per_panel);
            for (layer, readings) in self.layers.iter().zip(self.readings).rev() {
                let label = if layer.0 == style.n_layers { "output".to_owned() } else { layer.to_string() };
                let cells = range.clone().map(|i| self.cell(readings, i, &scale, style));
                text.push_str(&line(&label, cells));
            }
            text.push_str(&line("", range.clone().map(|_| "─".repeat(cell))));
            text.push_str(&line("token", range.clone().map(|i| pad(&self.prompt[i].shown, cell))));
            text.push_str(&line("pos", range.clone().map(|i| pad(&i.to_string(), cell))));
            text.push_str(&line("depth", range.map(|i| pad(&self.depth[i].to_string(), cell))));
            text.push('\n');
        }
        text + &scale.legend(style)
    }

    /// The top token, `*` when it is the true next one, on its colour or with its number.
    fn cell(&self, readings: &Readings, i: usize, scale: &Scale, style: &Style) -> String {
        let top = readings.top_ids[i][0];
        let hit = self.ids.get(i + 1).is_some_and(|&next| i64::from(next) == top);
        let token = format!("{}{}", if hit { "*" } else { "" }, (self.piece)(top));
        match (style.metric.of(readings, i), style.depth) {
            (None, _) => pad(&token, cell_width(style)),
            (Some(value), ColorDepth::None) => {
                format!("{}{:>VALUE$}", pad(&token, TOKEN), number(style.metric, value))
            }
            (Some(value), depth) => depth.paint(&pad(&token, TOKEN), scale.place(value)),
        }
    }
}

fn cell_width(style: &Style) -> usize {
    if style.depth == ColorDepth::None { TOKEN + VALUE } else { TOKEN }
}

/// A row of cells behind its label.
pub(super) fn line(label: &str, cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<_> = cells.collect();
    format!("{label:>6} {}\n", cells.join(" "))
}

/// `text` cut or filled to `width` columns; wide characters count as two.
pub(super) fn pad(text: &str, width: usize) -> String {
    let cut = truncate_str(text, width, "…");
    let fill = width.saturating_sub(measure_text_width(&cut));
    format!("{cut}{}", " ".repeat(fill))
}

fn number(metric: Metric, value: f64) -> String {
    match metric {
        Metric::Prob => format!("{:.0}%", 100.0 * value),
        Metric::Rank if value >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        Metric::Rank => format!("{value:.0}"),
        Metric::Entropy | Metric::Kl | Metric::Ce => format!("{value:.1}"),
    }
}

/// From a metric's value to a place on the colour scale; bright is always more certain, or nearer to the model.
struct Scale {
    metric: Metric,
    /// The value at the dark end.
    worst: f64,
}

impl Scale {
    fn new(metric: Metric, readings: &[Readings], vocab: usize) -> Self {
        let all = readings.iter().flat_map(|r| (0..r.entropy.len()).filter_map(move |i| metric.of(r, i)));
        let worst = match metric {
            Metric::Prob => 0.0,
            Metric::Entropy => (vocab as f64).ln(),
            Metric::Rank => vocab as f64,
            Metric::Kl | Metric::Ce => all.fold(0.0, f64::max).max(1.0),
        };
        Self { metric, worst }
    }

    /// 0 (dark) to 1 (bright).
    fn place(&self, value: f64) -> f64 {
        match self.metric {
            Metric::Prob => value,
            Metric::Rank => 1.0 - (1.0 + value).ln() / (1.0 + self.worst).ln(),
            Metric::Entropy | Metric::Kl | Metric::Ce => 1.0 - value / self.worst,
        }
    }

    fn legend(&self, style: &Style) -> String {
        let note = "* the true next token; depth: the layer from which on the cell's token is the model's";
        if style.depth == ColorDepth::None {
            return note.to_owned();
        }
        let best = if self.metric == Metric::Prob { 1.0 } else { 0.0 };
        let bar: String = (0..24).map(|i| style.depth.paint(" ", f64::from(i) / 23.0)).collect();
        format!("{} {bar} {}   {note}", number(self.metric, self.worst), number(self.metric, best))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_one_width() {
        for text in ["a", "·wonderland", "漢字漢字漢字", "é"] {
            assert_eq!(measure_text_width(&pad(text, 8)), 8, "{text}");
        }
    }

    #[test]
    fn bright_is_good() {
        let scale = |metric, worst| Scale { metric, worst };
        assert!(scale(Metric::Prob, 0.0).place(0.9) > scale(Metric::Prob, 0.0).place(0.1));
        assert!((scale(Metric::Rank, 99.0).place(0.0) - 1.0).abs() < 1e-12);
        assert!(scale(Metric::Rank, 99.0).place(99.0).abs() < 1e-12);
        assert!((scale(Metric::Kl, 4.0).place(1.0) - 0.75).abs() < 1e-12);
    }
}
