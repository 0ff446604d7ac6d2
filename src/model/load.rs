//! A model's weights, by the names of its family, into the decoder's one layout.

use layerscope_lenses::{Norm, NormKind, Unembed};
use tch::{Kind, Tensor};

use super::{
    ModelError, Spec,
    attention::Attention,
    decoder::{Block, Decoder, Mlp},
    names::{MlpNames, QkvNames},
    nn::{Linear, wide},
    rope::Rope,
    spec::Positions,
    weights::Weights,
};

/// Loads block by block; `progress(done, blocks)` is called after each.
pub(super) fn decoder(
    weights: &Weights,
    spec: &Spec,
    kind: Kind,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Decoder, ModelError> {
    let loader = Loader::new(weights, spec);
    let (vocab, d) = (spec.vocab as i64, spec.d_model as i64);
    let embed = loader.embed(vocab, d)?;
    let pos_embed = match spec.positions {
        Positions::Learned { offset } => {
            let name = loader.body(&format!("{}.weight", spec.names.pos_embed));
            Some(loader.take(&name, &[(spec.n_ctx + offset) as i64, d])?)
        }
        _ => None,
    };
    let embed_norm = spec.embed_norm.then(|| loader.norm(&loader.body(spec.names.embed_norm))).transpose()?;
    let mut blocks = Vec::with_capacity(spec.n_layers);
    for i in 0..spec.n_layers {
        blocks.push(loader.block(i)?);
        progress(i + 1, spec.n_layers);
    }
    let rope = |r| Rope::new(r, spec.n_ctx, kind, embed.device());
    let ropes = spec.ropes.iter().map(rope).collect::<Result<_, _>>()?;
    let unembed = loader.unembed(&embed)?;
    Ok(Decoder { embed, pos_embed, embed_norm, blocks, ropes, unembed })
}

struct Loader<'a> {
    weights: &'a Weights,
    spec: &'a Spec,
    prefix: &'static str,
}

impl<'a> Loader<'a> {
    fn new(weights: &'a Weights, spec: &'a Spec) -> Self {
        Self { weights, spec, prefix: prefix(weights, spec) }
    }

