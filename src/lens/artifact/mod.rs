//! Lens folders: what a fit leaves behind and every reading command takes.
//!
//! ```text
//! LENSDIR/config.json          what the lens is, and which model it was made for
//! LENSDIR/params.safetensors   its tensors, f32
//! LENSDIR/params.pt            tuned lenses over the whole residual stream only: as the tuned-lens package has them
//! ```
//!
//! A tuned lens carries the package's own keys beside ours, so that `TunedLens.from_model_and_pretrained` loads the
//! folder, and a folder with only the package's two files is read here. `config.json` is written last: without it a
//! folder is no lens.

mod config;
mod error;
mod folder;
mod identity;
mod jacobian_pt;
mod lenses;
mod params_pt;
mod tensors;
mod wire;

pub use config::{LensConfig, LensKind, ModelRef};
pub use error::ArtifactError;
pub use folder::{CONFIG, LensFolder, PARAMS, PARAMS_PT, lens_sha256};
pub use identity::{check, check_shape, unembed_sha256};
pub use jacobian_pt::JacobianFile;
pub use lenses::{jacobian_tensors, load, prompt_name, tuned_tensors};
