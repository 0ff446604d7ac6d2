//! Every estimator, split and statistic on small matrices with everything that can be wrong with data: constant and
//! repeated columns and rows, more columns than rows, a class in one row or in none, values of 1e30 and of 1e-40.
//!
//! Nothing panics; what is returned is finite numbers or an error that says why; and of states that do not vary every
//! classifier says the commonest class.

use layerscope_probes::{
    Ccs, Centroid, ControlTask, Csr, Decay, Error, Fit, Intervals, Labelled, Labels, Lda, Linear, Logistic,
    MeanDifference, Message, Method, Moments, PORTIONS, PairDirection, Pairs, Permutations, Probe, Resamples,
    Residual, Ridge, Shares, Shrinkage, Split, Standardise, TokenColumns, TypeMajority, Weightings, Whitened,
    best, compact, folds, majority, max_p_values, online_code, p_value, score::Classified, score::Metric,
    score::R2, shared_texts, shuffled_codes, shuffled_labels,
};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use proptest::prelude::*;

/// Values of every kind that f32 has, and columns that hold one of them alone.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -3f32..3f32,
        2 => Just(0.0f32),
        1 => Just(1.0f32),
        1 => prop_oneof![Just(1e30f32), Just(-1e30), Just(f32::MAX), Just(f32::MIN)],
        1 => prop_oneof![Just(1e-40f32), Just(f32::MIN_POSITIVE), Just(-1e-45)],
        1 => Just(1e6f32 + 0.0625),
    ]
}

/// Rows `(n, d)`, some columns constant, some rows repeated.
fn rows(n: usize) -> impl Strategy<Value = Array2<f32>> {
    (0usize..7).prop_flat_map(move |d| {
        let values = proptest::collection::vec(value(), n * d);
        let constant = proptest::collection::vec(prop_oneof![3 => Just(false), 1 => Just(true)], d);
        let copied = proptest::collection::vec(0..n.max(1), n);
        let copy = proptest::bool::ANY;
        (values, constant, copied, copy, 0u8..5).prop_map(move |(values, constant, copied, copy, still)| {
            let x = Array2::from_shape_vec((n, d), values).unwrap();
            Array2::from_shape_fn((n, d), |(i, j)| {
                let i = if copy && i % 2 == 1 { copied[i] } else { i };
                x[[if constant[j] || still == 0 { 0 } else { i }, j]]
            })
        })
    })
}

/// Rows with a class and a group each; some of the classes may have no row.
fn set() -> impl Strategy<Value = (Array2<f32>, Vec<u32>, usize, Vec<u64>)> {
    (1usize..14, 1usize..5).prop_flat_map(|(n, k)| {
        let classes = proptest::collection::vec(0..k as u32, n);
        let groups = prop_oneof![
            Just((0..n as u64).collect::<Vec<_>>()),
            proptest::collection::vec(0u64..4, n),
            Just(vec![9; n])
        ];
        (rows(n), classes, Just(k), groups)
    })
}

fn finite<'a>(values: impl IntoIterator<Item = &'a f64>) -> bool {
    values.into_iter().all(|v| v.is_finite())
}

/// What every classifier makes of these rows, by name.
fn classifiers<'a>(
    x: ArrayView2<'a, f32>,
    y: &'a [u32],
    n_classes: usize,
) -> Vec<(String, Result<Linear, Error>)> {
    let data = Labelled { x, y: Labels::Classes { y, n_classes } };
    let moments = Moments::of(&data);
    let mut all = Vec::new();
    for standardise in [false, true] {
        let mut put = |name: &str, fitted| all.push((format!("{name}, standardise {standardise}"), fitted));
        for balanced in [false, true] {
            let logistic = Logistic { balanced, standardise, tolerance: 1e-6, ..Logistic::default() };
            let path = Whitened::new(x, standardise).and_then(|w| logistic.path(&w, &data.y, &[0.1, 100.0]));
            put(&format!("logistic, balanced {balanced}"), path.map(|p| p[0].linear.clone()));
        }
        put("ridge", Ridge { l2: 1.0, standardise }.fit(&data));
        put("least squares", Ridge { l2: 0.0, standardise }.fit(&data));
        put("lda", Lda { standardise, shrinkage: Shrinkage::Oas }.fit(&data));
        put("lda, fixed", Lda { standardise, shrinkage: Shrinkage::Fixed(0.0) }.fit(&data));
        put("centroid", Centroid { standardise }.fit(&data));
        put("mean difference", MeanDifference { standardise }.fit(&data));
        if let Ok(moments) = &moments {
            put(
                "ridge of sums",
                Ridge::path_of_moments(moments, standardise, &[1.0]).map(|mut p| p.remove(0)),
            );
        }
    }
    all
}

