//! The report's folder.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use serde_json::{Value, json};

use super::{Figure, Report, ReportError, Run};
use crate::{
    hash::sha256_file,
    page::{FigurePart, Page, RunPart, TrajectoryPart},
    run::{Counts, DataFile, METRICS, Manifest, RunDir, RunError, write_atomic},
    trace::TRAJECTORY,
};

/// The page's file in a report.
pub const PAGE: &str = "report.html";

/// What [`Report::write`] left behind, relative to the folder.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// Every file, in order.
    pub files: Vec<PathBuf>,
}

impl Report {
    /// Writes `report.html`, `figures/*.svg`, `.png` and `.csv`, `tables/*.csv`, `.md` and `.tex` into `out`, and a
    /// manifest that says `complete` when every file is in place. `force` replaces another report. `done` hears of
    /// every figure; `from` is a manifest that says how the report was asked for.
    ///
    /// # Errors
    /// [`ReportError`]: the folder holds something else, a figure cannot be drawn, or a file cannot be written.
    pub fn write(
        &self,
        out: &Path,
        from: Manifest,
        force: bool,
        done: &(dyn Fn() + Sync),
    ) -> Result<Written, ReportError> {
        let manifest = self.manifest(from)?;
        // One that cannot be read is for the claim to judge, which may mend it.
        let there = Manifest::read(out).ok().flatten();
        if let Some(there) = there.filter(|there| there.kind != manifest.kind) {
            return Err(ReportError::IsRun { path: out.into(), kind: there.kind });
        }
        let claim = RunDir::claim(out, manifest, force).map_err(ReportError::Folder)?;
        let dir = claim.begin(&owns).map_err(ReportError::Output)?;
        let put = |name: PathBuf, bytes: &[u8]| -> Result<PathBuf, ReportError> {
            let path = out.join(&name);
            write_atomic(&path, |f| f.write_all(bytes).map_err(|e| RunError::io("write", &path, e)))
                .map_err(ReportError::Output)?;
            Ok(name)
        };
        let figures: Vec<Vec<PathBuf>> = self
            .figures
            .par_iter()
            .map(|figure| {
                let name = |ending: &str| Path::new("figures").join(format!("{}.{ending}", figure.name));
                let files = vec![
                    put(name("svg"), figure.svg()?.as_bytes())?,
                    put(name("png"), &figure.png()?)?,
                    put(name("csv"), figure.csv().as_bytes())?,
                ];
                done();
                Ok(files)
            })
            .collect::<Result<_, ReportError>>()?;
        let mut files = figures.concat();
        for (table, run) in self.tables.iter().zip(&self.table_runs) {
            // A table shows by itself where an interval is missing.
            let notes = self.caveats.iter().filter(|c| c.run == self.runs[*run].name && c.metrics.is_empty());
            let notes: Vec<&str> = notes.map(|c| c.text.as_str()).collect();
            let name = |ending: &str| Path::new("tables").join(format!("{}.{ending}", table.name));
            files.push(put(name("csv"), table.csv().as_bytes())?);
            files.push(put(name("md"), table.markdown(&notes).as_bytes())?);
            files.push(put(name("tex"), table.latex(&notes).as_bytes())?);
        }
        files.push(put(PAGE.into(), self.page().as_bytes())?);
        dir.finish(Counts::default(), None).map_err(ReportError::Output)?;
        Ok(Written { files })
    }

    /// The offline page of all runs.
    fn page(&self) -> String {
        let caveats = |run: &Run| {
            let own = self.caveats.iter().filter(|caveat| caveat.run == run.name);
            own.map(|caveat| caveat.text.clone()).collect()
        };
        let figures = |run: &Run| {
            let own = self.figures.iter().filter(|figure| figure.run == run.name);
            let part = |figure: &Figure| {
                let (chart, not) = figure.laid.clone()?;
                let Figure { name, title, caption, .. } = figure;
                let (name, title, shows) = (name.clone(), title.clone(), caption.clone());
                Some(FigurePart { name, title, shows, not: not.to_owned(), chart })
            };
            own.filter_map(part).collect()
        };
        let prompts = self.runs.iter().flat_map(|run| {
            run.traces.iter().enumerate().map(move |(i, trace)| TrajectoryPart {
                name: if run.traces.len() == 1 {
                    run.name.clone()
                } else {
                    format!("{} {}", run.name, i + 1)
                },
                manifest: Some(&run.manifest),
                trace,
            })
        });
        let runs = self.runs.iter().filter(|run| !run.rows.is_empty());
        let runs = runs
            .map(|run| RunPart {
                name: run.name.clone(),
                manifest: &run.manifest,
                caveats: caveats(run),
                rows: &run.rows,
                figures: figures(run),
            })
            .collect();
        let page = Page { title: "layerscope".into(), runs, trajectories: prompts.collect() };
        page.html()
    }

    /// The same runs and the same program give the same report.
    fn manifest(&self, from: Manifest) -> Result<Manifest, ReportError> {
        let record = |run: &Run| {
            let path = run.path.join(if run.rows.is_empty() { TRAJECTORY } else { METRICS });
            let failed = |e| ReportError::Input(RunError::io("read", &path, e));
            let bytes = std::fs::metadata(&path).map_err(failed)?.len();
            let sha256 = sha256_file(&path, &|_| ()).map_err(failed)?;
            Ok(DataFile { path: path.display().to_string(), sha256, bytes })
        };
        let names: Vec<&str> = self.runs.iter().map(|run| run.name.as_str()).collect();
        // What each run was, so that a report of other runs can be told by the setting that differs.
        let settings = |run: &Run| {
            let of_run: serde_json::Map<String, Value> = run.manifest.job_settings().into_iter().collect();
            (run.name.clone(), Value::Object(of_run))
        };
        let settings: serde_json::Map<String, Value> = self.runs.iter().map(settings).collect();
        Ok(Manifest {
            config: json!({ "runs": names, "of": settings }),
            data: self.runs.iter().map(record).collect::<Result<_, ReportError>>()?,
            ..from
        })
    }
}

/// The files that a report writes.
fn owns(path: &Path) -> bool {
    let folder = path.parent().and_then(Path::to_str).unwrap_or_default();
    let ending = path.extension().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    match folder {
        "" => path == Path::new(PAGE),
        "figures" => ["svg", "png", "csv"].contains(&ending),
        "tables" => ["csv", "md", "tex"].contains(&ending),
        _ => false,
    }
}
