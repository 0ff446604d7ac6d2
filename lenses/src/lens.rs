use tch::Tensor;

use crate::{Error, Horizon, LayerIndex};

/// A lens: a transformation of a residual, read out by the model's own unembedding.
///
/// `layer` picks the translator, not the origin of `resid`: reading a state of layer `j` with the
/// translator of layer `i` is what a transfer matrix measures.
pub trait Lens: Send {
    /// The name under which results are reported, such as `logit`.
    fn name(&self) -> &str;

    /// Of one of several lenses in one folder, the folder's name and what tells the lens from the others: a rung of the
    /// ladder.
    fn rung(&self) -> Option<(&str, &str)> {
        None
    }

    /// Maps a residual `[.., d_model]` to a state of the last layer, `[.., d_model]`.
    ///
    /// # Errors
    /// When the shape does not fit the lens, or it has no translator for `layer`.
    fn transform(&self, layer: LayerIndex, resid: &Tensor) -> Result<Tensor, Error>;

    /// Whether the lens has a translator for `layer`.
    fn reads(&self, layer: LayerIndex) -> bool;

    /// How many tokens ahead the lens predicts.
    fn horizon(&self) -> Horizon {
        Horizon::NEXT
    }
}
