//! From the sums to numbers with intervals: of one direction over documents, of several over directions and documents.

use super::{Measurement, Plan, measure::Places};
use crate::{
    results::run::{Direction, MetricRow, Parts, RowKind},
    results::statistics::spearman,
    results::statistics::{Estimate, Item, Scores},
};

/// Fewer directions have no rank correlation.
const FEW: usize = 3;

/// The rows of one layer so far.
struct Table<'a> {
    plan: &'a Plan,
    places: Places,
    scores: &'a Scores,
    rows: Vec<MetricRow>,
}

/// Somebody that directions are removed from.
#[derive(Clone, Copy)]
struct Reader<'a> {
    name: &'a str,
    kind: RowKind,
    /// Place among the lenses that read the layer; none: the model.
    lens: Option<usize>,
}

impl Measurement<'_> {
    /// Every number with its interval, layer by layer.
    pub fn finish(&mut self) -> Vec<MetricRow> {
        let mut rows = Vec::new();
        for (plan, tally) in self.plans.iter().zip(&mut self.tallies) {
            let places = Places::of(plan);
            let mut table = Table { plan, places, scores: tally.scores(), rows: Vec::new() };
            table.directions(Reader { name: "model", kind: RowKind::Model, lens: None });
            let mut logit = None;
            for (place, &lens) in plan.lenses.iter().enumerate() {
                let (name, kind) = (self.lenses[lens].name(), self.kinds[lens]);
                let reader = Reader { name, kind, lens: Some(place) };
                table.directions(reader);
                table.correlations(reader, lens);
                table.alignment(reader);
                if kind == RowKind::Logit {
                    logit = Some(place);
                }
            }
            for (place, &lens) in plan.lenses.iter().enumerate() {
                let (name, kind) = (self.lenses[lens].name(), self.kinds[lens]);
                if let Some(logit) = logit.filter(|logit| *logit != place) {
                    table.gains(Reader { name, kind, lens: Some(place) }, logit);
                }
            }
            rows.append(&mut table.rows);
        }
        rows
    }
}

