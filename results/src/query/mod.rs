//! SQL over the tables of runs: every Parquet file that a run, a lens or an export left behind, by its name.
//!
//! - `metrics`, `tokens`, `scores`, `fit` and whatever else a folder holds: the rows of all folders that have the file,
//!   with a column `run`, the folder's name. A column that only some of them have is null in the others.
//! - `tokens` of an export are its rows, and `acts` its states (`act`, a list), with `hook` and `layer`.
//!
//! Only files of tables that the statement names are read, and of those the columns that it needs; each is compared
//! with its checksum before.

mod answer;
mod scan;

use std::path::{Path, PathBuf};

pub use answer::Answer;
use polars::{prelude::*, sql::SQLContext};
use scan::Scan;

use crate::{
    run::{Manifest, RunError, Status, check_file},
    words::numbered,
};

/// Rows of an export and their states: folders of shards.
const TOKENS: &str = "tokens";
const ACTS: &str = "acts";

/// A question could not be answered.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum QueryError {
    #[error("{} is no folder of a run: it has no manifest.json", path.display())]
    NotARun { path: PathBuf },
    #[error("{} is not complete; repeat its command ({kind}) first", path.display())]
    Incomplete { path: PathBuf, kind: String },
    #[error("no table `{name}`; there are {known}")]
    NoTable { name: String, known: String },
    #[error("{0}")]
    Sql(String),
    #[error(transparent)]
    Run(#[from] RunError),
}

impl From<PolarsError> for QueryError {
    fn from(error: PolarsError) -> Self {
        Self::Sql(error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}

impl QueryError {
    /// Whether the question was wrong, rather than the machine or a file.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Run(_))
    }
}

/// A file of a table: which run's, and the columns that its place says.
#[derive(Debug, Clone)]
struct Part {
    table: String,
    run: String,
    folder: PathBuf,
    /// Below the folder.
    file: PathBuf,
    hook: Option<String>,
    layer: Option<i32>,
}

impl Part {
    fn path(&self) -> PathBuf {
        self.folder.join(&self.file)
    }

    /// Columns that no file has: the run, and what folders say of an export's states.
    fn constants(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("run", self.run.clone())];
        all.extend(self.hook.clone().map(|hook| ("hook", hook)));
        all.extend(self.layer.map(|layer| ("layer", layer.to_string())));
        all
    }
}

/// The tables of some runs.
#[derive(Debug)]
pub struct Tables {
    parts: Vec<Part>,
}

impl Tables {
    /// Finds the tables of finished runs, lens folders and exports. Runs are called as their folders, numbered where
    /// two are equal.
    ///
    /// # Errors
    /// A folder that is none of these, or is not complete.
    pub fn of(runs: &[PathBuf]) -> Result<Self, QueryError> {
        let mut names: Vec<String> = Vec::new();
        let mut parts = Vec::new();
        for folder in runs {
            let manifest = Manifest::read(folder)?;
            let manifest = manifest.ok_or_else(|| QueryError::NotARun { path: folder.clone() })?;
            if manifest.status != Status::Complete {
                return Err(QueryError::Incomplete { path: folder.clone(), kind: manifest.kind });
            }
            let whole = folder.canonicalize().unwrap_or_else(|_| folder.clone());
            let base = whole.file_name().map_or("run".into(), |name| name.to_string_lossy());
            let name = numbered(&base, |name| names.iter().any(|other| other == name));
            parts.extend(parts_of(folder, &name)?);
            names.push(name);
        }
        Ok(Self { parts })
    }

    /// Their names, in order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.parts.iter().map(|part| part.table.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The answer to an SQL statement.
    ///
    /// # Errors
    /// What is wrong with the statement; a table that no run has; a file that is not what its run wrote.
    pub fn query(&self, sql: &str) -> Result<Answer, QueryError> {
        let asked = polars::sql::extract_table_identifiers(sql, false, true)?;
        let mut context = SQLContext::new();
        let known = |name: &String| self.parts.iter().any(|part| part.table == *name);
        // A name that is no table may be one that the statement makes (WITH): SQL says so if not.
        for name in asked.iter().filter(|name| known(name)) {
            context.register(name, self.scan(name)?);
        }
        let frame = context.execute(sql).and_then(LazyFrame::collect).map_err(|error| {
            match asked.iter().find(|name| !known(name)) {
                Some(name) if error.to_string().contains(name.as_str()) => {
                    QueryError::NoTable { name: name.clone(), known: self.names().join(", ") }
                }
                _ => error.into(),
            }
        })?;
        Ok(Answer(frame))
    }

    /// A table, lazily: the rows of all of its files.
    fn scan(&self, table: &str) -> Result<LazyFrame, QueryError> {
        let parts: Vec<Part> = self.parts.iter().filter(|part| part.table == table).cloned().collect();
        parts.iter().try_for_each(|part| check_file(&part.path()))?;
        Ok(Scan::new(parts)?.lazy()?)
    }
}

/// The Parquet files of a folder, and the shards of an export.
fn parts_of(folder: &Path, run: &str) -> Result<Vec<Part>, QueryError> {
    let part = |table: &str, file, hook: Option<&str>, layer| Part {
        table: table.to_owned(),
        run: run.to_owned(),
        folder: folder.to_owned(),
        file,
        hook: hook.map(str::to_owned),
        layer,
    };
    let shards = |table: &str, below: &Path, hook: Option<&str>, layer: Option<i32>| {
        let files = parquet_files(folder, below)?.into_iter();
        Ok::<_, QueryError>(files.map(|file| part(table, file, hook, layer)).collect::<Vec<_>>())
    };
    let named = |file: PathBuf| {
        let table = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        part(&table, file, None, None)
    };
    let mut parts: Vec<Part> = parquet_files(folder, Path::new(""))?.into_iter().map(named).collect();
    parts.extend(shards(TOKENS, Path::new(TOKENS), None, None)?);
    for (below, hook) in keyed(folder, Path::new(ACTS), "hook=")? {
        let layers = keyed(folder, &below, "layer=")?;
        for (below, layer) in &layers {
            parts.extend(shards(ACTS, below, Some(&hook), layer.parse().ok())?);
        }
        if layers.is_empty() {
            parts.extend(shards(ACTS, &below, Some(&hook), None)?);
        }
    }
    Ok(parts)
}

/// The Parquet files in `below`, by name, as paths below `folder`.
fn parquet_files(folder: &Path, below: &Path) -> Result<Vec<PathBuf>, QueryError> {
    let parquet = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "parquet");
    Ok(entries(folder, below)?.into_iter().filter(parquet).collect())
}

/// The folders `KEY=VALUE` in `below` and their values.
fn keyed(folder: &Path, below: &Path, key: &str) -> Result<Vec<(PathBuf, String)>, QueryError> {
    let value = |path: PathBuf| {
        let value = path.file_name()?.to_str()?.strip_prefix(key)?.to_owned();
        Some((path, value))
    };
    Ok(entries(folder, below)?.into_iter().filter_map(value).collect())
}

/// What is in a folder that may not be there, in the order of names.
fn entries(folder: &Path, below: &Path) -> Result<Vec<PathBuf>, QueryError> {
    let path = folder.join(below);
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let failed = |e| RunError::io("read", &path, e);
    let mut found = Vec::new();
    for entry in path.read_dir().map_err(failed)? {
        found.push(below.join(entry.map_err(failed)?.file_name()));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests;
