//! Both ends of a model: the embedding and the head, which may be one tensor under either name.

use layerscope_lenses::{HeadActivation, Transform, Unembed};
use tch::{Device, Kind, Tensor};

use super::Loader;
use crate::model::{Activation, ModelError, Spec, Weights, spec::HeadSpec};

/// The embedding and its factor, and the head where that is the embedding.
///
/// A factor on the logits is put into the head, so that every reader of it reads the model's own logits. A power of two
/// is taken out of the embedding's factor again, without any rounding, and the two stay one tensor.
pub(super) fn scaled_head(
    mut embed: Tensor,
    spec: &Spec,
) -> Result<(Tensor, Option<f64>, Option<Tensor>), ModelError> {
    match spec.logit_scale {
        _ if !spec.tied => Ok((embed, spec.embed_scale, None)),
        None => Ok((embed.shallow_clone(), spec.embed_scale, Some(embed))),
        Some(scale) if scale.to_bits().trailing_zeros() >= f64::MANTISSA_DIGITS - 1 => {
            let head = embed.f_mul_scalar_(scale)?;
            Ok((embed, Some(spec.embed_scale.unwrap_or(1.0) / scale), Some(head)))
        }
        Some(scale) => {
            let head = embed.f_mul_scalar(scale)?;
            Ok((embed, spec.embed_scale, Some(head)))
        }
    }
}

impl Loader<'_> {
    /// The embedding; where only a tied head is stored, that.
    pub(super) fn embed(&self, vocab: i64, d: i64) -> Result<Tensor, ModelError> {
        let name = self.body(&format!("{}.weight", self.spec.names.embed));
        match head(self.weights, self.spec, "weight") {
            Some(head) if self.spec.tied && !self.weights.has(&name) => self.take(&head, &[vocab, d]),
            _ => self.take(&name, &[vocab, d]),
        }
    }

    /// The first row of an encoder's token types.
    pub(super) fn token_type(&self) -> Result<Option<Tensor>, ModelError> {
        let Some(rows) = self.spec.encoder.and_then(|encoder| encoder.token_types) else { return Ok(None) };
        let name = self.body(&format!("{}.weight", self.spec.names.token_types));
        Ok(Some(self.take(&name, &[rows as i64, self.spec.d_model as i64])?.f_get(0)?))
    }

    /// Transformers rotates by the frequencies that ESM's files keep, whatever the config says: the two must agree.
    pub(super) fn check_frequencies(&self) -> Result<(), ModelError> {
        let part = self.spec.encoder.and_then(|encoder| encoder.frequencies);
        let (Some(part), Some(rope)) = (part, self.spec.ropes.first()) else { return Ok(()) };
        // Per block, once, or for `layer.*`: transformers has written all three.
        let Some((name, _)) = self.weights.shapes().find(|(name, _)| name.ends_with(part)) else {
            return Ok(());
        };
        let theirs = self.take(name, &[(rope.rotary_dim / 2) as i64])?;
        if self.dry.is_some() {
            return Ok(());
        }
        let theirs = theirs.to_kind(Kind::Double).to_device(Device::Cpu);
        let ours = rope.frequencies(1, Kind::Double)?;
        // They may be stored in bf16.
        if ((theirs - &ours).abs() / ours).max().double_value(&[]) < 1e-2 {
            return Ok(());
        }
        Err(ModelError::Unsupported {
            family: self.spec.family.to_owned(),
            option: format!("rope_theta = {}", rope.theta),
            hint: format!(" (the frequencies in `{name}` are others)"),
        })
    }

    /// What a masked-language-model head does before the unembedding.
    fn transform(&self, head: HeadSpec) -> Result<Transform, ModelError> {
        let ([map, norm], d) = (head.names, self.spec.d_model);
        let activation = match head.activation {
            Activation::Gelu => HeadActivation::Gelu,
            Activation::GeluTanh => HeadActivation::GeluTanh,
            Activation::Relu => HeadActivation::Relu,
            Activation::Silu => HeadActivation::Silu,
            other @ (Activation::Relu2 | Activation::Xielu) => {
                return Err(ModelError::Unsupported {
                    family: self.spec.family.to_owned(),
                    option: format!("the activation {other:?} in a masked-language-model head"),
                    hint: String::new(),
                });
            }
        };
        let map = self.linear(map, d, d, head.bias)?;
        Ok(Transform::new(map.weight, map.bias, activation, self.norm(norm)?)?)
    }

    /// The final norm and the head, which is `tied` to the embedding or stored; a head of no tokens where there is
    /// none.
    pub(super) fn unembed(&self, tied: Option<Tensor>) -> Result<Unembed, ModelError> {
        let spec = self.spec;
        let norm = spec.has_final_norm().then(|| self.norm(&self.body(spec.names.final_norm))).transpose()?;
        let transform = spec.encoder.and_then(|encoder| encoder.head).map(|head| self.transform(head));
        let unembed = if spec.has_head() {
            let (weight, bias) = self.head(tied)?;
            Unembed::new(norm, weight, bias, spec.logit_cap)?
        } else {
            let none = Tensor::f_zeros([0, spec.d_model as i64], self.weights.options())?;
            Unembed::new(norm, none, None, None)?
        };
        Ok(unembed.with_transform(transform.transpose()?))
    }

    /// The unembedding matrix and its bias.
    fn head(&self, tied: Option<Tensor>) -> Result<(Tensor, Option<Tensor>), ModelError> {
        let spec = self.spec;
        let (vocab, d) = (spec.vocab as i64, spec.d_model as i64);
        let name = |part: &str| {
            let stored = head(self.weights, spec, part);
            stored.unwrap_or_else(|| format!("{}.{part}", spec.names.heads[0]))
        };
        let scaled = |mut weight: Tensor| -> Result<Tensor, ModelError> {
            // A tensor of a dry run is one number in many places.
            let scale = spec.logit_scale.filter(|_| self.dry.is_none());
            Ok(if let Some(scale) = scale { weight.f_mul_scalar_(scale)? } else { weight })
        };
        let weight = match tied {
            Some(head) => head,
            None => scaled(self.take(&name("weight"), &[vocab, d])?)?,
        };
        let bias = spec.bias.head.then(|| scaled(self.take(&name("bias"), &[vocab])?)).transpose()?;
        Ok((weight, bias))
    }
}

