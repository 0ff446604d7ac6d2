//! One page from run directories, without the figures and tables of `layerscope report`: `page OUT.html RUN…`. Runs of
//! `view --out` become prompts.

use std::path::Path;

use anyhow::{Context as _, Result};
use layerscope::{
    page::{Page, RunPart, TrajectoryPart, caveats},
    run::{METRICS, Manifest, read_metrics},
    trajectory::{TRAJECTORY, read_traces},
};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let out = args.next().context("usage: page OUT.html RUN…")?;
    let (mut metrics, mut prompts) = (Vec::new(), Vec::new());
    for run in args {
        let dir = Path::new(&run);
        let manifest = Manifest::read(dir)?.with_context(|| format!("{run} has no manifest.json"))?;
        let name = dir.file_name().map_or_else(|| run.clone(), |name| name.to_string_lossy().into_owned());
        if dir.join(METRICS).exists() {
            metrics.push((name, manifest, read_metrics(dir)?));
        } else if dir.join(TRAJECTORY).exists() {
            prompts.push((name, manifest, read_traces(dir)?));
        }
    }
    let runs = metrics.iter().map(|(name, manifest, rows)| RunPart {
        name: name.clone(),
        manifest,
        caveats: caveats(manifest, rows),
        rows,
    });
    let trajectories = prompts.iter().flat_map(|(name, manifest, traces)| {
        traces.iter().enumerate().map(move |(i, trace)| TrajectoryPart {
            name: format!("{name} {}", i + 1),
            manifest: Some(manifest),
            trace,
        })
    });
    let page =
        Page { title: "layerscope".into(), runs: runs.collect(), trajectories: trajectories.collect() };
    page.write(Path::new(&out))?;
    Ok(())
}
