//! Redis Cluster as upstream: requests go to the owners of their slots, and what concerns several is split.
//!
//! Nothing here runs in front of a plain primary: the hot path asks once whether there is a cluster.

use super::client::{Client, ClientState, Mode};
use super::cursors;
use super::hub::Hub;
use super::keys::Keys;
use crate::cluster::{
    Everywhere, Join, Joined, NO_SLOT, Redirect, SlotMap, everywhere, scan_cursor, scan_next, slot_of, split,
};
use crate::command::{Classified, Effect, Kind, Request, visit_keys};
use crate::proxy::process::Outcome;
use crate::resp::write_multibulk;
use crate::route::{Candidate, Chooser, Policy};
use crate::topology::Topology;
use crate::upstream::{Link, Part, Waiter};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// Redis's own words come first, since clients look for them.
const CROSS_SLOT: &[u8] =
    b"-CROSSSLOT Keys in request don't hash to the same slot; several servers cannot run this \
    command as one, give its keys a common {tag}\r\n";
/// For so long after a slot has moved, a client's writes to one key follow each other one by one, in microseconds.
const UNSETTLED: u64 = 5_000_000;
/// Redirections that are followed at once; further ones wait a moment each.
const MAX_HOPS: u8 = 4;

/// What a worker knows of the cluster.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    /// As published; `map` is that, and what nodes have said since.
    published: Option<Arc<SlotMap>>,
    map: Option<SlotMap>,
    /// Among the fit replicas, by primary.
    fit: Vec<Chooser>,
    unsettled_until: u64,
}

impl Cluster {
    /// Sorts the fit replicas by whom they follow.
    pub(super) fn choose(&mut self, candidates: &[Candidate], policy: Policy) {
        self.fit.clear();
        let Some(map) = &self.map else { return };
        for primary in map.primaries() {
            if self.fit.len() <= *primary {
                self.fit.resize(*primary + 1, Chooser::default());
            }
            let replicas = map.replicas(*primary);
            let fit = candidates.iter().filter(|candidate| replicas.contains(&candidate.server));
            self.fit[*primary] = Chooser::new(policy, &fit.copied().collect::<Vec<_>>());
        }
    }
}

/// Which slots a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slots {
    None,
    One(u16),
    Several,
}

pub(super) fn slots(request: &Request<'_>, classified: &Classified<'_>) -> Slots {
    /// Of `DEBUG`, whose keys the servers do not tell of.
    const OF_KEY: [&str; 6] = ["OBJECT", "LISTPACK", "QUICKLIST", "SDSLEN", "HTSTATS-KEY", "DIGEST-VALUE"];
    let mut slots = Slots::None;
    if classified.kind == Kind::Settings
        && request.is(0, "DEBUG")
        && OF_KEY.iter().any(|word| request.is(1, word))
    {
        return request.arg(2).map_or(Slots::None, |key| Slots::One(slot_of(key)));
    }
    if let Some(command) = classified.command {
        visit_keys(command, request, |key| {
            let slot = slot_of(key);
            slots = match slots {
                Slots::None => Slots::One(slot),
                Slots::One(known) if known == slot => slots,
                _ => Slots::Several,
            };
        });
    }
    slots
}

impl Hub {
    /// Takes over a new map.
    pub(super) fn update_cluster(&self, topology: &Topology) {
        self.clustered.set(self.settings.clustered);
        let mut cluster = self.cluster.borrow_mut();
        let same = match (&cluster.published, &topology.view.cluster) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        if !same {
            cluster.map = topology.view.cluster.as_deref().cloned();
            cluster.published = topology.view.cluster.clone();
            cluster.unsettled_until = self.now() + UNSETTLED;
        }
    }

    /// The server that answers for a slot, or for none in particular; `None` while there is none that answers.
    pub(super) fn owner(&self, slot: u16) -> Option<usize> {
        if slot == NO_SLOT {
            return self.primary();
        }
        let owner = self.cluster.borrow().map.as_ref()?.owner(slot)?;
        self.view.borrow().servers.get(owner)?.reachable.then_some(owner)
    }

    /// A replica for a read in a slot that has caught up with an epoch.
    fn slot_replica(&self, lane: usize, slot: u16, needed: u64, last: Option<usize>) -> Option<usize> {
        let cluster = self.cluster.borrow();
        let fit = cluster.fit.get(cluster.map.as_ref()?.owner(slot)?)?;
        let server = match last.filter(|last| fit.servers().contains(last)) {
            Some(last) => last,
            None => self.pick(fit, lane)?,
        };
        self.is_fresh(server, needed).then_some(server)
    }

    fn is_unsettled(&self) -> bool {
        self.clock() < self.cluster.borrow().unsettled_until
    }

