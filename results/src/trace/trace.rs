//! A prompt as lenses read it, without the model.

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
    pub cells: Vec<Vec<TraceCell>>,
}

/// What a lens says at one layer and position. Natural logarithms; ranks count from 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TraceCell {
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
    /// Follows no other tokens any more than those that are first at some layer, and the true ones of `prompt`.
    pub fn keep_first_tokens(&mut self, prompt: &[PromptToken]) {
        for i in 0..prompt.len() {
            let first = self.cells.iter().filter_map(|layer| Some(layer[i].top.first()?.0));
            let keep: Vec<u32> = first.chain(prompt.get(i + self.horizon).map(|token| token.id)).collect();
            self.cells.iter_mut().for_each(|layer| layer[i].tracked.retain(|(id, _)| keep.contains(id)));
        }
    }
}
