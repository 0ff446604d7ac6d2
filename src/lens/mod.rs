//! Reading the residual stream: lens folders, fitting, measuring, moving between layers, and whether the model goes by
//! them.

pub mod artifact;
pub mod causal;
pub mod concepts;
pub mod evaluate;
pub mod fit;
pub mod jacobian;
pub mod trajectory;
pub mod transfer;
pub mod vectors;

use crate::{
    lenses::Lens,
    results::run::{Parts, Subject},
};

/// Whose numbers a lens's are.
pub fn subject_of(lens: &dyn Lens) -> Subject {
    match lens.rung() {
        Some((of, rung)) => Parts::Rung { of: of.into(), rung: rung.into() }.into(),
        None => lens.name().into(),
    }
}
