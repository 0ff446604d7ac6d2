//! Where in a block a lens reads.

use crate::{hook::BlockHook, job::SetTo};

const SITES: [BlockHook; 5] =
    [BlockHook::ResidPre, BlockHook::ResidMid, BlockHook::ResidPost, BlockHook::AttnOut, BlockHook::MlpOut];

/// A site by its name.
pub(crate) fn block_hook(name: &str) -> Option<BlockHook> {
    BlockHook::parse(name).filter(|hook| SITES.contains(hook))
}

/// The short name of a site that was written in any spelling.
///
/// # Errors
/// A name of no site.
pub fn short(name: &str) -> Result<String, String> {
    let hook = block_hook(name).ok_or("there are resid_pre, resid_mid, resid_post, attn_out and mlp_out")?;
    Ok(hook.short_name().to_owned())
}

/// The hook of a site.
pub(crate) fn site(name: &str) -> Result<BlockHook, String> {
    block_hook(name).ok_or_else(|| format!("{}: no such site", SetTo("site", name)))
}
