//! The data model that every source ends in: families of samples, ready to be written as a page.
//!
//! A source with a modest number of samples builds [`Family`] values and hands them over as
//! [`Families`]. A source with very many (the StatsD store) implements [`Walk`] itself and passes its samples
//! to the [`Visitor`] piece by piece, so that no page is ever built in memory as a whole.

mod label;
mod model;
pub mod normal;
pub mod relabel;
pub mod store;
pub mod union;
mod walk;

pub use label::{Labels, LabelsIter, PackedLabels, Packer};
pub use model::{Family, Histogram, Kind, NativeHistogram, NativeSide, Sample, Summary, Value};
pub use walk::{Families, Merge, Visitor, Walk};
