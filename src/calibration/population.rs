//! Documents whose truth is known, because they are all there are.

use super::random::Random;

/// Documents in a population: draws of 200 among them are hardly ever twice the same.
const DOCUMENTS: usize = 3000;

/// How long documents are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sizes {
    /// All the same.
    Equal,
    /// As documents of the wild are: lognormal, the longest hundreds of times the shortest.
    Unequal,
}

/// Columns of a document, each a sum over its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// A loss of a lens.
    Loss,
    /// That of another lens on the same tokens.
    OtherLoss,
    /// A loss that a few documents have nearly all of.
    Heavy,
    /// Bytes of the text.
    Bytes,
    /// A loss that is larger where tokens stand for more bytes.
    LossOfBytes,
    /// Hits, every second token.
    Hits,
    /// Hits, all but one of a hundred tokens.
    Often,
    /// One of a hundred.
    Seldom,
}

impl Column {
    pub(super) const ALL: [Self; 8] = [
        Self::Loss,
        Self::OtherLoss,
        Self::Heavy,
        Self::Bytes,
        Self::LossOfBytes,
        Self::Hits,
        Self::Often,
        Self::Seldom,
    ];
}

/// A document: how many tokens, and its sums.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub(super) tokens: f64,
    pub(super) sums: [f64; Column::ALL.len()],
}

/// All documents.
#[derive(Debug, Clone)]
pub(super) struct Population(pub(super) Vec<Document>);

impl Population {
    pub(super) fn new(sizes: Sizes, seed: u64) -> Self {
        let mut random = Random::new(seed, 0);
        Self((0..DOCUMENTS).map(|_| document(sizes, &mut random)).collect())
    }

    /// `n` documents, drawn one by one from all.
    pub(super) fn draw(&self, n: usize, random: &mut Random) -> Vec<&Document> {
        (0..n).map(|_| &self.0[random.below(self.0.len())]).collect()
    }

    /// The mean per token over all documents.
    pub(super) fn mean(&self, column: Column) -> f64 {
        let sum = |of: &dyn Fn(&Document) -> f64| self.0.iter().map(of).sum::<f64>();
        sum(&|d| d.sums[column as usize]) / sum(&|d| d.tokens)
    }
}

fn document(sizes: Sizes, random: &mut Random) -> Document {
    let tokens = match sizes {
        Sizes::Equal => 50.0,
        Sizes::Unequal => (40.0 * random.normal().exp()).clamp(4.0, 3000.0).round(),
    };
    // The mean of so many tokens' own luck.
    let luck = |random: &mut Random| random.normal() / tokens.sqrt();
    let loss = 2.0 * (0.3 * random.normal()).exp() + luck(random);
    let other = 0.8 * loss + 0.1 * random.normal() + luck(random);
    let heavy = (1.5 * random.normal()).exp();
    let bytes = 4.0 * (0.2 * random.normal()).exp();
    let of_bytes = 0.7 * bytes + 0.3 * random.normal() + luck(random);
    let mut hits = |logit: f64, spread: f64| {
        let p = 1.0 / (1.0 + (-logit - spread * random.normal()).exp());
        (0..tokens as usize).map(|_| f64::from(u8::from(random.uniform() < p))).sum::<f64>()
    };
    let (half, often, seldom) = (hits(0.0, 0.7), hits(5.0, 1.0), hits(-5.0, 1.0));
    let of_tokens = [loss, other, heavy, bytes, of_bytes].map(|mean| mean * tokens);
    let [loss, other, heavy, bytes, of_bytes] = of_tokens;
    Document { tokens, sums: [loss, other, heavy, bytes, of_bytes, half, often, seldom] }
}
