//! `HELLO [version [AUTH user password] [SETNAME name]]`.

use super::{Plan, Session, Switch};
use crate::command::{Effect, Request};
use crate::resp::{parse_integer, write_multibulk};
use bytes::Bytes;
use std::borrow::Cow;

pub(super) fn plan<'a>(session: &Session, request: &Request<'a>) -> Plan<'a> {
    let Some(version) = request.arg(1) else {
        return session.shared(Effect::PrimaryRead);
    };
    // What could half-change a shared connection never reaches it: these refusals are Redis's own.
    let resp3 = match parse_integer(version) {
        None => return refuse("ERR Protocol version is not an integer or out of range"),
        Some(2) => false,
        Some(3) => true,
        Some(_) => return refuse("NOPROTO unsupported protocol version"),
    };
    let mut switch = Switch { resp3: Some(resp3), ..Switch::default() };
    let mut at = 2;
    while let Some(option) = request.arg(at) {
        match (request.arg(at + 1), request.arg(at + 2)) {
            (Some(user), Some(password)) if option.eq_ignore_ascii_case(b"AUTH") => {
                switch.auth = Some((user, password));
                at += 3;
            }
            (Some(value), _) if option.eq_ignore_ascii_case(b"SETNAME") => {
                if !is_printable(value) {
                    return refuse("ERR Client names cannot contain spaces, newlines or special characters.");
                }
                switch.name = Some(value);
                at += 2;
            }
            _ => {
                let option = String::from_utf8_lossy(option).replace(['\r', '\n'], " ");
                return refuse(&format!("ERR Syntax error in HELLO option '{option}'"));
            }
        }
    }
    let mut frame = Vec::with_capacity(24);
    write_multibulk(&mut frame, [&b"HELLO"[..], version].into_iter());
    Plan::Switch(switch, Bytes::from(frame))
}

/// Whether Redis accepts `text` as a client name or library name.
pub(super) fn is_printable(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

pub(super) fn refuse(message: &str) -> Plan<'static> {
    Plan::Answer(Cow::Owned(format!("-{message}\r\n").into_bytes()))
}
