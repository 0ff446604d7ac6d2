//! The model runner: a Hugging Face folder to a decoder that taps can watch and edit.
//!
//! What differs between families is data ([`Spec`]), read from `config.json` by one small file per family
//! under `families/`; the forward pass exists once, in `decoder.rs`.

mod activation;
mod attention;
mod cache;
mod config;
mod decoder;
mod encoder;
mod error;
mod experts;
mod families;
mod files;
mod gguf;
mod load;
mod mask;
mod mlp;
mod names;
mod nn;
mod packing;
mod positions;
mod rope;
mod rules;
mod schedule;
mod spec;
pub mod verify;
mod weights;
mod writer;

use std::path::Path;

pub use activation::Activation;
pub use cache::Cache;
pub use config::Config;
pub(crate) use config::parse_python;
pub use error::ModelError;
pub use families::spec;
pub use files::{INDEX, WEIGHTS, first_weights, is_index, shard_names, weight_files};
pub use gguf::{Gguf, Meta};
use layerscope_lenses::Unembed;
pub use load::{Needed, needed, settle};
pub(crate) use nn::wide;
pub use rope::{RopeScaling, RopeSpec};
pub use rules::Rules;
pub use schedule::{Combine, Schedule, Step};
pub use spec::{NormPlacement, Positions, ResidualKind, Spec};
use tch::{Device, Kind, Tensor};
pub use weights::{StoredAs, Weights};
pub use writer::{Branch, Writer};

use self::decoder::Decoder;
use crate::hook::{BlockHook, HookPoint, Tap};

/// A language model on a device: a decoder, or an encoder.
#[derive(Debug)]
pub struct Model {
    spec: Spec,
    decoder: Decoder,
    kind: Kind,
    device: Device,
}

impl Model {
    /// Loads the model folder `dir` (`config.json` and safetensors) as `kind` on `device`.
    ///
    /// `progress(done, all)` is called after each block.
    ///
    /// # Errors
    /// When the family, an option, a tensor or a file is not as it must be; the message names which.
    pub fn load(
        dir: &Path,
        kind: Kind,
        device: Device,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let spec = spec(&Config::read(dir)?)?;
        let weights = Weights::open(dir, kind, device)?;
        let spec = settle(spec, &weights)?;
        let decoder = load::decoder(&weights, &spec, kind, &mut progress)?;
        Ok(Self { spec, decoder, kind, device })
    }

    /// The architecture.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The number type of weights and activations.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where the model runs.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The final norm and head, for lenses.
    pub fn unembed(&self) -> &Unembed {
        &self.decoder.unembed
    }

    /// Runs token ids `[batch, seq]` through the network and past `tap`; every row starts at position 0.
    ///
    /// Returns logits `[batch, seq, vocab]`, or none when the tap ended the pass earlier, or there is no head.
    ///
    /// # Errors
    /// When an id is outside the vocabulary, a row is empty or longer than the context, or an edit changed a shape.
    pub fn forward(&self, ids: &Tensor, tap: &mut dyn Tap) -> Result<Option<Tensor>, ModelError> {
        self.forward_along(ids, &Schedule::identity(self.spec.n_layers), None, tap)
    }

