//! A run folder as a polars frame.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use polars::prelude::*;

use super::ReportError;
use crate::{
    run::{METRICS, Manifest, MetricRow, Status, read_metrics},
    trace::{TRAJECTORY, Trace, read_traces},
};

/// A finished run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its folder's name, made unlike those of the other runs.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// What goes before the names of its files: nothing for a single run, else the name.
    pub prefix: String,
    /// Where its numbers are from.
    pub manifest: Manifest,
    /// Its numbers: the columns of `metrics.parquet`.
    pub frame: DataFrame,
    /// Its prompts, of `view --out`.
    pub traces: Vec<Trace>,
}

impl Run {
    /// Reads every folder.
    ///
    /// # Errors
    /// [`ReportError`] naming the folder.
    pub fn read_all(paths: &[PathBuf]) -> Result<Vec<Self>, ReportError> {
        let mut runs: Vec<Self> = Vec::new();
        let (mut seen, mut names) = (BTreeSet::new(), BTreeSet::new());
        for path in paths {
            let mut run = Self::read(path)?;
            let place = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            if !seen.insert(place) {
                return Err(ReportError::Twice { path: path.clone() });
            }
            let name = run.name.clone();
            let mut i = 1;
            while !names.insert(run.name.clone()) {
                i += 1;
                run.name = format!("{name}-{i}");
            }
            if paths.len() > 1 {
                run.prefix = format!("{}-", run.name);
            }
            runs.push(run);
        }
        Ok(runs)
    }

    fn read(path: &Path) -> Result<Self, ReportError> {
        let manifest = Manifest::read(path).map_err(ReportError::Input)?;
        let manifest = manifest.ok_or_else(|| ReportError::NotARun { path: path.into() })?;
        let kind = manifest.kind.clone();
        if manifest.status != Status::Complete {
            return Err(ReportError::Incomplete { path: path.into(), kind });
        }
        let numbers = ["lens eval", "lens transfer", "probe"].iter().any(|with| kind.starts_with(with));
        let (has_rows, has_traces) = (path.join(METRICS).exists(), path.join(TRAJECTORY).exists());
        if !numbers && !has_rows && !has_traces {
            return Err(ReportError::Nothing { path: path.into(), kind });
        }
        let traces = if has_traces { read_traces(path).map_err(ReportError::Input)? } else { Vec::new() };
        let rows = if has_rows || !has_traces {
            read_metrics(path).map_err(ReportError::Input)?
        } else {
            Vec::new()
        };
        let whole = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let name = whole.file_name().map_or_else(|| "run".into(), |name| slug(&name.to_string_lossy()));
        let frame = frame(&rows).map_err(|source| ReportError::Frame { path: path.into(), source })?;
        Ok(Self { name, path: path.into(), prefix: String::new(), manifest, frame, traces })
    }

    /// The rows whose text columns have these values, and their order.
    ///
    /// # Errors
    /// [`ReportError::Frame`].
    pub fn select(&self, wanted: &[(&str, &str)]) -> Result<DataFrame, ReportError> {
        wanted
            .iter()
            .try_fold(self.frame.clone(), |frame, (column, value)| {
                let is = frame.column(column)?.str()?.equal(*value);
                frame.filter(&is)
            })
            .map_err(self.broken())
    }

    /// The groups of rows that are alike in `columns`, in the order of their first rows.
    ///
    /// # Errors
    /// [`ReportError::Frame`].
    pub fn groups(&self, frame: &DataFrame, columns: &[&str]) -> Result<Vec<Vec<MetricRow>>, ReportError> {
        if frame.height() == 0 {
            return Ok(Vec::new());
        }
        let parts = frame.partition_by_stable(columns.iter().copied(), true).map_err(self.broken())?;
        parts.iter().map(|part| self.rows(part)).collect()
    }

    /// The rows of a frame.
    ///
    /// # Errors
    /// [`ReportError::Frame`].
    pub fn rows(&self, frame: &DataFrame) -> Result<Vec<MetricRow>, ReportError> {
        rows(frame).map_err(self.broken())
    }

    /// The rows of one kind and metric.
    ///
    /// # Errors
    /// [`ReportError::Frame`].
    pub fn of(&self, kind: &str, metric: &str) -> Result<Vec<MetricRow>, ReportError> {
        self.rows(&self.select(&[("kind", kind), ("metric", metric)])?)
    }

    pub(super) fn broken(&self) -> impl Fn(PolarsError) -> ReportError + '_ {
        |source| ReportError::Frame { path: self.path.clone(), source }
    }
}

/// What is safe in a file name: letters, digits, `_`, `.` and `-`, not too long, not hidden.
pub(super) fn slug(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
    let text: String = name.chars().map(safe).take(60).collect();
    let text = text.trim_matches(['-', '.']);
    if text.is_empty() { "run".into() } else { text.into() }
}

