//! The spellings of a hook, and what other tools call the same quantity.
//!
//! A hook may be written as TransformerLens does (`blocks.3.attn.hook_z`), short (`z`), with or without `hook_`
//! (`attn.z`, `hook_resid_pre`), and with `-` for `_`. What another tool calls otherwise is not taken for ours without
//! a word, since shapes may differ; it is named in the hint.

use super::{BlockHook, HookPoint};

impl BlockHook {
    /// The hook of this name in any spelling.
    pub fn parse(name: &str) -> Option<Self> {
        let name = canonical(name);
        Self::all().find(|hook| hook.spellings().contains(&name))
    }

    /// Every spelling without its block, the usual ones first.
    fn spellings(self) -> [String; 4] {
        let (full, short) = (self.name(), self.short_name());
        [full.to_owned(), short.to_owned(), full.replace("hook_", ""), format!("hook_{short}")]
    }
}

/// Points outside of blocks, by their spellings.
const OUTSIDE: [(HookPoint, &[&str]); 6] = [
    (HookPoint::Embed, &["hook_embed", "embed"]),
    (HookPoint::PosEmbed, &["hook_pos_embed", "pos_embed"]),
    (HookPoint::FinalScale, &["ln_final.hook_scale", "ln_final.scale", "ln_final_scale"]),
    (HookPoint::FinalNormalized, &["ln_final.hook_normalized", "ln_final.normalized", "ln_final_normalized"]),
    (
        HookPoint::HeadNormalized,
        &["mlm_head.ln.hook_normalized", "mlm_head.ln.normalized", "mlm_head_normalized"],
    ),
    (HookPoint::Logits, &["logits", "unembed.hook_out"]),
];

/// The point outside of blocks of this name.
pub(super) fn outside(name: &str) -> Option<HookPoint> {
    OUTSIDE.iter().find(|(_, names)| names.contains(&name)).map(|(point, _)| *point)
}

/// What a glob is held against: names as TransformerLens and as files have them, also without `hook_`.
pub(super) fn for_globs(point: HookPoint) -> Vec<String> {
    let full = point.to_string();
    let mut names = vec![point.short_name().to_owned(), full.replace("hook_", ""), full];
    if let HookPoint::Block(_, hook) = point {
        names.extend(hook.spellings().into_iter().filter(|name| name.contains('.')));
    }
    names
}

/// `-` means `_`, but between brackets, where it is a range.
pub(super) fn canonical(name: &str) -> String {
    let mut inside = false;
    let letter = |c: char| {
        inside = (inside || c == '[') && c != ']';
        if c == '-' && !inside { '_' } else { c }
    };
    name.chars().map(letter).collect()
}

/// `blocks.3.` and what follows it.
pub(super) fn in_block(name: &str) -> (Option<usize>, &str) {
    let split = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
    match split.map(|(block, rest)| (block.parse().ok(), rest)) {
        Some((Some(block), rest)) => (Some(block), rest),
        _ => (None, name),
    }
}

/// What this name of another tool (or another version of TransformerLens) is called here: the same quantity, by its
/// short name, and whether it is a block's.
pub(super) fn elsewhere(name: &str, gated: bool) -> Option<&'static str> {
    Some(match name {
        "attn.o.hook_in" => "z",
        "attn.o.hook_out" => "attn_out",
        "attn.q.hook_out" => "q",
        "attn.k.hook_out" => "k",
        "attn.v.hook_out" => "v",
        "mlp.in.hook_out" if gated => "mlp_pre_linear",
        "mlp.gate.hook_out" | "mlp.in.hook_out" => "mlp_pre",
        "mlp.out.hook_in" => "mlp_post",
        "mlp.out.hook_out" => "mlp_out",
        "ln1.hook_in" => "resid_pre",
        "ln_final.hook_in" => "resid_post",
        "ln_final.hook_out" | "unembed.hook_in" => "ln_final_normalized",
        "hook_unembed" | "unembed" | "hook_logits" => "logits",
        "embed.hook_out" => "embed",
        "pos_embed.hook_out" => "pos_embed",
        _ => return None,
    })
}

/// Whether TransformerLens has a hook of this name that is none here: what attention and MLP read behind their norms.
pub(super) fn is_norm_of_block(name: &str) -> bool {
    ["ln1.", "ln2.", "ln1_post.", "ln2_post."].iter().any(|norm| name.starts_with(norm))
        || ["hook_q_input", "hook_k_input", "hook_v_input", "hook_attn_in", "hook_mlp_in"].contains(&name)
}

/// The one of `names` that `name` was meant to be: a slip in its last word, not another word.
pub(super) fn slip_of(name: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let word = name.rsplit(['.', '_']).next().unwrap_or(name);
    let allowed = (word.chars().count() / 3).min(2);
    let near = names.map(|other| (strsim::damerau_levenshtein(name, &other), other));
    near.filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_every_hook() {
        for hook in BlockHook::all() {
            for name in hook.spellings() {
                assert_eq!(BlockHook::parse(&name), Some(hook), "{name}");
                assert_eq!(BlockHook::parse(&name.replace('_', "-")), Some(hook), "{name}");
                let whole = format!("blocks.7.{name}");
                assert_eq!(HookPoint::parse(&whole), Some(HookPoint::Block(7, hook)), "{whole}");
            }
        }
        for (point, names) in OUTSIDE {
            for name in names {
                assert_eq!(HookPoint::parse(name), Some(point), "{name}");
            }
        }
        for none in ["resid", "hook", "pre", "attn", "", "blocks.0", "resid_pre_"] {
            assert_eq!(BlockHook::parse(none), None, "{none}");
        }
    }

    #[test]
    fn a_dash_between_brackets_is_a_range() {
        assert_eq!(canonical("blocks.[0-3].resid-pre"), "blocks.[0-3].resid_pre");
    }

    #[test]
    fn a_slip_is_small_and_in_one_word() {
        let names = || ["resid_pre", "resid_post", "rot_q", "z", "pattern"].into_iter().map(str::to_owned);
        let slip = |name: &str| slip_of(name, names());
        assert_eq!(slip("resid_pree").as_deref(), Some("resid_pre"));
        assert_eq!(slip("reisd_pre").as_deref(), Some("resid_pre"));
        assert_eq!(slip("pattren").as_deref(), Some("pattern"));
        assert_eq!([slip("rot_v"), slip("y"), slip("resid_mlp")], [None, None, None]);
    }
}