/// 400 cases of each property, or as many more as `PROPTEST_CASES` asks for.
fn cases() -> u32 {
    ProptestConfig::default().cases.max(400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn classifiers_give_finite_numbers_or_say_why((x, y, k, _) in set()) {
        let constant = x.nrows() > 0 && Standardise::of_rows(x.view()).is_ok_and(|by| by.is_constant());
        let counts: Vec<usize> = (0..k).map(|c| y.iter().filter(|y| **y == c as u32).count()).collect();
        let most = counts.iter().max().copied().unwrap_or(0);
        for (name, fitted) in classifiers(x.view(), &y, k) {
            let soluble = counts.iter().all(|n| *n > 0) && k > 1 && (k == 2 || !name.starts_with("mean"));
            let probe = match fitted {
                Ok(probe) => probe,
                Err(error) => {
                    // Classes without a row are refused; so is a covariance that nothing shrinks.
                    let unshrunk = name.starts_with("lda, fixed") && matches!(error, Error::Singular { .. });
                    prop_assert!(!soluble || unshrunk && !constant, "{}: {}", name, error);
                    continue;
                }
            };
            prop_assert!(finite(&probe.weights) && finite(&probe.bias), "{}: {:?}", name, probe);
            let scores = probe.scores(x.view()).unwrap();
            prop_assert!(finite(&scores), "{}: {:?}", name, scores);
            if constant && soluble && !name.contains("balanced true") {
                let found = Classified::new(scores.view(), &y).unwrap();
                let right = found.correct().iter().sum::<f64>();
                prop_assert_eq!(right, most as f64, "{}: {:?} of {:?}", name, found.predicted(), y);
            }
        }
    }

    #[test]
    fn numbers_are_regressed_or_refused(
        (x, _, _, groups) in set(),
        y in proptest::collection::vec(prop_oneof![3 => -5f64..5.0, 1 => Just(0.0), 1 => Just(1e6), 1 => Just(1e-100)], 14),
        still in proptest::bool::ANY,
    ) {
        let n = x.nrows();
        let y = Array2::from_shape_fn((n, 1), |(i, _)| if still { y[0] } else { y[i] });
        let data = Labelled { x: x.view(), y: Labels::Numbers(y.view()) };
        for standardise in [false, true] {
            let probe = Ridge { l2: 1.0, standardise }.fit(&data).unwrap();
            let predicted = probe.scores(x.view()).unwrap();
            prop_assert!(finite(&predicted), "{:?}", predicted);
            let r2 = R2::new(predicted.view(), y.view()).unwrap().point();
            prop_assert!(r2.is_finite() || y.iter().all(|v| (v - y[[0, 0]]).abs() <= 1e-6 * v.abs()), "{}", r2);
        }
        let moments = Moments::of(&data).unwrap();
        match Residual::of(&moments, &moments) {
            Ok(found) => prop_assert!(finite(&found.in_sample) && finite(&found.held_out), "{:?}", found),
            Err(error) => prop_assert!(matches!(error, Error::Flat { .. } | Error::Few { .. }), "{}", error),
        }
        prop_assert!(Permutations::new(&data.y, &groups, 0).unwrap().rows(3).iter().all(|row| *row < n));
    }

    #[test]
    fn directions_of_pairs_are_finite((x, y, _, _) in set(), seed in 0u64..3) {
        let (a, b) = x.view().split_at(Axis(1), x.ncols() / 2);
        let b = b.slice(ndarray::s![.., ..a.ncols()]);
        let pairs = Pairs { positive: a, negative: b };
        let truth: Vec<bool> = y.iter().map(|y| y % 2 == 1).collect();
        for how in [PairDirection::TopComponent, PairDirection::Consistency(Ccs { restarts: 2, steps: 5, seed })] {
            let Ok(mut probe) = how.fit(pairs) else {
                prop_assert!(x.nrows() < 2);
                continue;
            };
            let accuracy = probe.orient(pairs, &truth).unwrap();
            prop_assert!((0.0..=1.0).contains(&accuracy) && finite(&probe.scores(pairs).unwrap()), "{:?}", probe);
            prop_assert!(probe.loss.is_finite());
        }
    }

    #[test]
    fn the_online_code_is_finite_and_of_constant_rows_knows_the_shares((x, y, k, groups) in set(), standardise: bool) {
        let mut fit = |y: &[u32], before: &[usize], block: &[usize]| -> Result<Vec<Array2<f64>>, Error> {
            let own: Vec<u32> = before.iter().map(|row| y[*row]).collect();
            let white = Whitened::new(x.select(Axis(0), before).view(), standardise)?;
            let labels = Labels::Classes { y: &own, n_classes: k };
            let logistic = Logistic { tolerance: 1e-6, ..Logistic::default() };
            let path = logistic.path(&white, &labels, &[100.0, 1.0])?;
            path.iter().map(|probe| probe.linear.scores(x.select(Axis(0), block).view())).collect()
        };
        let message = Message { y: &y, n_classes: k, groups: &groups, seed: 0 };
        let all = online_code(&message, 1, &mut fit).and_then(|code| Ok((code, shuffled_codes(&message, 2, &mut fit)?)));
        match all {
            Ok((code, shuffled)) => {
                prop_assert!(shuffled.len() <= 2 && PORTIONS.len() == 11);
                for code in std::iter::once(&code).chain(&shuffled) {
                    prop_assert!(finite(&code.bits) && code.compression().is_finite(), "{:?}", code);
                }
            }
            Err(error) => {
                let lacks = matches!(error, Error::LacksClass { .. } | Error::TooFewClasses { .. });
                prop_assert!(lacks, "{}", error);
            }
        }
    }

    #[test]
    fn splits_have_every_class_or_name_the_one_they_lack((_, y, k, groups) in set(), folds_of in 0usize..6, seed: u64) {
        let labels = Labels::Classes { y: &y, n_classes: k };
        let whole = |part: &layerscope_probes::Part| part.classes.iter().all(|n| *n > 0);
        let known = |error: &Error| matches!(
            error,
            Error::TooFewGroups { .. } | Error::ClassInTooFewGroups { .. } | Error::PartLacksClass { .. } | Error::TooFewFolds { .. }
        );
        match Split::new(&groups, &labels, Shares::default(), seed) {
            Ok(split) => prop_assert!(whole(&split.train) && whole(&split.validation) && whole(&split.test)),
            Err(error) => prop_assert!(known(&error), "{}", error),
        }
        match folds(&groups, &labels, folds_of, seed) {
            Ok(all) => prop_assert!(all.iter().all(|fold| whole(&fold.test) && whole(&fold.train))),
            Err(error) => prop_assert!(known(&error), "{}", error),
        }
    }

    #[test]
    fn statistics_are_finite_or_undefined_as_a_whole(
        (_, y, k, groups) in set(),
        scores in proptest::collection::vec(prop_oneof![-4f64..4.0, Just(0.0), Just(1e80), Just(-1e80)], 14 * 5),
        replicates in 0usize..40,
        method in prop_oneof![Just(Method::Jackknife), Just(Method::Bootstrap)],
        outcomes in proptest::collection::vec(prop_oneof![Just(0.0), Just(1.0), -1e12..1e12], 14),
    ) {
        let n = y.len();
        let scores = Array2::from_shape_fn((n, k), |(i, j)| scores[i * 5 + j]);
        let weightings = Weightings::new(&groups, Intervals::new(method, Resamples::new(1, replicates))).unwrap();
        if let Ok(classified) = Classified::new(scores.view(), &y) {
            for (name, draws) in classified.metrics(&weightings).unwrap() {
                let one_class = y.iter().all(|c| *c == y[0]);
                // Of one row nobody knows how often classes occur, without bias.
                let few = n == 1 && ["brier_uncertainty", "brier_resolution"].contains(&name);
                let undefined = name == "auroc" && one_class || few;
                prop_assert!(draws.value.is_finite() || undefined, "{} {:?}", name, draws.value);
                let bounds = draws.estimate();
                prop_assert!(bounds.interval.is_ok() || bounds.interval.is_err_and(|why| !why.to_string().is_empty()));
            }
            prop_assert!(classified.macro_f1().value(&vec![0.0; n]).is_nan(), "no row has any weight");
        } else {
            prop_assert!(k < 2);
        }
        let draws = weightings.mean(&outcomes[..n]).unwrap();
        let still = weightings.mean(&vec![0.5; n]).unwrap();
        let found = best(&[draws.clone(), still.clone(), draws]).unwrap();
        prop_assert!(found.corrected.estimate.is_finite() && found.tied[found.place]);
        let undefined = still.map(|_| f64::NAN);
        let refused = matches!(best(&[undefined]), Err(Error::NoValue { place: 0 }));
        prop_assert!(refused);
    }

    #[test]
    fn controls_and_baselines_know_only_classes_that_occur((x, y, k, groups) in set(), words in proptest::collection::vec("[a-b ]{0,4}", 14)) {
        let shuffled = shuffled_labels(&y, &groups, 4, 0).unwrap();
        prop_assert_eq!(shuffled.len(), y.len());
        let (small, classes) = compact(&y);
        prop_assert!(small.iter().zip(&y).all(|(s, y)| classes[*s as usize] == *y));
        let types: Vec<u64> = groups.iter().map(|g| g / 2).collect();
        let control = ControlTask::new(&y, k, 1, 0).unwrap().labels(&types);
        prop_assert!(control.iter().all(|c| y.contains(c)));
        let known = TypeMajority::fit(&types, &y, k).unwrap().predict(&[0, 1, 77]);
        prop_assert!(known.iter().all(|c| y.contains(c)) && y.contains(&majority(&y, k).unwrap()));
        let tokens: Vec<Vec<u32>> = words[..y.len()].iter().map(|w| w.bytes().map(u32::from).collect()).collect();
        let counts: Csr = TokenColumns::fit(&tokens).counts(&tokens).unwrap();
        let labels = Labels::Classes { y: &y, n_classes: k };
        let logistic = Logistic { tolerance: 1e-6, ..Logistic::default() };
        if let Ok(path) = logistic.path_plain(&counts, &labels, &[1.0]) {
            prop_assert!(finite(&path[0].linear.scores_of(&counts).unwrap()));
        }
        let parts: Vec<usize> = (0..y.len()).collect();
        let _ = shared_texts(&words[..y.len()], &[&parts[..y.len() / 2], &parts[y.len() / 2..], &[]]);
        prop_assert!(x.nrows() == y.len());
    }

    #[test]
    fn decays_and_p_values_are_finite_or_say_why(
        pr in proptest::collection::vec(prop_oneof![4 => 1e-6f64..2.0, 1 => Just(0.0), 1 => Just(1.0)], 0..6),
        null in proptest::collection::vec(-1f64..1.0, 0..12),
    ) {
        let layers: Vec<f64> = (1..=pr.len()).map(|l| l as f64).collect();
        match Decay::fit(&layers, &pr) {
            Ok(found) => {
                prop_assert!(found.slope.is_finite() && found.rho.is_finite() && found.ratio.is_finite());
                prop_assert!(found.pearson.is_finite() || pr.iter().all(|v| *v == pr[0]), "{:?}", found);
            }
            Err(error) => prop_assert!(pr.len() < 3 || pr.contains(&0.0), "{}", error),
        }
        let p = p_value(0.1, &null).unwrap();
        prop_assert!(p > 0.0 && p <= 1.0);
        let half = null.len() / 2;
        let table = Array2::from_shape_fn((half, 2), |(i, j)| null[2 * i + j]);
        prop_assert!(max_p_values(&[0.1, 0.2], table.view()).unwrap().iter().all(|p| *p > 0.0 && *p <= 1.0));
    }
}

/// Three rows, two of one class, at 1e-40, 1 and 1e37: what scale the states have changes no probability.
#[test]
fn the_scale_of_the_states_changes_no_probability() {
    let unit = ndarray::array![[1f32, 0.0], [2.0, 1.0], [4.0, -1.0], [3.0, 3.0]];
    let y = [0, 0, 1, 1];
    let fitted = |scale: f32| {
        let x = unit.mapv(|v| v * scale);
        let white = Whitened::new(x.view(), false).unwrap();
        // The penalty goes with the square of the scale: that is the same fit.
        let l2 = f64::from(scale) * f64::from(scale);
        let labels = Labels::Classes { y: &y, n_classes: 2 };
        let probe = Logistic::default().path(&white, &labels, &[l2]).unwrap().remove(0);
        probe.scores(x.view()).unwrap()
    };
    let one: Array1<f64> = fitted(1.0).into_iter().collect();
    // 2^-100 and 2^120 change no digit of the states; the fit stops within 1e-12 of its objective.
    for scale in [2f32.powi(-100), 2f32.powi(120)] {
        let other: Array1<f64> = fitted(scale).into_iter().collect();
        assert!((&other - &one).mapv(f64::abs).sum() < 1e-5, "{scale:e}: {other} and {one}");
    }
}

/// Within classes, z-scores of one variance in every dimension: OAS divides by what rounding leaves of 0.
#[test]
fn a_covariance_that_is_a_sphere_is_shrunk_to_itself() {
    let (tiny, low) = (1e-40f32, f32::MIN);
    let found = ndarray::array![
        [0.0, tiny],
        [0.0, tiny],
        [0.0, tiny],
        [0.0, tiny],
        [0.0, 0.0],
        [0.0, 0.0],
        [0.0, 0.0],
        [tiny, low],
        [tiny, low],
        [1e30, -1e30]
    ];
    let y = [0, 2, 0, 1, 2, 1, 1, 0, 0, 2];
    for scale in [1.0, 0.1, 1e-30] {
        let x = found.mapv(|v| v * scale);
        let data = Labelled { x: x.view(), y: Labels::Classes { y: &y, n_classes: 3 } };
        for standardise in [false, true] {
            let probe = Lda { standardise, shrinkage: Shrinkage::Oas }.fit(&data).unwrap();
            assert!(finite(&probe.scores(x.view()).unwrap()), "{scale} {standardise}: {probe:?}");
        }
    }
    let x = ndarray::array![[tiny, 0.0], [0.0, 1e6 + 0.0625], [1e30, 0.0], [0.0, 0.0]];
    let data = Labelled { x: x.view(), y: Labels::Classes { y: &[0, 1, 0, 1], n_classes: 2 } };
    let probe = Lda::default().fit(&data).unwrap();
    assert!(finite(&probe.scores(x.view()).unwrap()), "{probe:?}");
    // Two columns that vary alike within classes: ±1 about the means, uncorrelated, times numbers that f64 rounds.
    for scale in [0.1f32, 0.3, 1.1, 7.7, 1e-38, 1e30] {
        let corners = [[1f32, 1.], [1., -1.], [-1., 1.], [-1., -1.]];
        let x = Array2::from_shape_fn((8, 2), |(i, j)| scale * (corners[i % 4][j] + 3.0 * (i / 4) as f32));
        let data =
            Labelled { x: x.view(), y: Labels::Classes { y: &[0, 0, 0, 0, 1, 1, 1, 1], n_classes: 2 } };
        let probe = Lda::default().fit(&data).unwrap();
        let right =
            Classified::new(probe.scores(x.view()).unwrap().view(), &[0, 0, 0, 0, 1, 1, 1, 1]).unwrap();
        assert_eq!(right.correct().iter().sum::<f64>(), 8.0, "{scale}");
    }
}
