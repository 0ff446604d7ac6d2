use std::collections::HashSet;

use super::{
    document::{runs, whole},
    overlap::Comparison,
    *,
};
use crate::sources::text::{Segment, Window};

/// Numbers below `below`, the same for the same seed: `SplitMix64`.
fn numbers(seed: u64, below: u32) -> impl Iterator<Item = u32> {
    (1..).map(move |i: u64| {
        let mut x = (seed << 32 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % u64::from(below)) as u32
    })
}

fn document(seed: u64, len: usize) -> Vec<u32> {
    numbers(seed, 1000).take(len).collect()
}

fn fitted(documents: &[Vec<u32>]) -> FittedOn {
    let mut fitted = FittedOn::new(Basis::Tokens, None);
    for document in documents {
        fitted.add(document);
    }
    fitted
}

fn overlap(fitted: &FittedOn, documents: &[Vec<u32>]) -> Overlap {
    let mut comparison = Comparison::new(fitted);
    for document in documents {
        comparison.add(document, document.len() as u64);
    }
    comparison.end()
}

/// Equal documents, near ones, rows seen and whether it leaks.
fn counts(o: Overlap) -> (u64, u64, u64, bool) {
    (o.identical, o.near, o.seen_rows, o.leaks)
}

#[test]
fn equal_documents_parts_and_what_was_never_seen() {
    let documents: Vec<_> = (0..40).map(|i| document(i, 300)).collect();
    let sketch = fitted(&documents);
    assert_eq!(counts(overlap(&sketch, &documents)), (40, 0, 12_000, true));
    // One more, and one left out.
    let mut more = documents[1..].to_vec();
    more.push(document(99, 300));
    assert_eq!(counts(overlap(&sketch, &more)), (39, 0, 11_700, true));
    // Pieces with other boundaries.
    let pieces: Vec<_> = documents.iter().map(|d| d[37..199].to_vec()).collect();
    assert_eq!(counts(overlap(&sketch, &pieces)), (0, 40, 40 * 162, true));
    let others: Vec<_> = (100..140).map(|i| document(i, 300)).collect();
    assert_eq!(counts(overlap(&sketch, &others)), (0, 0, 0, false));
    assert_eq!(overlap(&sketch, &[vec![], document(0, 300)]).documents, 1);
}

#[test]
fn a_passage_in_a_long_document_is_counted_in_its_tokens() {
    let sketch = fitted(&[document(0, 20_000)]);
    let book = [document(1, 9000), document(0, 20_000)[5000..6000].to_vec(), document(2, 10_000)].concat();
    let found = overlap(&sketch, &[book]);
    assert_eq!((found.identical, found.near, found.leaks), (0, 0, true));
    // A thousand tokens, but for the passages of 64 runs at the two ends.
    assert!(found.seen_rows.abs_diff(1000) <= 64, "{found:?}");
}

#[test]
fn shuffled_lines_and_six_copies_are_found() {
    let lines: Vec<_> = (0..600).map(|i| document(i, 15)).collect();
    let mut order: Vec<usize> = (0..600).collect();
    order.sort_by_key(|i| whole(&[*i as u32]));
    let shuffled: Vec<u32> = order.iter().flat_map(|i| lines[*i].clone()).collect();
    let found = overlap(&fitted(&[lines.concat()]), std::slice::from_ref(&shuffled));
    assert_eq!((found.identical, found.near), (0, 1));
    assert!(found.seen_rows as f64 > 0.95 * 9000.0, "{found:?}");
    let six = vec![lines.concat(); 6];
    assert_eq!(overlap(&fitted(&six), &[shuffled]), found, "copies make nothing common");
    assert_eq!(counts(overlap(&fitted(&six), &six)), (6, 0, 54_000, true));
}

#[test]
fn what_every_document_begins_with_tells_nothing() {
    let licence = document(7, 120);
    let with = |i: u64| [licence.clone(), document(i, 100)].concat();
    let sketch = fitted(&(100..400).map(with).collect::<Vec<_>>());
    let others: Vec<_> = (500..600).map(with).collect();
    let found = overlap(&sketch, &others);
    assert_eq!((found.identical, found.near), (0, 0));
    // A coincidence of a few tokens is none.
    let found = overlap(&fitted(&[vec![1, 2, 3], document(1, 5000)]), &[vec![1, 2, 3], document(2, 5000)]);
    assert_eq!(counts(found), (1, 0, 3, false));
}

