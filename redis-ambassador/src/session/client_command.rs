//! `CLIENT …`: about the connection itself, so mostly about a connection of the session's own.

use super::hello::{is_printable, refuse};
use super::{Plan, Quiet, Session, Switch};
use crate::command::{Effect, Request, Table};
use bytes::Bytes;
use std::borrow::Cow;

const OK: Plan<'static> = Plan::Answer(Cow::Borrowed(b"+OK\r\n"));

pub(super) fn plan<'a>(session: &mut Session, table: &Table, request: &Request<'a>) -> Plan<'a> {
    let Some(word) = request.arg(1) else { return session.shared(Effect::PrimaryRead) };
    let known = table.find(b"client").is_some_and(|client| client.subcommand(word).is_some());
    if !known {
        // The server's own words about a subcommand that it does not have.
        return session.shared(Effect::PrimaryRead);
    }
    let (word, len) = (word.to_ascii_uppercase(), request.len());
    match (word.as_slice(), len) {
        (b"SETNAME", 3) => set_name(request),
        (b"GETNAME", 2) if !session.sticky => Plan::Answer(get_name(session)),
        (b"SETINFO", 4) => set_info(session, request),
        // From here on the client knows this connection: it has to stay.
        (b"ID" | b"INFO", 2) => {
            session.sticky = true;
            Plan::Own
        }
        // What these say holds for this one connection, reads included.
        (b"NO-EVICT" | b"NO-TOUCH" | b"TRACKING" | b"CACHING", _) => {
            session.sticky = true;
            session.all_own = true;
            Plan::Own
        }
        (b"REPLY", 3) => reply(session, request),
        (b"TRACKINGINFO" | b"GETREDIR", _) => Plan::Own,
        _ => session.shared(Effect::PrimaryRead),
    }
}

fn reply<'a>(session: &mut Session, request: &Request<'a>) -> Plan<'a> {
    if request.is(2, "ON") {
        session.quiet = Quiet::No;
        return OK;
    }
    if request.is(2, "OFF") {
        session.quiet = Quiet::Off;
    } else if request.is(2, "SKIP") {
        if session.quiet == Quiet::No {
            session.quiet = Quiet::Next;
        }
    } else {
        return session.shared(Effect::PrimaryRead);
    }
    Plan::Nothing
}

fn set_name<'a>(request: &Request<'a>) -> Plan<'a> {
    let name = request.arg(2).unwrap_or_default();
    if !is_printable(name) {
        return refuse("ERR Client names cannot contain spaces, newlines or special characters.");
    }
    Plan::Switch(Switch { name: Some(name), ..Switch::default() }, Bytes::new())
}

fn get_name(session: &Session) -> Cow<'static, [u8]> {
    match &session.name {
        None if session.profile.resp3 => Cow::Borrowed(b"_\r\n"),
        None => Cow::Borrowed(b"$-1\r\n"),
        Some(name) => {
            let mut answer = format!("${}\r\n", name.len()).into_bytes();
            answer.extend_from_slice(name);
            answer.extend_from_slice(b"\r\n");
            Cow::Owned(answer)
        }
    }
}

fn set_info<'a>(session: &mut Session, request: &Request<'a>) -> Plan<'a> {
    let value = request.arg(3).unwrap_or_default();
    let slot = match request.arg(2).unwrap_or_default().to_ascii_uppercase().as_slice() {
        b"LIB-NAME" => 0,
        b"LIB-VER" => 1,
        _ => return session.shared(Effect::PrimaryRead),
    };
    if !is_printable(value) {
        return session.shared(Effect::PrimaryRead);
    }
    session.library[slot] = (!value.is_empty()).then(|| value.into());
    if session.sticky { Plan::Own } else { OK }
}
