//! `info`: what a model is, without its weights.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tch::{Device, Kind};

use super::{Job, JobError, ModelSettings, Session, Watch, kind_name, shown};
use crate::{
    hook::HookPoint,
    model::{Positions, ResidualKind, Weights, hook_points, needed, width},
    results::words::counted,
    sources::text::{TextError, Tokenizer},
};

/// Say what a model is, without reading its weights: sizes, BOS, hook points
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Info {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// Seed of every random draw
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub seed: u64,
}

/// What is known of a model before its weights are read.
pub struct Known {
    /// The model.
    pub session: Session,
    /// Its tokenizer, or why there is none.
    pub tokenizer: Result<Tokenizer, TextError>,
    /// Its tensors.
    pub tensors: Tensors,
}

/// What the table of tensors says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tensors {
    /// Tensors that are missing or not as they must be, a line each.
    pub faults: Vec<String>,
    /// Tensors of eyes and ears, which are not read.
    pub other_senses: usize,
    /// Tensors that no part of the model asks for.
    pub unused: usize,
}

impl Tensors {
    fn of(session: &Session) -> Result<Self, JobError> {
        let weights = Weights::open(session.path(), Kind::Float, Device::Cpu)?;
        let needed = needed(&weights, &session.spec)?;
        let others: Vec<&str> =
            weights.shapes().map(|(name, _)| name).filter(|name| !needed.has(name)).collect();
        let senses = others.iter().filter(|name| SENSES.iter().any(|word| name.contains(word))).count();
        let faults = needed.faults().iter().map(ToString::to_string).collect();
        Ok(Self { faults, other_senses: senses, unused: others.len() - senses })
    }
}

/// Words in the names of tensors that see or hear.
const SENSES: [&str; 6] = ["vision", "visual", "image", "audio", "multi_modal", "connector"];

/// It writes no folder.
impl Job for Info {
    const COMMAND: &'static str = "info";
    type Outcome = Known;

    fn out(&self) -> Option<&Path> {
        None
    }

    fn set_out(&mut self, _out: PathBuf) {}

    fn run(&self, watch: &dyn Watch) -> Result<Known, JobError> {
        let session = Session::open(&self.model, watch)?;
        let tokenizer = session.tokenizer(watch);
        let tensors = Tensors::of(&session)?;
        Ok(Known { session, tokenizer, tensors })
    }

    fn answer(&self, known: Known) -> Result<Value, JobError> {
        Ok(known.json())
    }
}

impl Known {
    /// Everything, for programs.
    pub fn json(&self) -> Value {
        let mut object = object(&self.session, &self.tokenizer);
        object["tensors"] = json!(self.tensors);
        object
    }
}

/// Every hook once, block hooks as `blocks.{0..n}.name`, with the shape of one token's value.
pub fn hook_shapes(session: &Session) -> Vec<(String, String)> {
    let s = &session.spec;
    let mut list: Vec<(String, String)> = Vec::new();
    for point in hook_points(s) {
        let shape =
            width(s, point).map_or("[batch, head, query, key]".to_owned(), |shape| format!("{shape:?}"));
        match point {
            HookPoint::Block(0, hook) => {
                let last = if hook.short_name() == "resid_pre" { s.n_layers } else { s.n_layers - 1 };
                list.push((format!("blocks.{{0..{last}}}.{}", hook.name()), shape));
            }
            HookPoint::Block(..) => {}
            other => list.push((other.to_string(), shape)),
        }
    }
    list
}

/// How positions enter, in a word.
pub fn positions(positions: Positions) -> &'static str {
    match positions {
        Positions::Learned { .. } => "learned",
        Positions::Sinusoidal { .. } => "sinusoidal",
        Positions::Rotary => "rotary",
        Positions::Alibi(_) => "alibi",
    }
}

/// How attention and MLP share the stream, in words.
pub fn residual(kind: ResidualKind) -> &'static str {
    match kind {
        ResidualKind::Sequential => "sequential",
        ResidualKind::Parallel => "parallel (no resid_mid)",
        ResidualKind::ParallelSharedNorm => "parallel, one norm (no resid_mid)",
    }
}

/// Which layers see how much, in words.
pub fn windows(session: &Session) -> String {
    let sliding: Vec<_> = session.spec.layers.iter().filter_map(|l| l.window).collect();
    match sliding.first() {
        None => "full attention".to_owned(),
        Some(w) => format!(
            "{} in {} of {}",
            counted(*w, "token"),
            sliding.len(),
            counted(session.spec.n_layers, "layer")
        ),
    }
}

fn object(session: &Session, tokenizer: &Result<Tokenizer, TextError>) -> Value {
    let s = &session.spec;
    let tokenizer = tokenizer.as_ref().ok();
    let bos = tokenizer.map(Tokenizer::bos);
    json!({
        "model": session.name(),
        "path": shown(session.path()),
        "revision": session.dir.revision,
        "family": s.family,
        "parameters": session.parameters,
        "stored_dtype": session.stored.map(kind_name),
        "stored_as": session.stored_as.iter().map(|(name, n)| (name.clone(), n.tensors)).collect::<BTreeMap<_, _>>(),
        "experts": s.experts.map(|e| json!({
            "n": e.n, "top_k": e.top_k, "d_expert": e.d_expert, "d_shared": e.d_shared,
            "layers": s.layers.iter().filter(|layer| layer.sparse).count(),
        })),
        "n_layers": s.n_layers,
        "d_model": s.d_model,
        "n_heads": s.n_heads,
        "n_kv_heads": s.n_kv_heads,
        "d_head": s.d_head,
        "d_mlp": s.d_mlp,
        "vocab": s.vocab,
        "tokenizer_vocab": tokenizer.map(Tokenizer::vocab_size),
        "n_ctx": s.n_ctx,
        "positions": positions(s.positions),
        "residual": residual(s.residual),
        "windows": s.layers.iter().map(|l| l.window).collect::<Vec<_>>(),
        "tied": s.tied,
        "bos": bos.map(|b| json!({ "id": b.id, "token": b.token, "reason": b.reason })),
        "device": session.device_note,
        "dtype": kind_name(session.kind),
        "threads": session.threads,
        "hooks": hook_points(s).iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
