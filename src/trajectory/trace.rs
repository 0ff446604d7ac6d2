//! A prompt as lenses read it, without the model.

use super::{Tracked, Trajectory};

/// A prompt and everything that was read of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// The model's name.
    pub model: String,
    /// Its number of layers `L`: layer `L` is its own output.
    pub n_layers: usize,
    /// The prompt.
    pub tokens: Vec<PromptToken>,
    /// One per lens and horizon.
    pub lenses: Vec<LensTrace>,
    /// Text of every token that occurs in [`Trace::lenses`], by id, ascending.
    pub vocabulary: Vec<(u32, String)>,
}

/// A token of the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptToken {
    /// Its id.
    pub id: u32,
    /// Its text; bytes that are no whole UTF-8 are spelled `\xE2`.
    pub text: String,
}

/// What one lens says at one horizon.
#[derive(Debug, Clone, PartialEq)]
pub struct LensTrace {
    /// The lens's name.
    pub lens: String,
    /// Tokens ahead; 1 is the next token.
    pub horizon: usize,
    /// The layers, ascending.
    pub layers: Vec<usize>,
    /// By layer, then position.
    pub cells: Vec<Vec<Cell>>,
}

/// What a lens says at one layer and position. Natural logarithms; ranks count from 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cell {
    /// The likeliest tokens and their probabilities, likeliest first.
    pub top: Vec<(u32, f64)>,
    /// Entropy of the prediction.
    pub entropy: f64,
    /// KL(model ‖ lens); none where the prompt ends before the model predicts that token.
    pub kl: Option<f64>,
    /// Cross-entropy of the true token; none where the prompt ends before it.
    pub ce: Option<f64>,
    /// Rank of the model's own first token.
    pub rank_of_final: Option<i64>,
    /// Rank of the true token.
    pub rank_of_true: Option<i64>,
    /// Tokens that are followed through all layers at this position, and their probabilities.
    pub tracked: Vec<(u32, f64)>,
}

impl Trace {
    /// A prompt without readings yet.
    pub fn new(model: impl Into<String>, n_layers: usize, tokens: Vec<PromptToken>) -> Self {
        Self { model: model.into(), n_layers, tokens, lenses: Vec::new(), vocabulary: Vec::new() }
    }

    /// Fills in the text of every token that occurs.
    pub fn spell(&mut self, text: impl Fn(u32) -> String) {
        let cells = self.lenses.iter().flat_map(|lens| lens.cells.iter().flatten());
        let mut ids: Vec<u32> =
            cells.flat_map(|c| c.top.iter().chain(&c.tracked).map(|(id, _)| *id)).collect();
        ids.sort_unstable();
        ids.dedup();
        self.vocabulary = ids.into_iter().map(|id| (id, text(id))).collect();
    }

    /// Follows no other tokens any more than those that are first at some layer, and the true ones.
    pub fn keep_first_tokens(&mut self) {
        self.lenses.iter_mut().for_each(|lens| lens.keep_first_tokens(&self.tokens));
    }

    /// The text of a token that occurs.
    pub fn text(&self, id: u32) -> Option<&str> {
        let place = self.vocabulary.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.vocabulary[place].1)
    }
}

impl LensTrace {
    /// From readings, and the probabilities of the tokens `wanted` (per position) at every layer and position.
    pub(super) fn new(read: &Trajectory, wanted: &[Vec<i64>], probs: &[Vec<Vec<f64>>]) -> Self {
        let compared = wanted.len() + 1 - read.horizon.min(wanted.len() + 1);
        let cell = |layer: usize, i: usize| {
            let r = &read.readings[layer];
            let ids = |ids: &[i64], probs: &[f64]| {
                ids.iter().map(|id| *id as u32).zip(probs.iter().copied()).collect()
            };
            Cell {
                top: ids(&r.top_ids[i], &r.top_probs[i]),
                entropy: r.entropy[i],
                kl: (i < compared).then(|| r.kl[i]),
                ce: r.ce[i],
                rank_of_final: (i < compared).then(|| r.rank_of_final[i]),
                rank_of_true: r.rank_of_true[i],
                tracked: ids(&wanted[i], &probs[layer][i]),
            }
        };
        Self {
            lens: read.lens.clone(),
            horizon: read.horizon,
            layers: read.layers.iter().map(|layer| layer.0).collect(),
            cells: (0..read.layers.len()).map(|l| (0..wanted.len()).map(|i| cell(l, i)).collect()).collect(),
        }
    }

    /// Follows no other tokens any more than those that are first at some layer, and the true ones of `prompt`.
    fn keep_first_tokens(&mut self, prompt: &[PromptToken]) {
        for i in 0..prompt.len() {
            let first = self.cells.iter().filter_map(|layer| Some(layer[i].top.first()?.0));
            let keep: Vec<u32> = first.chain(prompt.get(i + self.horizon).map(|token| token.id)).collect();
            self.cells.iter_mut().for_each(|layer| layer[i].tracked.retain(|(id, _)| keep.contains(id)));
        }
    }
}

/// Per position, the tokens to follow, ascending by id.
pub(super) fn wanted(read: &Trajectory, truth: &[i64], tracked: Tracked) -> Vec<Vec<i64>> {
    let of = |i: usize| {
        let kept = |ids: &Vec<Vec<i64>>| match tracked {
            Tracked::First => ids[i].iter().take(1).copied().collect::<Vec<_>>(),
            Tracked::Top => ids[i].clone(),
        };
        let mut ids: Vec<i64> = read.readings.iter().flat_map(|r| kept(&r.top_ids)).collect();
        ids.extend(truth[i..].first().filter(|id| **id >= 0));
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    (0..truth.len()).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use layerscope_lenses::{LayerIndex, stats::Readings};

    #[test]
    fn tokens_to_follow_are_the_first_of_any_layer_and_the_true_one() {
        let layer = |ids: [[i64; 2]; 2]| Readings {
            top_ids: ids.map(Vec::from).into(),
            top_probs: vec![vec![0.5, 0.2]; 2],
            entropy: vec![1.0; 2],
            kl: vec![0.5; 2],
            rank_of_final: vec![0; 2],
            rank_of_true: vec![Some(3), None],
            ce: vec![Some(2.0), None],
            ..Readings::default()
        };
        let read = Trajectory {
            lens: "future".into(),
            horizon: 2,
            layers: [0, 1].map(LayerIndex).to_vec(),
            readings: vec![layer([[7, 5], [2, 3]]), layer([[4, 7], [2, 9]])],
        };
        assert_eq!(wanted(&read, &[6, -1], Tracked::First), [vec![4, 6, 7], vec![2]]);
        let all = wanted(&read, &[6, -1], Tracked::Top);
        assert_eq!(all, [vec![4, 5, 6, 7], vec![2, 3, 9]]);
        let probs = vec![vec![vec![0.1, 0.2, 0.3, 0.4], vec![0.1, 0.2, 0.3]]; 2];
        let mut trace = LensTrace::new(&read, &all, &probs);
        // Two tokens, two ahead: the model's own prediction is known for the first position only.
        assert_eq!([trace.cells[1][0].kl, trace.cells[1][1].kl], [Some(0.5), None]);
        let token = |id| PromptToken { id, text: String::new() };
        trace.keep_first_tokens(&[token(1), token(2), token(6)][..2]);
        assert_eq!(trace.cells[0][0].tracked, [(4, 0.1), (7, 0.4)]); // two ahead lies behind the end
        assert_eq!(trace.cells[1][1].tracked, [(2, 0.1)]);
    }
}
