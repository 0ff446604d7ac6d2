//! A drawing with the rows it shows.

use super::{ReportError, Run, run::slug, words};
use crate::{
    figure::{Chart, Colours, Curve, Curves, Heatmap, Labels, Level, Panel, Point, Scene, png, svg},
    run::MetricRow,
    words::plural,
};

/// Ends the metric of a computed line's rows.
pub(super) const FITTED: &str = "_fitted";

/// A figure of a report.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Name of its files, without an ending.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// What it rests on.
    pub caption: String,
    /// The drawing.
    pub scene: Scene,
    /// Name of its run.
    pub run: String,
    /// For the page, where the page has no script of its own for it: what is drawn, and what that does not show.
    pub(super) laid: Option<(Chart, &'static str)>,
    /// The numbers it shows, as they stand in `metrics.parquet` (a fitted line has rows of its own).
    pub rows: Vec<MetricRow>,
    /// Of a prompt, its numbers: a header, then a record per cell.
    pub records: Vec<Vec<String>>,
    /// What its table rests on, without the words about the drawing.
    pub(super) basis: String,
    /// What lies along its lines.
    pub(super) along: Along,
    /// Its lines, by name, for the table; none of a matrix.
    pub(super) lines: Vec<(String, Vec<MetricRow>)>,
    /// Its levels.
    pub(super) levels: Vec<(String, MetricRow)>,
}

impl Figure {
    /// A drawing without numbers yet.
    pub(super) fn new(run: &Run, name: &str, title: String, caption: String, scene: Scene) -> Self {
        Self {
            name: format!("{}{name}", run.prefix),
            title,
            caption,
            scene,
            run: run.name.clone(),
            laid: None,
            rows: Vec::new(),
            records: Vec::new(),
            basis: String::new(),
            along: Along::Layer,
            lines: Vec::new(),
            levels: Vec::new(),
        }
    }

    /// A chart with the rows it shows.
    pub(super) fn of(
        run: &Run,
        heading: Heading,
        caption: String,
        chart: Chart,
        rows: Vec<MetricRow>,
    ) -> Self {
        let scene = chart.scene();
        let (laid, along) = (heading.not.map(|not| (chart, not)), heading.along);
        Self { laid, rows, along, ..Self::new(run, &heading.name, heading.title, caption, scene) }
    }

    /// The SVG.
    ///
    /// # Errors
    /// [`ReportError::Figure`].
    pub fn svg(&self) -> Result<String, ReportError> {
        svg(&self.scene, &format!("{}. {}", self.title, self.caption)).map_err(|source| self.failed(source))
    }

    /// The PNG, two dots to the pixel.
    ///
    /// # Errors
    /// [`ReportError::Figure`].
    pub fn png(&self) -> Result<Vec<u8>, ReportError> {
        png(&self.scene).map_err(|source| self.failed(source))
    }

    /// Its numbers: the columns of `metrics.parquet` (of a prompt those of its cells), every number so that it is read
    /// back as it was.
    pub fn csv(&self) -> String {
        let number = |v: Option<f64>| v.map_or_else(String::new, |v| v.to_string());
        let mut out = csv::Writer::from_writer(Vec::new());
        let header = "subject,kind,hook,layer,source_layer,horizon,metric,unit,estimate,lower,upper,n,n_clusters,n_eff,reason";
        let rows = self.rows.iter().map(|r| {
            let source = r.source_layer.map_or_else(String::new, |l| l.to_string());
            vec![
                r.subject.to_string(),
                r.kind.to_string(),
                r.hook.clone(),
                r.layer.to_string(),
                source,
                r.horizon.to_string(),
                r.metric.clone(),
                r.unit.clone(),
                number(Some(r.estimate)),
                number(r.lower),
                number(r.upper),
                r.n.to_string(),
                r.n_clusters.to_string(),
                r.n_eff.to_string(),
                r.reason.clone().unwrap_or_default(),
            ]
        });
        let header = header.split(',').map(str::to_owned).collect();
        let all: Vec<Vec<String>> = if self.records.is_empty() {
            std::iter::once(header).chain(rows).collect()
        } else {
            self.records.clone()
        };
        let written = all.into_iter().try_for_each(|row| out.write_record(row));
        debug_assert!(written.is_ok(), "records of one length, written to memory");
        String::from_utf8(out.into_inner().unwrap_or_default()).unwrap_or_default()
    }

