use super::*;
use crate::results::statistics::Intervals;

fn broken(rows: &[Coverage]) -> Vec<Promise> {
    rows.iter().filter_map(Coverage::promise).filter(|promise| !promise.kept()).collect()
}

#[test]
fn intervals_of_runs_keep_their_promises() {
    for of in [Sizes::Equal, Sizes::Unequal] {
        let rows = documents(of, &[10, 50, 600], (200, 1), Intervals::default()).unwrap();
        assert_eq!(broken(&rows), [], "{rows:?}");
        assert_eq!(rows.len(), 3 * Number::OF_DOCUMENTS.len());
        // 600 documents are put together in blocks, and nothing is lost by it.
        assert!(rows.iter().filter(|r| r.n_clusters == 600).all(|r| r.without == 0.0 && r.n_eff > 40.0));
    }
    let rows = windows(0.35, &[50, 200], (200, 1), Intervals::default()).unwrap();
    assert_eq!(broken(&rows), [], "{rows:?}");
}

/// Numbers whose sums are matrices: the law's, similarities of layers, and the sharing score over two halves.
#[test]
fn intervals_of_states_keep_their_promises() {
    for of in [Sizes::Equal, Sizes::Unequal] {
        let laws = laws(of, &[20], (100, 1)).unwrap();
        let geometries = geometries(of, &[20], (100, 1), Intervals::default()).unwrap();
        let sharings = sharings(of, &[20, 200], (200, 1), Intervals::default()).unwrap();
        assert_eq!((laws.len(), geometries.len(), sharings.len()), (9, 6, 2));
        for rows in [laws, geometries, sharings] {
            assert_eq!(broken(&rows), [], "{rows:?}");
            // Held out are too few of 20 documents for an interval, and nothing else is.
            let none = |r: &&Coverage| r.without > 0.9;
            assert!(rows.iter().filter(none).all(|r| r.number.ends_with("_held_out")), "{rows:?}");
        }
    }
    let resampled = geometries(Sizes::Equal, &[20], (8, 1), Intervals::bootstrap(0, 20)).unwrap();
    assert!(resampled.iter().all(|r| r.without == 1.0));
}

/// The simulation would notice: percentiles of a bootstrap of three documents hold the truth in three of four cases.
#[test]
fn percentiles_of_few_documents_are_found_out() {
    let rows = documents(Sizes::Equal, &[3], (200, 1), Intervals::bootstrap(0, 200)).unwrap();
    let found = broken(&rows);
    assert!(
        found.iter().any(|p| p.of.starts_with("mean loss, 3 equal documents") && p.found < 0.85),
        "{found:?}"
    );
    // And windows taken for documents: the same intervals without allowing for neighbours.
    let alike = windows(0.6, &[50], (200, 1), Intervals::default()).unwrap();
    assert!(alike[0].coverage > 0.88, "{alike:?}");
    let deaf = windows(0.6, &[50], (200, 1), Intervals::bootstrap(0, 200)).unwrap();
    assert!(deaf[0].coverage < 0.8, "{deaf:?}");
}

#[test]
fn a_promise_allows_for_chance_and_no_more() {
    // `scipy.stats.binom.cdf([83, 84], 100, .93)`: .0006 and .0016; all of a hundred have a chance of .13 at .98.
    let promise = |found| Promise { of: String::new(), found, bounds: (0.93, 0.98), samples: 100 };
    assert!([0.84, 0.93, 0.98, 1.0].into_iter().all(|found| promise(found).kept()));
    assert!(!promise(0.83).kept());
    // `scipy.stats.binom.sf([3, 4], 10, .06)`: four or more .0020, five or more .0002.
    let few = |found| Promise { of: String::new(), found, bounds: (0.03, 0.06), samples: 10 };
    assert!(few(0.0).kept() && few(0.4).kept() && !few(0.5).kept());
    let exact = |found| Promise { of: String::new(), found, bounds: (1.0, 1.0), samples: 50 };
    assert!(exact(1.0).kept() && !exact(0.98).kept());
}

#[test]
fn planted_leaks_are_caught_and_nothing_else() {
    let rows = planted(3);
    let counts: Vec<_> = rows.iter().map(|p| (p.planted, p.caught, p.false_alarms)).collect();
    assert_eq!(counts, [(100, 100, 0), (50, 50, 0), (100, 100, 0), (100, 100, 0), (100, 100, 0), (0, 0, 0)]);
    assert!(rows.iter().flat_map(Planted::promises).all(|promise| promise.kept()));
}

/// Thirteen equal layers: the highest is too high, the one that other rows chose is not.
#[test]
fn the_layer_chosen_before_is_the_one_to_quote() {
    let rows = selection(&[50, 100], 200, 2).unwrap();
    for row in &rows {
        // The standard error of an accuracy of 50 items is .061, of their mean over 200 samples .0043.
        assert!(row.highest_excess > 0.04 && row.nested_excess.abs() < 0.015, "{row:?}");
        assert!(row.promise().kept(), "{row:?}");
    }
}

/// A test that is deaf finds nothing, one that is blind finds everything; these are neither.
#[test]
fn permutation_tests_find_what_is_there() {
    let done = std::sync::atomic::AtomicUsize::new(0);
    let one_more = || {
        done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    };
    let rows = tested(40, 39, 5, &one_more).unwrap();
    // Five classifiers in four groupings, a probe of numbers and two of negations in three.
    assert_eq!((rows.len(), done.into_inner()), (20 + 3 + 6, 40 * KINDS_OF_SETS));
    assert!(rows.iter().all(|row| row.promise().kept()), "{rows:?}");
    let single = |row: &&Tested| row.grouping == Grouping::Pairs || row.kind == Kind::Numbers;
    assert!(rows.iter().filter(single).all(|row| row.power > 0.4), "{rows:?}");
}
