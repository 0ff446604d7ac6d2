//! What a measurement leaves behind, and how it is shown. Nothing here needs a network, or libtorch.
//!
//! ```text
//! per-document sums -> statistics -> MetricRow -> run/metrics.parquet -> report: figures, tables, one offline page
//! ```
//!
//! [`statistics`] turns sums by document into estimates with intervals; [`run`] is the run folder: `manifest.json`,
//! `metrics.parquet`, checksums and locks; [`trace`] is a prompt as lenses read it, [`patterns`] where
//! heads look on it; [`report`] draws finished runs,
//! with [`figure`] (static) and [`page`] (one HTML file).

pub mod draw;
pub mod figure;
pub mod guard;
pub mod hash;
pub mod inert;
pub mod page;
pub mod patterns;
#[cfg(feature = "query")]
pub mod query;
pub mod report;
pub mod run;
pub mod shell;
pub mod show;
pub mod statistics;
pub mod trace;
pub mod words;
