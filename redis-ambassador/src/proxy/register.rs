//! `CLIENT ID`, `INFO`, `LIST`, `KILL` and `UNBLOCK` in front of a Redis Cluster: which client has which connection.
//!
//! A client's number is the ambassador's own, since its connection goes to another shard with another key, and every
//! server numbers its connections for itself. All workers know where the connection is that a client has of its own.

use super::client::{Client, ClientState};
use super::hub::Hub;
use crate::cluster::{Join, Joined, NO_SLOT, Naming, OURS, ask_about, connection_of, named_connections};
use crate::command::{Effect, Request};
use crate::proxy::keys::Keys;
use crate::upstream::{Link, Part};
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bits of a client's number that count the clients; those above are drawn when the process starts, so that clients of
/// another ambassador are not taken for its own.
const COUNTED: u32 = 36;

/// A server, and what it calls a connection.
type Place = (usize, u64);

/// The clients of a process.
#[derive(Debug)]
pub(crate) struct Register {
    base: u64,
    last: AtomicU64,
    /// Where the connections are that clients have of their own.
    places: Mutex<HashMap<u64, Place>>,
}

impl Default for Register {
    fn default() -> Self {
        let drawn = RandomState::new().hash_one(0_u8) & (OURS - 1);
        Self { base: OURS | drawn >> COUNTED << COUNTED, last: AtomicU64::new(0), places: Mutex::default() }
    }
}

impl Register {
    /// The number of a new client among those of the process.
    pub(super) fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What clients call the client with that number.
    fn name(&self, client: u64) -> u64 {
        self.base + client
    }

    fn places(&self) -> MutexGuard<'_, HashMap<u64, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What clients are called that have a connection of their own to a server, by its numbers.
    fn at(&self, server: usize) -> HashMap<u64, u64> {
        let places = self.places();
        let there = places.iter().filter(|(_, place)| place.0 == server);
        there.map(|(name, (_, number))| (*number, *name)).collect()
    }
}

/// A client's connection that others find under the client's name, for as long as this is kept.
#[derive(Debug)]
pub(crate) struct Listed {
    register: Arc<Register>,
    name: u64,
    place: Place,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut places = self.register.places();
        if places.get(&self.name) == Some(&self.place) {
            places.remove(&self.name);
        }
    }
}

impl Hub {
    /// Has a client found by its own connection, once that has a number and an owner.
    pub(super) fn enlist(&self, link: &Link) {
        let mut state = link.state.borrow_mut();
        let (Some(number), Some(owner)) = (link.number.get(), &state.owner) else { return };
        let register = Arc::clone(&self.settings.register);
        let (name, place) = (register.name(owner.id), (link.server.get(), number));
        // What it may have been before is taken out of the list first, and not after this.
        state.listed = None;
        register.places().insert(name, place);
        state.listed = Some(Listed { register, name, place });
    }

    /// Has the answer to a client's last request, `CLIENT ID` or `CLIENT INFO` over its own connection, tell the
    /// client's name and not the server's.
    pub(super) fn name_in_answer(&self, client: &Client, state: &ClientState, request: &Request<'_>) {
        let name = self.settings.register.name(client.id);
        let join = match request.is(1, "ID") {
            true => Join::Instead(format!(":{name}\r\n").into_bytes()),
            false => Join::Clients(vec![Naming::One(name)]),
        };
        let Some(link) = &state.own else { return };
        if let Some(waiter) = link.state.borrow_mut().waiters.back_mut() {
            let joined = Rc::new(RefCell::new(Joined::new(join, 1)));
            waiter.part = Some(Part { joined, index: 0 });
        }
    }

    /// `CLIENT LIST`, `KILL`, `UNBLOCK`: each server that answers is asked about the connections that it has. False for
    /// anything else.
    pub(super) fn ask_of_clients(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        request: &Request<'_>,
    ) -> bool {
        let (list, kill) = (request.is(1, "LIST"), request.is(1, "KILL"));
        if !list && !kill && !request.is(1, "UNBLOCK") {
            return false;
        }
        if kill {
            self.note_kill();
        }
        let named = named_connections(request);
        let mut places: HashMap<u64, Place> =
            named.iter().filter_map(|(_, name)| Some((*name, self.place(*name)?))).collect();
        let spares_asker = !(2..request.len()).any(|at| request.is(at, "SKIPME") && request.is(at + 1, "NO"));
        if kill && spares_asker {
            places.remove(&self.settings.register.name(client.id));
        }
        let (mut parts, mut namings) = (Vec::new(), Vec::new());
        for (server, slot) in self.primaries() {
            let here = places.iter().filter(|(_, place)| place.0 == server);
            let numbers: HashMap<u64, u64> = here.map(|(name, (_, number))| (*name, *number)).collect();
            let concerned = named.is_empty() || !numbers.is_empty();
            if concerned && self.view.borrow().is_owner(server) {
                parts.push((slot, ask_about(request, &named, &numbers)));
                namings.push(Naming::Shard { slot, known: self.settings.register.at(server) });
            }
        }
        if parts.is_empty() {
            // None of them is anywhere; a server says what else is wrong.
            parts.push((NO_SLOT, ask_about(request, &named, &HashMap::new())));
            namings.push(Naming::Shard { slot: 0, known: HashMap::new() });
        }
        let join = match list {
            true => Join::Clients(namings),
            false if kill && request.len() == 3 => Join::FirstGood,
            false => Join::Sum,
        };
        let parts = parts.iter().map(|(slot, frame)| (*slot, frame.as_slice())).collect();
        self.share_parts(client, state, join, parts, Effect::PrimaryRead, &Keys::default());
        true
    }

    /// Where the connection is that clients call so.
    fn place(&self, name: u64) -> Option<Place> {
        if name >= OURS {
            return self.settings.register.places().get(&name).copied();
        }
        let (slot, number) = connection_of(name);
        let place = (self.owner(slot)?, number);
        (number != 0).then_some(place)
    }
}