impl Table<'_> {
    /// A number that is none, such as a correlation of constants, has no row.
    fn push(
        &mut self,
        reader: Reader<'_>,
        direction: Option<Direction>,
        (metric, unit): (&str, &str),
        of: Estimate,
    ) {
        if !of.estimate.is_finite() {
            return;
        }
        let subject = match direction {
            Some(direction) => Parts::Without { of: reader.name.to_owned(), direction }.into(),
            None => reader.name.into(),
        };
        self.rows.push(MetricRow {
            subject,
            kind: reader.kind,
            hook: "resid_pre".into(),
            layer: self.plan.layer() as i32,
            ..MetricRow::of(metric, unit, of)
        });
    }

    /// Place of a direction's number.
    fn column(&self, reader: Reader<'_>, direction: usize) -> usize {
        reader.lens.map_or_else(|| self.places.effect(direction), |lens| self.places.energy(direction, lens))
    }

    /// Energies, or effects on the model, by direction and on average over each set.
    fn directions(&mut self, reader: Reader<'_>) {
        let metric = if reader.lens.is_some() { "energy" } else { "effect" };
        let plan = self.plan;
        let mut first = 0;
        for set in &plan.sets {
            let columns: Vec<usize> =
                (first..first + set.len()).map(|direction| self.column(reader, direction)).collect();
            for (i, column) in columns.iter().enumerate() {
                let direction = || Some(Direction { set: set.name.clone(), number: Some(i + 1) });
                self.push(reader, direction(), (metric, "nats"), self.scores.estimate(*column));
                let own = reader.lens.is_some_and(|lens| Some(plan.lenses[lens]) == set.lens);
                if let Some(energy) = set.energies.get(i).filter(|_| own) {
                    let n = plan.ground.states.size()[0] as u64;
                    let found = Estimate::alone(*energy, "what the search reached", n);
                    self.push(reader, direction(), ("energy_fit", "nats"), found);
                }
            }
            let items: Vec<[usize; 1]> = columns.iter().map(|column| [*column]).collect();
            let mean =
                self.scores.crossed(&items, |all| all.iter().flatten().sum::<f64>() / all.len() as f64);
            let all = Some(Direction { set: set.name.clone(), number: None });
            self.push(reader, all, (metric, "nats"), mean);
            first += set.len();
        }
    }

    /// Columns of energy and effect, of the directions of the set at `place`, or of all.
    fn pairs(&self, lens: usize, place: Option<usize>) -> Vec<[usize; 2]> {
        let sets = self.plan.sets.iter().enumerate();
        let of = sets.flat_map(|(i, set)| std::iter::repeat_n(i, set.len())).enumerate();
        let wanted = of.filter(|(_, set)| place.is_none_or(|place| place == *set));
        wanted.map(|(d, _)| [self.places.energy(d, lens), self.places.effect(d)]).collect()
    }

    /// How the lens's energies go with the model's effects: over its own basis, over each control, over all directions.
    fn correlations(&mut self, reader: Reader<'_>, lens: usize) {
        let Some(place) = reader.lens else { return };
        let own = self.plan.sets.iter().position(|set| set.lens == Some(lens));
        let named = |name: &str| self.plan.sets.iter().position(|set| set.lens.is_none() && set.name == name);
        let over = [
            ("spearman", own),
            ("spearman_pca", named("pca")),
            ("spearman_random", named("random")),
            ("spearman_all", None),
        ];
        for (metric, set) in over {
            let pairs = self.pairs(place, set);
            if pairs.len() >= FEW {
                let of = self.scores.crossed_correlation(&pairs, |all| spearman(&values(all, 0, 1)));
                self.push(reader, None, (metric, "correlation"), of);
            }
        }
        let pairs = self.pairs(place, own);
        if pairs.len() >= FEW {
            let of = self.scores.crossed(&pairs, |all| log_slope(&values(all, 0, 1)));
            self.push(reader, None, ("loglog_slope", "slope"), of);
        }
    }

    fn alignment(&mut self, reader: Reader<'_>) {
        let Some(place) = reader.lens else { return };
        let columns = [
            ("alignment", self.places.alignment(place)),
            ("alignment_shuffled", self.places.shuffled(place)),
        ];
        for (metric, column) in columns {
            self.push(reader, None, (metric, "cosine"), self.scores.estimate(column));
        }
    }

    /// What a lens has over the logit lens, paired by document and direction.
    fn gains(&mut self, reader: Reader<'_>, logit: usize) {
        let Some(place) = reader.lens else { return };
        let (own, other) = (self.places.alignment(place), self.places.alignment(logit));
        let of = self.scores.contrast(|mean| mean(own) - mean(other));
        self.push(reader, None, ("alignment_gain", "cosine"), of);
        // Both lenses' energies, and the effect.
        let items: Vec<[usize; 3]> = self
            .pairs(place, None)
            .iter()
            .zip(self.pairs(logit, None))
            .map(|(a, b)| [a[0], b[0], a[1]])
            .collect();
        let rank = |all: &[Item<3>], lens| spearman(&values(all, lens, 2));
        let of = self.scores.crossed(&items, |all| rank(all, 0) - rank(all, 1));
        self.push(reader, None, ("spearman_all_gain", "correlation"), of);
    }
}

/// Two of the directions' numbers.
fn values<const K: usize>(directions: &[Item<K>], x: usize, y: usize) -> Vec<(f64, f64)> {
    directions.iter().map(|all| (all[x], all[y])).collect()
}

/// Slope of the least-squares line through the logarithms; NaN when a number is not positive or all energies are one.
fn log_slope(pairs: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = pairs.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let n = logs.len() as f64;
    let (mx, my) = logs.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / n, b + y / n));
    let (xy, xx) =
        logs.iter().fold((0.0, 0.0), |(xy, xx), (x, y)| (xy + (x - mx) * (y - my), xx + (x - mx) * (x - mx)));
    xy / xx
}
