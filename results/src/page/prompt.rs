//! A prompt's trajectory as it stands in the page.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::encode::{halves, indices, singles};
use crate::{
    show::show,
    trace::{LensTrace, Trace, TraceCell},
};

/// `{model, n_layers, tokens, vocabulary, ids, lenses}`. Tokens are places in `vocabulary`, whose texts are made
/// visible ([`show`]); `ids` are their ids in the model's vocabulary. Per lens, arrays run over layers, then positions
/// (then k).
pub(super) fn encode(trace: &Trace) -> Value {
    let mut words = Words::default();
    for (id, text) in &trace.vocabulary {
        words.add(*id, text);
    }
    for token in &trace.tokens {
        words.add(token.id, &token.text);
    }
    let tokens: Vec<u32> = trace.tokens.iter().map(|token| words.place(token.id)).collect();
    let lenses: Vec<Value> = trace.lenses.iter().map(|lens| one(lens, &words)).collect();
    json!({
        "model": trace.model,
        "n_layers": trace.n_layers,
        "tokens": indices(&tokens),
        "vocabulary": words.texts,
        "ids": indices(&words.ids),
        "lenses": lenses,
    })
}

/// The page's own small vocabulary.
#[derive(Default)]
struct Words {
    texts: Vec<String>,
    ids: Vec<u32>,
    places: HashMap<u32, u32>,
}

impl Words {
    fn add(&mut self, id: u32, text: &str) {
        if let std::collections::hash_map::Entry::Vacant(entry) = self.places.entry(id) {
            entry.insert(self.ids.len() as u32);
            self.ids.push(id);
            self.texts.push(show(text.as_bytes()));
        }
    }

    /// Where a token is; every id was added.
    fn place(&self, id: u32) -> u32 {
        self.places.get(&id).copied().unwrap_or_default()
    }
}

fn one(lens: &LensTrace, words: &Words) -> Value {
    let cells = || lens.cells.iter().flatten();
    let k = cells().map(|cell| cell.top.len()).min().unwrap_or(0);
    let top: Vec<u32> = cells().flat_map(|c| c.top[..k].iter().map(|(id, _)| words.place(*id))).collect();
    let some = |get: fn(&TraceCell) -> Option<f64>| singles(cells().map(get));
    // The followed tokens of a position are the same at every layer: named once, with a column of probabilities each.
    let followed = lens.cells.first().map_or(&[][..], Vec::as_slice);
    let tracked: Vec<u32> =
        followed.iter().flat_map(|c| c.tracked.iter().map(|(id, _)| words.place(*id))).collect();
    let widths: Vec<u32> = followed.iter().map(|c| c.tracked.len() as u32).collect();
    json!({
        "lens": lens.lens,
        "horizon": lens.horizon,
        "layers": lens.layers,
        "k": k,
        "top": indices(&top),
        "probs": halves(cells().flat_map(|c| c.top[..k].iter().map(|(_, p)| *p))),
        "entropy": some(|c| Some(c.entropy)),
        "kl": some(|c| c.kl),
        "ce": some(|c| c.ce),
        "rank": some(|c| c.rank_of_final.map(|rank| rank as f64)),
        "rank_of_true": some(|c| c.rank_of_true.map(|rank| rank as f64)),
        "widths": indices(&widths),
        "tracked": indices(&tracked),
        "tracked_probs": halves(cells().flat_map(|c| c.tracked.iter().map(|(_, p)| *p))),
    })
}
