use std::collections::BTreeSet;

use globset::{Glob, GlobMatcher};

use super::{BlockHook, HookPoint, names};

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
    /// A layer that none of the hooks asked for has.
    #[error("no layer {layer}: {layers}")]
    Layer {
        /// The layer asked for.
        layer: usize,
        /// The layers there are, per hook: `mlp_post has layers 0 to 7`.
        layers: String,
    },
}

/// A set of hook points of one model.
#[derive(Debug, Clone, Default)]
pub struct Selection(BTreeSet<HookPoint>);

impl Selection {
    /// The points among `available` that match any of `selectors`.
    ///
    /// A selector is a TransformerLens name, a short name (`resid_pre`: every layer), or a glob over either
    /// (`blocks.*.hook_resid_post`, `blocks.[0-3].attn.hook_?`); `hook_` may be left out, and `-` stands for `_`.
    /// Per-head results come only by their own name.
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
            if let Some(&layer) = layers.iter().find(|l| !chosen.iter().any(|p| block(*p) == Some(**l))) {
                return Err(HookError::Layer { layer, layers: layers_of(&chosen, available) });
            }
            chosen.retain(|p| block(*p).is_none_or(|l| layers.contains(&l)));
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

fn block(point: HookPoint) -> Option<usize> {
    match point {
        HookPoint::Block(block, _) => Some(block),
        _ => None,
    }
}

/// `mlp_post has layers 0 to 7, resid_pre 0 to 8`: the layers of every hook in `chosen`.
fn layers_of(chosen: &BTreeSet<HookPoint>, available: &[HookPoint]) -> String {
    let mut hooks: Vec<&str> =
        chosen.iter().filter(|p| block(**p).is_some()).map(|p| p.short_name()).collect();
    hooks.sort_unstable();
    hooks.dedup();
    let mut said = Vec::new();
    for hook in hooks {
        let of = || available.iter().filter(|p| p.short_name() == hook).filter_map(|p| block(*p));
        if let (Some(first), Some(last)) = (of().min(), of().max()) {
            let has = if said.is_empty() { "has layers " } else { "" };
            said.push(format!("{hook} {has}{first} to {last}"));
        }
    }
    if said.is_empty() { "none of these hooks has layers".to_owned() } else { said.join(", ") }
}

fn matching(selector: &str, available: &[HookPoint]) -> Result<Vec<HookPoint>, HookError> {
    if let Some(point) = HookPoint::parse(selector) {
        return Ok(available.iter().copied().filter(|p| *p == point).collect());
    }
    if let Some(hook) = BlockHook::parse(selector) {
        let of = |point: &HookPoint| matches!(point, HookPoint::Block(_, other) if *other == hook);
        return Ok(available.iter().copied().filter(of).collect());
    }
    let glob = glob(selector)?;
    let on_request = |point: &HookPoint| {
        matches!(point, HookPoint::Block(_, BlockHook::Result)) && !selector.contains("result")
    };
    let hits = |point: &&HookPoint| names::for_globs(**point).iter().any(|name| glob.is_match(name));
    Ok(available.iter().filter(hits).filter(|p| !on_request(p)).copied().collect())
}

fn glob(selector: &str) -> Result<GlobMatcher, HookError> {
    let bad = |e: globset::Error| HookError::Glob { selector: selector.into(), reason: e.kind().to_string() };
    Ok(Glob::new(&names::canonical(selector)).map_err(bad)?.compile_matcher())
}

/// Explains a selector without a match: a layer too high, a known reason, the name it has here, a slip of the pen, or
/// where to look.
fn unknown(selector: &str, available: &[HookPoint]) -> HookError {
    let name = names::canonical(selector);
    let (layer, hook) = names::in_block(&name);
    let wanted = BlockHook::parse(hook);
    let same: BTreeSet<HookPoint> = available
        .iter()
        .copied()
        .filter(|p| matches!(p, HookPoint::Block(_, hook) if wanted.is_none_or(|wanted| wanted == *hook)))
        .collect();
    let last = same.iter().filter_map(|p| block(*p)).max();
    if let (Some(layer), Some(last)) = (layer, last)
        && layer > last
    {
        let layers = match wanted {
            Some(_) => layers_of(&same, available),
            None => format!("this model's blocks are 0 to {}", last.saturating_sub(1)),
        };
        return HookError::Layer { layer, layers };
    }
    let selector = selector.to_owned();
    if let Some(reason) = absent(&name, hook) {
        return HookError::Absent { selector, reason: reason.into() };
    }
    HookError::Unknown { hint: hint(&name, layer, available), selector }
}

/// Why a model has no such point although others have.
fn absent(name: &str, hook: &str) -> Option<&'static str> {
    if name.contains("resid_mid") || hook == "ln2.hook_in" {
        return Some(
            "blocks with a parallel residual have no resid_mid (attention and MLP read the same stream)",
        );
    }
    if name.contains("pos_embed") {
        return Some("this model adds no position embeddings (rotary or alibi positions)");
    }
    if name.contains("pre_linear") {
        return Some("this model's MLP is not gated");
    }
    let norm = names::is_norm_of_block(hook) && names::elsewhere(hook, false).is_none();
    norm.then_some("what a block's norms give is no hook here; ln_final is the only norm that has some")
}

