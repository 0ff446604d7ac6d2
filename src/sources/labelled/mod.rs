//! From labelled data to the states that a probe reads.
//!
//! ```text
//! csv, tsv, json, jsonl, parquet ─┐
//! CoNLL-U ────────────────────────┴─> LabelledSet ── check ──> Report
//!                                          └── Plan (tokenizer, positions, context) ──> windows, and items: rows + label
//! ```
//!
//! 1. [`LabelledSet::open`] reads texts with a label each (or with a labelled span each), or sentences with a label per
//!    word. What cannot be used is left out, counted and named in [`Dropped`].
//! 2. [`check`](check()) looks at labels, groups and repeated texts before anything runs.
//! 3. [`Plan::new`] says which rows of which [window](crate::sources::text::Window) every label is read from.
//!
//! A group (an entity, a document) is the unit that a split keeps together and that a bootstrap draws.

mod align;
mod check;
mod conllu;
mod dropped;
mod error;
mod fold;
mod joined;
mod label;
mod noted;
mod plan;
mod positions;
mod set;
mod share;
mod skipped;
mod spelling;
mod table;
mod words;

pub use check::{ClassCount, Duplicates, Report, check};
pub use dropped::Dropped;
pub use error::LabelledError;
pub use label::LabelValues;
pub use noted::Noted;
pub use plan::{Item, Plan};
pub use positions::LabelPositions;
pub use set::{LabelledOptions, LabelledSet, LabelledText, Referent, Unit};
pub use skipped::Skipped;
pub use spelling::place as place_of_class;
