//! One downstream connection as Redis would see it: what it has selected, whom it has authenticated as, and whether
//! it is inside something that needs a connection of its own.
//!
//! Pure: a request comes in, a [`Plan`] goes out. The driver carries it out and reports what the server answered.

mod client_command;
mod hello;
#[cfg(test)]
mod tests;

use crate::command::{Classified, Effect, Kind, Request, Table};
use crate::resp::parse_integer;
use bytes::Bytes;
use std::borrow::Cow;

/// What every upstream connection of a session has in common; connections are shared between sessions of the same
/// profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Profile {
    /// Selected database.
    pub db: u32,
    /// Who it is authenticated as: an index into the driver's list, 0 is the configured default.
    pub user: u32,
    /// Who can select the database, which `user` need not be allowed to do; 0 for the first database.
    pub selector: u32,
    /// Whether it speaks RESP3.
    pub resp3: bool,
}

/// A change of profile that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Switch<'a> {
    /// `SELECT`.
    pub db: Option<u32>,
    /// `HELLO 2`, `HELLO 3`.
    pub resp3: Option<bool>,
    /// `AUTH`, `HELLO … AUTH`: user name (empty when not given) and password.
    pub auth: Option<(&'a [u8], &'a [u8])>,
    /// `CLIENT SETNAME`, `HELLO … SETNAME`: the client's name, empty for none.
    pub name: Option<&'a [u8]>,
}

/// How a request is to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan<'a> {
    /// On a connection shared with other clients.
    Shared(Effect),
    /// On a connection of the session's own; one answer follows.
    Own,
    /// On a connection of its own that from now on is a plain stream in both directions.
    Raw,
    /// On a connection of the profile it asks for; the session takes the profile over when the server agrees.
    /// The bytes replace the request, unless empty.
    Switch(Switch<'a>, Bytes),
    /// `WAIT`: on the very connection that carried the session's writes, which becomes its own.
    Wait,
    /// With this, without asking a server.
    Answer(Cow<'static, [u8]>),
    /// It is carried out already, and has no answer.
    Nothing,
    /// `RESET`: answer and forget everything.
    Reset,
    /// `QUIT`: answer and close.
    Quit,
}

/// `CLIENT REPLY`: which answers the client does not want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quiet {
    /// It wants all.
    #[default]
    No,
    /// Not the next one.
    Next,
    /// None.
    Off,
}

/// State of one downstream connection.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// In use since the last successful switch.
    pub profile: Profile,
    /// `CLIENT SETNAME`.
    pub name: Option<Box<[u8]>>,
    quiet: Quiet,
    library: [Option<Box<[u8]>>; 2],
    multi: bool,
    watching: bool,
    /// Its own connection was shown to the client (`CLIENT ID`) or carries its settings: keep it.
    sticky: bool,
    /// Reads have to use it as well.
    all_own: bool,
    raw: bool,
}

impl Session {
    /// A new connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the connection is a stream of its own in both directions.
    pub fn is_raw(&self) -> bool {
        self.raw
    }

    /// Whether `MULTI` or `WATCH` is open: what happens then must stay on one connection.
    pub fn in_transaction(&self) -> bool {
        self.multi || self.watching
    }

    /// Whether requests are being queued.
    pub fn in_multi(&self) -> bool {
        self.multi
    }

    /// Whether the session needs its own connection even when nothing is outstanding on it.
    pub fn keeps_own(&self) -> bool {
        self.multi || self.watching || self.sticky || self.raw
    }

    /// Whether losing its own connection cannot be hidden from the client.
    pub fn dies_with_own(&self) -> bool {
        self.multi || self.watching || self.raw
    }

    /// Whether the answer to the next request is unwanted.
    #[inline]
    pub fn takes_no_answer(&mut self) -> bool {
        match self.quiet {
            Quiet::No => false,
            Quiet::Next => {
                self.quiet = Quiet::No;
                true
            }
            Quiet::Off => true,
        }
    }

