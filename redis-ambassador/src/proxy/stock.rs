//! What is at hand, and what took long: for the metrics, the slow log and the status page. No key and no value.

use super::client::Client;
use super::hub::Hub;
use crate::command::Request;
use crate::metrics::{ClientLine, Levels, MAX_CLIENTS, Slow, now};
use crate::resp::{RequestFramer, RequestLimits, Step};
use crate::upstream::{Link, LinkState, Waiter};
use common::trace::Span;
use std::rc::Rc;
use std::time::Duration;

/// From how many microseconds on a command is slow.
pub(super) fn slow_from(limit: Duration) -> u64 {
    if limit.is_zero() { u64::MAX } else { limit.as_micros() as u64 }
}

impl Hub {
    /// Remembers a command that took long.
    #[cold]
    pub(super) fn note_slow(
        &self,
        link: &Link,
        state: &LinkState,
        waiter: &Waiter,
        upstream: u64,
        total: u64,
        ok: bool,
    ) {
        let (command, arguments, bytes) = match waiter.len {
            // Waiting is what a blocking command is for.
            0 if state.last.1 => return,
            0 => (state.last.0.clone(), None, None),
            len => {
                let frame = state.out.as_slice().get(..len as usize).unwrap_or_default();
                let (name, arguments) = self.describe(frame);
                (name, Some(arguments), Some(frame.len()))
            }
        };
        self.metrics.slow.inc();
        let slow = Slow {
            at: now(),
            command,
            arguments,
            bytes,
            server: self.topology.borrow().name(link.server.get()),
            client: waiter.client.id,
            total: total as f64 / 1e6,
            upstream: upstream as f64 / 1e6,
            error: !ok,
        };
        Span::record("slow command", Duration::from_micros(total), |span| {
            span.set("db.operation.name", slow.command.as_str());
            span.set("server.address", slow.server.as_str());
            span.set("client", slow.client);
            span.set("upstream", slow.upstream);
            if slow.error {
                span.fail("the answer was an error");
            }
        });
        self.metrics.journal.slow(slow);
    }

    /// A request's name as the table has it, and how many words follow it.
    fn describe(&self, frame: &[u8]) -> (String, usize) {
        let mut framer = RequestFramer::new(RequestLimits::default());
        let Ok(Step::Request(_)) = framer.advance(frame) else { return ("(unknown)".to_owned(), 0) };
        let request = Request::new(frame, framer.args());
        let table = self.table.borrow();
        let command = table.classify(&request).command;
        let name = command.map_or_else(|| "(unknown)".to_owned(), |command| command.name.to_string());
        (name, request.len().saturating_sub(1))
    }

    /// Tells the metrics what is at hand; now and then also who is connected.
    pub(super) fn take_stock(&self, with_clients: bool) {
        let mut levels = Levels::default();
        for link in self.lanes.borrow().iter().flat_map(|lane| &lane.links).flatten() {
            levels.pool[0] += 1;
            let mut state = link.state.borrow_mut();
            state.out.rest();
            levels.buffers[2] += state.out.len() as i64;
        }
        levels.pool[2] = self.idle.borrow().len() as i64;
        levels.pool[3] = self.detached.borrow().len() as i64;
        levels.queued = self.waiting().map(|count| count as i64);
        let mut lines = Vec::new();
        let clock = self.now();
        for client in self.clients.borrow().iter() {
            let Ok(mut state) = client.state.try_borrow_mut() else { continue };
            state.out.rest();
            levels.pool[1] += i64::from(state.own.is_some());
            levels.buffers[0] += state.input.len() as i64;
            levels.buffers[1] += (state.unread() + state.joining) as i64;
            drop(state);
            if with_clients && lines.len() < MAX_CLIENTS {
                lines.push(line(client, clock));
            }
        }
        self.metrics.level(levels);
        if with_clients {
            self.metrics.journal.clients(self.index, lines);
        }
    }
}

fn line(client: &Rc<Client>, clock: u64) -> ClientLine {
    let state = client.state.borrow();
    let seconds = |since: u64| clock.saturating_sub(since) / 1_000_000;
    ClientLine {
        id: client.id,
        from: client.socket.peer(),
        name: state
            .session
            .name
            .as_deref()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .unwrap_or_default(),
        db: state.session.profile.db,
        resp: if state.session.profile.resp3 { 3 } else { 2 },
        age: seconds(client.since),
        idle: seconds(state.heard),
        unanswered: state.slots.len(),
        unread: state.unread(),
        own: state.own.is_some(),
    }
}
