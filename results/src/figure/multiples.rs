//! Small squares side by side: the pattern of every head of a model at a glance.

use super::{
    font,
    frame::{self, LABEL, MARGIN, SMALL},
    scene::{Align, Bounds, Colour, Scene},
};

/// Most cells along a square; of more, neighbours are drawn as one, by the largest of them.
const MOST: usize = 32;
/// Width and height of a square at the most, in pixels.
const SQUARE: f64 = 84.0;
/// And at the least.
const SMALLEST: f64 = 26.0;
/// Width of all squares together.
const WIDE: f64 = 900.0;
/// Between two squares.
const GAP: f64 = 6.0;
/// Weights below it are not seen.
const FAINT: f64 = 0.02;
/// Of a weight of 1.
const LINK: Colour = Colour(0x08, 0x40, 0x80);

/// Squares in rows and columns, the last row at the top: layers and their heads.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Multiples {
    /// What is shown.
    pub title: String,
    /// What it rests on.
    pub caption: String,
    /// Names of the rows, from the bottom.
    pub rows: Vec<String>,
    /// What rows are.
    pub row_label: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// What columns are.
    pub column_label: String,
    /// Along a square.
    pub side: usize,
    /// Row after row from the bottom, each square line after line, between 0 and 1.
    pub squares: Vec<Vec<f64>>,
}

impl Multiples {
    /// The drawing.
    pub fn scene(&self) -> Scene {
        let (n, m) = (self.rows.len(), self.columns.len().max(1));
        let tile = ((WIDE / m as f64).floor() - GAP).clamp(SMALLEST, SQUARE);
        let names = self.rows.iter().map(|name| font::width(name, SMALL)).fold(0.0, f64::max);
        let left = (MARGIN + LABEL * 1.5 + names + 8.0).ceil();
        let right = left + m as f64 * (tile + GAP);
        let mut scene = Scene { width: (right + MARGIN).max(480.0), ..Scene::default() };
        let top = (frame::header(&mut scene, &self.title, &self.caption) + 10.0).ceil();
        for (i, square) in self.squares.iter().enumerate() {
            let (row, column) = (i / m, i % m);
            let x = left + column as f64 * (tile + GAP);
            let y = top + n.saturating_sub(row + 1) as f64 * (tile + GAP);
            let ground = Bounds { left: x, top: y, right: x + tile, bottom: y + tile };
            self.square(&mut scene, ground, square);
        }
        let middle = |i: usize| (i as f64 + 0.5) * (tile + GAP) - GAP / 2.0;
        for (i, name) in self.rows.iter().enumerate() {
            let y = top + middle(n - 1 - i) + SMALL * 0.36;
            scene.text((left - 6.0, y), name, SMALL, Align::End, Colour::SOFT);
        }
        let bottom = top + n as f64 * (tile + GAP);
        for (i, name) in self.columns.iter().enumerate() {
            let fits = font::width(name, SMALL) <= tile + GAP;
            if fits {
                scene.text((left + middle(i), bottom + SMALL), name, SMALL, Align::Middle, Colour::SOFT);
            }
        }
        let label = font::fit(&self.row_label, LABEL, (bottom - top).max(60.0));
        let side = (MARGIN + LABEL * 0.75, f64::midpoint(top, bottom));
        scene.upwards(side, &label, LABEL, Align::Middle, Colour::INK);
        let below = (f64::midpoint(left, right), bottom + SMALL + 6.0 + LABEL);
        scene.text(below, &self.column_label, LABEL, Align::Middle, Colour::INK);
        scene.height = below.1 + MARGIN;
        scene
    }

    /// One square, its first line at the top.
    fn square(&self, scene: &mut Scene, ground: Bounds, values: &[f64]) {
        scene.outline(ground, Colour::GRID, 1.0);
        let block = self.side.div_ceil(MOST).max(1);
        let cells = self.side.div_ceil(block);
        let size = (ground.right - ground.left) / cells.max(1) as f64;
        for line in 0..cells {
            for place in 0..cells {
                let within = |at: usize| at * block..((at + 1) * block).min(self.side);
                let all = within(line).flat_map(|q| within(place).map(move |k| q * self.side + k));
                let most = all.filter_map(|i| values.get(i).copied()).fold(0.0, f64::max);
                if most < FAINT {
                    continue;
                }
                let (x, y) = (ground.left + place as f64 * size, ground.top + line as f64 * size);
                let cell = Bounds { left: x, top: y, right: x + size, bottom: y + size };
                scene.fill(cell, LINK, most.min(1.0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Mark;

    fn boxes(scene: &Scene) -> usize {
        scene.marks.iter().filter(|mark| matches!(mark, Mark::Box { colour, .. } if *colour == LINK)).count()
    }

    #[test]
    fn a_cell_per_weight_and_the_first_row_at_the_bottom() {
        let chart = Multiples {
            rows: vec!["0".into(), "1".into()],
            columns: vec!["0".into()],
            side: 2,
            squares: vec![vec![1.0, 0.0, 0.5, 0.5], vec![1.0, 0.0, 0.99, 0.01]],
            ..Multiples::default()
        };
        let scene = chart.scene();
        assert_eq!(boxes(&scene), 3 + 2);
        let height = |name: &str| scene.texts().find(|t| t.text == name).unwrap().y;
        assert!(scene.texts().filter(|t| t.text == "0").count() == 2 && height("0") > height("1"));
    }

    #[test]
    fn long_prompts_are_drawn_in_blocks() {
        let side = 100; // in blocks of 4
        let mut one = vec![0.0; side * side];
        one[99 * side + 3] = 0.7;
        let chart = Multiples {
            rows: vec!["0".into()],
            columns: vec!["0".into()],
            side,
            squares: vec![one],
            ..Multiples::default()
        };
        assert_eq!(boxes(&chart.scene()), 1);
    }
}
