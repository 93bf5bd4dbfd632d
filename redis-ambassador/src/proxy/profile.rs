//! Clients that change their database, user or protocol.

use super::client::{Client, ClientState, Mode};
use super::hub::Hub;
use crate::session::{Profile, Switch};
use crate::upstream::{Credentials, Waiter};
use common::secret::{ExposeSecret, SecretString};
use std::rc::Rc;

/// Users known at one time; one that nobody uses any more makes room.
const MAX_USERS: usize = 256;

impl Hub {
    /// Takes over the profile a request asks for, when a server has agreed to it.
    pub(super) fn switch(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        switch: &Switch<'_>,
        frame: &[u8],
    ) {
        let mut profile = state.session.profile;
        if let Some(db) = switch.db {
            profile.db = db;
        }
        if let Some(resp3) = switch.resp3 {
            profile.resp3 = resp3;
        }
        if let Some((user, password)) = switch.auth {
            match self.user(profile, user, password) {
                Some(user) => profile.user = user,
                None => {
                    return state
                        .answer(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n");
                }
            }
        }
        if state.own.is_some() {
            let seq = self.send_own_plain(client, state, frame);
            state.switching = Some((seq, profile));
            return;
        }
        let seq = state.push_slot(0, Mode::Neutral, frame.len());
        state.switching = Some((seq, profile));
        let waiter = Waiter {
            client: Rc::clone(client),
            seq,
            len: 0,
            since: self.clock(),
            epoch: 0,
            read: true,
            anywhere: false,
            script: false,
            runs_code: false,
            abandoned: false,
            attempts: 0,
        };
        match self.primary() {
            Some(server) if !self.in_limbo() => {
                let link = self.link(self.lane(profile), server);
                self.send(&link, frame, waiter);
            }
            _ => self.hold(waiter, frame.to_vec(), None),
        }
    }

    /// The number of a user with this password; `None` when either is no text.
    fn user(&self, current: Profile, user: &[u8], password: &[u8]) -> Option<u32> {
        let (user, password) = (std::str::from_utf8(user).ok()?, std::str::from_utf8(password).ok()?);
        let mut users = self.users.borrow_mut();
        let same = |known: &Option<Credentials>| {
            known
                .as_ref()
                .is_some_and(|known| known.user == user && known.password.expose_secret() == password)
        };
        if let Some(index) = users.iter().position(same) {
            return Some(index as u32);
        }
        let credentials =
            Some(Credentials { user: user.to_owned(), password: SecretString::from(password.to_owned()) });
        if users.len() < MAX_USERS {
            users.push(credentials);
            return Some(users.len() as u32 - 1);
        }
        // The caller's own state is borrowed; what it uses now stays.
        let used = self.profiles_in_use(current);
        let free = (1..users.len() as u32).find(|user| !used.iter().any(|profile| profile.user == *user))?;
        self.forget_user(free);
        users[free as usize] = credentials;
        Some(free)
    }
}
