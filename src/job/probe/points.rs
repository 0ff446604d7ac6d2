//! Where states are read.

use serde::{Deserialize, Serialize};

use crate::{
    hook::{HookPoint, Selection},
    job::{JobError, Layers, Session},
    model::{hook_points, width},
};

/// Where states are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct PointSettings {
    /// Hooks: names, short names (`resid_pre`: every layer) or globs (`blocks.*.hook_mlp_out`)
    #[cfg_attr(feature = "cli", arg(long, num_args = 1.., default_value = "resid_pre", value_name = "GLOB"))]
    pub hooks: Vec<String>,
    /// Only these layers, such as 0,4,8-12
    #[cfg_attr(feature = "cli", arg(long, value_name = "LAYERS"))]
    pub layers: Option<Layers>,
}

impl Default for PointSettings {
    fn default() -> Self {
        Self { hooks: vec!["resid_pre".to_owned()], layers: None }
    }
}

impl PointSettings {
    /// The hook points that have a state per token.
    ///
    /// # Errors
    /// A hook or layer that the model does not have; none that has a state per token.
    pub fn resolve(&self, session: &Session) -> Result<Vec<HookPoint>, JobError> {
        let layers = self.layers.as_ref().map(|l| l.0.as_slice());
        let all =
            Selection::new(&self.hooks, layers, &hook_points(&session.spec)).map_err(JobError::usage)?;
        let points: Vec<HookPoint> = all.iter().filter(|p| width(&session.spec, *p).is_some()).collect();
        if points.is_empty() {
            return Err(JobError::setting("hooks", "none has a state per token"));
        }
        Ok(points)
    }
}
