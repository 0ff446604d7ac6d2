//! The fuzzers' targets on their corpora, and on inputs near them, without a fuzzer: damaged bytes, cut ends, repeated
//! pieces, and words that parsers stumble over put anywhere.

use std::{fs, panic, path::Path};

#[path = "../fuzz/targets.rs"]
mod targets;

use targets::{TARGETS, Target};

/// What is put into inputs: numbers outside every range, other types, brackets that never close, bytes that are no
/// text.
const WORDS: [&[u8]; 20] = [
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"-1",
    b"0",
    b"1e999",
    b"18446744073709551616",
    b"99999999",
    b"0.5",
    b"\"\"",
    b"\"x\"",
    b"[]",
    b"{}",
    b"[[[[[[[[",
    b"\"\\ud800\"",
    b"\xff\xfe\x00",
    b"\"",
    b"\t\t\n\n",
    b"../../etc/passwd",
];

/// A linear congruential generator (Knuth): the same inputs on every machine.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n.max(1)
    }
}

/// One to four changes of `seed`.
fn mutated(seed: &[u8], draws: &mut Draws) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=draws.below(4) {
        let at = draws.below(bytes.len());
        match draws.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << draws.below(8),
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..at, WORDS[draws.below(WORDS.len())].iter().copied())),
            3 => replace_token(&mut bytes, at, WORDS[draws.below(WORDS.len())]),
            4 => {
                let end = (at + draws.below(64)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = draws.below(bytes.len());
                drop(bytes.splice(to..to, piece));
            }
            _ => drop(bytes.drain(at..(at + draws.below(16)).min(bytes.len()))),
        }
    }
    bytes
}

/// Puts `word` in the place of the number, name or string around `at`: what stays is still well formed, so that the
/// change gets past the parser to what reads the value.
fn replace_token(bytes: &mut Vec<u8>, at: usize, word: &[u8]) {
    let ends = |b: &u8| b",:[]{}\n\t".contains(b);
    let start = bytes[..at].iter().rposition(ends).map_or(0, |i| i + 1);
    let end = bytes[at..].iter().position(ends).map_or(bytes.len(), |i| at + i);
    if start <= end {
        drop(bytes.splice(start..end, word.iter().copied()));
    }
}

/// Runs `target` on every seed and on `mutations` inputs near each; how many inputs that were.
fn explore(name: &str, target: Target, mutations: usize) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut seeds: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{name} has no corpus");
    let mut inputs = 0;
    for path in seeds {
        let seed = fs::read(&path).unwrap();
        let mut draws = Draws(seed.len() as u64);
        for i in 0..=mutations {
            let input = if i == 0 { seed.clone() } else { mutated(&seed, &mut draws) };
            if panic::catch_unwind(|| target(&input)).is_err() {
                let kept = std::env::temp_dir().join(format!("fuzz-{name}-{i}"));
                fs::write(&kept, &input).unwrap();
                panic!("{name}: mutation {i} of {} panics; kept as {}", path.display(), kept.display());
            }
            inputs += 1;
        }
    }
    inputs
}

#[test]
fn inputs_near_the_corpora_are_taken_or_refused() {
    for (name, target) in TARGETS {
        assert!(explore(name, target, 40) > 40, "{name}");
    }
}

#[test]
#[ignore = "minutes"]
fn every_target_takes_or_refuses_many_inputs() {
    for (name, target) in TARGETS {
        println!("{name}: {} inputs", explore(name, target, 4000));
    }
}