/// The same whatever the order of the documents; pieces of the work add up.
#[test]
fn the_order_of_documents_does_not_matter() {
    let documents: Vec<_> = (0..300).map(|i| document(i % 250, 20 + i as usize)).collect();
    let bounded = |order: &[usize]| {
        let mut fitted = FittedOn::bounded(Basis::Tokens, None, 64, 1000);
        for i in order {
            fitted.add(&documents[*i]);
        }
        fitted
    };
    let forward: Vec<usize> = (0..300).collect();
    let mut orders = vec![forward.iter().rev().copied().collect::<Vec<_>>()];
    for seed in 0..4 {
        let mut order = forward.clone();
        order.sort_by_key(|i| whole(&[*i as u32, seed]));
        orders.push(order);
    }
    let first = bounded(&forward);
    assert!(first.wholes.level() > 0 && first.runs.level() > 3);
    let bytes = |fitted: &FittedOn| {
        let dir = tempfile::tempdir().unwrap();
        fitted.write(dir.path()).unwrap();
        assert_eq!(FittedOn::read(dir.path()).unwrap().unwrap().wholes.sorted(), fitted.wholes.sorted());
        std::fs::read(dir.path().join(FITTED_ON)).unwrap()
    };
    for order in orders {
        assert_eq!(bounded(&order), first);
        assert_eq!(bytes(&bounded(&order)), bytes(&first));
    }
}

/// Of a sketch that keeps n of N runs, the Jaccard similarity J of two sets is estimated with a standard error of
/// √(J (1 - J) / n): six of them hold all of ten pairs but for chance in 10⁸.
#[test]
fn similarity_is_estimated_without_bias() {
    let (mut errors, mut levels) = (Vec::new(), HashSet::new());
    for pair in 0..10 {
        let common = document(3 * pair, 20_000);
        let side = |k: u64| [common.clone(), document(3 * pair + k, 2000 * (1 + pair) as usize)].concat();
        let (a, b) = (side(1), side(2));
        let set = |d: &[u32]| runs(d, 6).collect::<HashSet<u64>>();
        let (all_a, all_b) = (set(&a), set(&b));
        let both = all_a.intersection(&all_b).count() as f64;
        let exact =
            both / (all_a.len() + all_b.len()) as f64 / (1.0 - both / (all_a.len() + all_b.len()) as f64);
        let sketch = |d: &[u32]| {
            let mut fitted = FittedOn::bounded(Basis::Tokens, None, 10, 4096);
            fitted.add(d);
            fitted.runs
        };
        let (a, b) = (sketch(&a), sketch(&b));
        let kept = |x: &sample::Sample, y: &sample::Sample| {
            let of = |(hash, _): (u64, u32)| y.keeps(hash).then_some(hash);
            x.sorted().into_iter().filter_map(of).collect::<HashSet<u64>>()
        };
        let (kept_a, kept_b) = (kept(&a, &b), kept(&b, &a));
        let n = kept_a.union(&kept_b).count() as f64;
        let estimate = kept_a.intersection(&kept_b).count() as f64 / n;
        let error = (estimate - exact) / (exact * (1.0 - exact) / n).sqrt();
        assert!(error.abs() < 6.0, "{estimate} for {exact}, {n} runs");
        errors.push(error);
        levels.insert(a.level());
    }
    let mean = errors.iter().sum::<f64>() / 10.0;
    assert!(mean.abs() < 6.0 / 10f64.sqrt(), "{errors:?}");
    assert!(levels.iter().all(|level| *level >= 2), "{levels:?}");
}

#[test]
fn a_sketch_of_a_few_runs_finds_the_same() {
    let documents: Vec<_> = (0..60).map(|i| document(i, 2000)).collect();
    let mut small = FittedOn::bounded(Basis::Tokens, None, 16, 4000);
    for document in &documents {
        small.add(document);
    }
    assert!(small.runs.level() >= 4 && small.wholes.level() >= 1);
    let mut measured: Vec<_> = documents[..20].iter().map(|d| d[3..1500].to_vec()).collect();
    measured.extend((100..120).map(|i| document(i, 1497)));
    let found = overlap(&small, &measured);
    assert_eq!((found.identical, found.near, found.leaks), (0, 20, true));
    assert!(found.seen_rows.abs_diff(20 * 1497) <= 20 * 1497 / 10, "{found:?}");
    assert!(found.looked_up < found.documents);
}

#[test]
fn labelled_texts_by_their_words() {
    let statement = |city: usize, land: usize| format!("The city of City{city} is in Land{land}.");
    let texts: Vec<String> = (0..200).map(|i| statement(i, i % 40)).collect();
    let sketch = FittedOn::of_texts(texts.iter().map(String::as_str));
    let found = |texts: &[String]| sketch.overlap_of_texts(texts.iter().map(|text| (text.as_str(), 2)));
    assert_eq!(counts(found(&texts)), (200, 0, 400, true));
    let cased: Vec<String> = texts.iter().map(|text| text.to_uppercase().replace(' ', "  ")).collect();
    assert_eq!(found(&cased).identical, 200);
    let other_land: Vec<String> = (0..200).map(|i| statement(i, 50 + i % 40)).collect();
    assert_eq!(counts(found(&other_land)), (0, 200, 400, true), "the same cities");
    let other_cities: Vec<String> = (300..500).map(|i| statement(i, i % 40)).collect();
    assert_eq!(counts(found(&other_cities)), (0, 0, 0, false), "the template tells nothing");
    let one = [other_cities, texts[..1].to_vec()].concat();
    assert_eq!(counts(found(&one)), (1, 0, 2, true));
}

