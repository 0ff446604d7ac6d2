//! A model's weights, by the names of its family, into the decoder's one layout.

mod ends;
mod experts;
mod needed;

pub use ends::settle;
pub use needed::{Needed, needed};
use std::cell::RefCell;

use ends::{prefix, scaled_head};
use layerscope_lenses::{Norm, NormKind};
use tch::{Device, Kind, Tensor};

use super::{
    ModelError, Spec,
    activation::{Nonlinearity, Xielu},
    attention::Attention,
    decoder::{Block, Decoder},
    mlp::{Feed, Mlp},
    names::{MlpNames, QkvNames},
    nn::{HeadNorm, Linear, wide},
    positions::PositionTable,
    rope::Rope,
    spec::{NormPlacement, NormSpec, Positions, QkNorm, QkNormOver, ResidualKind},
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
    let pos_embed = loader.positions(kind, &embed)?;
    let token_type = loader.token_type()?;
    loader.check_frequencies()?;
    let embed_norm = spec.embed_norm.then(|| loader.norm(&loader.body(spec.names.embed_norm))).transpose()?;
    let mut blocks = Vec::with_capacity(spec.n_layers);
    for i in 0..spec.n_layers {
        blocks.push(loader.block(i)?);
        progress(i + 1, spec.n_layers);
    }
    let rope = |r| Rope::new(r, spec.n_ctx, kind, embed.device());
    let ropes = spec.ropes.iter().map(rope).collect::<Result<_, _>>()?;
    let (embed, embed_scale, head) = scaled_head(embed, spec)?;
    let unembed = loader.unembed(head)?;
    Ok(Decoder { embed, embed_scale, pos_embed, token_type, embed_norm, blocks, ropes, unembed })
}

struct Loader<'a> {
    weights: &'a Weights,
    spec: &'a Spec,
    prefix: &'static str,
    /// Where nothing is to be read: what was asked for, and what was wrong with it.
    dry: Option<RefCell<Needed>>,
}

impl<'a> Loader<'a> {
    fn new(weights: &'a Weights, spec: &'a Spec) -> Self {
        Self { weights, spec, prefix: prefix(weights, spec), dry: None }
    }

