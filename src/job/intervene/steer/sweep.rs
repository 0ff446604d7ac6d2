//! The passes of a text, each with one direction pushed at one layer.

use super::{
    Plan, Steer,
    found::{Asking, Found},
};
use crate::{
    intervene::steer::{Direction, Setting, Sweep},
    job::{AllWindows, JobError, Source, Watch},
    results::{run::MetricRow, words::counted},
    sources::text::Window,
    sources::text::batches,
};

impl Steer {
    /// Lengths first, then the directions that the model is asked for, then one pass of the text through every setting.
    pub(super) fn measure(
        &self,
        source: &Source<'_>,
        mut plan: Plan,
        text: &AllWindows,
        watch: &dyn Watch,
    ) -> Result<(Vec<MetricRow>, Found), JobError> {
        let (model, readout) = self.pass.load(source, watch)?;
        let windows: Vec<&Window> = text.windows.iter().collect();
        let batch_tokens = self.pass.batch_tokens(source);
        let stage = watch.begin("lengths", "tokens", Some(text.stats.tokens));
        let lengths = Sweep::lengths(model, &windows, batch_tokens, &stage)?;
        drop(stage);
        let intervals = self.pass.intervals(self.seed);
        let mut found = plan.sought.find(&Asking {
            model,
            tokenizer: &source.tokenizer,
            layers: &plan.layers,
            lengths: &lengths,
            batch_tokens,
            intervals,
            seed: self.seed,
            watch,
        })?;
        plan.directions.append(&mut found.directions);
        let settings = self.settings(&mut plan.directions, model.spec().d_model);
        let mut sweep =
            Sweep::new(&readout, &plan.directions, &settings, &lengths, plan.contrast, intervals)?;
        self.announce(&plan.directions, &settings, watch);
        let batches = batches(&windows, batch_tokens);
        let passes = settings.len() * batches.len();
        let stage = watch.begin("steering", "settings of a batch", Some(passes as u64));
        for batch in batches {
            let clusters = self.pass.clusters_of(&batch);
            sweep.add(model, &batch.windows, clusters.as_deref(), &stage)?;
        }
        drop(stage);
        let mut all = sweep.finish();
        all.append(&mut found.rows);
        Ok((all, found))
    }

    /// The random directions with the others, and every setting.
    fn settings(&self, directions: &mut Vec<Direction>, d_model: usize) -> Vec<Setting> {
        let mut layers: Vec<usize> = directions.iter().flat_map(Direction::layers).collect();
        layers.sort_unstable();
        layers.dedup();
        directions.extend((0..self.random).map(|i| Direction::random(i, &layers, d_model, self.seed)));
        let one_side = self.one_side();
        let settings = directions.iter().enumerate().flat_map(|(direction, of)| {
            let strengths = if of.random { &one_side } else { &self.strengths };
            let strengths = |layer| strengths.iter().map(move |s| (layer, *s));
            of.layers().flat_map(strengths).map(move |(layer, strength)| Setting {
                direction,
                layer,
                strength,
            })
        });
        settings.collect()
    }

    /// How far random directions are pushed: a random direction is as likely as its opposite, so that one side stands
    /// for both.
    fn one_side(&self) -> Vec<f64> {
        let mut lengths: Vec<f64> = Vec::new();
        for length in self.strengths.iter().map(|x| x.abs()) {
            if !lengths.contains(&length) {
                lengths.push(length);
            }
        }
        lengths
    }

    /// What there is to do, and how much of it is the control.
    fn announce(&self, directions: &[Direction], settings: &[Setting], watch: &dyn Watch) {
        let random = settings.iter().filter(|setting| directions[setting.direction].random).count();
        let mut layers: Vec<usize> = settings.iter().map(|setting| setting.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        let control = match random {
            0 => String::new(),
            n => format!(
                ", {n} of them {} at {} of {} (one side stands for both)",
                counted(self.random, "random direction"),
                counted(self.one_side().len(), "length"),
                counted(layers.len(), "layer"),
            ),
        };
        watch.note(&format!(
            "{}, each a pass of the text from its layer on{control}",
            counted(settings.len(), "setting")
        ));
    }
}