    fn failed(&self, source: crate::figure::FigureError) -> ReportError {
        ReportError::Figure { name: self.name.clone(), source }
    }
}

/// What lies along a figure of lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Along {
    #[default]
    Layer,
    /// Layers that states come from.
    Source,
    /// Steps, kept in the column `horizon`; what they are called.
    Step(&'static str),
    /// Places that the section put into the column `layer`; what they are, and their names from 0 on if they have any.
    Placed(&'static str, Vec<String>),
}

impl Along {
    pub(super) fn of(&self, row: &MetricRow) -> i32 {
        match self {
            Self::Layer | Self::Placed(..) => row.layer,
            Self::Source => row.source_layer.unwrap_or(row.layer),
            Self::Step(_) => row.horizon,
        }
    }

    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Source => "layer of the state",
            Self::Step(name) | Self::Placed(name, _) => name,
        }
    }

    pub(super) fn names(&self) -> &[String] {
        if let Self::Placed(_, names) = self { names } else { &[] }
    }
}

/// The rows of one panel.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    pub(super) title: String,
    /// By name, each by ascending layer.
    pub(super) lines: Vec<(String, Vec<MetricRow>)>,
    pub(super) levels: Vec<(String, MetricRow)>,
    pub(super) best: Option<i32>,
    pub(super) tied: Vec<i32>,
}

impl Rows {
    /// Rows by subject, in the order of the first of each.
    pub(super) fn by_subject(rows: &[MetricRow]) -> Self {
        let mut lines = Self::default();
        for row in rows {
            lines.add(&row.subject, row.clone());
        }
        lines
    }

    /// Adds a point.
    pub(super) fn add(&mut self, name: &str, row: MetricRow) {
        match self.lines.iter_mut().find(|(other, _)| other == name) {
            Some((_, line)) => line.push(row),
            None => self.lines.push((name.to_owned(), vec![row])),
        }
    }

    fn panel(&self, along: &Along) -> Panel {
        let point =
            |row: &MetricRow| Point { x: along.of(row), y: row.estimate, interval: row.lower.zip(row.upper) };
        let curve = |(name, rows): &(String, Vec<MetricRow>)| {
            let mut points: Vec<Point> = rows.iter().map(point).collect();
            points.sort_by_key(|p| p.x);
            Curve { name: name.clone(), points, fitted: rows.iter().all(|r| r.metric.ends_with(FITTED)) }
        };
        let level = |(name, row): &(String, MetricRow)| Level { name: name.clone(), y: row.estimate };
        Panel {
            title: self.title.clone(),
            curves: self.lines.iter().map(curve).collect(),
            levels: self.levels.iter().map(level).collect(),
            best: self.best,
            tied: self.tied.clone(),
        }
    }
}

/// What is said about a figure.
pub(super) struct Heading {
    /// Of its files, without the run's prefix.
    pub(super) name: String,
    pub(super) title: String,
    /// What comes after model, n and clusters in the caption.
    pub(super) more: String,
    /// What it does not show: said on the page, which then draws the figure as it is laid out here.
    not: Option<&'static str>,
    along: Along,
}

impl Heading {
    pub(super) fn new(name: impl AsRef<str>, title: impl Into<String>, more: impl Into<String>) -> Self {
        let (not, along) = (None, Along::Layer);
        Self { name: slug(name.as_ref()), title: title.into(), more: more.into(), not, along }
    }

