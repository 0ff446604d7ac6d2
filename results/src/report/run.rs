//! A run folder as it is read for a report.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::ReportError;
use crate::{
    patterns::{PATTERNS, Patterns, read_patterns},
    run::{METRICS, Manifest, MetricRow, RowKind, Status, read_metrics},
    trace::{TRAJECTORY, Trace, read_traces},
    words::numbered,
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
    /// Its numbers, those of `metrics.parquet`.
    pub rows: Vec<MetricRow>,
    /// Its prompts, of `view --out`.
    pub traces: Vec<Trace>,
    /// Where heads look on its prompt, of `attention --prompt`.
    pub patterns: Option<Patterns>,
}

impl Run {
    /// Reads every folder.
    ///
    /// # Errors
    /// [`ReportError`] naming the folder.
    pub fn read_all(paths: &[PathBuf]) -> Result<Vec<Self>, ReportError> {
        let mut runs: Vec<Self> = Vec::new();
        let mut seen = BTreeSet::new();
        for path in paths {
            let mut run = Self::read(path)?;
            let place = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            if !seen.insert(place) {
                return Err(ReportError::Twice { path: path.clone() });
            }
            run.name = numbered(&run.name, |name| runs.iter().any(|other| other.name == name));
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
        let has_patterns = path.join(PATTERNS).exists();
        let patterns = has_patterns.then(|| read_patterns(path)).transpose().map_err(ReportError::Input)?;
        let whole = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let name = whole.file_name().map_or_else(|| "run".into(), |name| slug(&name.to_string_lossy()));
        Ok(Self { name, path: path.into(), prefix: String::new(), manifest, rows, traces, patterns })
    }

    /// The rows of one kind and metric, in their order.
    pub fn of(&self, kind: RowKind, metric: &str) -> Vec<MetricRow> {
        self.rows.iter().filter(|row| row.kind == kind && row.metric == metric).cloned().collect()
    }
}

/// The groups of rows that are alike in what `key` takes of them, in the order of their first rows.
pub(super) fn groups<'a, K: PartialEq>(
    rows: &'a [MetricRow],
    key: impl Fn(&'a MetricRow) -> K,
) -> Vec<Vec<MetricRow>> {
    let mut found: Vec<(K, Vec<MetricRow>)> = Vec::new();
    for row in rows {
        let own = key(row);
        match found.iter_mut().find(|(other, _)| *other == own) {
            Some((_, group)) => group.push(row.clone()),
            None => found.push((own, vec![row.clone()])),
        }
    }
    found.into_iter().map(|(_, group)| group).collect()
}

/// What is safe in a file name: letters, digits, `_`, `.` and `-`, not too long, not hidden.
pub(super) fn slug(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
    let text: String = name.chars().map(safe).take(60).collect();
    let text = text.trim_matches(['-', '.']);
    if text.is_empty() { "run".into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Estimate;

    #[test]
    fn rows_are_chosen_and_grouped_in_their_order() {
        let row = |subject: &str, layer: i32| MetricRow {
            subject: subject.into(),
            layer,
            ..MetricRow::of("kl", "nats", Estimate::alone(0.5, "a test", 1))
        };
        let rows = vec![row("b", 1), row("a", 0), row("b", 2)];
        let found = groups(&rows, |r| r.subject.as_str());
        assert_eq!(found, [vec![rows[0].clone(), rows[2].clone()], vec![rows[1].clone()]]);
        assert!(groups(&[], |r| r.layer).is_empty());
        let run = Run {
            name: "r".into(),
            path: "r".into(),
            prefix: String::new(),
            manifest: Manifest::new("lens eval"),
            rows: rows.clone(),
            traces: Vec::new(),
            patterns: None,
        };
        assert_eq!(run.of(RowKind::Model, "kl"), rows);
        assert!(run.of(RowKind::Model, "ce").is_empty() && run.of(RowKind::Probe, "kl").is_empty());
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