    /// What a stream of its own has to begin with, so that the server leaves out what the client does not want.
    pub fn quiet_stream(&mut self) -> &'static [u8] {
        match std::mem::take(&mut self.quiet) {
            Quiet::No => b"",
            Quiet::Next => b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$4\r\nSKIP\r\n",
            Quiet::Off => b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n",
        }
    }

    /// Decides about one request. `own_busy` says that answers are outstanding on the session's own connection.
    #[inline]
    pub fn plan<'a>(
        &mut self,
        table: &Table,
        request: &Request<'a>,
        classified: &Classified<'_>,
        own_busy: bool,
    ) -> Plan<'a> {
        if classified.kind == Kind::Quit {
            return Plan::Quit;
        }
        if self.raw {
            return Plan::Raw;
        }
        if self.multi {
            return self.plan_in_multi(classified.kind);
        }
        if classified.blocks {
            return Plan::Own;
        }
        if self.watching || self.all_own || own_busy {
            return match classified.kind {
                Kind::Plain => Plan::Own,
                _ => match self.plan_special(table, request, classified) {
                    Plan::Shared(_) | Plan::Wait => Plan::Own,
                    other => other,
                },
            };
        }
        match classified.kind {
            Kind::Plain
            | Kind::Sort
            | Kind::GeoRadius
            | Kind::Bitfield
            | Kind::StreamRead
            | Kind::ReadScript => self.shared(classified.effect),
            _ => self.plan_special(table, request, classified),
        }
    }

    /// A session that has a connection of its own anyway sends everything there but the reads.
    fn shared(&self, effect: Effect) -> Plan<'static> {
        if self.sticky && effect != Effect::Read { Plan::Own } else { Plan::Shared(effect) }
    }

    fn plan_in_multi(&mut self, kind: Kind) -> Plan<'static> {
        match kind {
            Kind::Exec | Kind::Discard => {
                self.multi = false;
                self.watching = false;
            }
            Kind::Reset => return Plan::Reset,
            // Queued, these would change the connection behind our back when EXEC runs them.
            Kind::Select | Kind::Auth | Kind::Hello | Kind::Client | Kind::Script => {
                self.sticky = true;
                self.all_own = true;
            }
            Kind::Subscribe | Kind::Stream => {
                self.raw = true;
                return Plan::Raw;
            }
            _ => {}
        }
        Plan::Own
    }

    fn plan_special<'a>(
        &mut self,
        table: &Table,
        request: &Request<'a>,
        classified: &Classified<'_>,
    ) -> Plan<'a> {
        match classified.kind {
            // With arguments the server refuses it and nothing opens.
            Kind::Multi if request.len() == 1 => {
                self.multi = true;
                Plan::Own
            }
            Kind::Watch if request.len() > 1 => {
                self.watching = true;
                Plan::Own
            }
            Kind::Unwatch | Kind::Exec | Kind::Discard if self.watching => {
                // EXEC and DISCARD without MULTI are errors that leave WATCH as it was.
                self.watching = classified.kind != Kind::Unwatch;
                Plan::Own
            }
            Kind::Subscribe | Kind::Stream => {
                self.raw = true;
                Plan::Raw
            }
            Kind::Select => self.plan_select(request),
            Kind::Auth => self.plan_auth(request),
            Kind::Hello => hello::plan(self, request),
            Kind::Client => client_command::plan(self, table, request),
            Kind::Wait => {
                let known = self.sticky;
                self.sticky = true;
                if known { Plan::Own } else { Plan::Wait }
            }
            // What it is to stop may be running on the shared connection, which hears nothing meanwhile.
            Kind::Script if request.is(1, "KILL") || request.is(1, "STATS") => Plan::Own,
            Kind::Script if request.is(1, "DEBUG") => {
                self.sticky = true;
                self.all_own = true;
                Plan::Own
            }
            Kind::Reset if request.len() == 1 => Plan::Reset,
            _ => self.shared(classified.effect),
        }
    }

    fn plan_select<'a>(&self, request: &Request<'a>) -> Plan<'a> {
        let db = request.arg(1).and_then(parse_integer).and_then(|db| u32::try_from(db).ok());
        match db {
            Some(db) if request.len() == 2 => {
                Plan::Switch(Switch { db: Some(db), ..Switch::default() }, Bytes::new())
            }
            // The server says what is wrong with it, and changes nothing.
            _ => self.shared(Effect::PrimaryRead),
        }
    }

    fn plan_auth<'a>(&self, request: &Request<'a>) -> Plan<'a> {
        let auth = match (request.arg(1), request.arg(2), request.len()) {
            (Some(password), None, 2) => (&b""[..], password),
            (Some(user), Some(password), 3) => (user, password),
            _ => return self.shared(Effect::PrimaryRead),
        };
        Plan::Switch(Switch { auth: Some(auth), ..Switch::default() }, Bytes::new())
    }

    /// The requests that give a fresh connection of its own this session's settings; each has one answer.
    pub fn replay(&self) -> Vec<Vec<Vec<u8>>> {
        let client = |words: &[&[u8]]| -> Vec<Vec<u8>> {
            std::iter::once(&b"CLIENT"[..]).chain(words.iter().copied()).map(<[u8]>::to_vec).collect()
        };
        let mut requests = Vec::new();
        requests.extend(self.name.as_ref().map(|name| client(&[b"SETNAME", name])));
        for (attribute, value) in [&b"LIB-NAME"[..], b"LIB-VER"].into_iter().zip(&self.library) {
            requests.extend(value.as_ref().map(|value| client(&[b"SETINFO", attribute, value])));
        }
        requests
    }

    /// `RESET`: as new, with the default user.
    pub fn reset(&mut self) {
        *self = Self { library: std::mem::take(&mut self.library), ..Self::default() };
    }
}
