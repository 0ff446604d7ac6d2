//! Jobs about lenses.

mod activations;
mod audit;
mod causal;
mod concepts;
mod eval;
mod fit;
mod halves;
mod import;
mod open;
mod site;
mod transfer;
mod vectors;

pub use audit::{Audit, Audited};
pub use causal::{BASES, Causal, CausalFound, Directions, by_layer};
pub use concepts::{Concepts, ConceptsFound};
pub use eval::{Eval, Evaluated};
pub use fit::{
    Fit, Fitted, HeldOut, Init, JacobianSettings, LossSetting, Measured, OptimizerSetting, PromptSettings,
    Prompted,
};
use halves::Halves;
pub use import::{ImportLens, ImportedLens};
pub(crate) use open::refuse_ahead;
pub use open::{
    LensRequest, Lenses, check_shapes, folder_name, is_logit, open, read, records, site as site_of,
};
pub use site::short as short_site;
pub(crate) use site::{block_hook, site};
pub use transfer::{Transfer, Transferred};
pub use vectors::{LayerVectors, LensVectors, VectorsFound};