fn frame(rows: &[MetricRow]) -> PolarsResult<DataFrame> {
    let text = |name: &str, get: fn(&MetricRow) -> &str| {
        Column::new(name.into(), rows.iter().map(get).collect::<Vec<_>>())
    };
    let i32s = |name: &str, get: fn(&MetricRow) -> Option<i32>| {
        Column::new(name.into(), rows.iter().map(get).collect::<Vec<_>>())
    };
    let f64s = |name: &str, get: fn(&MetricRow) -> Option<f64>| {
        Column::new(name.into(), rows.iter().map(get).collect::<Vec<_>>())
    };
    let i64s = |name: &str, get: fn(&MetricRow) -> i64| {
        Column::new(name.into(), rows.iter().map(get).collect::<Vec<_>>())
    };
    DataFrame::new(
        rows.len(),
        vec![
            text("subject", |r| &r.subject),
            text("kind", |r| &r.kind),
            text("hook", |r| &r.hook),
            i32s("layer", |r| Some(r.layer)),
            i32s("source_layer", |r| r.source_layer),
            i32s("horizon", |r| Some(r.horizon)),
            text("metric", |r| &r.metric),
            text("unit", |r| &r.unit),
            f64s("estimate", |r| Some(r.estimate)),
            f64s("lower", |r| r.lower),
            f64s("upper", |r| r.upper),
            i64s("n", |r| r.n),
            i64s("n_clusters", |r| r.n_clusters),
            f64s("n_eff", |r| Some(r.n_eff)),
            Column::new("reason".into(), rows.iter().map(|r| r.reason.clone()).collect::<Vec<_>>()),
        ],
    )
}

/// Back from the columns that [`frame`] makes.
fn rows(frame: &DataFrame) -> PolarsResult<Vec<MetricRow>> {
    let text = |name: &str| -> PolarsResult<Vec<String>> {
        Ok(frame.column(name)?.str()?.iter().map(|v| v.unwrap_or_default().to_owned()).collect())
    };
    let i32s =
        |name: &str| -> PolarsResult<Vec<Option<i32>>> { Ok(frame.column(name)?.i32()?.iter().collect()) };
    let f64s =
        |name: &str| -> PolarsResult<Vec<Option<f64>>> { Ok(frame.column(name)?.f64()?.iter().collect()) };
    let i64s =
        |name: &str| -> PolarsResult<Vec<Option<i64>>> { Ok(frame.column(name)?.i64()?.iter().collect()) };
    let (subject, kind, hook) = (text("subject")?, text("kind")?, text("hook")?);
    let (metric, unit) = (text("metric")?, text("unit")?);
    let (layer, source_layer, horizon) = (i32s("layer")?, i32s("source_layer")?, i32s("horizon")?);
    let (estimate, lower, upper) = (f64s("estimate")?, f64s("lower")?, f64s("upper")?);
    let (n, n_clusters, n_eff) = (i64s("n")?, i64s("n_clusters")?, f64s("n_eff")?);
    let reasons: Vec<Option<String>> =
        frame.column("reason")?.str()?.iter().map(|v| v.map(str::to_owned)).collect();
    let row = |i: usize| MetricRow {
        subject: subject[i].clone(),
        kind: kind[i].clone(),
        hook: hook[i].clone(),
        layer: layer[i].unwrap_or_default(),
        source_layer: source_layer[i],
        horizon: horizon[i].unwrap_or_default(),
        metric: metric[i].clone(),
        unit: unit[i].clone(),
        estimate: estimate[i].unwrap_or(f64::NAN),
        lower: lower[i],
        upper: upper[i],
        n: n[i].unwrap_or_default(),
        n_clusters: n_clusters[i].unwrap_or_default(),
        n_eff: n_eff[i].unwrap_or_default(),
        reason: reasons[i].clone(),
    };
    Ok((0..frame.height()).map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{Estimate, Interval};

    #[test]
    fn a_frame_gives_back_its_rows_and_groups_in_order() {
        let number = Estimate {
            estimate: 0.1 + 0.2,
            interval: Ok(Interval { lower: 0.1, upper: 1.0 / 3.0 }),
            n: 7,
            n_clusters: 2,
            n_eff: 1.9,
        };
        let row = |subject: &str, layer: i32| MetricRow {
            subject: subject.into(),
            layer,
            source_layer: (layer > 0).then_some(layer),
            ..MetricRow::of("kl", "nats", number)
        };
        let all = vec![row("b", 1), row("a", 0), row("b", 2)];
        let run = Run {
            name: "r".into(),
            path: "r".into(),
            prefix: String::new(),
            manifest: Manifest::new("lens eval"),
            frame: frame(&all).unwrap(),
            traces: Vec::new(),
        };
        assert_eq!(run.rows(&run.frame).unwrap(), all);
        let groups = run.groups(&run.frame, &["subject"]).unwrap();
        assert_eq!(groups, [vec![all[0].clone(), all[2].clone()], vec![all[1].clone()]]);
        let one = run.select(&[("subject", "a"), ("metric", "kl")]).unwrap();
        assert_eq!(run.rows(&one).unwrap(), [all[1].clone()]);
        let none = run.select(&[("metric", "ce")]).unwrap();
        assert!(run.groups(&none, &["subject"]).unwrap().is_empty());
    }

    #[test]
    fn names_of_files_cannot_leave_the_folder() {
        for (name, safe) in
            [("eval", "eval"), ("../../etc", "etc"), ("a b/c<script>", "a-b-c-script"), ("..", "run")]
        {
            assert_eq!(slug(name), safe);
        }
        assert_eq!(slug(&"x".repeat(500)).len(), 60);
    }
}
