//! One offline HTML page: what was measured, charts over `metrics.parquet`, and prompts layer by layer.
//!
//! The page is a template, a style sheet and a few scripts (`assets/`), with the data inlined: texts in one JSON
//! object, numbers as base64 typed arrays inside it (estimates and intervals as f64, so that they equal
//! `metrics.parquet`). It opens from `file://`, asks the network for nothing, and its content security policy allows no
//! script but its own. Everything that came from outside (tokens, paths, names) reaches the document as text, never as
//! markup.

mod assets;
mod encode;
mod facts;
mod figures;
mod metrics;
mod prompt;

use std::{io::Write as _, path::Path};

use serde_json::{Value, json};

pub use self::facts::parity;
use crate::{
    figure::Chart,
    run::{Manifest, MetricRow, RunError, Written, write_atomic},
    trace::Trace,
    words::plural,
};

/// What the page shows.
#[derive(Debug, Clone)]
pub struct Page<'a> {
    /// Title of the page.
    pub title: String,
    /// Runs with a `metrics.parquet`.
    pub runs: Vec<RunPart<'a>>,
    /// Prompts.
    pub trajectories: Vec<TrajectoryPart<'a>>,
}

/// A run directory.
#[derive(Debug, Clone)]
pub struct RunPart<'a> {
    /// What the run is called on the page, such as its folder's name.
    pub name: String,
    /// What was measured and on what.
    pub manifest: &'a Manifest,
    /// What a reader must know before believing the numbers, one sentence each.
    pub caveats: Vec<String>,
    /// The numbers.
    pub rows: &'a [MetricRow],
    /// Charts that the page has no script of its own for.
    pub figures: Vec<FigurePart>,
}

/// A chart that is drawn as it was laid out, with the page's pointer, table and ways to save it.
#[derive(Debug, Clone)]
pub struct FigurePart {
    /// What it is called in addresses and files.
    pub name: String,
    /// Its heading.
    pub title: String,
    /// What it shows.
    pub shows: String,
    /// What it does not show.
    pub not: String,
    /// What is drawn.
    pub chart: Chart,
}

/// A prompt.
#[derive(Debug, Clone)]
pub struct TrajectoryPart<'a> {
    /// What the prompt is called on the page.
    pub name: String,
    /// Where it is from, if it came from a run directory.
    pub manifest: Option<&'a Manifest>,
    /// What the lenses say about it.
    pub trace: &'a Trace,
}

impl Page<'_> {
    /// The page as text. The same parts give the same bytes.
    pub fn html(&self) -> String {
        assets::assemble(&self.title, &encode::json(&self.data()))
    }

    /// Writes the page, whole or not at all.
    ///
    /// # Errors
    /// A failed file operation.
    pub fn write(&self, path: &Path) -> Result<Written, RunError> {
        let html = self.html();
        let write = |file: &mut crate::run::AtomicFile| {
            file.write_all(html.as_bytes())
                .map_err(|e| RunError::sized_io("write", path, e, html.len() as u64))
        };
        Ok(write_atomic(path, write)?.1)
    }

    fn data(&self) -> Value {
        let runs = self.runs.iter().map(|run| {
            let (item, cluster) = crate::report::counted(run.manifest);
            json!({
                "counted": [item, plural(item), cluster, plural(cluster)],
                "name": run.name,
                "kind": run.manifest.kind,
                "facts": facts::of(run.manifest),
                "caveats": run.caveats,
                "metrics": metrics::encode(run.rows),
                "figures": run.figures.iter().map(figures::encode).collect::<Vec<_>>(),
            })
        });
        let prompts = self.trajectories.iter().map(|part| {
            let mut prompt = prompt::encode(part.trace);
            prompt["name"] = part.name.clone().into();
            prompt["job"] = part.manifest.map_or(Value::Null, |manifest| manifest.job_key().into());
            prompt["facts"] = part.manifest.map_or(Value::Null, facts::of);
            prompt
        });
        json!({
            "title": self.title,
            "tool": { "name": "layerscope", "version": env!("CARGO_PKG_VERSION") },
            "runs": runs.collect::<Vec<_>>(),
            "prompts": prompts.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests;
