//! layerscope reads what a language model is thinking, layer by layer.
//!
//! ```text
//! text -> tokens -> forward(tap) -> residuals per layer -> lens -> statistics -> metrics.parquet -> report
//!                                \-> activations in Parquet -> probes
//! ```
//!
//! Load a model, keep the residual stream of every layer, read it with a lens, fit a probe to it:
//!
//! ```
//! use layerscope::{job::{ModelSettings, Session}, lens::trajectory::PromptStates, lenses::LayerIndex};
//! use layerscope::probes::{Fit, Labelled, Labels, Logistic, Probe, ndarray::Array2};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/gpt2-alice-8l");
//! let session = Session::open(&ModelSettings::new(folder), &())?; // a folder, or a hub id such as "gpt2"
//! let (model, tokenizer) = (session.load(&())?, session.tokenizer(&())?);
//! let ids = tokenizer.encode("Alice was beginning to get very tired of sitting by her sister")?;
//! let layers = [4, 8].map(LayerIndex);
//! let states = PromptStates::run(model, &ids, &layers)?;
//! let read = states.read(session.lens("logit", &())?[0].as_ref(), &layers, 3)?;
//! println!("{}", tokenizer.piece(read.readings[1].top_ids[5][0] as u32).text); // what follows "very"?
//! let state = Vec::try_from(states.state(layers[0])?.flatten(0, -1))?;
//! let rows = Array2::from_shape_vec((ids.len(), session.spec.d_model), state)?;
//! let long: Vec<u32> = ids.iter().map(|id| u32::from(tokenizer.piece(*id).text.len() > 4)).collect();
//! let probe = Logistic::default().fit(&Labelled { x: rows.view(), y: Labels::Classes { y: &long, n_classes: 2 } })?;
//! println!("{:?}", probe.scores(rows.view())?.row(0));
//! # Ok(())
//! # }
//! ```
//!
//! The rooms stand in the order in which data flows: [`sources`] (models, texts, labelled sets, the device), [`model`]
//! and [`hook`] (the forward pass, and taps that watch or edit it), [`states`] (what was seen, in memory and on disk),
//! [`lens`], [`attention`], [`attribution`], [`probe`] and [`intervene`] (reading, taking apart, decoding, changing),
//! [`results`] (intervals, run folders, the report). A [`job`] is a command as a value: all of its settings, checked, run
//! in front of whoever watches.

pub mod attention;
pub mod attribution;
mod by_text;
pub mod calibration;
pub mod hook;
pub mod intervene;
pub mod job;
pub mod lens;
pub mod model;
pub mod probe;
pub mod sources;
pub mod states;
pub mod watch;

pub use layerscope_lenses as lenses;
pub use layerscope_probes as probes;
pub use layerscope_results as results;

/// The page docs/library.md, whose programs are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
pub struct LibraryPage;
