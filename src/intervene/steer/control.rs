//! What random directions do together, and where the others stand among them.

use super::{
    Direction, Setting,
    measure::{DIFFERENCE, WIDTH},
};
use crate::{
    results::run::{MetricRow, Parts, RowKind, Subject},
    results::statistics::{Estimate, Scores},
};

/// A number of a setting.
#[derive(Debug, Clone, Copy)]
struct Measure {
    name: &'static str,
    unit: &'static str,
    /// Its column, and whether the model's own number is taken away.
    column: usize,
    less_own: bool,
    /// Whether directions are ranked by how large it is.
    ranked: bool,
}

const MEASURES: [Measure; 4] = [
    Measure { name: "kl", unit: "nats", column: 0, less_own: false, ranked: true },
    Measure { name: "agreement", unit: "share", column: 1, less_own: false, ranked: false },
    Measure { name: "ce_increase", unit: "nats", column: 2, less_own: true, ranked: false },
    Measure { name: "response", unit: "nats", column: DIFFERENCE, less_own: true, ranked: true },
];

impl Measure {
    /// Columns of the setting at `place`, and of the model as it is.
    fn columns(self, place: usize) -> [usize; 2] {
        [(place + 1) * WIDTH + self.column, self.column]
    }

    fn of(self, [steered, own]: [f64; 2]) -> f64 {
        if self.less_own { steered - own } else { steered }
    }
}

/// Of every layer and length of push, over the random directions: the mean with an interval over directions and
/// documents, the least and the most. Of every other setting: its rank by size among the random ones (1: none is as
/// large), and the probability that a random direction's rank is no worse, `(1 + as large)/(1 + random)` (Phipson &
/// Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9).
///
/// A random direction is as likely as its opposite, so that pushes to the one side stand for both.
pub(super) fn control(
    directions: &[Direction],
    settings: &[Setting],
    contrast: bool,
    scores: &Scores,
) -> Vec<MetricRow> {
    let mut rows = Vec::new();
    let mut done: Vec<(usize, f64)> = Vec::new();
    for (place, setting) in settings.iter().enumerate() {
        let (layer, strength) = (setting.layer, setting.strength.abs());
        let random: Vec<usize> = (0..settings.len())
            .filter(|i| directions[settings[*i].direction].random)
            .filter(|i| {
                settings[*i].layer == layer && settings[*i].strength.abs().to_bits() == strength.to_bits()
            })
            .collect();
        if random.is_empty() {
            continue;
        }
        let of = &directions[setting.direction];
        let measures = MEASURES.into_iter().filter(|m| contrast || m.column != DIFFERENCE);
        if !of.random {
            let pushed = Parts::Pushed { of: of.name.clone(), strength: setting.strength };
            let subject = Subject::from(pushed);
            rows.extend(
                measures.filter(|m| m.ranked).flat_map(|m| ranks(m, place, &random, scores)).map(|row| {
                    MetricRow { subject: subject.clone(), kind: RowKind::Steer, ..at(layer, row) }
                }),
            );
        } else if !done.contains(&(layer, strength)) {
            done.push((layer, strength));
            let subject = Subject::from(Parts::RandomMean { strength });
            rows.extend(measures.flat_map(|m| together(m, &random, scores)).map(|row| MetricRow {
                subject: subject.clone(),
                kind: RowKind::SteerRandom,
                ..at(layer, row)
            }));
        }
    }
    rows
}

fn at(layer: usize, row: MetricRow) -> MetricRow {
    MetricRow { hook: "resid_pre".into(), layer: layer as i32, ..row }
}

/// Mean, least and most.
fn together(measure: Measure, random: &[usize], scores: &Scores) -> [MetricRow; 3] {
    let items: Vec<[usize; 2]> = random.iter().map(|place| measure.columns(*place)).collect();
    let mean =
        scores.crossed(&items, |all| all.iter().map(|x| measure.of(*x)).sum::<f64>() / all.len() as f64);
    let each = random.iter().map(|place| value(measure, *place, scores));
    let (least, most) = each.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    let end = |estimate| Estimate::alone(estimate, "the range of random directions", random.len() as u64);
    let name = |end: &str| format!("{}_{end}", measure.name);
    [
        MetricRow::of(measure.name, measure.unit, mean),
        MetricRow::of(&name("least"), measure.unit, end(least)),
        MetricRow::of(&name("most"), measure.unit, end(most)),
    ]
}

/// Rank and p-value of a setting.
fn ranks(measure: Measure, place: usize, random: &[usize], scores: &Scores) -> [MetricRow; 2] {
    let own = value(measure, place, scores);
    let others: Vec<f64> = random.iter().map(|place| value(measure, *place, scores)).collect();
    let (rank, p) = rank(own, &others);
    let of = |estimate| Estimate::alone(estimate, "a place among random directions", random.len() as u64);
    [
        MetricRow::of(&format!("{}_rank", measure.name), "rank", of(rank)),
        MetricRow::of(&format!("{}_p_value", measure.name), "probability", of(p)),
    ]
}

/// `1 + as large` and its share of `1 + others`.
pub(super) fn rank(own: f64, others: &[f64]) -> (f64, f64) {
    let as_large = others.iter().filter(|x| x.abs() >= own.abs()).count() as f64;
    (1.0 + as_large, (1.0 + as_large) / (1.0 + others.len() as f64))
}

fn value(measure: Measure, place: usize, scores: &Scores) -> f64 {
    measure.of(measure.columns(place).map(|column| scores.mean(column)))
}