    /// Sends a request to the owners of its slots.
    pub(super) fn share_clustered(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        request: &Request<'_>,
        classified: &Classified<'_>,
        effect: Effect,
        frame: &[u8],
    ) -> Outcome {
        if self.is_left_behind(client, state) {
            return Outcome::Later;
        }
        let outcome = self.share_by_slot(client, state, request, classified, effect, frame);
        if outcome == Outcome::Taken && effect != Effect::Read && self.is_paused() {
            // It may have to wait, and whoever ends the pause must not wait behind it.
            self.renew_lane(state.lane);
        }
        outcome
    }

    fn share_by_slot(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        request: &Request<'_>,
        classified: &Classified<'_>,
        effect: Effect,
        frame: &[u8],
    ) -> Outcome {
        let keys = self.keys(request, classified, effect);
        let touched = |mode| state.conflicts(keys.single, mode);
        if effect == Effect::Write {
            // Writes overtake neither the client's own reads, nor anything of it while a slot is on its way: what was
            // sent to the old owner may come back and be sent after them.
            let others = state.slots.len().saturating_sub((state.replica_reads + state.writes) as usize);
            if (state.replica_reads > 0 && touched(Mode::ReplicaRead))
                || ((state.writes > 0 || others > 0)
                    && self.is_unsettled()
                    && (touched(Mode::Write) || touched(Mode::Neutral)))
            {
                return Outcome::Later;
            }
        } else if state.writes > 0 && self.is_unsettled() && touched(Mode::Write) {
            return Outcome::Later;
        }
        let name = classified.command.map_or("", |command| &command.name);
        let slots = slots(request, classified);
        if let Some(everywhere) = everywhere(name, request) {
            self.share_everywhere(client, state, request, everywhere, effect, &keys, frame);
            return Outcome::Taken;
        }
        // Part of MGET's keys may be on their way elsewhere, which a replica does not know.
        let several = slots == Slots::Several || (name == "mget" && request.len() > 2);
        if several {
            match split(name, request) {
                Some((join, parts)) => {
                    let parts = parts.iter().map(|part| (part.slot, part.frame.as_slice())).collect();
                    self.share_parts(client, state, join, parts, effect, &keys);
                }
                None if name == "mset" => {
                    state.answer(b"-ERR wrong number of arguments for 'mset' command\r\n");
                }
                None => {
                    self.metrics.error_replies.inc();
                    state.answer(CROSS_SLOT);
                }
            }
            return Outcome::Taken;
        }
        let slot = if let Slots::One(slot) = slots { slot } else { NO_SLOT };
        let script = classified.kind == Kind::ReadScript;
        let runs_code = classified.command.is_some_and(|command| command.runs_code);
        // Of several keys in one slot some may be on their way elsewhere; only the primary knows.
        let lone = keys.single != 0;
        let mode = if effect == Effect::Write { Mode::Write } else { Mode::Neutral };
        let seq = state.push_slot(keys.single, mode, frame.len());
        let target = Target {
            seq,
            part: None,
            slot,
            effect,
            anywhere: lone && effect == Effect::Read,
            script,
            runs_code,
        };
        self.send_clustered(client, state, target, &keys, frame);
        Outcome::Taken
    }

    fn send_clustered(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        target: Target,
        keys: &Keys,
        frame: &[u8],
    ) {
        let Target { seq, part, slot, effect, anywhere, script, runs_code } = target;
        let writes = effect == Effect::Write;
        let epoch = match effect {
            Effect::Write => self.fence_write(state, keys),
            Effect::Read => self.fence_needed(state, keys),
            Effect::PrimaryRead => 0,
        };
        let blocked = state.writes > 0 && state.conflicts(keys.single, Mode::Write);
        // Who tracks keys hears of them from primaries.
        let elsewhere = !blocked && !self.needs_primary() && state.tracking.is_none();
        let replica = match anywhere && slot != NO_SLOT && elsewhere {
            true => {
                let last = (state.replica_reads > 0).then_some(state.last_replica);
                self.slot_replica(state.lane, slot, epoch, last)
            }
            false => None,
        };
        if let Some(server) = replica {
            state.last_replica = server;
            state.read_from_replica(seq);
        }
        let waiter = Waiter {
            client: Rc::clone(client),
            seq,
            len: 0,
            since: self.clock(),
            delay: 0,
            epoch,
            read: !writes,
            anywhere,
            script,
            runs_code,
            abandoned: false,
            attempts: 0,
            slot,
            scan: std::mem::take(&mut state.scan),
            part,
        };
        self.metrics.sent(replica.is_some(), effect);
        match replica.or_else(|| self.owner(slot)) {
            Some(server) if replica.is_some() || !self.slot_waits(slot) => {
                let link = self.link(state.lane, server);
                self.send(&link, frame, waiter);
            }
            _ => {
                if !writes {
                    state.read_from_replica(seq);
                }
                self.hold(waiter, frame.to_vec(), None);
            }
        }
    }