    /// As [`Model::forward`], under the thread's own grad mode: what a tap puts in can be differentiated through the
    /// network. The weights themselves take no gradient.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn forward_recorded(&self, ids: &Tensor, tap: &mut dyn Tap) -> Result<Option<Tensor>, ModelError> {
        self.forward_by(Rules::Exact, ids, tap)
    }

    /// As [`Model::forward_recorded`], to be differentiated by `rules`.
    ///
    /// # Errors
    /// Also when the rules are not of this architecture: see [`Rules::refusal`].
    pub fn forward_by(
        &self,
        rules: Rules,
        ids: &Tensor,
        tap: &mut dyn Tap,
    ) -> Result<Option<Tensor>, ModelError> {
        self.check_ids(ids, 0)?;
        if let Some(why) = rules.refusal(&self.spec) {
            let family = self.spec.family;
            return Err(ModelError::Input(format!("RelP's rules are not for {family}: {why}")));
        }
        let own = Schedule::identity(self.spec.n_layers);
        self.decoder.forward(&ids.to_device(self.device), &self.spec, &own, None, rules, tap)
    }

    /// As [`Model::forward`], with the tokens that follow those `cache` has seen, which then has seen these too. Taps
    /// see the new positions only (scores and pattern: new queries, all keys).
    ///
    /// # Errors
    /// Also when the rows are not as many as before, cached and new tokens are more than the context, or the cached
    /// keys would be rotated otherwise in the longer text (`dynamic` and `longrope`, see [`Spec::rotates_alike`]).
    pub fn forward_cached(
        &self,
        ids: &Tensor,
        cache: &mut Cache,
        tap: &mut dyn Tap,
    ) -> Result<Option<Tensor>, ModelError> {
        self.forward_along(ids, &Schedule::identity(self.spec.n_layers), Some(cache), tap)
    }

    /// As [`Model::forward`], through the blocks of `schedule`, with a cache or without. In another order than the
    /// model's own a tap can end the pass only after the blocks.
    ///
    /// # Errors
    /// Also when the schedule is for another number of blocks, or the cache was made with another schedule.
    pub fn forward_along(
        &self,
        ids: &Tensor,
        schedule: &Schedule,
        cache: Option<&mut Cache>,
        tap: &mut dyn Tap,
    ) -> Result<Option<Tensor>, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let (made_for, n) = (schedule.n_layers(), self.spec.n_layers);
        if made_for != n {
            return Err(ModelError::Input(format!("a schedule for {made_for} blocks; this model has {n}")));
        }
        let seen = cache.as_ref().map_or(0, |cache| cache.positions());
        self.check_ids(ids, seen as i64)?;
        if cache.is_some() && self.spec.encoder.is_some() {
            let family = self.spec.family;
            return Err(ModelError::Input(format!(
                "{family} sees tokens before and behind: it can keep no cache"
            )));
        }
        if let Some(cache) = &cache {
            cache.check(ids.size()[0])?;
            let all = seen + ids.size()[1] as usize;
            if seen > 0 && !self.spec.rotates_alike(seen, all) {
                return Err(ModelError::Input(format!(
                    "a cache of {seen} tokens cannot grow to {all}: this model rotates texts of these lengths differently"
                )));
            }
        }
        let ids = ids.to_device(self.device);
        self.decoder.forward(&ids, &self.spec, schedule, cache, Rules::Exact, tap)
    }

    /// Checks ids that follow `seen` others.
    fn check_ids(&self, ids: &Tensor, seen: i64) -> Result<(), ModelError> {
        let size = ids.size();
        let [batch, seq] = size[..] else {
            return Err(ModelError::Input(format!("token ids must be [batch, seq], got {size:?}")));
        };
        let n_ctx = self.spec.n_ctx as i64;
        if batch == 0 || seq == 0 || seen + seq > n_ctx {
            let tokens = if seq == 1 { "token does" } else { "tokens do" };
            let after = if seen > 0 { format!("{seq} after {seen}") } else { seq.to_string() };
            let wrong = format!("{after} {tokens} not fit a context of {n_ctx}");
            return Err(ModelError::Input(if batch == 0 || seq == 0 { "no tokens".into() } else { wrong }));
        }
        let (low, high) = (ids.f_min()?.int64_value(&[]), ids.f_max()?.int64_value(&[]));
        if low < 0 || high >= self.spec.vocab as i64 {
            let (bad, vocab) = (if low < 0 { low } else { high }, self.spec.vocab);
            return Err(ModelError::Input(format!("token id {bad} is outside the vocabulary of {vocab}")));
        }
        Ok(())
    }
}

/// Every hook point a model of this architecture has, in the order of the pass.
///
/// `blocks.{L}.hook_resid_pre` is the residual stream leaving the last block, before the final norm.
pub fn hook_points(spec: &Spec) -> Vec<HookPoint> {
    let exists = |block: usize, hook: &BlockHook| match hook {
        BlockHook::ResidMid => spec.residual == ResidualKind::Sequential,
        BlockHook::MlpPre | BlockHook::MlpPost => !spec.layers[block].sparse,
        BlockHook::MlpPreLinear => spec.names.mlp.gated() && !spec.layers[block].sparse,
        BlockHook::RouterLogits
        | BlockHook::ExpertIndices
        | BlockHook::ExpertWeights
        | BlockHook::ExpertOut => spec.layers[block].sparse,
        _ => true,
    };
    let mut points = vec![HookPoint::Embed];
    if spec.positions.are_embedded() {
        points.push(HookPoint::PosEmbed);
    }
    for block in 0..spec.n_layers {
        points.extend(
            BlockHook::all().filter(|hook| exists(block, hook)).map(|hook| HookPoint::Block(block, hook)),
        );
    }
    points.push(HookPoint::resid_pre(spec.n_layers));
    if spec.has_final_norm() {
        points.extend([HookPoint::FinalScale, HookPoint::FinalNormalized]);
    }
    if spec.encoder.is_some_and(|encoder| encoder.head.is_some()) {
        points.push(HookPoint::HeadNormalized);
    }
    if spec.has_head() {
        points.push(HookPoint::Logits);
    }
    points
}

/// Shape of one token's value at `point`, the last dimensions of `[batch, seq, ..]`; none for scores and
/// pattern, which are `[batch, head, query, key]`.
pub fn width(spec: &Spec, point: HookPoint) -> Option<Vec<usize>> {
    let d = spec.d_model;
    Some(match point {
        HookPoint::Embed | HookPoint::PosEmbed | HookPoint::FinalNormalized | HookPoint::HeadNormalized => {
            vec![d]
        }
        HookPoint::FinalScale => vec![1],
        HookPoint::Logits => vec![spec.vocab],
        HookPoint::Block(_, hook) => match hook {
            BlockHook::Q | BlockHook::RotQ | BlockHook::Z => vec![spec.n_heads, spec.d_head],
            BlockHook::K | BlockHook::V | BlockHook::RotK => vec![spec.n_kv_heads, spec.d_head],
            BlockHook::Result => vec![spec.n_heads, d],
            BlockHook::AttnScores | BlockHook::Pattern => return None,
            BlockHook::RouterLogits => vec![spec.experts?.n],
            BlockHook::ExpertIndices | BlockHook::ExpertWeights => vec![spec.experts?.top_k],
            BlockHook::ExpertOut => vec![spec.experts?.top_k, d],
            BlockHook::MlpPre | BlockHook::MlpPreLinear | BlockHook::MlpPost => vec![spec.d_mlp],
            _ => vec![d],
        },
    })
}
