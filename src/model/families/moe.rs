//! Mixtures of experts in known frames: Mixtral (Jiang et al. 2024), Qwen 2 and 3 MoE, `OLMoE` (Muennighoff et al.
//! 2024), `FlexOlmo` (Shi et al. 2025), Granite MoE.

use layerscope_lenses::NormKind;

use super::{granite, llama, olmo, qwen};
use crate::model::{
    Config, ModelError, Spec,
    config::RopeKeys,
    names::{EXPERT_NAMES, EachExpert, ExpertNames},
    spec::{Biases, ExpertsSpec, QkNorm, QkNormOver},
};

const MIXTRAL_NAMES: ExpertNames = ExpertNames {
    router: "block_sparse_moe.gate",
    each: EachExpert::ByNumber("block_sparse_moe.experts.", ["w1", "w3", "w2"]),
    ..EXPERT_NAMES
};

const GRANITE_NAMES: ExpertNames = ExpertNames {
    router: "block_sparse_moe.router.layer",
    each: EachExpert::Stacked(["block_sparse_moe.input_linear", "block_sparse_moe.output_linear"]),
    ..EXPERT_NAMES
};

pub(super) fn mixtral(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = llama::rotated_llama(config, "mixtral", RopeKeys::from_base(1_000_000.0))?;
    spec.slide_everywhere(config.sliding_window()?);
    let experts = experts(config, "num_local_experts", spec.d_mlp, MIXTRAL_NAMES)?;
    spec.put_experts(ExpertsSpec { normed: true, ..experts }, |_| true);
    Ok(spec)
}

/// An expert for all tokens beside those that are chosen; every other layer slides, up to `max_window_layers`.
pub(super) fn qwen2_moe(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = llama::like_llama(config, "qwen2_moe")?;
    spec.bias = Biases { qkv: config.flag("qkv_bias")?, ..Biases::default() };
    let (used, last) = (config.flag("use_sliding_window")?, config.whole("max_window_layers")?);
    let slides = |i: usize| used && i.is_multiple_of(2) && (i as i64) < last;
    qwen::slide_where_used(config, &mut spec, slides)?;
    let shared = config.usize("shared_expert_intermediate_size")?;
    sparse_layers(config, spec, Some(shared))
}

pub(super) fn qwen3_moe(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = qwen::like_qwen3(config, "qwen3_moe", RopeKeys::USUAL)?;
    let window = config.sliding_window()?;
    spec.slide_everywhere(window.filter(|_| config.flag("use_sliding_window").unwrap_or_default()));
    sparse_layers(config, spec, None)
}

/// Every `decoder_sparse_step`-th layer is sparse, but for those listed.
fn sparse_layers(config: &Config, mut spec: Spec, d_shared: Option<usize>) -> Result<Spec, ModelError> {
    let experts = experts(config, "num_experts", config.usize("moe_intermediate_size")?, EXPERT_NAMES)?;
    let step = config.usize("decoder_sparse_step")?;
    let dense = match config.get("mlp_only_layers") {
        Some(value) => {
            let list = value.as_array().and_then(|list| list.iter().map(serde_json::Value::as_u64).collect());
            let wrong = || config.error(format!("`mlp_only_layers` must be a list of layers, got {value}"));
            list.ok_or_else(wrong)?
        }
        None => Vec::new(),
    };
    let normed = config.flag("norm_topk_prob")?;
    spec.put_experts(ExpertsSpec { normed, d_shared, ..experts }, |i| {
        !dense.contains(&(i as u64)) && (i + 1).is_multiple_of(step)
    });
    Ok(spec)
}

/// All query or key heads normed at once, then clipped.
pub(super) fn olmoe(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = llama::like_llama(config, "olmoe")?;
    olmo::biases(config, &mut spec)?;
    spec.qk_norm = Some(QkNorm { over: QkNormOver::All, ..QkNorm::by_head(NormKind::Rms) });
    spec.qkv_clip = config.optional_f64("clip_qkv")?;
    everywhere(config, spec)
}

/// OLMo 2 with experts.
pub(super) fn flex_olmo(config: &Config) -> Result<Spec, ModelError> {
    let spec = llama::rotated_llama(config, "flex_olmo", RopeKeys::from_base(500_000.0))?;
    everywhere(config, olmo::normed_after(config, spec)?)
}

fn everywhere(config: &Config, mut spec: Spec) -> Result<Spec, ModelError> {
    let experts = experts(config, "num_experts", spec.d_mlp, EXPERT_NAMES)?;
    let normed = config.flag("norm_topk_prob")?;
    spec.put_experts(ExpertsSpec { normed, ..experts }, |_| true);
    Ok(spec)
}

/// The softmax is of those chosen alone, which is that of all made to sum to one.
pub(super) fn granitemoe(config: &Config) -> Result<Spec, ModelError> {
    let mut spec = granite::divided(config, "granitemoe")?;
    let experts = experts(config, "num_local_experts", spec.d_mlp, GRANITE_NAMES)?;
    spec.put_experts(ExpertsSpec { normed: true, ..experts }, |_| true);
    Ok(spec)
}

fn experts(
    config: &Config,
    count: &str,
    d_expert: usize,
    names: ExpertNames,
) -> Result<ExpertsSpec, ModelError> {
    let (n, top_k) = (config.usize(count)?, config.usize("num_experts_per_tok")?);
    if top_k > n {
        return Err(config.error(format!("`num_experts_per_tok` is {top_k}, of {n} experts")));
    }
    Ok(ExpertsSpec { n, top_k, d_expert, normed: false, d_shared: None, names })
}
