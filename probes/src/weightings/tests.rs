use ndarray::Array2;

use super::*;
use crate::draw::draw;
use crate::interval::{Estimate, Intervals, NoInterval};
use crate::score::{Classified, Lanes};

/// Numbers in 0..1 that look random.
fn uniform(seed: u64, i: u64) -> f64 {
    draw(seed, b"layerscope/bootstrap-tst", i, 0) as f64 / 2.0_f64.powi(64)
}

fn weightings(groups: &[u64], replicates: usize) -> Weightings {
    Weightings::new(groups, Intervals::bootstrap(7, replicates)).unwrap()
}

/// Binary scores of `rows` rows, better than chance.
fn classified(seed: u64, rows: u64) -> Classified {
    let y: Vec<u32> = (0..rows).map(|i| u32::from(uniform(seed, 2 * i) < 0.4)).collect();
    let score = |(i, k): (usize, usize)| {
        if k == 0 { 0.0 } else { 3.0 * (uniform(seed, 2 * i as u64 + 1) - 0.5) + f64::from(y[i]) - 0.5 }
    };
    Classified::new(Array2::from_shape_fn((rows as usize, 2), score).view(), &y).unwrap()
}

#[test]
fn the_intervals_of_the_root_and_of_numpy() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../../fixtures/score/expected.json")).unwrap();
    let floats = |v: &serde_json::Value| -> Vec<f64> { serde_json::from_value(v.clone()).unwrap() };
    let (replicates, seed) = (golden["replicates"].as_u64().unwrap(), golden["seed"].as_u64().unwrap());
    // Documents of n rows whose outcomes are all sum / n.
    let (mut groups, mut a, mut b) = (Vec::new(), Vec::new(), Vec::new());
    let documents = golden["sums"].as_array().unwrap().iter().zip(floats(&golden["counts"]));
    for (doc, (sums, n)) in (0..).zip(documents) {
        let sums = floats(sums);
        for _ in 0..n as usize {
            groups.push(doc);
            a.push(sums[0] / n);
            b.push(sums[1] / n);
        }
    }
    let weightings = Weightings::new(&groups, Intervals::bootstrap(seed, replicates as usize)).unwrap();
    let (a, b) = (weightings.mean(&a).unwrap(), weightings.mean(&b).unwrap());
    for (name, draws) in [("a", &a), ("b", &b), ("difference", &a.minus(&b).unwrap())] {
        let (expected, got) = (floats(&golden["poisson"][name]), draws.estimate());
        assert!((got.lower().unwrap() - expected[0]).abs() < 1e-9, "{name}");
        assert!((got.upper().unwrap() - expected[1]).abs() < 1e-9, "{name}");
        assert_eq!(got.n_clusters, 300);
    }
}

#[test]
fn a_mean_is_the_metric_of_its_rows() {
    struct Mean(Vec<f64>);
    impl Metric for Mean {
        fn rows(&self) -> usize {
            self.0.len()
        }
        fn values(&self, weights: &[Lanes]) -> Lanes {
            let sum = |lane: usize| self.0.iter().zip(weights).map(|(x, w)| x * w[lane]).sum::<f64>();
            std::array::from_fn(|lane| sum(lane) / weights.iter().map(|w| w[lane]).sum::<f64>())
        }
    }
    let groups: Vec<u64> = (0..90).map(|row| row / 7).collect();
    let outcomes: Vec<f64> = (0..90).map(|row| uniform(1, row)).collect();
    let weightings = weightings(&groups, 130);
    let (mean, metric) = (weightings.mean(&outcomes).unwrap(), weightings.metric(&Mean(outcomes)).unwrap());
    assert_eq!((mean.values.len(), mean.n, mean.n_clusters), (130, 90, 13));
    assert!(mean.values.iter().zip(&metric.values).all(|(a, b)| (a - b).abs() < 1e-12));
}

