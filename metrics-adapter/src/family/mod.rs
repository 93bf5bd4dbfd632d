//! The data model that every source ends in: families of samples, ready to be written as a page.
//!
//! A source with a modest number of samples builds [`Family`] values. A source with very many (the StatsD store)
//! passes its samples to a visitor piece by piece, so that no page is ever built in memory as a whole.

mod label;
mod model;
// Hidden: how pages are made, and reached by benchmarks and tests of this crate only.
#[doc(hidden)]
pub mod normal;
#[doc(hidden)]
pub mod relabel;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod union;
mod walk;

#[doc(hidden)]
pub use label::Packer;
pub use label::{Labels, LabelsIter, PackedLabels};
pub use model::{Family, Histogram, Kind, NativeHistogram, NativeSide, Sample, Summary, Value};
#[doc(hidden)]
pub use walk::{Families, Merge, Visitor, Walk};
