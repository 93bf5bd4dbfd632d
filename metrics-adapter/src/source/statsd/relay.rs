//! Copies of the raw lines, sent on by UDP.
//!
//! Lines are collected into packets by whoever receives them and sent by a task of its own, so a slow or
//! missing target costs packets, which are counted, and never holds up a listener.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::shutdown::Shutdown;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::shared::lock;

/// Packets waiting to be sent.
const WAITING: usize = 1000;
/// Age at which an unfinished packet is sent.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lines on their way to one target.
#[derive(Debug)]
pub struct Relay {
    /// The target as configured, which labels the metrics.
    pub target: String,
    packet_length: usize,
    waiting: Mutex<Waiting>,
    ready: Notify,
    pub(super) packets: AtomicU64,
    pub(super) lines: AtomicU64,
    pub(super) long_lines: AtomicU64,
    pub(super) drops: AtomicU64,
    pub(super) errors: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    packets: VecDeque<Vec<u8>>,
    unfinished: Vec<u8>,
}

impl Relay {
    /// Sends packets of at most `packet_length` bytes to `target` (`host:port`).
    #[must_use]
    pub fn new(target: String, packet_length: usize) -> Self {
        Self {
            target,
            packet_length,
            waiting: Mutex::default(),
            ready: Notify::new(),
            packets: AtomicU64::new(0),
            lines: AtomicU64::new(0),
            long_lines: AtomicU64::new(0),
            drops: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    /// Takes the lines of a datagram.
    pub(super) fn packet(&self, packet: &[u8]) {
        packet.split(|byte| *byte == b'\n').for_each(|line| self.line(line));
    }

    /// Takes one line; empty ones are left out.
    pub(super) fn line(&self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        if line.len() + 1 > self.packet_length {
            self.long_lines.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut waiting = lock(&self.waiting);
        if waiting.unfinished.len() + line.len() + 1 > self.packet_length {
            self.finish(&mut waiting);
        }
        waiting.unfinished.extend_from_slice(line);
        waiting.unfinished.push(b'\n');
        self.lines.fetch_add(1, Ordering::Relaxed);
    }

    fn finish(&self, waiting: &mut Waiting) {
        if waiting.unfinished.is_empty() {
            return;
        }
        let packet = std::mem::replace(&mut waiting.unfinished, Vec::with_capacity(self.packet_length));
        if waiting.packets.len() >= WAITING {
            self.drops.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.packets.push_back(packet);
        self.ready.notify_one();
    }

    /// Sends until shutdown, then what is left.
    pub(super) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let mut socket = None;
        let mut tick = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                () = self.ready.notified() => {}
                _ = tick.tick() => self.finish(&mut lock(&self.waiting)),
                () = shutdown.triggered() => {
                    self.finish(&mut lock(&self.waiting));
                    self.send_all(&mut socket).await;
                    return;
                }
            }
            self.send_all(&mut socket).await;
        }
    }

    async fn send_all(&self, socket: &mut Option<UdpSocket>) {
        loop {
            // A guard in the condition of a `while let` would live through the await.
            let next = lock(&self.waiting).packets.pop_front();
            let Some(packet) = next else { return };
            if let Err(error) = self.send(socket, &packet).await {
                // Somebody may be restarting over there; a new socket also resolves the name anew.
                *socket = None;
                if self.errors.fetch_add(1, Ordering::Relaxed).is_multiple_of(1000) {
                    tracing::warn!(target = %self.target, %error, "relaying lines failed; packet dropped");
                }
            } else {
                self.packets.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn send(&self, socket: &mut Option<UdpSocket>, packet: &[u8]) -> std::io::Result<()> {
        let socket = match socket {
            Some(socket) => socket,
            None => socket.insert(connect(&self.target).await?),
        };
        socket.send(packet).await.map(drop)
    }
}

async fn connect(target: &str) -> std::io::Result<UdpSocket> {
    let mut last = std::io::Error::other("the target names no address");
    for address in tokio::net::lookup_host(target).await? {
        let any: SocketAddr = if address.is_ipv6() { ([0_u16; 8], 0).into() } else { ([0_u8; 4], 0).into() };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(address).await {
            Ok(()) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fill_packets() {
        let relay = Relay::new("127.0.0.1:1".to_owned(), 12);
        relay.packet(b"a:1|c\nb:2|c\n\nc:3|c");
        relay.line(b"much.too.long:1|c");
        let waiting = lock(&relay.waiting);
        assert_eq!(waiting.packets, [b"a:1|c\nb:2|c\n"]);
        assert_eq!(waiting.unfinished, b"c:3|c\n");
        assert_eq!((relay.lines.load(Ordering::Relaxed), relay.long_lines.load(Ordering::Relaxed)), (3, 1));
    }

    #[test]
    fn a_dead_target_costs_packets_and_no_memory() {
        let relay = Relay::new("127.0.0.1:1".to_owned(), 10);
        (0..5000).for_each(|_| relay.line(b"aaaa:1|c"));
        assert_eq!(lock(&relay.waiting).packets.len(), WAITING);
        assert_eq!(relay.drops.load(Ordering::Relaxed), 3999);
    }

    #[tokio::test]
    async fn sending_survives_errors() {
        let target = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let relay = Arc::new(Relay::new(target.local_addr().unwrap().to_string(), 10));
        drop(target);
        let shutdown = Shutdown::new();
        let task = tokio::spawn(Arc::clone(&relay).run(shutdown.clone()));
        for _ in 0..50 {
            relay.line(b"aaaa:1|c");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(relay.errors.load(Ordering::Relaxed) > 0);
        let target = std::net::UdpSocket::bind(&relay.target).unwrap();
        target.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        relay.line(b"aaaa:2|c");
        shutdown.trigger();
        task.await.unwrap();
        let mut room = [0; 100];
        let length = target.recv(&mut room).unwrap();
        assert!(room[..length].starts_with(b"aaaa:"));
    }
}