    /// Sends the parts of a request, whose answers become one.
    pub(super) fn share_parts(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        join: Join,
        parts: Vec<(u16, &[u8])>,
        effect: Effect,
        keys: &Keys,
    ) {
        let places = matches!(join, Join::Place(_));
        let joined = Rc::new(RefCell::new(Joined::new(join, parts.len())));
        let mode = if effect == Effect::Write { Mode::Write } else { Mode::Neutral };
        let length = parts.iter().map(|(_, frame)| frame.len()).sum();
        let seq = state.push_slot(0, mode, length);
        for (index, (slot, frame)) in parts.into_iter().enumerate() {
            let part = Some(Part { joined: Rc::clone(&joined), index });
            let target = Target {
                seq,
                part,
                slot,
                effect,
                anywhere: places && effect == Effect::Read,
                script: false,
                runs_code: false,
            };
            self.send_clustered(client, state, target, keys, frame);
        }
    }

    /// Sends a request to every primary, or for `SCAN` to the one whose turn it is.
    #[allow(clippy::too_many_arguments, reason = "one request, as it was taken apart")]
    fn share_everywhere(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        request: &Request<'_>,
        everywhere: Everywhere,
        effect: Effect,
        keys: &Keys,
        frame: &[u8],
    ) {
        let primaries = self.primaries();
        let shards: Vec<u16> = primaries.iter().map(|(_, slot)| *slot).collect();
        let cursor = request.arg(1).and_then(cursors::number);
        let scanned = match (everywhere, cursor) {
            (Everywhere::Scan, Some(cursor)) => scan_cursor(cursor, &shards),
            _ => None,
        };
        if let Some((slot, cursor)) = scanned {
            let cursor = self.shard_cursor(state, slot, cursor).to_string();
            let words: Vec<&[u8]> = (0..request.len())
                .filter_map(|at| if at == 1 { Some(cursor.as_bytes()) } else { request.arg(at) })
                .collect();
            let mut rewritten = Vec::new();
            write_multibulk(&mut rewritten, words.into_iter());
            let join = scan_next(slot, &shards);
            return self.share_parts(client, state, join, vec![(slot, &rewritten)], effect, keys);
        }
        // Whoever stops a script must not be held up by it.
        let effect = if everywhere == Everywhere::FirstGood { Effect::PrimaryRead } else { effect };
        let join = match everywhere {
            Everywhere::Sum => Join::Sum,
            Everywhere::First | Everywhere::Scan => Join::First,
            Everywhere::FirstFound => Join::FirstFound,
            Everywhere::FirstGood => Join::FirstGood,
            Everywhere::Concat => Join::Concat,
            Everywhere::Info => Join::Info,
        };
        let mut everyone: Vec<(u16, &[u8])> = match everywhere {
            // An argument that is no cursor: the server says so.
            Everywhere::Scan => Vec::new(),
            // Clients ask this before anything else, so it does not wait for a shard that is down.
            Everywhere::Info => {
                let view = self.view.borrow();
                let answering = primaries.iter().filter(|(primary, _)| view.is_owner(*primary));
                answering.map(|(_, slot)| (*slot, frame)).collect()
            }
            _ => primaries.iter().map(|(_, slot)| (*slot, frame)).collect(),
        };
        if everyone.is_empty() {
            everyone.push((NO_SLOT, frame));
        }
        if matches!(everywhere, Everywhere::FirstFound) {
            // Every server has its turn at being the first.
            let turn = self.throw() as usize % everyone.len();
            everyone.rotate_left(turn);
        }
        self.share_parts(client, state, join, everyone, effect, keys);
    }

    /// Asks every primary the same; the answer is one.
    pub(super) fn ask_primaries(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        frame: &[u8],
        effect: Effect,
    ) {
        let primaries = self.primaries();
        let parts = match primaries.is_empty() {
            true => vec![(NO_SLOT, frame)],
            false => primaries.iter().map(|(_, slot)| (*slot, frame)).collect(),
        };
        self.share_parts(client, state, Join::First, parts, effect, &Keys::default());
    }

    /// Every primary.
    pub(super) fn primary_servers(&self) -> Vec<usize> {
        let cluster = self.cluster.borrow();
        cluster.map.as_ref().map(|map| map.primaries().to_vec()).unwrap_or_default()
    }

