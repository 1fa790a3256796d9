//! The presenter: a run's record becomes live progress, a table and a picture.
//!
//! Everything here works from the record alone, so any record can be drawn again later.
//!
//! Layers: [`run`] (the record, read) — [`svg`], [`chart`], [`heatmap`] (drawing) — [`picture`], [`page`], [`live`],
//! [`summary`] (what a person sees).

pub mod chart;
pub mod heatmap;
pub mod live;
pub mod page;
pub mod picture;
pub mod run;
pub mod summary;
pub mod svg;