    pub(super) fn but_not(self, what: &'static str) -> Self {
        Self { not: Some(what), ..self }
    }

    pub(super) fn along(self, along: Along) -> Self {
        Self { along, ..self }
    }
}

/// A figure of lines by layer, or by step.
pub(super) fn curves(run: &Run, heading: Heading, (y_label, log): (&str, bool), panels: &[Rows]) -> Figure {
    let lines: Vec<(String, Vec<MetricRow>)> = panels.iter().flat_map(|p| named(p, &p.lines)).collect();
    let levels: Vec<(String, MetricRow)> = panels.iter().flat_map(|p| named(p, &p.levels)).collect();
    let rows: Vec<MetricRow> =
        lines.iter().flat_map(|(_, rows)| rows).chain(levels.iter().map(|(_, row)| row)).cloned().collect();
    let with = lines.iter().flat_map(|(_, rows)| rows).any(|r| r.lower.is_some());
    let (_, cluster) = words::counted(&run.manifest);
    let clusters = plural(cluster);
    let ribbons =
        if with { format!("Ribbons: 95 % intervals over {clusters}.") } else { "No intervals.".into() };
    let more = format!("{ribbons} {}", heading.more);
    let of_lines: Vec<MetricRow> = lines.iter().flat_map(|(_, rows)| rows).cloned().collect();
    let caption = words::caption(run, &of_lines, &more);
    let brackets = if with { format!("In brackets: 95 % intervals over {clusters}.") } else { String::new() };
    let basis = words::caption(run, &of_lines, &brackets);
    let chart = Curves {
        title: heading.title.clone(),
        caption: caption.clone(),
        x_label: heading.along.label().into(),
        x_names: heading.along.names().to_vec(),
        y_label: y_label.into(),
        log,
        panels: panels.iter().map(|p| p.panel(&heading.along)).collect(),
    };
    Figure { basis, lines, levels, ..Figure::of(run, heading, caption, Chart::Curves(chart), rows) }
}

/// Names of a panel's rows in the table: with the panel's, where it has one.
fn named<T: Clone>(panel: &Rows, all: &[(String, T)]) -> Vec<(String, T)> {
    let name = |name: &String| {
        if panel.title.is_empty() { name.clone() } else { format!("{name}, {}", panel.title) }
    };
    all.iter().map(|(n, value)| (name(n), value.clone())).collect()
}

/// What a matrix is made of.
pub(super) struct Matrix {
    pub(super) rows: Labels,
    pub(super) row_label: &'static str,
    pub(super) columns: Labels,
    pub(super) column_label: &'static str,
    pub(super) value_label: String,
    pub(super) colours: Colours,
    /// Row after row.
    pub(super) values: Vec<Option<MetricRow>>,
}

/// A figure of a matrix.
pub(super) fn matrix(run: &Run, heading: Heading, matrix: Matrix) -> Figure {
    // A symmetric matrix shows a row twice; its file has it once.
    let mut seen = std::collections::BTreeSet::new();
    let mut rows: Vec<MetricRow> = matrix.values.iter().flatten().cloned().collect();
    rows.retain(|r| seen.insert((r.subject.to_string(), r.layer, r.source_layer)));
    let caption = words::caption(run, &rows, &heading.more);
    // Likeness has no diagonal: a layer is itself.
    let own = matrix.rows == matrix.columns && matrix.values.first().is_some_and(Option::is_some);
    let chart = Heatmap {
        title: heading.title.clone(),
        caption: caption.clone(),
        rows: matrix.rows,
        row_label: matrix.row_label.into(),
        columns: matrix.columns,
        column_label: matrix.column_label.into(),
        values: matrix.values.iter().map(|row| row.as_ref().map(|r| r.estimate)).collect(),
        colours: matrix.colours,
        value_label: matrix.value_label,
        diagonal: own,
        ..Heatmap::default()
    };
    Figure::of(run, heading, caption, Chart::Heatmap(chart), rows)
}
