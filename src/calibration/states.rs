//! How often the intervals of numbers of states hold the truth: of the law's residuals and decay, and of similarities
//! of two layers. Both leave out blocks of documents whose sums are matrices.

use layerscope_lenses::{LayerIndex, Norm, NormKind, Unembed};
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::{
    coverage::{Coverage, coverage},
    population::Sizes,
    random::Random,
};
use crate::{
    lens::evaluate::EvalError,
    lens::fit::split,
    lens::transfer::Layers,
    probe::{Law, Norming, ProbeError, blocks},
    results::run::MetricRow,
    results::statistics::{Blocks, Estimate, Interval, Intervals, MOST_APART, NoInterval},
    sources::text::{Segment, Window},
    states::States,
};

/// Numbers of the law of the next token's id that are looked at, with their layer: residuals of the second, decays of
/// all.
const OF_LAW: [(&str, i32); 9] = [
    ("pr", 2),
    ("pr_adjusted", 2),
    ("pr_held_out", 2),
    ("pr_cross_validated", 2),
    ("law_rho", LAYERS as i32),
    ("law_rho_held_out", LAYERS as i32),
    ("law_rho_cross_validated", LAYERS as i32),
    ("law_rho_less_shuffled_cross_validated", LAYERS as i32),
    ("law_slope_cross_validated", LAYERS as i32),
];
/// Similarities that are looked at.
const OF_GEOMETRY: [&str; 6] = [
    "cka",
    "covariance_cosine",
    "cosine",
    "procrustes_distance",
    "cka_without_outliers",
    "cka_without_first",
];

const LAYERS: usize = 3;
const VOCAB: usize = 64;
/// Widths of the states of the law and of the pair of layers.
const WIDTH: usize = 4;
const WIDE: usize = 8;

/// Coverage of numbers of `probe law`. The truth is what texts of this length give on average: a regression of few rows
/// fits them too well, and would on any others.
///
/// # Errors
/// When a regression cannot be solved.
pub fn laws(of: Sizes, sizes: &[usize], (runs, seed): (usize, u64)) -> Result<Vec<Coverage>, ProbeError> {
    let mut rows = Vec::new();
    for &n in sizes {
        let one = |run: usize| {
            let found = law(of, n, &mut Random::new(seed, (1 << 52) + (n << 24 | run) as u64));
            // A text whose held-out document has one id is refused, as a user's would be: there is no interval of it.
            if matches!(found, Err(ProbeError::FlatTarget(_))) { Ok(Vec::new()) } else { found }
        };
        let all = (0..runs).into_par_iter().map(one).collect::<Result<Vec<_>, _>>()?;
        rows.extend(OF_LAW.iter().filter_map(|&(metric, layer)| {
            let own = |row: &&MetricRow| {
                (row.subject.as_str(), row.metric.as_str(), row.layer) == ("next", metric, layer)
            };
            let found: Vec<Estimate> =
                all.iter().filter_map(|rows| rows.iter().find(own)).map(read).collect();
            let truth = found.iter().map(|e| e.estimate).sum::<f64>() / found.len() as f64;
            truth.is_finite().then(|| coverage((metric, of, n), truth, &found))
        }));
    }
    Ok(rows)
}

/// Coverage of similarities of two layers (`lens transfer`); the truth is that of very many documents.
///
/// # Errors
/// When libtorch fails.
pub fn geometries(
    of: Sizes,
    sizes: &[usize],
    (runs, seed): (usize, u64),
    intervals: Intervals,
) -> Result<Vec<Coverage>, EvalError> {
    let value = |rows: &[MetricRow], metric: &str| rows.iter().find(|r| r.metric == metric).map(read);
    let all = pair(of, 4000, &mut Random::new(seed, 1 << 53), intervals)?;
    let mut rows = Vec::new();
    for &n in sizes {
        let one =
            |run: usize| pair(of, n, &mut Random::new(seed, (1 << 53) + (n << 24 | run) as u64), intervals);
        let found = (0..runs).into_par_iter().map(one).collect::<Result<Vec<_>, _>>()?;
        rows.extend(OF_GEOMETRY.iter().filter_map(|metric| {
            let truth = value(&all, metric)?.estimate;
            let found: Vec<Estimate> = found.iter().filter_map(|rows| value(rows, metric)).collect();
            Some(coverage((metric, of, n), truth, &found))
        }));
    }
    Ok(rows)
}

fn read(row: &MetricRow) -> Estimate {
    let interval = row.lower.zip(row.upper).map(|(lower, upper)| Interval { lower, upper });
    Estimate {
        estimate: row.estimate,
        interval: interval.ok_or(NoInterval::Undefined),
        n: row.n as u64,
        n_clusters: row.n_clusters as u64,
        n_eff: row.n_eff,
    }
}

/// Lengths of documents.
fn lengths(of: Sizes, n: usize, random: &mut Random) -> Vec<usize> {
    let one = |random: &mut Random| match of {
        Sizes::Equal => 30,
        Sizes::Unequal => (25.0 * random.normal().exp()).clamp(6.0, 500.0).round() as usize,
    };
    (0..n).map(|_| one(random)).collect()
}

