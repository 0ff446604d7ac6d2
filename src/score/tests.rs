//! Tallies against hand arithmetic, the normal interval, and numpy (fixtures/score).

use serde_json::Value;

use super::{Estimate, Resamples, ScoreError, Scores, Tally};

fn tally(columns: &[usize], groups: usize, replicates: usize) -> Tally {
    Tally::new(columns.to_vec(), groups, Resamples::new(7, replicates)).unwrap()
}

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance, "{a} is not {b}");
}

/// The width of an interval and its middle.
fn shape((lower, upper): (f64, f64)) -> (f64, f64) {
    (upper - lower, f64::midpoint(upper, lower))
}

/// Numbers in -1..1 that look random.
fn noise(i: u64) -> f64 {
    let mixed = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ (mixed >> 29)) as f64 / 2.0_f64.powi(63) - 1.0
}

/// 40 columns in two groups, 50 documents of several parts; `order` of the parts.
fn parts() -> Vec<(u64, Vec<f64>, [f64; 2])> {
    let part = |i: u64| {
        let sums = (0..40).map(|c| noise(100 * i + c)).collect();
        (i / 3, sums, [(i % 5) as f64, 2.0])
    };
    (0..150).map(part).collect()
}

fn all(scores: &Scores) -> Vec<f64> {
    let one = |column| {
        let e = scores.estimate(column);
        [e.estimate, e.lower.unwrap(), e.upper.unwrap(), e.n as f64, e.n_clusters as f64]
    };
    (0..40).flat_map(one).collect()
}

#[test]
fn means_and_intervals_by_hand() {
    let mut t = tally(&[0, 1, 0], 2, 2000);
    t.add(0, &[2.0, 9.0, 1.0], &[4.0, 0.0]).unwrap();
    t.add(5, &[10.0, 3.0, 1.0], &[2.0, 2.0]).unwrap();
    let s = t.scores();
    assert_eq!((s.mean(0), s.mean(1)), (2.0, 6.0));
    // Two documents of means 0.5 and 5: either alone is drawn in far more than 2.5 % of the replicates.
    assert_eq!(s.interval(0), Some((0.5, 5.0)));
    assert_eq!(
        s.estimate(0),
        Estimate { estimate: 2.0, lower: Some(0.5), upper: Some(5.0), n: 6, n_clusters: 2 }
    );
    assert_eq!(s.estimate(1), Estimate { estimate: 6.0, lower: None, upper: None, n: 2, n_clusters: 1 });
    let both = s.contrast(|mean| mean(1) - 2.0 * mean(0));
    assert_eq!(both, Estimate { estimate: 2.0, lower: None, upper: None, n: 2, n_clusters: 1 });
    assert!(tally(&[0], 1, 9).scores().mean(0).is_nan());
}

#[test]
fn contrasts_are_paired() {
    let mut t = tally(&[0; 3], 1, 300);
    for doc in 0..100 {
        let level = 5.0 * noise(doc);
        t.add(doc, &[level, level + 0.5, level + 1.0], &[1.0]).unwrap();
    }
    let s = t.scores();
    let zero = s.contrast(|mean| mean(1) - mean(1));
    assert_eq!((zero.estimate, zero.lower, zero.upper), (0.0, Some(0.0), Some(0.0)));
    assert!(shape(s.interval(1).unwrap()).0 > 0.5);
    let difference = s.contrast(|mean| mean(1) - mean(0));
    assert!(difference.upper.unwrap() - difference.lower.unwrap() < 1e-12);
    let ratio = s.contrast(|mean| (mean(1) - mean(0)) / (mean(2) - mean(0)));
    close(ratio.lower.unwrap(), 0.5, 1e-12);
    let exp = s.contrast(|mean| mean(0).exp());
    close(exp.upper.unwrap(), s.interval(0).unwrap().1.exp(), 1e-2);
    for undefined in [f64::NAN, f64::INFINITY] {
        assert_eq!(s.contrast(|mean| mean(0) * undefined).lower, None);
    }
    assert_eq!(
        s.contrast(|_| 3.0),
        Estimate { estimate: 3.0, lower: None, upper: None, n: 0, n_clusters: 0 }
    );
}

#[test]
fn many_documents_give_the_normal_interval() {
    let (docs, mut t) = (2000, tally(&[0], 1, 4000));
    let values: Vec<f64> = (0..docs).map(|doc| 3.0 + noise(doc)).collect();
    for (doc, &value) in (0..docs).zip(&values) {
        t.add(doc, &[4.0 * value], &[4.0]).unwrap();
    }
    let mean = values.iter().sum::<f64>() / docs as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / docs as f64;
    let width = 2.0 * 1.959_964 * (variance / docs as f64).sqrt();
    let (got, middle) = shape(t.scores().interval(0).unwrap());
    close(got / width, 1.0, 0.04);
    close(middle, mean, 0.03 * width);
}

