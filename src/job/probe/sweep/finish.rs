//! Numbers of cells, and the fitted probes as files.

use super::{Design, Sweep};
use crate::{
    job::{JobError, Session, probe::names},
    probe::{
        Cell, Estimator, Features, Measured, Reading, Summary, Target, baselines, results, saved, undefined,
    },
    results::run::{Counts, Manifest, MetricRow, RunDir, write_metrics},
};

/// What a sweep found.
#[derive(Debug, Clone)]
pub struct Swept {
    /// The numbers, as in `metrics.parquet`.
    pub rows: Vec<MetricRow>,
    /// What they come to; none where the run was complete already.
    pub new: Option<Summarised>,
}

/// What the numbers of a sweep come to.
#[derive(Debug, Clone)]
pub struct Summarised {
    /// The layers of every estimator on every hook.
    pub summaries: Vec<Summary>,
    /// Why a metric is missing that the labels should have.
    pub undefined: Option<String>,
}

impl Sweep {
    /// Measures, and writes everything that the run still lacks.
    pub(super) fn finish(
        &self,
        dir: RunDir,
        session: &Session,
        design: &Design,
        (features, cells): (&Features, &[Vec<Cell>]),
    ) -> Result<Swept, JobError> {
        let options = self.options();
        let (task, tokens) = (&design.labelled.task, design.labelled.tokens(session.spec.vocab));
        let baselines = design.rounds.iter().map(|round| baselines(task, &tokens, round, &options));
        let baselines = baselines.collect::<Result<Vec<_>, _>>()?;
        let points = names(features, &design.points);
        let (rows, summaries) = results(&Measured {
            task,
            rounds: &design.rounds,
            points: &points,
            cells,
            baselines: &baselines,
            estimators: &design.estimators,
            intervals: self.intervals.policy(self.bootstrap_seed),
        })?;
        self.save(design, &points, cells, dir.manifest())?;
        write_metrics(&self.out, &rows)?;
        let (documents, tokens) = design.labelled.size();
        dir.finish(Counts { documents, tokens, rows: rows.len() as u64, ..Counts::default() }, None)?;
        let undefined = undefined(task, &design.rounds);
        Ok(Swept { rows, new: Some(Summarised { summaries, undefined }) })
    }

    /// Writes the probes of the first split, and what that was fitted on. Weights and bias read raw states: the
    /// standardisation by the training part is folded into them.
    fn save(
        &self,
        design: &Design,
        points: &[(String, usize)],
        cells: &[Vec<Cell>],
        manifest: &Manifest,
    ) -> Result<(), JobError> {
        let folder = self.out.join(saved::FOLDER);
        if let Some(round) = design.rounds.first() {
            design.labelled.fitted_on(round).write(&folder)?;
        }
        for (point, cells) in points.iter().zip(cells) {
            for (estimator, reading) in cells.first().into_iter().flat_map(|cell| &cell.readings) {
                let facts = facts(design, point, (*estimator, reading), manifest);
                saved::write(&folder, &facts, &reading.fitted.linear)?;
            }
        }
        Ok(())
    }
}

fn facts(
    design: &Design,
    (hook, layer): &(String, usize),
    (estimator, reading): (Estimator, &Reading),
    manifest: &Manifest,
) -> saved::Facts {
    let labelled = &design.labelled;
    saved::Facts {
        probe: estimator.name().into(),
        hook: hook.clone(),
        layer: *layer,
        positions: labelled.sides[0].plan.positions,
        classes: match &labelled.task.target {
            Target::Classes { names, .. } => Some(names.clone()),
            Target::Numbers(_) => None,
        },
        rare: labelled.rare.as_ref().map(saved::Rare::from),
        paired: labelled.sides.len() == 2,
        link: reading.fitted.linear.link,
        l2: reading.fitted.l2,
        converged: reading.fitted.converged,
        seed: manifest.seed,
        model: manifest.model.as_ref().map(|m| m.sha256.clone()),
        tokenizer: manifest.tokenizer_sha256.clone(),
        reads: "raw states: scores = x weightᵀ + bias; the training part's z-scores are folded in".into(),
    }
}
