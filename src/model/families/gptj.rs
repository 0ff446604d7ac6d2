//! GPT-J (Wang & Komatsuzaki 2021) and `CodeGen` (Nijkamp et al. 2022): parallel residual through one norm, interleaved
//! rotation, biased head.

use super::{activation, even_head, gpt2};
use crate::model::{
    Config, ModelError, Spec,
    names::{MlpNames, Names, QkvNames},
    rope::{RopeScaling, RopeSpec},
    spec::{Biases, NormSpec, ResidualKind, Sizes},
};

const NAMES: Names = Names {
    qkv: QkvNames::Separate(["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
    o: "attn.out_proj",
    mlp: MlpNames::Plain { up: "mlp.fc_in", down: "mlp.fc_out" },
    transposed: false,
    ..gpt2::NAMES
};

/// For a training on four processors each quarter of the heads has its queries, values and keys together.
const CODEGEN_NAMES: Names = Names { qkv: QkvNames::InQuarters("attn.qkv_proj"), ..NAMES };

pub(super) fn gptj(config: &Config) -> Result<Spec, ModelError> {
    like_gptj(config, "gptj", &NAMES)
}

pub(super) fn codegen(config: &Config) -> Result<Spec, ModelError> {
    let spec = like_gptj(config, "codegen", &CODEGEN_NAMES)?;
    if spec.n_heads.is_multiple_of(4) {
        Ok(spec)
    } else {
        Err(config.error(format!("`n_head` is {}, not a multiple of 4", spec.n_heads)))
    }
}

fn like_gptj(config: &Config, family: &'static str, names: &Names) -> Result<Spec, ModelError> {
    let (d_model, n_heads, n_layers) =
        (config.usize("n_embd")?, config.usize("n_head")?, config.layers("n_layer")?);
    let d_head = even_head(config, d_model, n_heads)?;
    let rope = RopeSpec {
        theta: 10_000.0,
        rotary_dim: config.usize("rotary_dim")?,
        interleaved: true,
        backwards: false,
        scaling: RopeScaling::None,
    };
    let sizes = Sizes {
        n_layers,
        d_model,
        n_heads,
        d_head,
        d_mlp: config.optional_usize("n_inner")?.unwrap_or(4 * d_model),
        vocab: config.usize("vocab_size")?,
        n_ctx: config.usize("n_positions")?,
    };
    let norm = NormSpec::layer(config.f64("layer_norm_epsilon")?);
    let activation = activation(config, "activation_function")?;
    Ok(Spec {
        residual: ResidualKind::ParallelSharedNorm,
        ropes: vec![rope],
        bias: Biases { qkv: false, o: false, mlp: true, head: true },
        tied: config.flag("tie_word_embeddings")?,
        ..Spec::plain(family, sizes, norm, activation, names)
    })
}