/// What the tensors at hand say about the head: transformers does not tie a head that is stored beside another
/// embedding, whatever `tie_word_embeddings` says. An encoder of whose head nothing is stored has none.
///
/// # Errors
/// When a file cannot be read.
pub fn settle(mut spec: Spec, weights: &Weights) -> Result<Spec, ModelError> {
    if let Some(encoder) = &mut spec.encoder {
        let stored = |head: &HeadSpec| head.names.iter().any(|name| weights.has(&format!("{name}.weight")));
        encoder.head = encoder.head.filter(stored);
    }
    if !spec.tied {
        return Ok(spec);
    }
    let embed = format!("{}{}.weight", prefix(weights, &spec), spec.names.embed);
    if let Some(head) = head(weights, &spec, "weight").filter(|_| weights.has(&embed)) {
        spec.tied = weights.same(&head, &embed)?;
    }
    Ok(spec)
}

/// The prefix of the body's tensors: the one that the embedding has, or the final norm where only the head is stored.
pub(super) fn prefix(weights: &Weights, spec: &Spec) -> &'static str {
    let all = spec.names.prefixes;
    let of = |part: &str| all.iter().find(|prefix| weights.has(&format!("{prefix}{part}.weight")));
    of(spec.names.embed).or_else(|| of(spec.names.final_norm)).unwrap_or(&all[0])
}

/// The name of the head's weight or bias, if it is stored.
fn head(weights: &Weights, spec: &Spec, part: &str) -> Option<String> {
    let mut names = spec.names.heads.iter().map(|head| format!("{head}.{part}"));
    names.find(|name| weights.has(name))
}
