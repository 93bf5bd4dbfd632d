//! The StatsD source: listeners, store, reload, and the page's families.

mod config;
mod datagram;
mod drops;
mod embed;
mod listen;
mod own;
mod relay;
mod reload;
mod run;
mod shared;
mod status;
mod tcp;
mod unixgram;

pub use config::{APP, Config, RelayTarget};

pub use crate::family::store::Limits;
pub use crate::ingest::Options as LineOptions;
#[doc(hidden)]
pub use embed::{Embedded, embed};
pub(crate) use own::convert;
#[doc(hidden)]
pub use relay::Relay;
pub use reload::Reload;
#[doc(hidden)]
pub use reload::ReloadError;
pub use run::{Error, run};
#[doc(hidden)]
pub use shared::{Shared, StatsdSource};
