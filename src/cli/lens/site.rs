//! `--site`: where in a block a lens reads.

use layerscope::hook::{BlockHook, HookPoint};

/// A site by its short name.
pub(super) fn block_hook(name: &str) -> Option<BlockHook> {
    [BlockHook::ResidPre, BlockHook::ResidMid, BlockHook::ResidPost, BlockHook::AttnOut, BlockHook::MlpOut]
        .into_iter()
        .find(|hook| HookPoint::Block(0, *hook).short_name() == name)
}

/// The hook of `--site`.
pub(super) fn site(name: &str) -> Result<BlockHook, String> {
    block_hook(name).ok_or_else(|| {
        format!("--site {name}: there are resid_pre, resid_mid, resid_post, attn_out and mlp_out")
    })
}
