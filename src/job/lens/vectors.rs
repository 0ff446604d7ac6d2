//! `lens vectors`: directions of tokens as a lens sees them, for edits and pushes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Kind, Tensor};

use super::{Lenses, check_shapes, open, read, records, refuse_ahead, site_of};
use crate::{
    job::{Job, JobError, Layers, ModelSettings, Session, Setting, Watch, claimed},
    lens::vectors::lens_vectors,
    lenses::{LayerIndex, Lens},
    model::Model,
    results::run::{Counts, Found, RunDir},
    sources::text::Tokenizer,
    states::write_tensors,
};

/// The file of directions, `NAME.LAYER [d_model]` each, and `all.LAYER [tokens, d_model]` of several.
const DIRECTIONS: &str = "directions.safetensors";
/// From this cosine on two directions are hardly two.
const ALIKE: f64 = 0.99;

/// Write the directions that move tokens' logits most, as a lens sees them, for --edit and --direction
///
/// Of a lens that maps a state h to J h + b these are Jᵀu, with u the row of the unembedding: add them to steer, project
/// them out, swap two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct LensVectors {
    /// The model.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelSettings,
    /// `logit` or a lens folder
    #[cfg_attr(feature = "cli", arg(long, value_name = "logit|LENSDIR"))]
    pub lens: PathBuf,
    /// A text that is one token, such as " Paris"; repeat for several
    #[cfg_attr(feature = "cli", arg(long, required = true, value_name = "TEXT"))]
    pub token: Vec<String>,
    /// Less the direction of this token
    #[cfg_attr(feature = "cli", arg(long, value_name = "TEXT"))]
    pub less: Option<String>,
    /// Fold the final norm's gain into the unembedding first
    #[cfg_attr(feature = "cli", arg(long))]
    pub fold_norm: bool,
    /// Only these layers, such as 0,4,8-12; by default all that the lens reads
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
    /// Folder to write
    #[cfg_attr(feature = "cli", arg(long, value_name = "RUN"))]
    pub out: PathBuf,
    /// Use a lens that was fitted to another unembedding
    #[cfg_attr(feature = "cli", arg(long))]
    pub other_unembedding: bool,
    /// Start over in a folder that holds another run
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
}

/// The one lens there is: a folder of several rungs or horizons does not say which of them is meant.
fn only(lenses: Lenses) -> Result<Box<dyn Lens>, JobError> {
    let several = lenses.all.len();
    let mut all = lenses.all.into_iter();
    match (all.next(), all.next()) {
        (Some(lens), None) => Ok(lens),
        _ => Err(JobError::setting(
            "lens",
            format!("the folder holds {several} lenses; fit the one that is meant by itself"),
        )),
    }
}

/// The directions of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerVectors {
    /// The layer.
    pub layer: usize,
    /// Their lengths, in the order of the tokens.
    pub lengths: Vec<f64>,
    /// The cosine of the two that are most alike, where there are several.
    pub cosine: Option<f64>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorsFound {
    /// What the directions are called, in the order of the tokens.
    pub names: Vec<String>,
    /// By layer.
    pub layers: Vec<LayerVectors>,
}

impl Job for LensVectors {
    const COMMAND: &'static str = "lens vectors";
    type Outcome = VectorsFound;

    crate::job::writes_out!();

    fn run(&self, watch: &dyn Watch) -> Result<VectorsFound, JobError> {
        let requests = read(std::slice::from_ref(&self.lens))?;
        if site_of(&requests) != "resid_pre" {
            return Err(JobError::setting("lens", "its directions would be of another place than resid_pre"));
        }
        let session = Session::open(&self.model, watch)?;
        session.needs_decoder(Self::COMMAND)?;
        refuse_ahead(&requests, &session)?;
        check_shapes(&requests, &session.spec)?;
        let tokenizer = session.tokenizer(watch)?;
        let (names, ids) = self.tokens(&tokenizer)?;
        let mut layers = session.layers(self.layers.as_ref())?;
        layers
            .retain(|layer| *layer < session.spec.n_layers && requests.iter().all(|lens| lens.reads(*layer)));
        if layers.is_empty() {
            return Err(JobError::setting("layers", "none that the lens reads"));
        }
        session.announce(watch);
        let mut manifest = session.manifest(self, &tokenizer, watch)?;
        manifest.lenses = records(&requests)?;
        manifest.config =
            json!({ "tokens": self.token, "less": self.less, "fold_norm": self.fold_norm, "layers": layers });
        let claim = claimed(RunDir::claim(&self.out, manifest, self.force)?, watch);
        let complete = claim.found() == Found::Complete;
        let model = session.load(watch)?;
        let lens = only(open(&requests, model, self.other_unembedding, watch)?)?;
        let (found, tensors) = self.measure(model, lens.as_ref(), (&names, &ids), &layers)?;
        if complete {
            watch.note(&format!("{} is complete already; nothing to do", self.out.display()));
            return Ok(found);
        }
        let dir = claim.begin(&|p| p == Path::new(DIRECTIONS))?;
        write_tensors(&self.out.join(DIRECTIONS), &tensors)?;
        dir.finish(Counts { rows: tensors.len() as u64, ..Counts::default() }, None)?;
        Ok(found)
    }
}