    /// `WAIT`: every shard has to have what was written before. The shared connections that carried those writes are
    /// busy until then, so others get new ones.
    pub(super) fn wait_clustered(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        frame: &[u8],
    ) -> Outcome {
        let primaries = self.primaries();
        let parts = primaries.iter().map(|(_, slot)| (*slot, frame)).collect::<Vec<_>>();
        if parts.is_empty() {
            let join = Join::First;
            self.share_parts(
                client,
                state,
                join,
                vec![(NO_SLOT, frame)],
                Effect::PrimaryRead,
                &Keys::default(),
            );
            return Outcome::Taken;
        }
        self.share_parts(client, state, Join::Least, parts, Effect::PrimaryRead, &Keys::default());
        self.renew_lane(state.lane);
        Outcome::Taken
    }

    /// Has what follows in a lane go over new connections to the primaries.
    fn renew_lane(&self, lane: usize) {
        for server in self.primary_servers() {
            let link =
                self.lanes.borrow().get(lane).and_then(|lane| lane.links.get(server).cloned().flatten());
            if let Some(link) = link {
                self.detach(&link);
            }
        }
    }

    /// Every primary with its lowest slot, in the order of those.
    pub(super) fn primaries(&self) -> Vec<(usize, u16)> {
        let cluster = self.cluster.borrow();
        let Some(map) = &cluster.map else { return Vec::new() };
        let primaries = map.primaries().iter();
        let mut primaries: Vec<_> =
            primaries.filter_map(|primary| Some((*primary, map.lowest_slot(*primary)?))).collect();
        primaries.sort_unstable_by_key(|(_, slot)| *slot);
        primaries
    }

    /// Sends a request that came back unanswered to whoever may take it now.
    pub(super) fn send_again_clustered(
        self: &Rc<Self>,
        waiter: Waiter,
        mut request: Vec<u8>,
        last_error: Option<Vec<u8>>,
    ) {
        let lane = self.lane_of(&waiter);
        let replica = match waiter.anywhere && waiter.client.state.borrow().tracking.is_none() {
            true => self.slot_replica(lane, waiter.slot, waiter.epoch, None),
            false => None,
        };
        match replica.or_else(|| self.owner(waiter.slot)) {
            Some(server) => {
                self.rescan(waiter.scan, &mut request, server);
                let link = self.link(lane, server);
                self.send(&link, &request, waiter);
            }
            None => self.hold(waiter, request, last_error),
        }
    }

    /// Follows a redirection; gives back what is none.
    pub(super) fn redirect(
        self: &Rc<Self>,
        link: &Rc<Link>,
        mut waiter: Waiter,
        mut request: Vec<u8>,
        error: Vec<u8>,
    ) -> Option<(Waiter, Vec<u8>, Vec<u8>)> {
        let Some(redirect) = Redirect::parse(&error) else { return Some((waiter, request, error)) };
        if waiter.client.state.borrow().closed {
            self.fence_done(&waiter);
            return None;
        }
        // What a replica says of a slot may be old; the owner knows.
        waiter.anywhere = false;
        let target = self.follow(link, &redirect);
        match (redirect, target) {
            (Redirect::Moved(..) | Redirect::Ask(..), Some(server)) if waiter.attempts <= MAX_HOPS => {
                self.rescan(waiter.scan, &mut request, server);
                let lane = self.lane_of(&waiter);
                let to = self.link(lane, server);
                if matches!(redirect, Redirect::Ask(..)) {
                    self.send(&to, ASKING, waiter.silent());
                }
                self.send(&to, &request, waiter);
            }
            _ => self.hold(waiter, request, Some(error)),
        }
        None
    }

    /// Learns from a redirection and says where it leads, if that is known.
    pub(super) fn follow(&self, link: &Link, redirect: &Redirect<'_>) -> Option<usize> {
        self.settings.probe_now.notify_waiters();
        self.cluster.borrow_mut().unsettled_until = self.now() + UNSETTLED;
        let (slot, host, port, moved) = match *redirect {
            Redirect::Moved(slot, host, port) => (slot, host, port, true),
            Redirect::Ask(slot, host, port) => (slot, host, port, false),
            Redirect::Later => return None,
        };
        let topology = self.topology.borrow();
        let server = topology.find(host, port, link.server.get())?;
        let news = moved && self.cluster.borrow_mut().map.as_mut().is_some_and(|map| map.learn(slot, server));
        if news && self.settings.consistency.uses_fence() {
            // The keys that came with the slot are not known to be on the new owner's replicas.
            self.settings.fence.mark_all();
            self.settings.signal.raise();
        }
        if news {
            drop(topology);
            self.refresh_candidates();
        }
        Some(server)
    }
}

/// Precedes a request that another node has sent here.
pub(super) const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

/// Where a request may go.
struct Target {
    seq: u64,
    part: Option<Part>,
    slot: u16,
    effect: Effect,
    /// A replica of the slot will do.
    anywhere: bool,
    script: bool,
    runs_code: bool,
}