/// `; here it is …`, `; did you mean …?`, or where to look.
fn hint(name: &str, layer: Option<usize>, available: &[HookPoint]) -> String {
    let (_, hook) = names::in_block(name);
    let gated = available.iter().any(|p| matches!(p, HookPoint::Block(_, BlockHook::MlpPreLinear)));
    if let Some(short) = names::elsewhere(hook, gated) {
        let mut points = available.iter().filter(|p| p.short_name() == short);
        let point = match layer {
            Some(layer) => points.find(|p| block(**p) == Some(layer)),
            None => points.next_back(),
        };
        let one = layer.is_some() || hook == "ln_final.hook_in";
        let name = |point: &HookPoint| match point {
            HookPoint::Block(_, hook) if !one => hook.name().to_owned(),
            point => point.to_string(),
        };
        return point.map_or_else(String::new, |point| format!("; here it is `{}`", name(point)));
    }
    let names = available.iter().flat_map(|p| {
        let block = matches!(p, HookPoint::Block(..)).then(|| p.to_string().replace("hook_", ""));
        [p.short_name().to_owned(), p.to_string()].into_iter().chain(block)
    });
    match names::slip_of(name, names) {
        Some(name) => format!("; did you mean `{name}`?"),
        None => "; `layerscope info` lists the hooks of a model".to_owned(),
    }
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
    fn one_hook_in_many_spellings() {
        for name in ["resid_pre", "resid-pre", "hook_resid_pre", "hook-resid-pre"] {
            assert_eq!(select(name, None).unwrap().len(), 4, "{name}");
        }
        for name in ["z", "attn.z", "hook_z", "attn.hook_z", "blocks.*.attn.z", "attn.[z]"] {
            assert_eq!(select(name, None).unwrap().len(), 3, "{name}");
        }
        assert_eq!(select("blocks.1.resid-post", None).unwrap(), ["blocks.1.hook_resid_post"]);
        assert_eq!(select("embed", None).unwrap(), ["hook_embed"]);
    }

    #[test]
    fn layers_are_named_per_hook() {
        let says = |selector, layers| select(selector, layers).unwrap_err();
        assert_eq!(says("mlp_post", Some(&[3][..])), "no layer 3: mlp_post has layers 0 to 2");
        assert_eq!(
            says("resid_p*", Some(&[4][..])),
            "no layer 4: resid_post has layers 0 to 2, resid_pre 0 to 3"
        );
        assert_eq!(says("blocks.9.hook_resid_pre", None), "no layer 9: resid_pre has layers 0 to 3");
        assert_eq!(says("blocks.3.attn.z", None), "no layer 3: z has layers 0 to 2");
        assert_eq!(says("blocks.9.foo", None), "no layer 9: this model's blocks are 0 to 2");
        assert_eq!(says("embed", Some(&[0][..])), "no layer 0: none of these hooks has layers");
    }

    #[test]
    fn names_of_elsewhere_are_the_same_quantity() {
        let mut all = points();
        all.extend([HookPoint::FinalNormalized, HookPoint::Logits]);
        let says = |name: &str| Selection::new(&[name], None, &all).unwrap_err().to_string();
        for (name, here) in [
            ("blocks.0.attn.o.hook_in", "blocks.0.attn.hook_z"),
            ("blocks.1.attn.q.hook_out", "blocks.1.attn.hook_q"),
            ("blocks.1.mlp.out.hook_in", "blocks.1.mlp.hook_post"),
            ("blocks.1.mlp.in.hook_out", "blocks.1.mlp.hook_pre_linear"),
            ("blocks.2.ln1.hook_in", "blocks.2.hook_resid_pre"),
            ("attn.o.hook_in", "attn.hook_z"),
            ("ln_final.hook_in", "blocks.2.hook_resid_post"),
            ("ln_final.hook_out", "ln_final.hook_normalized"),
            ("unembed.hook_in", "ln_final.hook_normalized"),
            ("hook_unembed", "logits"),
            ("embed.hook_out", "hook_embed"),
        ] {
            assert_eq!(says(name), format!("no hook matches `{name}`; here it is `{here}`"));
        }
        assert!(says("blocks.0.ln1.hook_normalized").contains("norms give is no hook here"));
        assert!(says("blocks.0.attn.hook_rot_v").ends_with("lists the hooks of a model"));
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