impl LensVectors {
    /// Names and ids of the tokens, and of the one that is taken off.
    fn tokens(&self, tokenizer: &Tokenizer) -> Result<(Vec<String>, Vec<i64>), JobError> {
        let one = |text: &String| tokenizer.one_token(text).map(i64::from).map_err(JobError::usage);
        let mut ids = self.token.iter().map(one).collect::<Result<Vec<_>, _>>()?;
        let less = self.less.as_ref().map_or_else(String::new, |less| format!("-{}", less.trim()));
        let names: Vec<String> = self.token.iter().map(|token| format!("{}{less}", token.trim())).collect();
        let twice = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name));
        if let Some((_, name)) = twice {
            let problem =
                format!("two would be called {name:?}; spaces around a token are no part of its name");
            return Err(JobError::setting("token", problem));
        }
        if names.iter().any(|name| name.is_empty() || name == "all") {
            return Err(JobError::setting("token", "a direction needs a name, and `all` is of all of them"));
        }
        ids.extend(self.less.as_ref().map(one).transpose()?);
        Ok((names, ids))
    }

    /// The directions of every layer, and what they are like.
    fn measure(
        &self,
        model: &Model,
        lens: &dyn Lens,
        (names, ids): (&[String], &[i64]),
        layers: &[usize],
    ) -> Result<(VectorsFound, BTreeMap<String, Tensor>), JobError> {
        let _no_grad = tch::no_grad_guard();
        let unembed = model.unembed();
        let index = Tensor::from_slice(ids).to_device(model.device());
        let mut u = unembed.weight().f_index_select(0, &index)?.to_kind(Kind::Float);
        if self.fold_norm {
            let gain = unembed.norm().and_then(|norm| norm.weight());
            let none = || JobError::setting("fold_norm", format!("{} has no gain", Setting("model")));
            u = u.f_mul(gain.ok_or_else(none)?)?;
        }
        let n = names.len() as i64;
        if self.less.is_some() {
            u = u.f_narrow(0, 0, n)?.f_sub(&u.f_narrow(0, n, 1)?)?;
        }
        let (mut found, mut tensors) = (Vec::new(), BTreeMap::new());
        for &layer in layers {
            let vectors = lens_vectors(lens, LayerIndex(layer), &u)?.to_device(tch::Device::Cpu);
            for (i, name) in names.iter().enumerate() {
                tensors.insert(format!("{name}.{layer}"), vectors.get(i as i64).contiguous());
            }
            if n > 1 {
                tensors.insert(format!("all.{layer}"), vectors.shallow_clone());
            }
            found.push(LayerVectors::new(layer, &vectors)?);
        }
        Ok((VectorsFound { names: names.to_vec(), layers: found }, tensors))
    }
}

impl LayerVectors {
    fn new(layer: usize, vectors: &Tensor) -> Result<Self, JobError> {
        let wide = vectors.f_to_kind(Kind::Double)?;
        let lengths = wide.f_square()?.f_sum_dim_intlist(1, false, Kind::Double)?.f_sqrt()?;
        let unit = wide.f_div(&lengths.f_unsqueeze(1)?)?;
        let n = unit.size()[0];
        // Below the diagonal, so that no direction is compared with itself.
        let cosines = unit.f_matmul(&unit.f_transpose(0, 1)?)?.f_tril(-1)?;
        let most = cosines.f_abs()?.f_view([-1])?.f_argmax(0, false)?.int64_value(&[]);
        let cosine = (n > 1).then(|| cosines.view([-1]).double_value(&[most]));
        Ok(Self { layer, lengths: Vec::try_from(lengths)?, cosine })
    }

    /// Whether two of them are hardly two.
    pub fn alike(&self) -> bool {
        self.cosine.is_some_and(|cosine| cosine.abs() >= ALIKE)
    }
}