    fn body(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn take(&self, name: &str, shape: &[i64]) -> Result<Tensor, ModelError> {
        let Some(needed) = &self.dry else { return self.weights.take(name, shape) };
        needed.borrow_mut().add(name, self.weights.check(name, shape));
        // Of the right shape and no size.
        Ok(Tensor::f_zeros([1], (Kind::BFloat16, Device::Cpu))?.f_expand(shape, false)?)
    }

    /// The table of positions that is added to the embeddings, on their device.
    fn positions(&self, kind: Kind, embed: &Tensor) -> Result<Option<PositionTable>, ModelError> {
        let (n_ctx, d) = (self.spec.n_ctx, self.spec.d_model);
        Ok(match self.spec.positions {
            Positions::Learned { offset } => {
                let name = self.body(&format!("{}.weight", self.spec.names.pos_embed));
                let table = self.take(&name, &[(n_ctx + offset) as i64, d as i64])?;
                Some(PositionTable::learned(table, offset))
            }
            Positions::Sinusoidal { offset, empty } => {
                let table = PositionTable::sinusoidal(n_ctx + offset, offset, d, kind, embed.device())?;
                Some(if let Some(row) = empty { table.without(row)? } else { table })
            }
            Positions::Rotary | Positions::Alibi(_) => None,
        })
    }

    /// A norm of width `d_model`.
    fn norm(&self, name: &str) -> Result<Norm, ModelError> {
        self.norm_of(name, self.spec.norm, self.spec.d_model)
    }

    fn norm_of(&self, name: &str, norm: NormSpec, width: usize) -> Result<Norm, ModelError> {
        // The first BERTs have TensorFlow's names.
        let part = |part: &str, old: &str| {
            let [new, old] = [part, old].map(|part| format!("{name}.{part}"));
            let name = if self.weights.has(&old) && !self.weights.has(&new) { old } else { new };
            self.take(&name, &[width as i64])
        };
        let mut weight = norm.weight.then(|| part("weight", "gamma")).transpose()?;
        if norm.plus_one {
            // Gemma adds the one in f32, Nemotron in the model's own type.
            let widened = |w: Tensor| if norm.kind == NormKind::Rms { w.to_kind(wide(w.kind())) } else { w };
            weight = weight.map(|weight| widened(weight) + 1.0);
        }
        let bias = norm.bias.then(|| part("bias", "beta")).transpose()?;
        Ok(Norm::new(norm.kind, weight, bias, norm.eps))
    }

    /// The norm of `heads` heads of queries or keys.
    fn head_norm(&self, name: &str, norm: QkNorm, heads: usize) -> Result<HeadNorm, ModelError> {
        let (d_head, own) = (self.spec.d_head, self.spec.norm);
        let norm_spec = NormSpec { kind: norm.kind, bias: norm.bias, ..own };
        let bare = Norm::new(norm.kind, None, None, own.eps);
        let size = [heads as i64, d_head as i64];
        Ok(match norm.over {
            QkNormOver::Head => HeadNorm::Head(self.norm_of(name, norm_spec, d_head)?),
            QkNormOver::All => HeadNorm::All(self.norm_of(name, norm_spec, heads * d_head)?),
            QkNormOver::HeadByItself => {
                HeadNorm::HeadByItself(bare, self.take(&format!("{name}.weight"), &size)?)
            }
            QkNormOver::HeadInList => {
                let one = |i| self.take(&format!("{name}.norms.{i}.weight"), &size[1..]);
                let all = (0..heads).map(one).collect::<Result<Vec<_>, _>>()?;
                HeadNorm::HeadByItself(bare, Tensor::f_stack(&all, 0)?)
            }
        })
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
        let (before, after) = (self.spec.norms.before(), self.spec.norms.after());
        let stream = self.spec.norms == NormPlacement::Stream;
        let own = before && self.spec.residual != ResidualKind::ParallelSharedNorm;
        let norm_if = |there: bool, part: &str| there.then(|| norm(part)).transpose();
        Ok(Block {
            ln1: norm_if(before && !self.spec.layers[i].bare, names.ln1)?,
            attention: self.attention(i, &name)?,
            ln1_post: norm_if(after, names.ln1_post)?,
            ln2: norm_if(own, names.ln2)?,
            mlp: match self.spec.experts {
                Some(experts) if self.spec.layers[i].sparse => {
                    Feed::Experts(Box::new(self.experts(i, experts, &name)?))
                }
                _ => Feed::Mlp(self.mlp(i, &name)?),
            },
            ln2_post: norm_if(after, names.ln2_post)?,
            stream_norms: if stream { Some([norm(names.ln1_post)?, norm(names.ln2_post)?]) } else { None },
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
            QkvNames::InQuarters(part) => unquarter(&self.linear(&name(part), 3 * q, d, spec.bias.qkv)?),
            QkvNames::Separate([q_name, k_name, v_name]) => join(&[
                self.linear(&name(q_name), q, d, spec.bias.qkv)?,
                self.linear(&name(k_name), kv, d, spec.bias.qkv)?,
                self.linear(&name(v_name), kv, d, spec.bias.qkv)?,
            ]),
        };
        let [q_norm, k_norm] = spec.names.qk_norm;
        let both = |norm| {
            Ok::<_, ModelError>([
                self.head_norm(&name(q_norm), norm, spec.n_heads)?,
                self.head_norm(&name(k_norm), norm, spec.n_kv_heads)?,
            ])
        };
        let qk_norm = spec.qk_norm.map(both).transpose()?;
        let norm_last = spec.qk_norm.is_some_and(|norm| norm.after_rotation);
        let o = self.linear(&name(spec.names.o), d, q, spec.bias.o)?;
        Ok(Attention { layer, qkv, qk_norm, norm_last, o })
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
        let activation = Nonlinearity::new(self.spec.activation, || self.xielu(&name("mlp.act_fn")))?;
        Ok(Mlp { layer, up, down, gated: self.spec.names.mlp.gated(), activation })
    }

    /// The weights of an xIELU, of which the two alphas are stored before their `softplus`.
    fn xielu(&self, name: &str) -> Result<Xielu, ModelError> {
        let one = |part: &str, shape: &[i64]| self.take(&format!("{name}.{part}"), shape);
        let (beta, eps) = (one("beta", &[])?, one("eps", &[])?);
        let alpha_p = one("alpha_p", &[1])?.f_softplus()?;
        let alpha_n = one("alpha_n", &[1])?.f_softplus()?.f_add(&beta)?;
        Ok(Xielu { alpha_p, alpha_n, beta, eps })
    }
}

/// Several maps of one input as one.
fn join(parts: &[Linear]) -> Linear {
    let weights: Vec<&Tensor> = parts.iter().map(|p| &p.weight).collect();
    let biases: Option<Vec<&Tensor>> = parts.iter().map(|p| p.bias.as_ref()).collect();
    Linear { weight: Tensor::cat(&weights, 0), bias: biases.map(|b| Tensor::cat(&b, 0)) }
}

/// Rows in four parts (a quarter of the queries, of the values, of the keys) to all queries, all keys, all values.
fn unquarter(quarters: &Linear) -> Linear {
    let sort = |t: &Tensor| {
        let parts = t.view([4, 3, -1, t.size()[1..].iter().product::<i64>()]);
        let part = |i| parts.select(1, i).reshape([-1, parts.size()[3]]);
        Tensor::cat(&[part(0), part(2), part(1)], 0).view(t.size().as_slice())
    };
    Linear { weight: sort(&quarters.weight), bias: quarters.bias.as_ref().map(sort) }
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
