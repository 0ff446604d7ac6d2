//! Reading the residual stream: lens folders, fitting, measuring, moving between layers, and whether the model goes by them.

pub mod artifact;
pub mod causal;
pub mod evaluate;
pub mod fit;
pub mod trajectory;
pub mod transfer;
