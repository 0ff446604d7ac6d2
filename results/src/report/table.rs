//! Tables as CSV (full precision), Markdown and LaTeX (for people).

use std::{collections::BTreeSet, fmt::Write as _};

use super::{
    Figure, Run,
    lens::{is_depth, is_lens},
};
use crate::{
    figure::clean,
    run::{MetricRow, RowKind},
};

/// What stands in a cell.
#[derive(Debug, Clone, PartialEq)]
pub enum TableCell {
    /// Nothing was measured.
    Empty,
    /// A name.
    Text(String),
    /// A number with its 95 % interval, where it has one.
    #[allow(missing_docs)]
    Number { estimate: f64, lower: Option<f64>, upper: Option<f64> },
}

impl TableCell {
    fn of(row: Option<&MetricRow>) -> Self {
        row.map_or(Self::Empty, |r| Self::Number { estimate: r.estimate, lower: r.lower, upper: r.upper })
    }

    /// `1.234 [1.200, 1.268]`
    fn short(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) => clean(text),
            Self::Number { estimate, lower, upper } => {
                let interval = lower
                    .zip(*upper)
                    .map_or_else(String::new, |(l, u)| format!(" [{}, {}]", short(l), short(u)));
                format!("{}{interval}", short(*estimate))
            }
        }
    }
}

/// Three places; more where they would all be zero.
fn short(v: f64) -> String {
    if v != 0.0 && v.abs() < 0.0005 { format!("{v:.2e}") } else { format!("{v:.3}") }
}

/// A table of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Name of its files, without an ending.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// What it rests on.
    pub caption: String,
    /// Of every column.
    pub headers: Vec<String>,
    /// As many cells as headers each.
    pub rows: Vec<Vec<TableCell>>,
}

/// The tables of a run: one for every figure of lines, and those of numbers that no layer has.
pub(super) fn of(run: &Run, figures: &[Figure]) -> Vec<Table> {
    let mut tables: Vec<Table> = figures.iter().filter(|f| !f.lines.is_empty()).map(by_layer).collect();
    let rows = &run.rows;
    let depth = |r: &&MetricRow| is_lens(run, r) && is_depth(&r.metric);
    let depth: Vec<MetricRow> = rows.iter().filter(depth).cloned().collect();
    let law = |r: &&MetricRow| r.kind == RowKind::Law && r.metric.starts_with("law_");
    let law: Vec<MetricRow> = rows.iter().filter(law).cloned().collect();
    tables.extend(crossed(run, "lens-depth", "Prediction depth and early exit", &depth));
    tables.extend(crossed(run, "law-decay", "Decay of the residual over layers 1 to L", &law));
    tables.extend(best(run, rows));
    tables
}

/// A row per layer (or step), a column per line; levels below, in a column of their own.
fn by_layer(figure: &Figure) -> Table {
    let along = &figure.along;
    let layers: BTreeSet<i32> = figure.lines.iter().flat_map(|(_, rows)| rows).map(|r| along.of(r)).collect();
    let at = |layer: i32| {
        let cells = figure
            .lines
            .iter()
            .map(move |(_, rows)| TableCell::of(rows.iter().find(|r| along.of(r) == layer)));
        let name = along.names().get(layer as usize).cloned();
        let name = TableCell::Text(name.unwrap_or_else(|| layer.to_string()));
        std::iter::once(name).chain(cells).collect::<Vec<TableCell>>()
    };
    let mut rows: Vec<Vec<TableCell>> = layers.into_iter().map(at).collect();
    let names = figure.lines.iter().map(|(name, _)| name.clone());
    let mut headers: Vec<String> = std::iter::once(along.label().to_owned()).chain(names).collect();
    if !figure.levels.is_empty() {
        headers.push("reference".into());
        for row in &mut rows {
            row.push(TableCell::Empty);
        }
    }
    for (name, level) in &figure.levels {
        let mut row = vec![TableCell::Empty; headers.len()];
        row[0] = TableCell::Text(name.clone());
        row[headers.len() - 1] = TableCell::of(Some(level));
        rows.push(row);
    }
    let Figure { name, title, basis: caption, .. } = figure.clone();
    Table { name, title, caption, headers, rows }
}

