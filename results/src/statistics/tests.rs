//! Tallies against hand arithmetic, the normal interval, and numpy (fixtures/score).

use serde_json::Value;

use layerscope_probes::interval::Spread;

use super::{Estimate, Interval, Intervals, Method, NoInterval, Resamples, ScoreError, Scores, Tally};

fn tally(columns: &[usize], groups: usize, replicates: usize) -> Tally {
    Tally::new(columns.to_vec(), groups, Intervals::bootstrap(7, replicates)).unwrap()
}

fn jackknifed(columns: &[usize], groups: usize) -> Tally {
    Tally::new(columns.to_vec(), groups, Intervals::default()).unwrap()
}

fn bounds(of: Estimate) -> (f64, f64) {
    let Interval { lower, upper } = of.interval.unwrap();
    (lower, upper)
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
        [e.estimate, bounds(e).0, bounds(e).1, e.n as f64, e.n_clusters as f64]
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
    let (interval, n_eff) = (Ok(Interval { lower: 0.5, upper: 5.0 }), 36.0 / 20.0);
    assert_eq!(s.estimate(0), Estimate { estimate: 2.0, interval, n: 6, n_clusters: 2, n_eff });
    let one = Err(NoInterval::FewClusters { n_eff: 1.0 });
    assert_eq!(s.estimate(1), Estimate { estimate: 6.0, interval: one, n: 2, n_clusters: 1, n_eff: 1.0 });
    let both = s.contrast(|mean| mean(1) - 2.0 * mean(0));
    assert_eq!(both, Estimate { estimate: 2.0, interval: one, n: 2, n_clusters: 1, n_eff: 1.0 });
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
    assert_eq!((zero.estimate, bounds(zero)), (0.0, (0.0, 0.0)));
    assert!(shape(bounds(s.estimate(1))).0 > 0.5);
    let difference = s.contrast(|mean| mean(1) - mean(0));
    assert!(shape(bounds(difference)).0 < 1e-12);
    let ratio = s.contrast(|mean| (mean(1) - mean(0)) / (mean(2) - mean(0)));
    close(bounds(ratio).0, 0.5, 1e-12);
    let exp = s.contrast(|mean| mean(0).exp());
    close(bounds(exp).1, bounds(s.estimate(0)).1.exp(), 1e-2);
    for undefined in [f64::NAN, f64::INFINITY] {
        assert_eq!(s.contrast(|mean| mean(0) * undefined).interval, Err(NoInterval::Undefined));
    }
    assert_eq!(s.contrast(|_| 3.0), Estimate::alone(3.0, "a function of no column", 0));
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
    let (got, middle) = shape(bounds(t.scores().estimate(0)));
    close(got / width, 1.0, 0.04);
    close(middle, mean, 0.03 * width);
}

#[test]
fn the_same_as_numpy() {
    let golden: Value = serde_json::from_str(include_str!("../../../fixtures/score/expected.json")).unwrap();
    let floats = |v: &Value| -> Vec<f64> { serde_json::from_value(v.clone()).unwrap() };
    let replicates = golden["replicates"].as_u64().unwrap() as usize;
    let resamples = |n| Resamples::new(golden["seed"].as_u64().unwrap(), n);
    for (doc, weights) in (0..).zip(golden["weights"].as_array().unwrap()) {
        let expected: Vec<u8> = serde_json::from_value(weights.clone()).unwrap();
        assert_eq!(resamples(replicates).weights(doc)[..40], expected, "document {doc}");
    }
    let (sums, counts) = (golden["sums"].as_array().unwrap(), floats(&golden["counts"]));
    let read = |method, replicates: usize| {
        let intervals = Intervals::new(method, resamples(replicates));
        let mut t = Tally::new(vec![0, 0], 1, intervals).unwrap();
        for (doc, (sums, &count)) in (0..).zip(sums.iter().zip(&counts)) {
            t.add(doc, &floats(sums), &[count]).unwrap();
        }
        let s = t.scores();
        [("a", s.estimate(0)), ("b", s.estimate(1)), ("difference", s.contrast(|mean| mean(0) - mean(1)))]
    };
    for (method, of) in [(Method::Bootstrap, "poisson"), (Method::Jackknife, "jackknife")] {
        for (name, e) in read(method, replicates) {
            let expected = floats(&golden[of][name]);
            // Student's quantile has ten digits, sums of 300 documents twelve.
            close(bounds(e).0, expected[0], 1e-10);
            close(bounds(e).1, expected[1], 1e-10);
            close(e.n_eff, golden["n_eff"].as_f64().unwrap(), 1e-9);
        }
    }
    // The plain bootstrap draws other documents: its interval is met within the noise of the quantiles.
    for (name, e) in read(Method::Bootstrap, 8000) {
        let expected = floats(&golden["multinomial"][name]);
        let (width, middle) = shape((expected[0], expected[1]));
        let got = shape(bounds(e));
        close(got.0 / width, 1.0, 0.06);
        close(got.1, middle, 0.04 * width);
    }
}

#[test]
fn cuts_and_merges_do_not_matter() {
    let columns: Vec<usize> = (0..40).map(|c| c % 2).collect();
    unaltered_by_cuts(&|| tally(&columns, 2, 200));
    unaltered_by_cuts(&|| jackknifed(&columns, 2));
}

