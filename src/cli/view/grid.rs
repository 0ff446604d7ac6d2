//! The grid of a future-prompt lens: what every state goes on to say.

use layerscope::{
    intervene::future::GridCell,
    job::view::{Prompt, Viewed},
    results::words::counted,
    sources::text::Tokenizer,
};

use super::{ColorDepth, ViewArgs, table};
use crate::cli::{exit::Failure, output::Output};

/// Letters of a cell.
const CELL: usize = 22;

/// Layers and their cells, by position.
type Grid = Vec<(usize, Vec<GridCell>)>;

impl ViewArgs {
    /// Layers down, tokens across, each cell what that state goes on to say.
    pub(super) fn grids(&self, found: &Viewed, grids: &[Grid], output: Output) -> Result<(), Failure> {
        for (prompt, rows) in found.prompts.iter().zip(grids) {
            output.print(&self.draw_grid(&found.tokenizer, prompt, rows))?;
        }
        Ok(output.result(found.json())?)
    }

    fn draw_grid(&self, tokenizer: &Tokenizer, prompt: &Prompt, rows: &[(usize, Vec<GridCell>)]) -> String {
        let depth = ColorDepth::detect(self.color);
        let width = console::Term::stdout().size_checked().map_or(120, |(_, columns)| usize::from(columns));
        let per_panel = (width.saturating_sub(table::GUTTER) / (CELL + 1)).max(1);
        let cell = |cell: &GridCell| {
            let text: String = cell.tokens.iter().map(|id| tokenizer.piece(*id as u32).shown).collect();
            match depth {
                ColorDepth::None => {
                    format!("{} {:>3.0}%", table::pad(&text, CELL - 5), 100.0 * cell.mean())
                }
                depth => depth.paint(&table::pad(&text, CELL), cell.mean()),
            }
        };
        let mut text = format!(
            "future lens: the next {} by each state alone; colour or number: the mean probability\n",
            counted(self.job.ahead.get(), "token")
        );
        for start in (0..prompt.ids.len()).step_by(per_panel) {
            let range = start..prompt.ids.len().min(start + per_panel);
            for (layer, row) in rows.iter().rev() {
                text.push_str(&table::line(&layer.to_string(), row[range.clone()].iter().map(cell)));
            }
            text.push_str(&table::line("", range.clone().map(|_| "─".repeat(CELL))));
            text.push_str(&table::line(
                "token",
                range.clone().map(|i| table::pad(&prompt.tokens[i].shown, CELL)),
            ));
            text.push_str(&table::line("pos", range.map(|i| table::pad(&i.to_string(), CELL))));
            text.push('\n');
        }
        text.trim_end().to_owned()
    }
}
