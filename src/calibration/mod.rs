//! Do the statistics keep their promises? Simulations with the code that makes the numbers of every run.
//!
//! A promise is about repetition: of a hundred corpora, ninety-five intervals hold the truth. Here corpora are drawn
//! again and again from documents whose truth is known, and what is said of them is counted.

mod coverage;
mod planted;
mod population;
mod promise;
mod random;
mod selection;
mod sharing;
mod states;
mod tested;
#[cfg(test)]
mod tests;

pub use coverage::{Coverage, Number, documents, windows};
pub use planted::{Plant, Planted, planted};
pub use population::Sizes;
pub use promise::Promise;
pub use selection::{Selection, selection};
pub use sharing::sharings;
pub use states::{geometries, laws};
pub use tested::{Grouping, KINDS_OF_SETS, Kind, Tested, tested};