#[test]
fn intervals_cover_and_clusters_matter() {
    // 60 documents of 20 rows that agree with each other: the truth is 0.5.
    let groups: Vec<u64> = (0..1200).map(|row| row / 20).collect();
    let rows: Vec<u64> = (0..1200).collect();
    let (mut covered, mut naive) = (0, 0);
    for seed in 0..300 {
        let right: Vec<f64> = groups.iter().map(|&g| f64::from(u8::from(uniform(seed, g) < 0.5))).collect();
        let covers = |groups: &[u64]| {
            let got = weightings(groups, 200).mean(&right).unwrap().estimate();
            got.lower().unwrap() <= 0.5 && 0.5 <= got.upper().unwrap()
        };
        covered += u32::from(covers(&groups));
        naive += u32::from(seed < 50 && covers(&rows));
    }
    // 95 % of 300 is 285, standard deviation 3.8; the percentile interval is a little short with 60 clusters.
    assert!((267..=298).contains(&covered), "{covered}");
    assert!(naive < 35, "{naive} of 50: rows taken for documents must not cover");
}

#[test]
fn the_area_under_the_curve_covers() {
    let truth = classified(999, 200_000).auroc().point();
    let groups: Vec<u64> = (0..300).collect();
    let weightings = weightings(&groups, 300);
    let covers = |seed| {
        let got = weightings.metric(&classified(seed, 300).auroc()).unwrap().estimate();
        got.lower().unwrap() <= truth && truth <= got.upper().unwrap()
    };
    let covered = (0..200).filter(|&seed| covers(seed)).count();
    assert!((180..=199).contains(&covered), "{covered} of 200");
}

#[test]
fn threads_do_not_matter() {
    let groups: Vec<u64> = (0..500).map(|row| row / 3).collect();
    let rows = classified(5, 500);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let weightings = weightings(&groups, 100);
            [weightings.mean(&rows.nll()).unwrap(), weightings.metric(&rows.ece()).unwrap()]
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn what_has_no_interval() {
    let one = weightings(&[4, 4], 50).mean(&[0.0, 1.0]).unwrap().estimate();
    let why = NoInterval::FewClusters { n_eff: 1.0 };
    assert_eq!(one, Estimate { estimate: 0.5, interval: Err(why), n: 2, n_clusters: 1, n_eff: 1.0 });
    let none = weightings(&[4, 5], 0).mean(&[0.0, 1.0]).unwrap().estimate();
    assert_eq!((none.estimate, none.interval), (0.5, Err(NoInterval::NoReplicates)));
    // Either of two groups is often not drawn: one class is left, which has no AUROC.
    let rows = Classified::new(ndarray::array![[0.0, 1.0], [1.0, 0.0]].view(), &[1, 0]).unwrap();
    let area = weightings(&[4, 5], 50).metric(&rows.auroc()).unwrap().estimate();
    assert_eq!((area.estimate, area.interval), (1.0, Err(NoInterval::Undefined)));
    // Two groups drawn by none of e^-2 of the replicates: no mean there, so none at all.
    assert_eq!(weightings(&[4, 5], 500).mean(&[0.0, 1.0]).unwrap().estimate().lower(), None);
}

#[test]
fn bad_rows_are_refused() {
    let b = weightings(&[1, 2], 9);
    assert!(matches!(b.mean(&[1.0, f64::NAN]), Err(Error::NotFinite { row: 1 })));
    assert!(matches!(b.mean(&[1.0]), Err(Error::Length { rows: 1, labels: 2 })));
    assert!(matches!(b.metric(&classified(0, 3).auroc()), Err(Error::Length { rows: 3, labels: 2 })));
    assert!(matches!(Weightings::new(&[], Intervals::default()), Err(Error::Empty)));
    let (a, c) = (b.mean(&[1.0, 2.0]).unwrap(), weightings(&[1, 2], 8).mean(&[1.0, 2.0]).unwrap());
    assert!(matches!(a.minus(&c), Err(Error::Unpaired { what: "replicates", expected: 9, got: 8 })));
}