/// A row per metric, a column per subject.
fn crossed(run: &Run, name: &str, title: &str, rows: &[MetricRow]) -> Option<Table> {
    let (mut subjects, mut metrics): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for row in rows {
        if !subjects.contains(&row.subject.as_str()) {
            subjects.push(row.subject.as_str());
        }
        if !metrics.contains(&row.metric.as_str()) {
            metrics.push(&row.metric);
        }
    }
    let cell = |metric: &str, subject: &str| {
        TableCell::of(rows.iter().find(|r| r.metric == metric && r.subject == subject))
    };
    let line = |metric: &&str| {
        let cells = subjects.iter().map(|subject| cell(metric, subject));
        std::iter::once(TableCell::Text((*metric).to_owned())).chain(cells).collect()
    };
    let table = Table {
        name: format!("{}{name}", run.prefix),
        title: title.to_owned(),
        caption: super::words::caption(run, rows, ""),
        headers: std::iter::once("metric").chain(subjects.iter().copied()).map(str::to_owned).collect(),
        rows: metrics.iter().map(line).collect(),
    };
    (!rows.is_empty()).then_some(table)
}

/// The best layer of every probe and hook.
fn best(run: &Run, rows: &[MetricRow]) -> Option<Table> {
    let own: Vec<&MetricRow> =
        rows.iter().filter(|r| r.kind == RowKind::Probe && r.metric.starts_with("best_")).collect();
    let line = |r: &&MetricRow| {
        let tied = rows
            .iter()
            .filter(|t| t.metric == "tied_with_best" && t.subject == r.subject && t.hook == r.hook);
        let tied: Vec<String> = tied.filter(|t| t.estimate == 1.0).map(|t| t.layer.to_string()).collect();
        let metric = r.metric.trim_start_matches("best_");
        // Runs of earlier versions have none.
        let nested = rows.iter().find(|n| {
            n.metric.strip_prefix("nested_") == Some(metric) && n.subject == r.subject && n.hook == r.hook
        });
        let text = |text: &str| TableCell::Text(text.to_owned());
        vec![
            text(&r.subject),
            text(&r.hook),
            text(metric),
            text(&nested.map_or_else(String::new, |nested| nested.layer.to_string())),
            TableCell::of(nested),
            text(&r.layer.to_string()),
            TableCell::of(Some(r)),
            text(&tied.join(" ")),
        ]
    };
    let headers = [
        "probe",
        "hook",
        "metric",
        "layer chosen on validation rows",
        "its value on test rows",
        "best layer on test rows",
        "its value corrected for the choice",
        "layers that cannot be told from it",
    ];
    let table = Table {
        name: format!("{}probe-best", run.prefix),
        title: "Best layers".into(),
        caption: String::new(),
        headers: headers.map(str::to_owned).to_vec(),
        rows: own.iter().map(line).collect(),
    };
    (!own.is_empty()).then_some(table)
}

impl Table {
    /// Full precision; a column with intervals becomes three.
    pub fn csv(&self) -> String {
        let with =
            |i: usize| self.rows.iter().any(|row| matches!(row[i], TableCell::Number { lower: Some(_), .. }));
        let ends: Vec<bool> = (0..self.headers.len()).map(with).collect();
        let header = self.headers.iter().zip(&ends).flat_map(|(name, ends)| {
            let more = ["lower", "upper"].iter().filter(|_| *ends).map(move |end| format!("{name} {end}"));
            std::iter::once(name.clone()).chain(more)
        });
        let mut out = csv::Writer::from_writer(Vec::new());
        let number = |v: Option<f64>| v.map_or_else(String::new, |v| v.to_string());
        let line = |row: &Vec<TableCell>| -> Vec<String> {
            let cells = row.iter().zip(&ends).flat_map(|(cell, ends)| {
                let all = match cell {
                    TableCell::Empty => [String::new(), String::new(), String::new()],
                    TableCell::Text(text) => [text.clone(), String::new(), String::new()],
                    TableCell::Number { estimate, lower, upper } => {
                        [number(Some(*estimate)), number(*lower), number(*upper)]
                    }
                };
                all.into_iter().take(if *ends { 3 } else { 1 })
            });
            cells.collect()
        };
        let lines = std::iter::once(header.collect::<Vec<_>>()).chain(self.rows.iter().map(line));
        let written = lines.into_iter().try_for_each(|line| out.write_record(line));
        debug_assert!(written.is_ok(), "records of one length, written to memory");
        String::from_utf8(out.into_inner().unwrap_or_default()).unwrap_or_default()
    }

