//! Leaks that are planted, and whether they are caught.

use serde::Serialize;

use super::random::Random;
use crate::sources::leakage::FittedOn;

/// Documents fitted on, their lines, and words of a line.
const DOCUMENTS: usize = 100;
const LINES: usize = 12;
const WORDS: usize = 10;
/// Words of the language.
const VOCABULARY: usize = 2000;

/// How documents that were fitted on come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plant {
    /// As they were.
    Same,
    /// Every second one, among others.
    Part,
    /// Each with one line more.
    LineMore,
    /// Each with its lines in another order.
    LinesShuffled,
    /// As they were, each of them fitted on six times.
    SixCopies,
    /// Not at all: others of the same language.
    Others,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Same, Self::Part, Self::LineMore, Self::LinesShuffled, Self::SixCopies, Self::Others];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Same => "the same documents",
            Self::Part => "every second one, among others",
            Self::LineMore => "each with one line more",
            Self::LinesShuffled => "each with its lines shuffled",
            Self::SixCopies => "the same, each fitted on six times",
            Self::Others => "others of the same language",
        }
    }
}

/// What was planted and what was caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Planted {
    /// The way in which documents were planted.
    pub plant: Plant,
    /// Documents that were fitted on.
    pub planted: u64,
    /// Those that were named: equal ones and near ones.
    pub caught: u64,
    /// Documents that were named and were not fitted on.
    pub false_alarms: u64,
}

/// Plants every kind.
pub fn planted(seed: u64) -> Vec<Planted> {
    let mut random = Random::new(seed, 1 << 50);
    let mut corpus = || -> Vec<Vec<String>> { (0..DOCUMENTS).map(|_| document(&mut random)).collect() };
    let (fitted, others) = (corpus(), corpus());
    Plant::ALL.map(|plant| plant_one(plant, &fitted, &others, seed)).to_vec()
}

fn plant_one(plant: Plant, fitted: &[Vec<String>], others: &[Vec<String>], seed: u64) -> Planted {
    let copies = if plant == Plant::SixCopies { 6 } else { 1 };
    let texts: Vec<String> = fitted.iter().flat_map(|d| std::iter::repeat_n(d.join("\n"), copies)).collect();
    let known = FittedOn::of_texts(texts.iter().map(String::as_str));
    let mut random = Random::new(seed, (1 << 50) + 1);
    let back = |place: usize, random: &mut Random| -> Option<Vec<String>> {
        let mut lines = fitted[place].clone();
        match plant {
            Plant::Others => return None,
            Plant::Part if place % 2 == 1 => return None,
            Plant::LineMore => lines.push(line(random)),
            Plant::LinesShuffled => {
                for last in (1..lines.len()).rev() {
                    lines.swap(last, random.below(last + 1));
                }
            }
            Plant::Same | Plant::Part | Plant::SixCopies => {}
        }
        Some(lines)
    };
    let (mut planted, mut fresh) = (Vec::new(), Vec::new());
    for (place, other) in others.iter().enumerate() {
        match back(place, &mut random) {
            Some(lines) => planted.push(lines.join("\n")),
            None => fresh.push(other.join("\n")),
        }
    }
    let named = |texts: &[String]| {
        let overlap = known.overlap_of_texts(texts.iter().map(|text| (text.as_str(), 1)));
        overlap.identical + overlap.near
    };
    Planted { plant, planted: planted.len() as u64, caught: named(&planted), false_alarms: named(&fresh) }
}

fn document(random: &mut Random) -> Vec<String> {
    (0..LINES).map(|_| line(random)).collect()
}

/// Words as languages have them: few make up most of a text.
fn line(random: &mut Random) -> String {
    let word = |random: &mut Random| {
        let rank = (VOCABULARY as f64).powf(random.uniform()) as usize;
        format!("w{rank}")
    };
    (0..WORDS).map(|_| word(random)).collect::<Vec<_>>().join(" ")
}
