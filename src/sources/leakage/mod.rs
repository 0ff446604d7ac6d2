//! Leakage: whether what something is measured on is what it was fitted on.
//!
//! ```text
//! fit:      documents ── FittedOn ──> fitted_on.parquet beside the lens or the probe
//! measure:  documents ── FittedOn::overlap ──> Overlap: equal documents, near ones, tokens of passages seen before
//! ```
//!
//! Two things are kept of what was fitted on. A hash of every document finds equal ones. A `MinHash` sketch of its runs
//! (six tokens, or three words) finds documents that are nearly equal, parts of documents and pieces with other
//! boundaries: the runs whose hash is below a bound, which is halved whenever there are too many (Broder 1997, "mod m";
//! known as `FracMinHash`: Hera, Pierce-Ward & Koslicki 2023). Unlike a signature of fixed length per document it
//! estimates containment without bias, whatever the lengths of the two texts, and its size does not grow with the text.
//! What is kept depends on the set of documents alone, not on their order, on batches or on threads.
//!
//! Runs count by what they tell, ln(1 + documents / documents with the run), so that what every document begins with
//! tells little. A document is near, and a passage of 64 runs is seen, where half of what it tells or more was fitted
//! on.
//!
//! [`EqualDocuments`] is for splits: copies of a document must not stand on both of their sides.

mod across;
mod document;
mod equal;
mod file;
mod fitted;
mod overlap;
mod sample;
#[cfg(test)]
mod tests;

pub use across::across;
pub use document::{each_document, lead_of, words};
pub use equal::EqualDocuments;
pub use file::FITTED_ON;
pub use fitted::FittedOn;
pub use layerscope_results::run::{Basis, Leakage, Overlap};
