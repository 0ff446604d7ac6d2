use std::collections::BTreeSet;

use globset::{Glob, GlobMatcher};

use super::HookPoint;

/// A selector that picks nothing, or is not a selector.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// No point of this model has such a name.
    #[error("no hook matches `{selector}`{hint}")]
    Unknown {
        /// What was asked for.
        selector: String,
        /// ``; did you mean `…`?`` or a list of what there is.
        hint: String,
    },
    /// The model has no such point, for a reason worth knowing.
    #[error("`{selector}`: {reason}")]
    Absent {
        /// What was asked for.
        selector: String,
        /// Why this model has no such point.
        reason: String,
    },
    /// Not a glob.
    #[error("`{selector}` is not a glob: {reason}")]
    Glob {
        /// What was asked for.
        selector: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer the model does not have, for every hook asked for.
    #[error("no hook of {selectors} has layer {layer}; this model's layers are 0 to {last}")]
    Layer {
        /// The hooks asked for.
        selectors: String,
        /// The layer asked for.
        layer: usize,
        /// The last layer.
        last: usize,
    },
}

/// A set of hook points of one model.
#[derive(Debug, Clone, Default)]
pub struct Selection(BTreeSet<HookPoint>);

impl Selection {
    /// The points among `available` that match any of `selectors`.
    ///
    /// A selector is a TransformerLens name, a short name (`resid_pre`: every layer), or a glob over either
    /// (`blocks.*.hook_resid_post`, `blocks.[0-3].attn.hook_?`). Per-head results come only by their own name.
    /// With `layers`, block points of other layers are left out.
    ///
    /// # Errors
    /// When a selector matches nothing (with the nearest name as a hint), or a wanted layer does not exist.
    pub fn new(
        selectors: &[impl AsRef<str>],
        layers: Option<&[usize]>,
        available: &[HookPoint],
    ) -> Result<Self, HookError> {
        let mut chosen = BTreeSet::new();
        for selector in selectors {
            let matched = matching(selector.as_ref(), available)?;
            if matched.is_empty() {
                return Err(unknown(selector.as_ref(), available));
            }
            chosen.extend(matched);
        }
        if let Some(layers) = layers {
            let layer_of = |point: &HookPoint| match point {
                HookPoint::Block(block, _) => Some(*block),
                _ => None,
            };
            let last = available.iter().filter_map(layer_of).max().unwrap_or(0);
            if let Some(&layer) = layers.iter().find(|l| !chosen.iter().any(|p| layer_of(p) == Some(**l))) {
                let selectors = selectors.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
                return Err(HookError::Layer { selectors, layer, last });
            }
            chosen.retain(|p| layer_of(p).is_none_or(|l| layers.contains(&l)));
        }
        Ok(Self(chosen))
    }

    /// Whether `point` is in the set.
    pub fn contains(&self, point: HookPoint) -> bool {
        self.0.contains(&point)
    }

    /// The points in the order of the pass.
    pub fn iter(&self) -> impl Iterator<Item = HookPoint> + '_ {
        self.0.iter().copied()
    }

    /// The last point in the order of the pass.
    pub fn last(&self) -> Option<HookPoint> {
        self.0.last().copied()
    }
}

impl FromIterator<HookPoint> for Selection {
    fn from_iter<I: IntoIterator<Item = HookPoint>>(points: I) -> Self {
        Self(points.into_iter().collect())
    }
}

fn matching(selector: &str, available: &[HookPoint]) -> Result<Vec<HookPoint>, HookError> {
    if let Some(point) = HookPoint::parse(selector) {
        return Ok(available.iter().copied().filter(|p| *p == point).collect());
    }
    let glob = glob(selector)?;
    let on_request = |point: &HookPoint| {
        matches!(point, HookPoint::Block(_, super::BlockHook::Result)) && !selector.contains("result")
    };
    let hits = |point: &&HookPoint| glob.is_match(point.to_string()) || glob.is_match(point.short_name());
    Ok(available.iter().filter(hits).filter(|p| !on_request(p)).copied().collect())
}

fn glob(selector: &str) -> Result<GlobMatcher, HookError> {
    let bad = |e: globset::Error| HookError::Glob { selector: selector.into(), reason: e.kind().to_string() };
    Ok(Glob::new(selector).map_err(bad)?.compile_matcher())
}

/// Explains a selector without a match: a known reason, the nearest name, or what there is.
fn unknown(selector: &str, available: &[HookPoint]) -> HookError {
    let selector = selector.to_owned();
    let absent = |reason: &str| HookError::Absent { selector: selector.clone(), reason: reason.into() };
    if selector.contains("resid_mid") {
        return absent(
            "blocks with a parallel residual have no resid_mid (attention and MLP read the same stream)",
        );
    }
    if selector.contains("pos_embed") {
        return absent("this model adds no position embeddings (rotary or alibi positions)");
    }
    if selector.contains("pre_linear") {
        return absent("this model's MLP is not gated");
    }
    let names = available.iter().flat_map(|p| [p.to_string(), p.short_name().to_owned()]);
    let nearest = names
        .map(|name| (strsim::damerau_levenshtein(&selector, &name), name))
        .min_by_key(|(distance, _)| *distance);
    let hint = match nearest {
        Some((distance, name)) if distance <= selector.len() / 2 => format!("; did you mean `{name}`?"),
        _ => "; `layerscope info` lists the hooks of a model".to_owned(),
    };
    HookError::Unknown { selector, hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::BlockHook;

    fn points() -> Vec<HookPoint> {
        let mut all = vec![HookPoint::Embed];
        for block in 0..3 {
            all.extend(BlockHook::all().map(|hook| HookPoint::Block(block, hook)));
        }
        all.push(HookPoint::Block(3, BlockHook::ResidPre));
        all
    }

    fn select(selector: &str, layers: Option<&[usize]>) -> Result<Vec<String>, String> {
        let chosen = Selection::new(&[selector], layers, &points()).map_err(|e| e.to_string())?;
        Ok(chosen.iter().map(|p| p.to_string()).collect())
    }

    #[test]
    fn short_names_and_globs() {
        assert_eq!(select("resid_pre", None).unwrap().len(), 4);
        assert_eq!(select("blocks.*.hook_attn_out", None).unwrap().len(), 3);
        assert_eq!(
            select("blocks.1.attn.hook_[qk]", None).unwrap(),
            ["blocks.1.attn.hook_q", "blocks.1.attn.hook_k"]
        );
        assert_eq!(select("resid_pre", Some(&[0, 3])).unwrap().len(), 2);
        assert_eq!(select("blocks.1.hook_out", None).unwrap(), ["blocks.1.hook_resid_post"]);
    }

    #[test]
    fn per_head_results_only_by_name() {
        assert!(select("*", None).unwrap().iter().all(|n| !n.ends_with("hook_result")));
        assert_eq!(select("result", None).unwrap().len(), 3);
    }

    #[test]
    fn the_unknown_gets_a_hint() {
        let message = select("blocks.0.hook_resid_pree", None).unwrap_err();
        assert!(message.ends_with("did you mean `blocks.0.hook_resid_pre`?"), "{message}");
        assert!(select("resid_pre", Some(&[7])).unwrap_err().contains("layer 7"));
        let no_mid: Vec<_> = points().into_iter().filter(|p| !p.to_string().ends_with("resid_mid")).collect();
        let message = Selection::new(&["resid_mid"], None, &no_mid).unwrap_err().to_string();
        assert!(message.contains("parallel residual"), "{message}");
    }
}
