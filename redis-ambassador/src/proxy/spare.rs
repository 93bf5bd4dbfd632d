//! Connections of nobody's, ready for the next client that needs one of its own.
//!
//! A client's first blocking command should be on its way when its bytes have come, and not only after a hand-shake:
//! otherwise a command that another client sends later would reach the server first.

use super::client::Client;
use super::hub::Hub;
use super::link_task;
use crate::resp::write_multibulk;
use crate::session::{Profile, Session};
use crate::upstream::{Link, Waiter};
use std::rc::Rc;

/// At most this many own connections wait for their next owner.
const MAX_SPARES: usize = 16;
/// This many are kept ready for a profile that uses such connections.
const READY: usize = 2;
/// A spare beyond those is closed after this many microseconds,
const IDLE: u64 = 30_000_000;
/// and the last ones after so many.
const READY_IDLE: u64 = 600_000_000;

impl Hub {
    /// A connection to a server that suits a session: the client's from now on.
    pub(super) fn take_spare(
        &self,
        client: &Rc<Client>,
        session: &Session,
        server: Option<usize>,
    ) -> Option<Rc<Link>> {
        let wanted = session.replay();
        let link = {
            let mut idle = self.idle.borrow_mut();
            let fits = |link: &Link| {
                link.profile == session.profile && Some(link.server.get()) == server && !link.is_closed()
            };
            let told = |link: &Link, what: &[Vec<Vec<u8>>]| link.state.borrow().told == what;
            let at = idle.iter().rposition(|(_, link)| fits(link) && told(link, &wanted));
            let at = at.or_else(|| idle.iter().rposition(|(_, link)| fits(link) && told(link, &[])))?;
            idle.remove(at).1
        };
        link.state.borrow_mut().owner = Some(Rc::clone(client));
        if link.state.borrow().told != wanted {
            self.introduce(client, &link, wanted);
        }
        self.enlist(&link);
        Some(link)
    }

    /// Tells a spare's server whose connection it is now; nobody waits for the answers.
    fn introduce(&self, client: &Rc<Client>, link: &Link, wanted: Vec<Vec<Vec<u8>>>) {
        let mut state = link.state.borrow_mut();
        let mut bytes = Vec::new();
        for request in &wanted {
            write_multibulk(&mut bytes, request.iter().map(Vec::as_slice));
            link.outstanding.set(link.outstanding.get() + 1);
            state.waiters.push_back(Waiter::internal(client, self.clock()));
        }
        state.out.extend(&bytes);
        state.told = wanted;
    }

    /// Has connections of a profile made until enough are ready.
    pub(super) fn top_up(self: &Rc<Self>, profile: Profile) {
        let Some(primary) = self.primary() else { return };
        if self.settings.notes.is_monitored() {
            // Nobody has asked for what they would see.
            return;
        }
        loop {
            let link = {
                let mut idle = self.idle.borrow_mut();
                let ready = idle.iter().filter(|(_, link)| {
                    link.profile == profile && link.server.get() == primary && !link.is_closed()
                });
                if ready.count() >= READY {
                    return;
                }
                if idle.len() >= MAX_SPARES {
                    let (_, oldest) = idle.remove(0);
                    oldest.close();
                }
                let link = Link::new(primary, profile, None);
                link.own.set(true);
                idle.push((self.clock(), Rc::clone(&link)));
                link
            };
            tokio::task::spawn_local(link_task::run(Rc::clone(self), link));
        }
    }

    /// Keeps a connection that its owner needs no more; false when it should be closed.
    pub(super) fn keep_spare(&self, link: &Rc<Link>) -> bool {
        let mut idle = self.idle.borrow_mut();
        let useful = !link.is_closed() && self.owner(link.slot.get()) == Some(link.server.get());
        if !useful || idle.len() >= MAX_SPARES {
            return false;
        }
        idle.push((self.now(), Rc::clone(link)));
        true
    }

    /// Closes those that nobody has needed for long.
    pub(super) fn expire_spares(&self, now: u64) {
        let mut idle = self.idle.borrow_mut();
        let mut newer: Vec<Profile> = Vec::new();
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let (since, link) = &idle[at];
            let ready = newer.iter().filter(|profile| **profile == link.profile).count() < READY;
            newer.push(link.profile);
            let limit = if ready { READY_IDLE } else { IDLE };
            if link.is_closed() || now.saturating_sub(*since) >= limit {
                link.close();
                idle.remove(at);
            }
        }
    }
}