/// Documents of a topic each, whose ids are neighbours of it; states know the next id the better the higher they are.
fn law(of: Sizes, n: usize, random: &mut Random) -> Result<Vec<MetricRow>, ProbeError> {
    let windows: Vec<Window> =
        lengths(of, n, random).into_iter().enumerate().map(|(doc, len)| window(doc, len, random)).collect();
    let mut counts = vec![0; VOCAB];
    windows.iter().flat_map(|w| &w.ids).for_each(|id| counts[*id as usize] += 1);
    let split = split(&windows, 0);
    let sides = blocks(&split, &windows, LAYERS, WIDTH);
    let mut law = Law::new(LAYERS, WIDTH, &counts, Norming::None, 0, sides);
    let weight = Tensor::ones([VOCAB as i64, WIDTH as i64], (Kind::Float, Device::Cpu));
    let norm = Norm::new(NormKind::Layer, None, None, 1e-5);
    let unembed = Unembed::new(norm, weight, None, None).map_err(crate::model::ModelError::from)?;
    let drawn: Vec<States> = windows.iter().map(|window| states(window, random)).collect();
    for (side, held_out) in [(&split.train, false), (&split.held_out, true)] {
        side.iter().try_for_each(|place| law.add(&drawn[*place], &unembed, held_out))?;
    }
    Ok(law.measure()?.metrics())
}

fn window(doc: usize, len: usize, random: &mut Random) -> Window {
    let topic = VOCAB as f64 * random.uniform();
    let id = |random: &mut Random| (topic + 10.0 * random.normal()).clamp(0.0, VOCAB as f64 - 1.0) as u32;
    let ids = (0..len).map(|_| id(random)).collect();
    let len = len as u32;
    let segment = Segment { doc_id: doc as u64, doc_len: len, len, ..Segment::default() };
    Window { ids, segments: vec![segment] }
}

fn states(window: &Window, random: &mut Random) -> States {
    let own: Vec<f64> = (0..WIDTH).map(|_| 0.4 * random.normal()).collect();
    let mut layer = |signal: f64| {
        let row = |next: f64, random: &mut Random| -> Vec<f32> {
            (0..WIDTH)
                .map(|dim| (own[dim] + signal * next * (1.0 + dim as f64) + random.normal()) as f32)
                .collect()
        };
        let next = |place: usize| window.ids.get(place + 1).map_or(0.0, |id| f64::from(*id) / 32.0 - 1.0);
        let flat: Vec<f32> = (0..window.ids.len()).flat_map(|place| row(next(place), random)).collect();
        Tensor::from_slice(&flat).view([-1, WIDTH as i64])
    };
    let layers = (0..LAYERS).map(|l| layer(0.2 + 0.1 * l as f64)).collect();
    let (last, n, doc) = (layer(0.6), window.ids.len(), window.segments[0].doc_id);
    States {
        layers,
        last,
        ids: window.ids.iter().map(|id| i64::from(*id)).collect(),
        docs: vec![doc; n],
        pos: (0..n as u32).collect(),
        runs: vec![n],
        masked: false,
    }
}

/// Two layers of which one is a rotation of the other and noise; documents have states in common, and three dimensions
/// are large.
fn pair(of: Sizes, n: usize, random: &mut Random, intervals: Intervals) -> Result<Vec<MetricRow>, EvalError> {
    let lengths = lengths(of, n, random);
    let large = |dim: usize| if dim < 3 { 5.0 } else { 1.0 };
    let (mut x, mut y, mut docs) = (Vec::new(), Vec::new(), Vec::new());
    for (doc, len) in lengths.iter().enumerate() {
        let own: Vec<f64> = (0..WIDE).map(|_| 0.6 * random.normal()).collect();
        for _ in 0..*len {
            let row: Vec<f64> = own.iter().map(|own| own + random.normal()).collect();
            x.extend(row.iter().enumerate().map(|(dim, value)| (large(dim) * value) as f32));
            // A turn in the planes of neighbouring dimensions.
            let turned =
                |dim: usize| 0.8 * row[dim] + if dim.is_multiple_of(2) { 0.6 } else { -0.6 } * row[dim ^ 1];
            y.extend((0..WIDE).map(|dim| (large(dim) * (turned(dim) + 0.7 * random.normal())) as f32));
            docs.push(doc as u64);
        }
    }
    let rows = |flat: &[f32]| Tensor::from_slice(flat).view([-1, WIDE as i64]);
    let layers = vec![rows(&x), rows(&y)];
    let last = layers[1].shallow_clone();
    let tokens = docs.len();
    let states = States {
        layers,
        last,
        ids: vec![0; tokens],
        docs: docs.clone(),
        pos: vec![0; tokens],
        runs: lengths.clone(),
        masked: false,
    };
    let blocks = Blocks::new(lengths.iter().enumerate().map(|(doc, len)| (doc as u64, *len)), MOST_APART);
    let pairs = [(LayerIndex(0), LayerIndex(1))];
    let mut sums = Layers::with_blocks(&pairs, WIDE, Device::Cpu, blocks, n);
    sums.add(&states, &docs).map_err(EvalError::Teacher)?;
    sums.rows("resid_pre", intervals).map_err(EvalError::Teacher)
}
