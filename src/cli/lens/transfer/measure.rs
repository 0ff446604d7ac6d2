//! The two passes of `lens transfer`: moments on one half of the documents, the matrix on the other.

use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use layerscope::{
    hook::HookPoint,
    lens::evaluate::EvalError,
    lens::transfer::{
        BLOCK_BYTES, Corrections, Layers, Mean, Sharing, Subjects, Transfer, blocks, blocks_apart, verdict,
    },
    lenses::{LayerIndex, Readout},
    model::Model,
    results::run::MetricRow,
    results::statistics::{Blocks, MOST_APART},
    sources::text::{Segment, Window},
    states::States,
};

use super::{
    super::super::{
        exit::Failure,
        output::{Output, human},
        source::Source,
    },
    super::readout::told,
    Plan, Readers, TransferArgs,
    report::{sharing, twin},
};
use crate::cli::lens::eval::Cluster;

/// What the first pass leaves for the second.
struct FirstHalf {
    mean: Mean,
    corrections: Option<Corrections>,
    geometry: Vec<MetricRow>,
}

impl TransferArgs {
    /// Every number, and the verdict in words.
    pub(super) fn measure(
        &self,
        source: &Source,
        model: &Model,
        readers: &Readers,
        plan: &Plan,
        stop: &AtomicBool,
        output: Output,
    ) -> Result<(Vec<MetricRow>, String), Failure> {
        let precision = self.readout.precision(source.session.device);
        let readout = Readout::new(model.unembed(), source.vocab(), precision, source.session.threads)?;
        let pass = Pass { model, plan, stop };
        let first = self.moments(&pass, &readout, output)?;
        let measured = &plan.halves.measured;
        let tokens = pass.tokens(measured);
        let l = plan.layers.len();
        let cells = l * l * if self.no_corrections { 1 } else { 4 };
        let flops = tokens * (2 * cells * readout.vocab() * readout.d_model()) as u64;
        output.note(format!("{l} × {l} cells, {}", human(flops, "FLOP")));
        let intervals = self.cluster.of(self.intervals.policy(self.common.seed));
        let subjects = Subjects { lens: readers.lens.as_ref(), others: &readers.others };
        let mut transfer =
            Transfer::new(&readout, subjects, &plan.layers, first.corrections, &first.mean, intervals)?;
        let bar = output.bar("transfer", "tokens", Some(tokens));
        pass.run(&plan.layers, measured, &bar, &mut |states, windows| {
            transfer.add(states, &pass.clusters(states, windows, self.cluster))
        })?;
        bar.finish_and_clear();
        told(&readout, output);
        let mut rows = transfer.rows(&plan.hook());
        rows.extend(first.geometry);
        let sharing = sharing(&mut transfer, readers);
        rows.extend(sharing.iter().flat_map(|s: &Sharing| s.rows(&plan.hook(), &plan.layers)));
        let words = verdict(&rows, &sharing, twin(readers, &rows));
        Ok((rows, words))
    }

    /// Runs the first half once for every block of pairs of layers.
    fn moments(&self, pass: &Pass<'_>, readout: &Readout, output: Output) -> Result<FirstHalf, Failure> {
        let plan = pass.plan;
        let blocks = blocks(&plan.layers, readout.d_model(), BLOCK_BYTES);
        let windows = &plan.halves.moments;
        let bar = output.bar("moments", "tokens", Some(pass.tokens(windows) * blocks.len() as u64));
        let apart = |most| pass.blocks(windows, self.cluster, most);
        let parts = apart(blocks_apart(&blocks, readout.d_model(), BLOCK_BYTES));
        let documents = apart(MOST_APART);
        let mut half = FirstHalf {
            mean: Mean::new(readout.vocab(), documents.clone()),
            corrections: (!self.no_corrections).then(Corrections::default),
            geometry: Vec::new(),
        };
        for (i, pairs) in blocks.iter().enumerate() {
            let (d, device) = (readout.d_model(), pass.model.device());
            let mut block = Layers::with_blocks(pairs, d, device, parts.clone(), documents.documents());
            let layers = block.layers().to_vec();
            pass.run(&layers, windows, &bar, &mut |states, places| {
                let clusters = pass.clusters(states, places, self.cluster);
                block.add(states, &clusters)?;
                if i == 0 {
                    half.mean.add(readout, &readout.normalize(&states.last)?, &clusters)?;
                }
                Ok(())
            })?;
            half.geometry.extend(block.rows(&plan.hook())?);
            if let Some(corrections) = &mut half.corrections {
                corrections.add(&block)?;
            }
        }
        bar.finish_and_clear();
        Ok(half)
    }
}

impl Plan {
    /// The site as `metrics.parquet` names it.
    fn hook(&self) -> String {
        HookPoint::Block(0, self.site).short_name().to_owned()
    }
}

/// Takes states, and the places of their windows.
type Take<'a> = dyn FnMut(&States, &[usize]) -> Result<(), EvalError> + 'a;

/// Passes over some of the windows.
struct Pass<'a> {
    model: &'a Model,
    plan: &'a Plan,
    stop: &'a AtomicBool,
}

impl Pass<'_> {
    fn run(
        &self,
        layers: &[LayerIndex],
        some: &[usize],
        bar: &ProgressBar,
        f: &mut Take<'_>,
    ) -> Result<(), Failure> {
        let points: Vec<HookPoint> = layers.iter().map(|l| HookPoint::Block(l.0, self.plan.site)).collect();
        let windows: Vec<&Window> = some.iter().map(|i| &self.plan.text.windows[*i]).collect();
        let ended = States::each(self.model, &points, &windows, self.plan.batch_tokens, |states, places| {
            if self.stop.load(Ordering::Relaxed) {
                return Err(EvalError::Interrupted);
            }
            let places: Vec<usize> = places.iter().map(|i| some[*i]).collect();
            f(states, &places)?;
            bar.inc(states.rows() as u64);
            Ok(())
        });
        if ended.is_err() {
            bar.finish_and_clear();
        }
        ended.map_err(|e| match e {
            EvalError::Interrupted => Failure::interrupted(e),
            other => other.into(),
        })
    }

    fn tokens(&self, some: &[usize]) -> u64 {
        some.iter().map(|i| self.plan.text.windows[*i].ids.len() as u64).sum()
    }

    /// The document of every row, or its window.
    fn clusters(&self, states: &States, some: &[usize], cluster: Cluster) -> Vec<u64> {
        let of = |i: &usize| std::iter::repeat_n(*i as u64, self.plan.text.windows[*i].ids.len());
        if cluster == Cluster::Window { some.iter().flat_map(of).collect() } else { states.docs.clone() }
    }

    /// Blocks of the documents of some windows, or of these, `most` at most.
    fn blocks(&self, some: &[usize], cluster: Cluster, most: usize) -> Blocks {
        if most == 0 {
            return Blocks::default();
        }
        let segments =
            some.iter().flat_map(|i| self.plan.text.windows[*i].segments.iter().map(move |s| (*i, s)));
        let id = |(i, segment): (usize, &Segment)| {
            let id = if cluster == Cluster::Window { i as u64 } else { segment.doc_id };
            (id, segment.len as usize)
        };
        Blocks::new(segments.map(id), most)
    }
}
