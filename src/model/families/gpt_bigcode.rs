//! `StarCoder` and `SantaCoder` (Allal et al. 2023): GPT-2 with one key-value head.

use super::gpt2;
use crate::model::{
    Config, ModelError, Spec,
    names::{Names, QkvNames},
};

/// Plain linear maps, unlike GPT-2's.
const NAMES: Names = Names { transposed: false, ..gpt2::NAMES };

pub(super) fn spec(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = gpt2::like_gpt2(config, "gpt_bigcode", &NAMES)?;
    if config.flag("multi_query")? {
        spec.n_kv_heads = 1;
    } else {
        spec.names.qkv = QkvNames::ByGroup("attn.c_attn");
    }
    Ok(spec)
}