#[test]
fn documents_of_windows() {
    let segment = |doc: u64, doc_pos, offset, len| Segment {
        doc_id: doc,
        doc_pos,
        doc_len: 9,
        offset,
        len,
        ..Segment::default()
    };
    let windows = [
        Window { ids: vec![0, 1, 2, 3], segments: vec![segment(0, 0, 0, 4)] },
        Window { ids: vec![4, 0, 5], segments: vec![segment(0, 4, 0, 1), segment(2, 0, 1, 2)] },
        Window { ids: vec![0], segments: vec![segment(3, 0, 0, 1)] },
        Window { ids: vec![0, 0, 1, 2, 3, 4], segments: vec![segment(4, 2, 0, 1), segment(5, 0, 1, 5)] },
    ];
    let mut found = Vec::new();
    each_document(&windows, &[0], |doc, ids| found.push((doc, ids.to_vec())));
    let expected = [(0, vec![1, 2, 3, 4]), (2, vec![5]), (4, vec![0]), (5, vec![1, 2, 3, 4])];
    assert_eq!(found, expected);
    let equal = EqualDocuments::of(&windows);
    assert_eq!(
        (equal.first(5), equal.is_copy(5), equal.repeats(0), equal.repeats(2)),
        (0, true, true, false)
    );
    assert_eq!(equal.said().unwrap(), "2 documents equal an earlier one"); // and the lone BOS that document 4 ends in
}

#[test]
fn damaged_files_are_refused_and_missing_ones_are_none() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(FittedOn::read(dir.path()).unwrap(), None);
    let sketch = fitted(&[document(0, 100), document(1, 40)]);
    sketch.write(dir.path()).unwrap();
    let read = FittedOn::read(dir.path()).unwrap().unwrap();
    assert_eq!(read, sketch);
    let path = dir.path().join(FITTED_ON);
    let whole = std::fs::read(&path).unwrap();
    for len in [0, 10, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..len]).unwrap();
        let says = FittedOn::read(dir.path()).unwrap_err().to_string();
        assert!(says.contains(FITTED_ON), "{says}");
    }
}

#[test]
fn sentences_say_what_was_found() {
    let of = |overlap| Leakage::found("a/lens", "this text", Basis::Tokens, overlap).to_string();
    let found = Overlap {
        documents: 700,
        looked_up: 700,
        identical: 699,
        near: 1,
        rows: 10_000,
        seen_rows: 9990,
        leaks: true,
    };
    let says = "a/lens has seen this text: 699 of 700 documents equal to one it was fitted on, 1 nearly so; \
                99.9 % of the tokens (9990 of 10000). Numbers of these are in-sample, and too good";
    assert_eq!(of(found), says);
    let none = Overlap { identical: 0, near: 0, seen_rows: 0, leaks: false, ..found };
    assert_eq!(of(none), "a/lens has not seen this text: none of 700 documents was fitted on");
    let unknown = Leakage::unknown("a/lens", "this text", Basis::Tokens, "it is old");
    assert_eq!(unknown.to_string(), "whether a/lens has seen this text cannot be said: it is old");
    let file = Leakage { file: Some("a.txt".into()), ..unknown };
    assert!(file.leaks() && file.to_string().starts_with("a/lens was fitted on a.txt: "));
}

/// `cargo test --release -p layerscope --lib a_million_documents -- --ignored --nocapture`
#[test]
#[ignore = "20 seconds or so"]
#[allow(clippy::print_stderr)] // shows the figures of docs/leakage.md
fn a_million_documents_have_a_bounded_note() {
    let one = |i: u64| document(i, 100);
    let start = std::time::Instant::now();
    let mut sketch = FittedOn::new(Basis::Tokens, None);
    for i in 0..1_100_000 {
        sketch.add(&one(i));
    }
    let dir = tempfile::tempdir().unwrap();
    sketch.write(dir.path()).unwrap();
    let bytes = std::fs::metadata(dir.path().join(FITTED_ON)).unwrap().len();
    eprintln!(
        "{bytes} bytes, {:?}, levels {} {}",
        start.elapsed(),
        sketch.wholes.level(),
        sketch.runs.level()
    );
    assert!(bytes < 15 << 20);
    let measured: Vec<_> = (1_000_000..1_200_000).map(one).collect();
    let found = overlap(&FittedOn::read(dir.path()).unwrap().unwrap(), &measured);
    // Half of the documents are equal, and one hash in two is looked up: four standard errors of a count.
    assert!(found.looked_up.abs_diff(100_000) < 900 && found.identical.abs_diff(50_000) < 640, "{found:?}");
    assert!(found.leaks);
}