    /// A table of GitHub's Markdown; `notes` stand below it.
    pub fn markdown(&self, notes: &[&str]) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = format!("**{}**\n\n", for_markdown(&clean(&self.title)));
        out += &line(self.headers.iter().map(|h| for_markdown(&clean(h))).collect());
        out += &line(vec!["---".to_owned(); self.headers.len()]);
        for row in &self.rows {
            out += &line(row.iter().map(|cell| for_markdown(&cell.short())).collect());
        }
        let notes = notes.iter().copied().chain((!self.caption.is_empty()).then_some(self.caption.as_str()));
        notes.for_each(|note| _ = write!(out, "\n{}\n", for_markdown(&clean(note))));
        out
    }

    /// A `table` of LaTeX with `booktabs`; `notes` stand in its caption.
    pub fn latex(&self, notes: &[&str]) -> String {
        let line = |cells: Vec<String>| format!("{} \\\\\n", cells.join(" & "));
        let mut out = String::from(
            "% needs \\usepackage{booktabs}; with pdflatex also \\usepackage[T1]{fontenc}\n\\begin{table}\n\\centering\n",
        );
        let words =
            std::iter::once(self.title.as_str()).chain([self.caption.as_str()]).chain(notes.iter().copied());
        let words: Vec<String> =
            words.filter(|w| !w.is_empty()).map(|w| sentence(&for_latex(&clean(w)))).collect();
        let _ = writeln!(out, "\\caption{{{}}}", words.join(" "));
        let _ = writeln!(
            out,
            "\\begin{{tabular}}{{l{}}}\n\\toprule",
            "r".repeat(self.headers.len().saturating_sub(1))
        );
        out += &line(self.headers.iter().map(|h| for_latex(&clean(h))).collect());
        out += "\\midrule\n";
        for row in &self.rows {
            out += &line(row.iter().map(|cell| for_latex(&cell.short())).collect());
        }
        out += "\\bottomrule\n\\end{tabular}\n\\end{table}\n";
        out
    }
}

fn sentence(text: &str) -> String {
    if text.ends_with(['.', '!', '?']) { text.to_owned() } else { format!("{text}.") }
}

/// Nothing in a name is markup.
fn for_markdown(text: &str) -> String {
    let safe = |c: char| match c {
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '&' => "&amp;".to_owned(),
        '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '$' | '#' | '!' | '{' | '}' => format!("\\{c}"),
        c => c.to_string(),
    };
    text.chars().map(safe).collect()
}

/// Nothing in a name is a command.
fn for_latex(text: &str) -> String {
    let safe = |c: char| match c {
        '\\' => "\\textbackslash{}".to_owned(),
        '~' => "\\textasciitilde{}".to_owned(),
        '^' => "\\textasciicircum{}".to_owned(),
        '<' => "\\textless{}".to_owned(),
        '>' => "\\textgreater{}".to_owned(),
        '|' => "\\textbar{}".to_owned(),
        '"' => "\\textquotedbl{}".to_owned(),
        '‖' => "$\\Vert$".to_owned(),
        '−' => "$-$".to_owned(),
        '\u{a0}' => "~".to_owned(),
        '²' => "$^2$".to_owned(),
        '\u{fffd}' => "?".to_owned(),
        '$' | '&' | '#' | '%' | '_' | '{' | '}' => format!("\\{c}"),
        c => c.to_string(),
    };
    text.chars().map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let number = |estimate: f64| TableCell::Number {
            estimate,
            lower: Some(estimate - 0.25),
            upper: Some(estimate + 0.25),
        };
        Table {
            name: "t".into(),
            title: "KL(model ‖ lens)".into(),
            caption: "n = 3".into(),
            headers: vec!["layer".into(), "a|b_<script>\n\\input{x}".into()],
            rows: vec![
                vec![TableCell::Text("0".into()), number(1.0 / 3.0)],
                vec![TableCell::Text("model".into()), TableCell::Empty],
            ],
        }
    }

    #[test]
    fn csv_has_every_digit() {
        let csv = table().csv();
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        assert_eq!(reader.headers().unwrap().len(), 4);
        let row = reader.records().next().unwrap().unwrap();
        assert_eq!(row[1].parse::<f64>().unwrap(), 1.0 / 3.0);
        assert_eq!(row[2].parse::<f64>().unwrap(), 1.0 / 3.0 - 0.25);
    }

    #[test]
    fn names_are_inert_in_markdown_and_latex() {
        let markdown = table().markdown(&["few | rough"]);
        assert_eq!(
            markdown,
            "**KL(model ‖ lens)**\n\n| layer | a\\|b\\_&lt;script&gt;\u{fffd}\\\\input\\{x\\} |\n| --- | --- |\n\
            | 0 | 0.333 \\[0.083, 0.583\\] |\n| model |  |\n\nfew \\| rough\n\nn = 3\n"
        );
        let latex = table().latex(&["50 % & more"]);
        assert!(latex.contains("\\caption{KL(model $\\Vert$ lens). n = 3. 50 \\% \\& more.}"), "{latex}");
        assert!(latex.contains("layer & a\\textbar{}b\\_\\textless{}script\\textgreater{}?\\textbackslash{}input\\{x\\} \\\\\n"), "{latex}");
        assert!(latex.contains("0 & 0.333 [0.083, 0.583] \\\\\nmodel &  \\\\\n\\bottomrule"), "{latex}");
    }
}