fn unaltered_by_cuts(new: &dyn Fn() -> Tally) {
    let add = |t: &mut Tally, parts: &[(u64, Vec<f64>, [f64; 2])]| {
        for (doc, sums, counts) in parts {
            t.add(*doc, sums, counts).unwrap();
        }
    };
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
    let no_group = Tally::new(vec![0, 2], 2, Intervals::default()).unwrap_err();
    assert_eq!(no_group, ScoreError::NoSuchGroup { column: 1, group: 2, groups: 2 });
    for (other, what) in [
        (tally(&[0], 1, 10), "columns"),
        (tally(&[0, 0], 1, 11), "intervals"),
        (jackknifed(&[0, 0], 1), "intervals"),
    ] {
        assert_eq!(t.merge(other).unwrap_err(), ScoreError::Mismatch { what });
    }
    assert!(tally(&[0], 1, 0).scores().estimate(0).interval.is_err());
}

/// Six documents of two tokens, sums 1, 2, 3, 4, 5, 9: mean 2, t(5) = 2.570582; as means of 0.5 … 4.5 their variance is
/// (1.5² + 1² + .5² + 0 + .5² + 2.5²)/5/6 = 10/30.
#[test]
fn a_mean_without_each_document_by_hand() {
    let mut t = jackknifed(&[0, 1, 2], 3);
    for (doc, sum) in (0..).zip([1.0, 2.0, 3.0, 4.0, 5.0, 9.0]) {
        // Of the second group only five documents have a count, of the third only one.
        let second = f64::from(u8::from(doc > 0));
        t.add(doc, &[sum, sum * second, 1.0 - second], &[2.0, second, 1.0 - second]).unwrap();
    }
    let s = t.scores();
    let got = s.estimate(0);
    assert_eq!((got.estimate, got.n, got.n_clusters, got.n_eff), (2.0, 12, 6, 6.0));
    let half = 2.570_581_835_6 * (10.0_f64 / 30.0).sqrt();
    close(bounds(got).0, 2.0 - half, 1e-9);
    close(bounds(got).1, 2.0 + half, 1e-9);
    // 2, 3, 4, 5, 9: mean 4.6, variance 29.2/4/5, t(4) = 2.776445. The document without a count plays no part.
    let five = s.estimate(1);
    close(bounds(five).1, 4.6 + 2.776_445_105_2 * (29.2_f64 / 20.0).sqrt(), 1e-9);
    assert_eq!(s.estimate(2).interval, Err(NoInterval::FewClusters { n_eff: 1.0 }));
    assert_eq!(s.contrast(|mean| mean(0) - mean(0)).interval, Err(NoInterval::Constant));
    assert_eq!(s.contrast(|mean| mean(0) - mean(2)).interval, Err(NoInterval::FewClusters { n_eff: 1.0 }));
}

/// Of hits in every token the interval reaches down to what as many documents leave open, not to the hits.
#[test]
fn a_share_stays_within_0_and_1() {
    let mut t = jackknifed(&[0, 0], 1);
    for doc in 0..20 {
        t.add(doc, &[50.0, 1.0], &[50.0]).unwrap();
    }
    let (all, few) = (t.scores().share(0), t.scores().share(1));
    close(bounds(all).0, 0.820_319_319_642, 1e-9);
    assert_eq!(bounds(all).1, 1.0);
    assert!(bounds(few).0 > 0.0 && bounds(few).0 < 0.02 && bounds(few).1 > 0.02, "{few:?}");
    assert_eq!(t.scores().estimate(0).interval, Err(NoInterval::Constant));
}

/// Fieller's interval of `mean(0) / mean(1)` over five documents of equal size, the denominator known to a variance of
/// .04 from elsewhere. Without each document the means are (12 - x)/4 and (40 - y)/4; variances of the means are s²/5.
#[test]
fn a_ratio_over_two_samples_by_hand() {
    let (top, bottom) = ([1.0, 2.0, 3.0, 4.0, 2.0], [7.0, 8.0, 8.0, 10.0, 7.0]);
    let mut t = jackknifed(&[0, 0], 1);
    for (doc, (x, y)) in (0..).zip(top.iter().zip(&bottom)) {
        t.add(doc, &[*x, *y], &[1.0]).unwrap();
    }
    let (numerator, denominator) = (|m: &dyn Fn(usize) -> f64| m(0), |m: &dyn Fn(usize) -> f64| m(1));
    let other = Spread { variance: 0.04, n_eff: 9.0 };
    let got = t.scores().ratio_over_two(numerator, denominator, Ok(other), 9);
    close(got.estimate, 0.3, 1e-12);
    assert_eq!((got.n_clusters, got.n_eff, got.n), (14, 5.0, 5));
    // Squares of deviations: 5.2 and 6; products: 5. Each over 4 · 5.
    let (v, w, c, t2) = (5.2 / 20.0, 6.0 / 20.0 + 0.04, 5.0 / 20.0, 2.776_445_105_2_f64.powi(2));
    for end in [bounds(got).0, bounds(got).1] {
        close((2.4 - 8.0 * end).powi(2), t2 * (v - 2.0 * end * c + end * end * w), 1e-8);
    }
    assert!(bounds(got).0 < 0.3 && bounds(got).1 > 0.3);
    let few = NoInterval::FewClusters { n_eff: 3.0 };
    let withheld = t.scores().ratio_over_two(numerator, denominator, Err(few), 3);
    assert_eq!((withheld.interval, withheld.n_eff), (Err(few), 3.0));
}
