//! Clients that change their database, user or protocol.

use super::client::{Client, ClientState, Mode, Switching};
use super::hub::Hub;
use crate::cluster::NO_SLOT;
use crate::command::{Kind, Request};
use crate::resp::write_multibulk;
use crate::session::{Profile, Switch};
use crate::upstream::{Credentials, Waiter};
use common::secret::{ExposeSecret, SecretString};
use std::rc::Rc;

const WRONG_PASSWORD: &[u8] = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n";
/// Users known at one time; one that nobody uses any more makes room.
const MAX_USERS: usize = 256;

/// What becomes of a client's `AUTH`.
enum Mapped {
    /// It is passed on as it is, if there is one.
    Itself,
    /// The client is one of ours, and somebody else at the servers.
    Other(Credentials),
    /// It is nobody.
    Nobody,
}

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
            profile.selector = if db == 0 { 0 } else { profile.user };
        }
        if let Some(resp3) = switch.resp3 {
            profile.resp3 = resp3;
        }
        let (mapped, mut words) = (self.mapped(switch), Vec::new());
        let auth = match &mapped {
            Mapped::Nobody => {
                tracing::info!(client = client.id, "client failed to authenticate itself");
                return state.answer(WRONG_PASSWORD);
            }
            Mapped::Other(other) => Some((other.user.as_bytes(), other.password.expose_secret().as_bytes())),
            Mapped::Itself => switch.auth,
        };
        if let Some((user, password)) = auth {
            let Some(number) = self.user(profile, user, password) else {
                return state.answer(WRONG_PASSWORD);
            };
            profile.user = number;
            if matches!(mapped, Mapped::Other(_)) && switch.resp3.is_none() {
                // The server knows the user under the other name only.
                words.extend([&b"AUTH"[..], user, password]);
            }
        }
        let mut frame = frame;
        let mut rewritten = Vec::new();
        let name = match switch.name {
            Some(name) => (!name.is_empty()).then(|| name.into()),
            None => state.session.name.clone(),
        };
        if self.clustered.get()
            && state.own.is_none()
            && *switch == (Switch { name: switch.name, ..Switch::default() })
        {
            // Names are not shown to the servers of a cluster until a client has a connection of its own.
            state.session.name = name;
            return state.answer(b"+OK\r\n");
        }
        if let (Some(resp3), Some(_)) = (switch.resp3, &state.own) {
            // A connection that exists already has not been told by a hand-shake.
            words.extend([&b"HELLO"[..], if resp3 { b"3" } else { b"2" }]);
            words.extend(auth.iter().flat_map(|(user, password)| [&b"AUTH"[..], user, password]));
            words.extend([&b"SETNAME"[..], name.as_deref().unwrap_or_default()]);
        }
        if !words.is_empty() {
            write_multibulk(&mut rewritten, words.into_iter());
            frame = &rewritten;
        }
        if state.own.is_some() {
            let seq = self.send_own_plain(client, state, frame);
            state.switching = Some(Switching { seq, becomes: Some((profile, name)) });
            return;
        }
        let seq = state.push_slot(0, Mode::Neutral, frame.len());
        let lane = self.lane(profile, name.as_deref());
        state.switching = Some(Switching { seq, becomes: Some((profile, name)) });
        let waiter = Waiter {
            client: Rc::clone(client),
            seq,
            len: 0,
            since: self.clock(),
            delay: 0,
            epoch: 0,
            read: true,
            anywhere: false,
            script: false,
            runs_code: false,
            abandoned: false,
            attempts: 0,
            slot: NO_SLOT,
            scan: 0,
            part: None,
        };
        match self.primary() {
            Some(server) if !self.in_limbo() => {
                let link = self.link(lane, server);
                self.send(&link, frame, waiter);
            }
            _ => self.hold(waiter, frame.to_vec(), None),
        }
    }

    /// Whom a client that authenticates itself is at the servers.
    fn mapped(&self, switch: &Switch<'_>) -> Mapped {
        let (Some(users), Some((user, password))) = (&self.settings.users, switch.auth) else {
            return Mapped::Itself;
        };
        let user = if user.is_empty() { b"default" } else { user };
        users.upstream(user, password).map_or(Mapped::Nobody, Mapped::Other)
    }

    /// Whether a client that has not authenticated itself may say this; otherwise it is answered.
    pub(super) fn is_open_to_strangers(
        &self,
        state: &mut ClientState,
        request: &Request<'_>,
        kind: Kind,
    ) -> bool {
        let refusal: &[u8] = match kind {
            Kind::Auth | Kind::Quit | Kind::Reset => return true,
            Kind::Hello if (2..request.len()).any(|at| request.is(at, "AUTH")) => return true,
            Kind::Hello => {
                b"-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> \
                  AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol \
                  version at the same time\r\n"
            }
            _ => b"-NOAUTH Authentication required.\r\n",
        };
        state.answer(refusal);
        false
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
        let free = (1..users.len() as u32)
            .find(|user| !used.iter().any(|profile| profile.user == *user || profile.selector == *user))?;
        self.forget_user(free);
        users[free as usize] = credentials;
        Some(free)
    }
}
