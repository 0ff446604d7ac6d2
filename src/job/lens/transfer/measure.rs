//! The two passes of `lens transfer`: moments on one half of the documents, the matrix on the other.

use super::{Plan, Readers, Stream, Transfer, Transferred, points};
use crate::{
    hook::HookPoint,
    job::{Cluster, JobError, Source, Underway, Watch, audit_note},
    lens::evaluate::EvalError,
    lens::transfer::{
        BLOCK_BYTES, Corrections, Layers, Mean, Sharing, Subjects, Transfer as Matrix, blocks, blocks_apart,
        verdict,
    },
    lenses::{LayerIndex, Readout},
    model::Model,
    results::run::MetricRow,
    results::statistics::{Blocks, MOST_APART},
    results::words::human,
    sources::text::{Segment, Window},
    states::States,
};

/// What the first pass leaves for the second.
struct FirstHalf {
    mean: Mean,
    corrections: Option<Corrections>,
    geometry: Vec<MetricRow>,
}

impl Transfer {
    /// Every number, and the verdict in words.
    pub(super) fn measure(
        &self,
        source: &Source<'_>,
        (model, stream): (&Model, &Stream<'_>),
        readers: &Readers,
        plan: &Plan,
        watch: &dyn Watch,
    ) -> Result<Transferred, JobError> {
        let precision = self.readout.precision(source.session.device);
        let readout = Readout::new(model.unembed(), source.vocab(), precision, source.session.threads)?;
        let pass = Pass { model, stream, plan, watch };
        let first = self.moments(&pass, &readout)?;
        let measured = &plan.halves.measured;
        let tokens = pass.tokens(measured);
        let l = plan.layers.len();
        let cells = l * l * if self.no_corrections { 1 } else { 4 };
        let flops = tokens * (2 * cells * readout.vocab() * readout.d_model()) as u64;
        watch.note(&format!("{l} × {l} cells, {}", human(flops, "FLOP")));
        let intervals = self.cluster.of(self.intervals.policy(self.seed));
        let subjects = Subjects { lens: readers.lens.as_ref(), others: &readers.others };
        let mut matrix =
            Matrix::new(&readout, subjects, &plan.layers, first.corrections, &first.mean, intervals)?;
        let stage = watch.begin("transfer", "tokens", Some(tokens));
        pass.run(&plan.layers, measured, &stage, &mut |states, windows| {
            matrix.add(states, &pass.clusters(states, windows, self.cluster))
        })?;
        drop(stage);
        audit_note(&readout, watch);
        let mut rows = matrix.rows(&plan.hook());
        rows.extend(first.geometry);
        let sharing = readers.sharing(&mut matrix);
        rows.extend(sharing.iter().flat_map(|s: &Sharing| s.rows(&plan.hook(), &plan.layers)));
        let verdict = verdict(&rows, &sharing, readers.twin(&rows));
        Ok(Transferred { rows, verdict })
    }

    /// How alike the layers are, over all documents; no lens is needed.
    pub(super) fn geometry(
        &self,
        (model, stream): (&Model, &Stream<'_>),
        plan: &Plan,
        watch: &dyn Watch,
    ) -> Result<Transferred, JobError> {
        let pass = Pass { model, stream, plan, watch };
        let windows: Vec<usize> = (0..plan.text.windows.len()).collect();
        let (d, device) = (model.spec().d_model, model.device());
        let blocks = blocks(&plan.layers, d, BLOCK_BYTES);
        let tokens = pass.tokens(&windows) * blocks.len() as u64;
        let stage = watch.begin("moments", "tokens", Some(tokens));
        let parts = pass.blocks(&windows, self.cluster, blocks_apart(&blocks, d, BLOCK_BYTES));
        let documents = pass.blocks(&windows, self.cluster, MOST_APART).documents();
        let intervals = self.cluster.of(self.intervals.policy(self.seed));
        let mut rows = Vec::new();
        for pairs in &blocks {
            let mut block = Layers::with_blocks(pairs, d, device, parts.clone(), documents);
            let layers = block.layers().to_vec();
            pass.run(&layers, &windows, &stage, &mut |states, places| {
                Ok(block.add(states, &pass.clusters(states, places, self.cluster))?)
            })?;
            rows.extend(block.rows(&plan.hook(), intervals)?);
        }
        let verdict = "geometry of the layers alone: no lens was given".to_owned();
        Ok(Transferred { rows, verdict })
    }

    /// Runs the first half once for every block of pairs of layers.
    fn moments(&self, pass: &Pass<'_>, readout: &Readout) -> Result<FirstHalf, JobError> {
        let plan = pass.plan;
        let intervals = self.cluster.of(self.intervals.policy(self.seed));
        let blocks = blocks(&plan.layers, readout.d_model(), BLOCK_BYTES);
        let windows = &plan.halves.moments;
        let tokens = pass.tokens(windows) * blocks.len() as u64;
        let stage = pass.watch.begin("moments", "tokens", Some(tokens));
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
            pass.run(&layers, windows, &stage, &mut |states, places| {
                let clusters = pass.clusters(states, places, self.cluster);
                block.add(states, &clusters)?;
                if i == 0 {
                    half.mean.add(readout, &readout.normalize(&states.last)?, &clusters)?;
                }
                Ok(())
            })?;
            half.geometry.extend(block.rows(&plan.hook(), intervals)?);
            if let Some(corrections) = &mut half.corrections {
                corrections.add(&block)?;
            }
        }
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
    stream: &'a Stream<'a>,
    plan: &'a Plan,
    watch: &'a dyn Watch,
}

impl Pass<'_> {
    fn run(
        &self,
        layers: &[LayerIndex],
        some: &[usize],
        stage: &Underway<'_>,
        f: &mut Take<'_>,
    ) -> Result<(), JobError> {
        let points = points(layers, self.plan.site);
        let windows: Vec<&Window> = some.iter().map(|i| &self.plan.text.windows[*i]).collect();
        let windows = (&windows[..], self.plan.batch_tokens);
        self.stream.each(&points, windows, stage, |states, places| {
            let places: Vec<usize> = places.iter().map(|i| some[*i]).collect();
            f(states, &places)
        })?;
        Ok(())
    }

    fn tokens(&self, some: &[usize]) -> u64 {
        some.iter().map(|i| self.rows(*i) as u64).sum()
    }

    /// Rows of a window.
    fn rows(&self, window: usize) -> usize {
        let window = &self.plan.text.windows[window];
        self.plan.masker.as_ref().map_or(window.ids.len(), |masker| masker.places(window).len())
    }

    /// The document of every row, or its window.
    fn clusters(&self, states: &States, some: &[usize], cluster: Cluster) -> Vec<u64> {
        let of = |i: &usize| std::iter::repeat_n(*i as u64, self.rows(*i));
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
