//! The trajectory as logitlenskit's widget reads it (its JSON version 2: `docs/DATA_FORMAT.md` there).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{LensTrace, Trace};

/// A trajectory that the widget cannot show.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// The widget shows one prediction per cell, that of the next token.
    #[error("logitlenskit shows one lens of the next token, not {lens} at horizon {horizon}")]
    Horizon {
        /// The lens.
        lens: String,
        /// How far ahead it predicts.
        horizon: usize,
    },
    /// A token of some top-k was not followed through the layers.
    #[error("token {id} at position {position} was not followed through the layers")]
    NotTracked {
        /// The token.
        id: u32,
        /// Its place in the prompt, from 0.
        position: usize,
    },
}

/// `lens` as `{meta, layers, input, tracked, topk}`: `topk[layer][position]` names the likeliest tokens, and
/// `tracked[position][token]` has each one's probability at every layer, rounded to five digits as there. Two tokens
/// with the same text are told apart by their ids, `text#id`.
///
/// # Errors
/// [`KitError`]; tokens must have been followed wherever they are among the likeliest.
pub fn logitlenskit(trace: &Trace, lens: &LensTrace) -> Result<Value, KitError> {
    if lens.horizon != 1 {
        return Err(KitError::Horizon { lens: lens.lens.clone(), horizon: lens.horizon });
    }
    let names = names(trace);
    let name = |id: u32| names.get(&id).cloned().unwrap_or_else(|| format!("#{id}"));
    let layer = |cells: &Vec<super::TraceCell>| -> Vec<Vec<String>> {
        cells.iter().map(|cell| cell.top.iter().map(|(id, _)| name(*id)).collect()).collect()
    };
    let positions = 0..trace.tokens.len();
    Ok(json!({
        "meta": { "version": 2, "model": trace.model, "lens": lens.lens },
        "layers": lens.layers,
        "input": trace.tokens.iter().map(|token| &token.text).collect::<Vec<_>>(),
        "tracked": positions.map(|i| tracked(lens, i, &name)).collect::<Result<Vec<_>, _>>()?,
        "topk": lens.cells.iter().map(layer).collect::<Vec<_>>(),
    }))
}

/// Every token of the position's top-k lists with its probability at every layer.
fn tracked(lens: &LensTrace, i: usize, name: &impl Fn(u32) -> String) -> Result<Value, KitError> {
    let mut ids: Vec<u32> =
        lens.cells.iter().flat_map(|layer| layer[i].top.iter().map(|(id, _)| *id)).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut tokens = Map::new();
    for id in ids {
        let at = |layer: &Vec<super::TraceCell>| {
            let found = layer[i].tracked.iter().find(|(tracked, _)| *tracked == id);
            found.map(|(_, p)| (p * 1e5).round() / 1e5).ok_or(KitError::NotTracked { id, position: i })
        };
        tokens.insert(name(id), lens.cells.iter().map(at).collect::<Result<Vec<_>, _>>()?.into());
    }
    Ok(tokens.into())
}

/// A name of its own for every token.
fn names(trace: &Trace) -> BTreeMap<u32, String> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    trace.vocabulary.iter().for_each(|(_, text)| *count.entry(text).or_default() += 1);
    let name = |(id, text): &(u32, String)| {
        (*id, if count[text.as_str()] == 1 { text.clone() } else { format!("{text}#{id}") })
    };
    trace.vocabulary.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{PromptToken, TraceCell};
    use super::*;

    #[test]
    fn version_two_by_hand() {
        let cell = |top: &[(u32, f64)], tracked: &[(u32, f64)]| TraceCell {
            top: top.to_vec(),
            tracked: tracked.to_vec(),
            ..TraceCell::default()
        };
        let lens = LensTrace {
            lens: "logit".into(),
            horizon: 1,
            layers: vec![0, 2],
            cells: vec![
                vec![cell(&[(1, 0.5)], &[(1, 0.5), (2, 0.123_456_7)])],
                vec![cell(&[(2, 0.75)], &[(1, 0.2), (2, 0.75)])],
            ],
        };
        let mut trace = Trace::new("m", 2, vec![PromptToken { id: 0, text: "a</script>".into() }]);
        trace.lenses = vec![lens];
        trace.spell(|id| if id == 1 { " the".into() } else { " a".into() });
        let json = logitlenskit(&trace, &trace.lenses[0]).unwrap();
        let expected = json!({
            "meta": { "version": 2, "model": "m", "lens": "logit" },
            "layers": [0, 2],
            "input": ["a</script>"],
            "tracked": [{ " the": [0.5, 0.2], " a": [0.12346, 0.75] }],
            "topk": [[[" the"]], [[" a"]]],
        });
        assert_eq!(json, expected);
        trace.spell(|_| "x".into());
        assert_eq!(logitlenskit(&trace, &trace.lenses[0]).unwrap()["topk"], json!([[["x#1"]], [["x#2"]]]));
        trace.lenses[0].cells[1][0].tracked.clear();
        let error = logitlenskit(&trace, &trace.lenses[0]).unwrap_err().to_string();
        assert_eq!(error, "token 1 at position 0 was not followed through the layers");
    }
}
