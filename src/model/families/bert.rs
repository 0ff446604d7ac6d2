//! BERT (Devlin et al. 2019), `RoBERTa` (Liu et al. 2019) and `DistilBERT` (Sanh et al. 2019): the stream itself is
//! normed.

use super::{
    activation,
    encoder::{KEYS, count_from_padding, encoding},
    sizes,
};
use crate::model::{
    Activation, Config, ModelError, Spec,
    names::{MlpNames, Names, QkvNames},
    spec::{EncoderSpec, HeadSpec, NormSpec, Positions},
};

pub(super) const NAMES: Names = Names {
    prefixes: &["bert.", ""],
    embed: "embeddings.word_embeddings",
    embed_norm: "embeddings.LayerNorm",
    pos_embed: "embeddings.position_embeddings",
    token_types: "embeddings.token_type_embeddings",
    block: "encoder.layer.",
    ln1: "",
    ln1_post: "attention.output.LayerNorm",
    ln2: "",
    ln2_post: "output.LayerNorm",
    qkv: QkvNames::Separate(["attention.self.query", "attention.self.key", "attention.self.value"]),
    qk_norm: ["", ""],
    o: "attention.output.dense",
    mlp: MlpNames::Plain { up: "intermediate.dense", down: "output.dense" },
    final_norm: "",
    heads: &["cls.predictions.decoder", "cls.predictions"],
    transposed: false,
};

const ROBERTA_NAMES: Names =
    Names { prefixes: &["roberta.", ""], heads: &["lm_head.decoder", "lm_head"], ..NAMES };

const DISTILBERT_NAMES: Names = Names {
    prefixes: &["distilbert.", ""],
    block: "transformer.layer.",
    ln1_post: "sa_layer_norm",
    ln2_post: "output_layer_norm",
    qkv: QkvNames::Separate(["attention.q_lin", "attention.k_lin", "attention.v_lin"]),
    o: "attention.out_lin",
    mlp: MlpNames::Plain { up: "ffn.lin1", down: "ffn.lin2" },
    heads: &["vocab_projector"],
    ..NAMES
};

pub(super) fn bert(config: &Config) -> Result<Spec, ModelError> {
    let names = ["cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"];
    let activation = activation(config, "hidden_act")?;
    let mut spec = like_bert(config, "bert", &NAMES, HeadSpec { names, activation, bias: true })?;
    spec.positions = Positions::Learned { offset: 0 };
    Ok(spec)
}

/// Positions start behind the number of the padding token; the head's activation is always the same.
pub(super) fn roberta(config: &Config) -> Result<Spec, ModelError> {
    let names = ["lm_head.dense", "lm_head.layer_norm"];
    let head = HeadSpec { names, activation: Activation::Gelu, bias: true };
    let mut spec = like_bert(config, "roberta", &ROBERTA_NAMES, head)?;
    count_from_padding(config, &mut spec)?;
    Ok(spec)
}

/// `RoBERTa` for a hundred languages (Conneau et al. 2020).
pub(super) fn xlm_roberta(config: &Config) -> Result<Spec, ModelError> {
    Ok(Spec { family: "xlm-roberta", ..roberta(config)? })
}

/// `RoBERTa` for French (Martin et al. 2020).
pub(super) fn camembert(config: &Config) -> Result<Spec, ModelError> {
    Ok(Spec { family: "camembert", ..roberta(config)? })
}

/// Half of BERT's layers, without token types.
pub(super) fn distilbert(config: &Config) -> Result<Spec, ModelError> {
    let names = ["vocab_transform", "vocab_layer_norm"];
    let activation = activation(config, "activation")?;
    let head = HeadSpec { names, activation, bias: true };
    let encoder = EncoderSpec { head: Some(head), ..EncoderSpec::default() };
    let norm = NormSpec::layer(1e-12);
    let sizes = sizes(config, ["n_layers", "dim", "n_heads", "hidden_dim"])?;
    let plain = Spec::plain("distilbert", sizes, norm, activation, &DISTILBERT_NAMES);
    Ok(Spec { positions: Positions::Learned { offset: 0 }, ..encoding(config, plain, encoder)? })
}

fn like_bert(
    config: &Config,
    family: &'static str,
    names: &Names,
    head: HeadSpec,
) -> Result<Spec, ModelError> {
    let token_types = Some(config.usize("type_vocab_size")?);
    let encoder = EncoderSpec { token_types, head: Some(head), ..EncoderSpec::default() };
    let norm = NormSpec::layer(config.f64("layer_norm_eps")?);
    let plain = Spec::plain(family, sizes(config, KEYS)?, norm, activation(config, "hidden_act")?, names);
    encoding(config, plain, encoder)
}