#[test]
fn the_same_as_numpy() {
    let golden: Value = serde_json::from_str(include_str!("../../fixtures/score/expected.json")).unwrap();
    let floats = |v: &Value| -> Vec<f64> { serde_json::from_value(v.clone()).unwrap() };
    let replicates = golden["replicates"].as_u64().unwrap() as usize;
    let resamples = |n| Resamples::new(golden["seed"].as_u64().unwrap(), n);
    for (doc, weights) in (0..).zip(golden["weights"].as_array().unwrap()) {
        let expected: Vec<u8> = serde_json::from_value(weights.clone()).unwrap();
        assert_eq!(resamples(replicates).weights(doc)[..40], expected, "document {doc}");
    }
    let (sums, counts) = (golden["sums"].as_array().unwrap(), floats(&golden["counts"]));
    let read = |replicates: usize| {
        let mut t = Tally::new(vec![0, 0], 1, resamples(replicates)).unwrap();
        for (doc, (sums, &count)) in (0..).zip(sums.iter().zip(&counts)) {
            t.add(doc, &floats(sums), &[count]).unwrap();
        }
        let s = t.scores();
        [("a", s.estimate(0)), ("b", s.estimate(1)), ("difference", s.contrast(|mean| mean(0) - mean(1)))]
    };
    for (name, e) in read(replicates) {
        let expected = floats(&golden["poisson"][name]);
        close(e.lower.unwrap(), expected[0], 1e-12);
        close(e.upper.unwrap(), expected[1], 1e-12);
    }
    // The plain bootstrap draws other documents: its interval is met within the noise of the quantiles.
    for (name, e) in read(8000) {
        let expected = floats(&golden["multinomial"][name]);
        let (width, middle) = shape((expected[0], expected[1]));
        let got = shape((e.lower.unwrap(), e.upper.unwrap()));
        close(got.0 / width, 1.0, 0.06);
        close(got.1, middle, 0.04 * width);
    }
}

#[test]
fn cuts_and_merges_do_not_matter() {
    let add = |t: &mut Tally, parts: &[(u64, Vec<f64>, [f64; 2])]| {
        for (doc, sums, counts) in parts {
            t.add(*doc, sums, counts).unwrap();
        }
    };
    let new = || tally(&(0..40).map(|c| c % 2).collect::<Vec<_>>(), 2, 200);
    let parts = parts();
    let mut whole = new();
    add(&mut whole, &parts);
    let expected = all(whole.scores());

    let mut watched = new(); // the same bits when someone looks in between
    add(&mut watched, &parts[..37]);
    watched.scores();
    add(&mut watched, &parts[37..]);
    assert_eq!(all(watched.scores()), expected);

    let mut joined = new(); // whole documents
    for three in parts.chunks(3) {
        let sums = (0..40).map(|c| three.iter().map(|p| p.1[c]).sum()).collect::<Vec<f64>>();
        let counts = [0, 1].map(|g| three.iter().map(|p| p.2[g]).sum());
        joined.add(three[0].0, &sums, &counts).unwrap();
    }
    let mut merged = new(); // shards that cut documents, and the last first
    for shard in parts.chunks(31).rev() {
        let mut t = new();
        add(&mut t, shard);
        merged.merge(t).unwrap();
    }
    for mut other in [joined, merged] {
        all(other.scores()).iter().zip(&expected).for_each(|(&a, &b)| close(a, b, 1e-12));
    }
    assert_eq!(expected[3..5], [300.0, 50.0]);
}

#[test]
fn what_cannot_be_counted_is_named() {
    let mut t = tally(&[0, 0], 1, 10);
    let message = t.add(4, &[1.0, f64::NAN], &[1.0]).unwrap_err().to_string();
    assert_eq!(message, "sum of column 1 is NaN in document 4");
    assert!(matches!(t.add(4, &[1.0, 1.0], &[-1.0]), Err(ScoreError::BadCount { doc_id: 4, group: 0, .. })));
    assert!(matches!(t.add(4, &[1.0], &[1.0]), Err(ScoreError::Width { expected: 2, got: 1, .. })));
    assert_eq!(t.scores().estimate(0).n_clusters, 0); // nothing half added
    let no_group = Tally::new(vec![0, 2], 2, Resamples::new(0, 1)).unwrap_err();
    assert_eq!(no_group, ScoreError::NoSuchGroup { column: 1, group: 2, groups: 2 });
    for (other, what) in [(tally(&[0], 1, 10), "columns"), (tally(&[0, 0], 1, 11), "resamples")] {
        assert_eq!(t.merge(other).unwrap_err(), ScoreError::Mismatch { what });
    }
    assert_eq!(tally(&[0], 1, 0).scores().interval(0), None);
}
