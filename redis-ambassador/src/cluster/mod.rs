//! Redis Cluster: slots, who owns them, and commands that concern several of them. Pure.

mod clients;
mod info;
mod join;
mod map;
mod nodes;
mod redirect;
mod slot;
mod split;
#[cfg(test)]
mod tests;

pub(crate) use clients::OURS;
pub use clients::{Naming, ask_about, connection_of, named_connections};
pub(crate) use join::is_nothing;
pub use join::{Join, Joined};
pub use map::{NO_SERVER, SlotMap};
pub use nodes::{Node, parse_nodes};
pub use redirect::Redirect;
pub use slot::{SLOTS, slot_of};
pub use split::{Everywhere, Part, everywhere, scan_cursor, scan_next, split};

/// No slot in particular.
pub const NO_SLOT: u16 = u16::MAX;