    fn body(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn take(&self, name: &str, shape: &[i64]) -> Result<Tensor, ModelError> {
        self.weights.take(name, shape)
    }

    /// A norm of width `d_model`.
    fn norm(&self, name: &str) -> Result<Norm, ModelError> {
        self.norm_of(name, self.spec.norm.kind, self.spec.d_model)
    }

    fn norm_of(&self, name: &str, kind: NormKind, width: usize) -> Result<Norm, ModelError> {
        let shape = [width as i64];
        let mut weight = self.take(&format!("{name}.weight"), &shape)?;
        if self.spec.norm.plus_one {
            weight = weight.to_kind(wide(weight.kind())) + 1.0;
        }
        let bias = match kind {
            NormKind::Layer => Some(self.take(&format!("{name}.bias"), &shape)?),
            NormKind::Rms => None,
        };
        Ok(Norm::new(kind, Some(weight), bias, self.spec.norm.eps))
    }

    /// A linear map of `rows` by `columns`, turned to `[out, in]` when the family stores `[in, out]`.
    fn linear(&self, name: &str, rows: usize, columns: usize, bias: bool) -> Result<Linear, ModelError> {
        let (rows, columns) = (rows as i64, columns as i64);
        let name_of_weight = format!("{name}.weight");
        let weight = if self.spec.names.transposed {
            self.take(&name_of_weight, &[columns, rows])?.transpose(0, 1).contiguous()
        } else {
            self.take(&name_of_weight, &[rows, columns])?
        };
        let bias = bias.then(|| self.take(&format!("{name}.bias"), &[rows])).transpose()?;
        Ok(Linear { weight, bias })
    }

    fn block(&self, i: usize) -> Result<Block, ModelError> {
        let names = &self.spec.names;
        let name = |part: &str| self.body(&format!("{}{i}.{part}", names.block));
        let norm = |part: &str| self.norm(&name(part));
        let post = |part: &str| self.spec.post_norms.then(|| norm(part)).transpose();
        let own_norm = self.spec.residual != super::spec::ResidualKind::ParallelSharedNorm;
        Ok(Block {
            ln1: norm(names.ln1)?,
            attention: self.attention(i, &name)?,
            ln1_post: post(names.ln1_post)?,
            ln2: own_norm.then(|| norm(names.ln2)).transpose()?,
            mlp: self.mlp(i, &name)?,
            ln2_post: post(names.ln2_post)?,
        })
    }

    fn attention(&self, layer: usize, name: &dyn Fn(&str) -> String) -> Result<Attention, ModelError> {
        let spec = self.spec;
        let (d, q, kv) = (spec.d_model, spec.n_heads * spec.d_head, spec.n_kv_heads * spec.d_head);
        let qkv = match spec.names.qkv {
            QkvNames::Joined(part) => self.linear(&name(part), q + 2 * kv, d, spec.bias.qkv)?,
            QkvNames::ByGroup(part) => {
                ungroup(&self.linear(&name(part), q + 2 * kv, d, spec.bias.qkv)?, spec)
            }
            QkvNames::Separate([q_name, k_name, v_name]) => join(&[
                self.linear(&name(q_name), q, d, spec.bias.qkv)?,
                self.linear(&name(k_name), kv, d, spec.bias.qkv)?,
                self.linear(&name(v_name), kv, d, spec.bias.qkv)?,
            ]),
        };
        let qk_norm = match spec.qk_norm {
            Some(kind) => {
                let [q, k] = spec.names.qk_norm.map(|part| self.norm_of(&name(part), kind, spec.d_head));
                Some([q?, k?])
            }
            None => None,
        };
        let o = self.linear(&name(spec.names.o), d, q, spec.bias.o)?;
        Ok(Attention { layer, qkv, qk_norm, o })
    }

    fn mlp(&self, layer: usize, name: &dyn Fn(&str) -> String) -> Result<Mlp, ModelError> {
        let (d, m, bias) = (self.spec.d_model, self.spec.d_mlp, self.spec.bias.mlp);
        let (up, down) = match self.spec.names.mlp {
            MlpNames::Plain { up, down } => (self.linear(&name(up), m, d, bias)?, down),
            MlpNames::GatedJoined { gate_up, down } => (self.linear(&name(gate_up), 2 * m, d, bias)?, down),
            MlpNames::Gated { gate, up, down } => {
                let parts = [self.linear(&name(gate), m, d, bias)?, self.linear(&name(up), m, d, bias)?];
                (join(&parts), down)
            }
        };
        let down = self.linear(&name(down), d, m, bias)?;
        let (gated, activation) = (self.spec.names.mlp.gated(), self.spec.activation);
        Ok(Mlp { layer, up, down, gated, activation })
    }

    /// The embedding; where only a tied head is stored, that.
    fn embed(&self, vocab: i64, d: i64) -> Result<Tensor, ModelError> {
        let name = self.body(&format!("{}.weight", self.spec.names.embed));
        match head(self.weights, self.spec, "weight") {
            Some(head) if self.spec.tied && !self.weights.has(&name) => self.take(&head, &[vocab, d]),
            _ => self.take(&name, &[vocab, d]),
        }
    }

    /// The final norm and the head; a tied head is the embedding.
    fn unembed(&self, embed: &Tensor) -> Result<Unembed, ModelError> {
        let spec = self.spec;
        let (vocab, d) = (spec.vocab as i64, spec.d_model as i64);
        let name = |part: &str| {
            let stored = head(self.weights, spec, part);
            stored.unwrap_or_else(|| format!("{}.{part}", spec.names.heads[0]))
        };
        let weight = if spec.tied { embed.shallow_clone() } else { self.take(&name("weight"), &[vocab, d])? };
        let bias = spec.bias.head.then(|| self.take(&name("bias"), &[vocab])).transpose()?;
        Ok(Unembed::new(self.norm(&self.body(spec.names.final_norm))?, weight, bias, spec.logit_cap)?)
    }
}

/// What the tensors at hand say about the head: transformers does not tie a head that is stored beside another embedding,
/// whatever `tie_word_embeddings` says.
///
/// # Errors
/// When a file cannot be read.
pub fn settle(mut spec: Spec, weights: &Weights) -> Result<Spec, ModelError> {
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
fn prefix(weights: &Weights, spec: &Spec) -> &'static str {
    let all = spec.names.prefixes;
    let of = |part: &str| all.iter().find(|prefix| weights.has(&format!("{prefix}{part}.weight")));
    of(spec.names.embed).or_else(|| of(spec.names.final_norm)).unwrap_or(&all[0])
}

/// The name of the head's weight or bias, if it is stored.
fn head(weights: &Weights, spec: &Spec, part: &str) -> Option<String> {
    let mut names = spec.names.heads.iter().map(|head| format!("{head}.{part}"));
    names.find(|name| weights.has(name))
}

/// Several maps of one input as one.
fn join(parts: &[Linear]) -> Linear {
    let weights: Vec<&Tensor> = parts.iter().map(|p| &p.weight).collect();
    let biases: Option<Vec<&Tensor>> = parts.iter().map(|p| p.bias.as_ref()).collect();
    Linear { weight: Tensor::cat(&weights, 0), bias: biases.map(|b| Tensor::cat(&b, 0)) }
}

/// Rows by key-value group (its queries, its key, its value) to all queries, all keys, all values.
fn ungroup(grouped: &Linear, spec: &Spec) -> Linear {
    let (kv, d_head) = (spec.n_kv_heads as i64, spec.d_head as i64);
    let per_group = spec.n_heads as i64 / kv;
    let sort = |t: &Tensor| {
        let rest = t.size()[1..].iter().product::<i64>();
        let by_group = t.view([kv, per_group + 2, d_head, rest]);
        let part = |start, count| by_group.narrow(1, start, count).reshape([-1, rest]);
        let sorted = Tensor::cat(&[part(0, per_group), part(per_group, 1), part(per_group + 1, 1)], 0);
        sorted.view(t.size().as_slice())
    };
    Linear { weight: sort(&grouped.weight), bias: grouped.bias.as_ref().map(sort) }
}
